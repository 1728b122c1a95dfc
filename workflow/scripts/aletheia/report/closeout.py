"""CLOSEOUT.md: what the budget of layers decides, and every model of such a campaign on every benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aletheia.analysis.benchmarks import TITLES, measured_by
from aletheia.analysis.dose_response import FALLS, NO_TREND, OF_STD, PERCENT, RISES
from aletheia.analysis.effects import HELDOUT_LOSS, NATS, RETENTION_LOSS, TIME
from aletheia.report import effects_text
from aletheia.report.analysis_parts import failed_runs, rows_or
from aletheia.report.implausible_text import implausible_bases
from aletheia.report.table_text import DASH, bounds, count_text, marked, marks_of, mean_sd, notes_on, number, p_value
from aletheia.study.arms import STD
from aletheia.study.benchmarks import QUESTION_BENCHMARKS

STEP = 10  # percent of the layers that a shown slope is for
_DIGITS = {NATS: 4, OF_STD: 3, PERCENT: 1}
_UNITS = {NATS: "nats", OF_STD: "std = 1", PERCENT: "%"}


def closeout(summary: Mapping[str, Any]) -> str:
    """Return CLOSEOUT.md.

    Parameters
    ----------
    summary
        What :func:`aletheia.analysis.summary.summarise` returned; its campaigns with a sweep of the budget count.
    """
    campaigns = [campaign for campaign in summary["campaigns"] if campaign["dose_response"]]
    sweeps = [(campaign, sweep) for campaign in campaigns for sweep in campaign["dose_response"]]
    answer = " ".join(_answer(sweep) for _, sweep in sweeps) or "No model has three budgets, so there is no sweep."
    measures = [TIME, HELDOUT_LOSS, RETENTION_LOSS, *QUESTION_BENCHMARKS]
    of_models = [
        row for campaign in campaigns for row in effects_text.model_rows(campaign, _blocks(campaign, measures))
    ]
    scores = [row for campaign in campaigns for row in _score_rows(campaign)]
    implausible = "".join(f"- {line}\n" for line in implausible_bases(campaigns))
    cells = [cell for row in (*of_models, *scores) for cell in row.values()]
    return (
        "# What the budget decides, and other models\n\n"
        f"How loss, time and scores move with the share of the layers that is trained. {answer}\n\n"
        f"{''.join(_sweep(campaign, sweep) for campaign, sweep in sweeps)}"
        "Trend: Page's test within seeds, exact and two-sided, of the seeds that have every budget; p (Holm) over the "
        f"measures of a sweep. Slope: mean over these seeds for {STEP} % more of the layers, with its 95 % t-interval. "
        "The 100 % are the standard arm. A score's row is of the same questions in every run.\n\n"
        "## Every model\n\n"
        f"{rows_or(of_models, 'No model has std and another arm.')}\n"
        "### Scores\n\n"
        f"{rows_or(scores, 'No benchmark with questions was measured.')}\n"
        "Base, what is published of it where the registry says so, and mean ± sample SD over the seeds of each arm, in "
        f"percent.{notes_on(cells)}\n\n"
        f"{_section('Implausible base scores', implausible)}"
        f"{failed_runs(campaigns)}"
    )


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}\n" if text else ""


def _blocks(campaign: Mapping[str, Any], measures: list[str]) -> list[Mapping[str, Any]]:
    """Return the effects of the selecting arm against std, in some measures."""
    pair = (campaign["selecting_arm"], STD)
    blocks = [block for block in campaign["effects"] if (block["arm"], block["reference"]) == pair]
    return [block for block in blocks if block["measure"] in measures]


def _answer(sweep: Mapping[str, Any]) -> str:
    """Return what a sweep shows, in words: measures by verdict."""
    percents = ", ".join(f"{percent:g}" for percent in sweep["budgets"].values())
    said: dict[str, list[str]] = {}
    for found in sweep["measures"]:
        word = found["verdict"] or f"says nothing ({found['reason']})"
        said.setdefault(word, []).append(_name(found["measure"]))
    order = sorted(
        said, key=lambda word: [RISES, FALLS, NO_TREND].index(word) if word in (RISES, FALLS, NO_TREND) else 3
    )
    told = "; ".join(f"**{word}**: {', '.join(said[word])}" for word in order)
    seeds = sorted({found["seeds"] for found in sweep["measures"]})
    counted = count_text(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    return f"In {sweep['model']}, over {percents} % of the layers ({counted} with every budget): {told}."


def _name(measure: str) -> str:
    return "training time" if measure == TIME else effects_text.measure_name(measure)


def _sweep(campaign: Mapping[str, Any], sweep: Mapping[str, Any]) -> str:
    rows = [_response(found) for found in sweep["measures"]]
    return f"## {sweep['model']}, campaign {campaign['name']}\n\n{rows_or(rows, 'No run of the sweep ended well.')}\n"


def _response(found: Mapping[str, Any]) -> dict[str, str]:
    digits, trend = _DIGITS[found["unit"]], found["trend"]
    levels = {f"{level['percent']:g} %": _level(level, digits) for level in found["levels"]}
    slope = {part: trend and trend[part] and STEP * trend[part] for part in ("low", "high")}
    mean = number(trend and STEP * trend["slope"], digits + 1, "+")
    within = bounds(slope, digits + 1)
    return {
        "Measure": f"{_name(found['measure'])} ({_UNITS[found['unit']]})",
        **levels,
        f"Slope for {STEP} %": mean if within == DASH else f"{mean} [{within}]",
        "Seeds": f"{found['seeds']} of {found['planned']}",
        "p": p_value(trend and trend["p"]),
        "p (Holm)": p_value(found["p_holm"]),
        "With the budget": _verdict(found),
    }


def _level(level: Mapping[str, Any], digits: int) -> str:
    seeds = f" (n = {level['n']})" if level["n"] else ""
    return mean_sd(level, digits) + seeds


def _verdict(found: Mapping[str, Any]) -> str:
    word = found["verdict"] or "says nothing"
    return f"{word}: {found['reason']}" if found["reason"] else word


def _score_rows(campaign: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield one row a model and benchmark with questions: the base model's score, and each arm's."""
    arms = list(dict.fromkeys(arm for model in campaign["models"] for arm in model["arms"]))
    for model in campaign["models"]:
        for name in QUESTION_BENCHMARKS:
            scores = {arm: model["arms"].get(arm, {"benchmarks": {}})["benchmarks"].get(name) for arm in arms}
            known = next(filter(None, scores.values()), None)
            if known is None:
                continue
            _, _, scale = measured_by(name)
            base = number(known["base"] and scale * known["base"], 1)
            yield {
                "Model": model["model"],
                "Family": model["family"],
                "Benchmark": TITLES[name],
                "Questions": number(known["questions"], 0),
                "Base": marked(base, marks_of(known, flag="base_flagged")),
                "Published": number(model["base_validity"].get(name, {}).get("published_percent"), 1),
                **{arm: marked(_percent(score), marks_of(score)) for arm, score in scores.items()},
            }


def _percent(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return DASH
    return mean_sd({part: score["score"][part] and 100 * score["score"][part] for part in ("mean", "sd")}, 1)
