"""The written analyses, from numbers alone: in the first paragraph what was found, in plain words; then every rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aletheia.analysis import verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.effects import HELDOUT_LOSS, LOG_RATIO, PROBABILITY, RETENTION_LOSS
from aletheia.analysis.inference import headline_results
from aletheia.report import effects_text
from aletheia.report.analysis_parts import failed_runs, rows_or
from aletheia.report.implausible_text import implausible_bases
from aletheia.report.table_text import (
    DASH,
    interval,
    marked,
    marks_of,
    mean_sd,
    notes_on,
    number,
    p_value,
)
from aletheia.report.verdict_rules import verdict_rules
from aletheia.study.arms import STD
from aletheia.study.benchmarks import QUESTION_BENCHMARKS

PAIRS = "*Pairs*: those with a value, of those planned; a pair with a failed run is lost, and stands below."
_MEANINGS = {
    verdicts.EQUIVALENT: "the two differ by less than the margin, which the rules below state",
    verdicts.WORSE: "the arm is worse",
    verdicts.BETTER: "the arm is better",
    verdicts.CANNOT_TELL: "the data allow neither conclusion",
}
NO_MODELS = (
    "Fewer than three models of the headline have both arms, so nothing is pooled: what is said holds for each model "
    "by itself, for further seeds and questions of it, not for other models."
)


def _campaigns(summary: dict[str, Any], report: str) -> list[dict[str, Any]]:
    return [c for c in summary["campaigns"] if report in c["reports"]]


def _notes(rows: list[dict[str, str]]) -> str:
    """Return the sentences on the marks that some row has."""
    return notes_on(cell for row in rows for cell in row.values())


def _answer(campaigns: list[dict[str, Any]], blocks: list[dict[str, Any]], *, unit: str) -> str:
    """Return what was found as plain words: how many comparisons have each verdict, and of which arm."""
    told = [(block, result) for block in blocks for result in headline_results(block)]
    if not told:
        return ""
    words = effects_text.count_words(blocks, headline_results)
    counted = "; ".join(f"**{word}** in {count} ({_MEANINGS[word]})" for word, count in words.items())
    kinds = {"each of one model" if "model" in result else "pooled over models" for _, result in told}
    many = f"{len(told)} comparison{'' if len(told) == 1 else 's'}"
    late = any(campaign["margins"] == "afterwards" for campaign in campaigns)
    mark = " The margins were changed after the first runs had ended (margins set afterwards)." if late else ""
    details = " ".join(_sentence(block, result, _of_campaign(campaigns, block)) for block, result in told[:_MOST])
    more = " The others stand in the tables." if len(told) > _MOST else ""
    lead = f"Of {many} with {STD} ({unit}, {' or '.join(sorted(kinds))}): {counted}."
    return f"{lead}{_guessed(blocks)}{mark} {details}{more}"


_MOST = 6  # results that the first paragraph tells one by one


def _guessed(blocks: list[dict[str, Any]]) -> str:
    """Return the sentences on results of headline models that are left out, since their base model's score says
    nothing.
    """
    models = [model for block in blocks for model in block["models"] if model["headline"]]
    implausible = sum(model["implausible"] for model in models)
    guessed = sum(model["at_floor"] and not model["implausible"] for model in models)
    return _left_out(guessed, "the base model only guesses there, which says nothing") + _left_out(
        implausible, "the base model's score there is implausible beside a published one"
    )


def _left_out(out: int, why: str) -> str:
    results = "result of a single model is" if out == 1 else "results of single models are"
    return f" {out} {results} left out: {why}." if out else ""


def _of_campaign(campaigns: list[dict[str, Any]], block: dict[str, Any]) -> str:
    """Return "NAME, " of the campaign that an effect is of, where there are several."""
    if len(campaigns) == 1:
        return ""
    return next(f"{c['name']}, " for c in campaigns if any(own is block for own in c["effects"]))


def _sentence(block: dict[str, Any], result: dict[str, Any], campaign: str) -> str:
    """Return one result as a sentence."""
    over = f"{'over' if campaign else 'Over'} {result.get('n')} models"
    who = f"{campaign}{result.get('model', over)}: "
    name = effects_text.measure_name(block["measure"])
    size = effects_text.effect_interval(block, result)
    unit = "" if block["unit"] == LOG_RATIO else f" {block['unit']}"
    said = verdicts.text(result["verdict"])
    return f"{who}{name}, {effects_text.comparison_name(block)} {size}{unit}: {said}."


def _blocks(campaign: dict[str, Any], measures: Sequence[str], *, arms: Sequence[str] | None = None) -> list[dict]:
    return [
        block
        for block in campaign["effects"]
        if block["measure"] in measures and block["reference"] == STD and (arms is None or block["arm"] in arms)
    ]


def _inference(summary: dict[str, Any], chosen: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> str:
    """Return the sections on models to come, on each model, and on what cannot be answered."""
    pooled = [row for campaign, blocks in chosen for row in effects_text.pooled_rows(campaign, blocks)]
    checks = [row for campaign, blocks in chosen for row in effects_text.check_rows(campaign, blocks)]
    models = [row for campaign, blocks in chosen for row in effects_text.model_rows(campaign, blocks)]
    wanted = summary["plan"]["power_wanted"]
    unanswered = [line for campaign, blocks in chosen for line in effects_text.unanswered(campaign, blocks, wanted)]
    text = f"## For models to come\n\n{rows_or(pooled, NO_MODELS)}\n"
    if checks:
        text += f"### How much models differ, and the same mean by other methods\n\n{rows_or(checks, '')}\n"
    text += f"## Each model\n\n{rows_or(models, 'Nothing was compared.')}"
    text += f"\n{note}\n" if (note := _notes(models).strip()) else ""
    text += "\n"
    implausible = "".join(f"- {line}\n" for line in implausible_bases([campaign for campaign, _ in chosen]))
    text += f"## Implausible base scores\n\n{implausible}\n" if implausible else ""
    listed = "".join(f"- {line}\n" for line in unanswered)
    return text + (f"## What these runs cannot answer\n\n{listed}\n" if listed else "")


def _rules(summary: dict[str, Any], campaigns: list[dict[str, Any]]) -> str:
    order = ("afterwards", "unknown", "beforehand")
    margins = min((c["margins"] for c in campaigns), key=order.index, default="unknown")
    arms = (arm for campaign in campaigns for model in campaign["models"] for arm in model["arms"].values())
    evaluated = {name for arm in arms for name in arm["benchmarks"]}
    return f"## The rules\n\n{verdict_rules(summary['plan'], margins, evaluated)}\n"


def forgetting_deltas(summary: dict[str, Any]) -> str:
    """Return FORGETTING_DELTAS_ANALYSIS.md: what training costs a model, and whether an arm costs more."""
    campaigns = _campaigns(summary, "downstream")
    asked = [*QUESTION_BENCHMARKS, *(f"{name}{PROBABILITY}" for name in QUESTION_BENCHMARKS), RETENTION_LOSS]
    chosen = [(campaign, _blocks(campaign, asked)) for campaign in campaigns]
    main = [block for _, blocks in chosen for block in blocks if not block["measure"].endswith(PROBABILITY)]
    deltas = [row for c in campaigns for model in c["models"] for row in _delta_rows(c, model)]
    answer = _answer(campaigns, main, unit="arm × benchmark") or (
        "In no model of the headline was a benchmark of questions measured in std and another arm, above the level of "
        "guessing: nothing to say of extra forgetting."
    )
    return (
        "# Does training fewer layers make a model forget more?\n\n"
        "Fine-tuning can cost a model some of what it knew. Here each arm is compared with std, which trains all "
        "layers of the same model on the same rows: a benchmark's difference is in percentage points (negative: the "
        "arm lost more, or gained less, than std), a loss's in nats (positive: worse). "
        f"{answer}\n\n"
        f"{_inference(summary, chosen)}"
        f"{_rules(summary, campaigns)}"
        "## Deltas, fine-tuned − base\n\n"
        f"{rows_or(deltas, 'Nothing was evaluated.')}\n"
        "Losses are in nats, where a negative delta is an improvement; the others are in points. "
        f"Mean ± sample SD over the seeds.{_notes(deltas)}\n\n"
        f"{failed_runs(campaigns)}"
    )


def _delta_rows(campaign: dict[str, Any], model: dict[str, Any]) -> list[dict[str, str]]:
    rows = []
    for arm, measured in model["arms"].items():
        for name, score in measured["benchmarks"].items():
            points = score["unit"] == "pp"
            base = score["base"] if score["base"] is None or not points else 100 * score["base"]
            of_base = number(base, 1 if points else 3) + (" %" if points and base is not None else "")
            rows.append(
                {
                    "Model": model["model"],
                    "Campaign": campaign["name"],
                    "Arm": arm,
                    "Benchmark": TITLES[name],
                    "Base": marked(of_base, marks_of(score, flag="base_flagged")),
                    "Delta": marked(mean_sd(score["delta"], 1 if points else 3, "+"), marks_of(score)),
                    "Seeds": str(score["delta"]["n"]),
                }
            )
    return rows


def compute_matched(summary: dict[str, Any]) -> str:
    """Return COMPUTE_MATCHED_ANALYSIS.md: the loss when the saved time is used for more steps."""
    campaigns = _campaigns(summary, "compute_matched")
    losses, words = [], []
    chosen, all_arms = [], []
    for campaign in campaigns:
        arms = list(dict.fromkeys(arm for model in campaign["models"] for arm in model["compute_matched"]))
        measures = [HELDOUT_LOSS, RETENTION_LOSS, *QUESTION_BENCHMARKS]
        chosen.append((campaign, _blocks(campaign, measures, arms=arms)))
        all_arms += arms
        for model in campaign["models"]:
            for arm, cm in model["compute_matched"].items():
                losses.append(_loss_row(campaign["name"], model, arm))
                words.append(f"{model['model']}, {arm}: time {cm['time_verdict']}; loss {cm['loss_verdict']}.")
    lead = [block for _, blocks in chosen for block in blocks if block["measure"] == HELDOUT_LOSS]
    found = _answer(campaigns, lead, unit="arm's held-out loss, whether its time matches or not")
    many = f" {len(words)} comparisons stand below." if len(words) > _MOST else ""
    answer = (
        " ".join([*words[:_MOST], found]).rstrip() + many
        if words
        else ("No model has both a std and a cm run, so nothing can be said at equal compute.")
    )
    return (
        "# Does the saved time buy a better model?\n\n"
        "Training fewer layers takes less time a step, so at equal time it has more steps. A compute-matched arm "
        "takes these steps: cm trains the layers that ale trains; any other arm with more steps than std stands here "
        "too. Its loss counts at equal compute only where its time, the probe counted, is shown to match std's. "
        f"{answer}\n\n"
        "## Held-out loss and time\n\n"
        f"{rows_or(losses, 'No pairs.')}\n"
        f"The interval here is over the seeds alone. p: paired t-test, Holm over the headline models. {PAIRS} Compute "
        "is *matched* where both one-sided tests show the time within the margin of std's.\n\n"
        f"{_inference(summary, chosen)}"
        "A loss can differ where no benchmark does, and the reverse; neither stands for the other.\n\n"
        f"{_rules(summary, campaigns)}"
        f"{failed_runs(campaigns)}"
    )


def inference(summary: dict[str, Any]) -> str:
    """Return INFERENCE.md: every arm and measure, for models to come and for each model."""
    chosen = [(campaign, campaign["effects"]) for campaign in summary["campaigns"]]
    campaigns = summary["campaigns"]
    first = [block for _, blocks in chosen for block in blocks if block["family"] == "primary"]
    answer = _answer(campaigns, first, unit="the primary family") or (
        "No model of the headline has a result of the primary family."
    )
    return (
        "# What follows from the runs\n\n"
        "Every difference between two arms, in every measure: what it is in each model, and what is to be expected of "
        f"models to come. {answer}\n\n"
        f"{_inference(summary, chosen)}"
        f"{_rules(summary, campaigns)}"
    )


def _loss_row(campaign: str, model: dict[str, Any], arm: str) -> dict[str, str]:
    cm, share = model["compute_matched"][arm], model["compute_matched"][arm]["time_share"]
    steps = [model["arms"][name]["steps"]["mean"] for name in (STD, arm)]
    return {
        "Model": model["model"],
        "Campaign": campaign,
        "Arm": arm,
        "std loss (nats)": mean_sd(cm["std_eval_loss"], 3),
        "Arm's loss (nats)": mean_sd(cm["cm_eval_loss"], 3),
        "Arm − std [95 % interval]": interval(cm["eval_loss"]["difference"], 3, "+"),
        "Pairs": f"{cm['eval_loss']['difference']['n']} of {cm['eval_loss']['planned']}",
        "p (Holm)": p_value(cm["eval_loss"]["p_holm"]),
        "Steps std / arm": " / ".join(DASH if s is None else f"{s:.0f}" for s in steps),
        "Time arm / std": f"{interval(share, 2)} ({cm['time_taken']})",
        "Compute": cm["time_verdict"],
        "Verdict": cm["loss_verdict"],
    }
