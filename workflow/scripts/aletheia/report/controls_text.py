"""CONTROLS.md: is it the gradient, or would any choice of as many layers do? The answer, its numbers, its rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.analysis.controls_arms import CONTROL, RANDOM, SAME_LOWEST
from aletheia.analysis.controls_claims import SECONDS_TOLERANCE
from aletheia.analysis.controls_losses import BENCHMARK
from aletheia.analysis.controls_overlap import DRAWS
from aletheia.analysis.frontier import IN_TURNS
from aletheia.report.controls_answer import ALPHA, WHAT, amount, answer, broken_claims, verdict
from aletheia.report.controls_table import NOTE, display_row, ordered_arms
from aletheia.report.table_text import DASH, filled_table, interval, number

_RULES = f"""## Rules

- **Random draws.** R draws of one budget differ from a choice in the choice of layers alone; each loss is the mean over
  the seeds that the choice and all its draws have. p = (1 + draws with a loss as low or lower) / (R + 1): ties count
  against the choice (Phipson and Smyth 2010). With R = 20 no p below 0.048 is possible. At {ALPHA:g} and below the
  choice is called better; where its place from the other end has such a p, worse; else we cannot tell. A draw of which
  no run ended well is left out and named. A choice of single modules is held against draws of whole layers.
- **Draws with the same lowest layer** are for choices with that lowest layer in every seed: their backward pass is as
  long, so only which further layers are taken differs.
- **Several models** (the headline's): the sum of rank / (R + 1), by its exact distribution (Edgington 1972, convolved
  over the values that each rank can have).
- **One choice is asked about beforehand**, the named one. The p of all others are shown without any correction: of
  twenty such, one is at {ALPHA:g} by chance.
- **Seeds.** Differences are paired by seed, with a t-interval over n seeds; with one seed there is none. The error of
  other rows or questions is not in it: `stats/INFERENCE.md` has it for each arm against std.
- **Times** are shares of a standard run: measured in turns where every arm of the model was, else predicted by the cost
  model of `attribution/`; never the runs' own clocks, which compare no two jobs. What a choice reads first is charged;
  step costs, which some read, are measured once for a model and are not.
- **Equal budgets.** An arm's key `equal` says what it shares with another: layers and trained parameters exactly, in
  every seed; seconds of training, without the probe, within {100 * SECONDS_TOLERANCE:g} %.
- **Overlap.** Jaccard: shared over all, 1 for the same choice. Expected: of two random draws of those sizes
  (hypergeometric).
"""
_AGAINST = {RANDOM: "random", SAME_LOWEST: "random, same lowest layer"}


def controls_text(summary: Mapping[str, Any]) -> str:
    """Return CONTROLS.md.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.controls_summary.summarise_controls`.
    """
    campaigns = summary["campaigns"]
    parts = ["# Controls: is it the gradient?"]
    for campaign in campaigns:
        parts += [f"**{campaign['name']}**"] if len(campaigns) > 1 else []
        parts += [*broken_claims(campaign), answer(campaign)]
    for campaign in campaigns:
        prefix = f"{campaign['name']}: " if len(campaigns) > 1 else ""
        for model in campaign["models"]:
            parts += _model(f"{prefix}{model['model']}", model)
        parts += _combined(prefix, campaign)
    return "\n\n".join([*parts, _RULES.strip()]) + "\n"


def _model(title: str, model: Mapping[str, Any]) -> list[str]:
    sections = {
        "Equal budgets": _claims(model),
        "Against random draws": _tests(model),
        "Every arm": _arms(model),
        "Overlap of the choices": _overlap(model),
    }
    parts = [f"## {title}", _about(model)]
    for name, body in sections.items():
        parts += [f"### {name}", *body] if body else []
    return parts


def _about(model: Mapping[str, Any]) -> str:
    rows = "the benchmark `heldout`" if model["loss"] == BENCHMARK else "those that each training ends with"
    clocks = {None: "are not known", IN_TURNS: "were measured in turns"}
    times = clocks.get(model["clock"], "are predicted by the cost model, not measured")
    failed = [f"{arm} ({', '.join(own['failures'])})" for arm, own in model["arms"].items() if own["failures"]]
    lost = sorted({draw for test in model["tests"] for draw in test["lost"]})
    sentences = [
        f"{len(model['arms'])} arms, {len(model['draws'])} of them random draws; losses are of {rows}. Times {times}.",
        f"Runs that did not end well: {'; '.join(failed)}." if failed else "",
        f"Draws without any loss, left out of the tests: {', '.join(lost)}." if lost else "",
    ]
    return " ".join(filter(None, sentences))


def _claims(model: Mapping[str, Any]) -> list[str]:
    words = {True: "holds", False: "**does not hold**", None: "not known"}
    rows = [
        {
            **{"Arm": claim["arm"], "As": claim["of"], "Equal in": WHAT[claim["what"]]},
            **{"Own": amount(claim, "own"), "Other": amount(claim, "other"), "Claim": words[claim["holds"]]},
            "Loss, arm − other": _with_n(claim["loss_difference"]),
        }
        for claim in model["claims"]
    ]
    return filled_table(rows)


def _tests(model: Mapping[str, Any]) -> list[str]:
    order = sorted(model["tests"], key=lambda test: (test["arm"] != model["selector"], test["against"]))
    rows = [
        {
            **{"Arm": test["arm"] + (" (a control)" if model["arms"][test["arm"]]["kind"] == CONTROL else "")},
            **{"Draws": f"{test['draws']} {_AGAINST[test['against']]}", "Seeds": str(len(test["seeds"]))},
            **{"Loss": number(test["loss"], 4), "Draws' mean": number(test["draws_mean"], 4)},
            "Draws' range": f"{number(test['draws_min'], 4)} to {number(test['draws_max'], 4)}",
            "Arm − mean": number(test["difference"], 4, "+"),
            **{"Rank": f"{test['rank']} of {test['draws'] + 1}", "p": f"{test['p']:.3f}"},
            **{"Smallest p": f"{test['smallest_p']:.3f}", "Verdict": verdict(test)},
        }
        for test in order
    ]
    return filled_table(rows)


def _arms(model: Mapping[str, Any]) -> list[str]:
    draws = (RANDOM, SAME_LOWEST)
    named = [arm for arm in ordered_arms(model) if model["arms"][arm]["kind"] not in draws]
    rows = [display_row(model, arm, campaign="") for arm in named]
    several = [arm for arm in named if model["arms"][arm]["loss"]["n"] > 1]
    seeds = "Arms of several seeds: " + ", ".join(f"{arm} ({model['arms'][arm]['loss']['n']})" for arm in several)
    text = [f"{seeds}."] if several else ["No arm has more than one seed, so no difference here has an interval."]
    return [*filled_table(rows, leave_out=("Campaign", "Model")), *text, f"{NOTE} Single draws: `tableS2.csv`."]


def _overlap(model: Mapping[str, Any]) -> list[str]:
    def expected(entry: Mapping[str, Any]) -> dict[str, str]:
        return {"Jaccard": number(entry["jaccard"], 3), "Expected of random": number(entry["expected"], 3)}

    between = [
        {"Arms": f"{pair['first']}, {pair['second']}", "Unit": pair["unit"], "Seeds": str(pair["n"]), **expected(pair)}
        for pair in model["overlap"]["arms"]
        if model["selector"] in (pair["first"], pair["second"]) or pair["second"] == DRAWS
    ]
    stable = [
        {**{"Arm": own["arm"], "Unit": own["unit"], "Seeds": str(own["n"])}, **expected(own)}
        | {"Least alike": number(own["least"], 3)}
        for own in model["overlap"]["seeds"]
    ]
    parts = ["Between arms, with the same seed (all pairs: `summary.json`):", *filled_table(between)] if between else []
    return [*parts, *(["Of one arm, between seeds:", *filled_table(stable)] if stable else [])]


def _combined(prefix: str, campaign: Mapping[str, Any]) -> list[str]:
    rows = [
        {
            **{"Arm": test["arm"], "Draws": _AGAINST[test["against"]], "Models": str(test["n"])},
            **{"Mean rank / (R + 1)": number(test["mean_normalised_rank"], 3), "p": f"{test['p']:.2g}"},
            **{"Smallest p": f"{test['smallest_p']:.2g}", "Verdict": verdict(test)},
        }
        for test in campaign["combined"]
        if test["n"] > 1
    ]
    return [f"## {prefix}all headline models together", *filled_table(rows)] if rows else []


def _with_n(value: Mapping[str, Any]) -> str:
    return DASH if value["mean"] is None else f"{interval(value, 4, '+')} (n = {value['n']})"
