"""Effects as text: rows of tables, and what a campaign cannot answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aletheia.analysis import verdicts
from aletheia.analysis.benchmarks import TITLES
from aletheia.analysis.effects import (
    HELDOUT_LOSS,
    LOG_RATIO,
    NATS,
    PROBABILITY,
    RETENTION_LOSS,
    TIME,
    TIME_TO_LOSS,
    TIME_WITH_PROBE,
)
from aletheia.analysis.inference import headline_results
from aletheia.inference.bootstrap import COVERAGE
from aletheia.inference.power import equivalence_power
from aletheia.report.table_text import DASH, count_text, interval, marked, marks_of, number, p_value

Block = Mapping[str, Any]
MEASURE_NAMES = {
    TIME: "training time",
    TIME_WITH_PROBE: "training time with the probe",
    TIME_TO_LOSS: "time to the loss that std ends at",
    HELDOUT_LOSS: "held-out loss",
    RETENTION_LOSS: "loss on general text",
}


def measure_name(measure: str) -> str:
    """Return a measure's name for readers."""
    if measure.endswith(PROBABILITY):
        return f"probability of the right choice, {TITLES[measure.removesuffix(PROBABILITY)]}"
    return MEASURE_NAMES.get(measure) or TITLES.get(measure, measure)


def comparison_name(block: Block) -> str:
    """Return "ale − std", of times "ale / std"."""
    return f"{block['arm']} {'/' if block['unit'] == LOG_RATIO else '−'} {block['reference']}"


def shown(value: float | None, unit: str) -> float | None:
    """Return a value as readers see it: a log ratio as a ratio, others as they are."""
    return None if value is None else math.exp(value) if unit == LOG_RATIO else value


def _digits(unit: str) -> int:
    return {NATS: 4, LOG_RATIO: 3}.get(unit, 2)


def effect_interval(block: Block, result: Mapping[str, Any], ends: tuple[str, str] = ("low", "high")) -> str:
    """Return "mean [low, high]" of a result, with its unit's digits; of times as ratios."""
    unit = block["unit"]
    values = {
        name: shown(result[key], unit) for name, key in zip(("mean", "low", "high"), ("mean", *ends), strict=True)
    }
    return interval(values, _digits(unit), "" if unit == LOG_RATIO else "+")


def unit_name(unit: str) -> str:
    """Return a unit for readers."""
    return "ratio" if unit == LOG_RATIO else unit


def margin_text(margin: float, unit: str) -> str:
    """Return a margin with its unit: "±2 points", "±5 %"."""
    return f"±{100 * math.expm1(margin):.3g} %" if unit == LOG_RATIO else f"±{margin:g} {unit}"


def _equivalence(result: Mapping[str, Any], unit: str) -> str:
    """Return p of equivalence at each margin."""
    tests = (f"{p_value(test['p'])} ({margin_text(test['margin'], unit)})" for test in result["equivalence"])
    return "; ".join(tests) or DASH


def _detectable(result: Mapping[str, Any], unit: str) -> str:
    value = result["detectable"]
    if value is None:
        return DASH
    return f"{100 * math.expm1(value):.1f} %" if unit == LOG_RATIO else f"{number(value, _digits(unit))} {unit}"


def pooled_rows(campaign: Mapping[str, Any], blocks: Sequence[Block]) -> list[dict[str, str]]:
    """Return one row an effect that is pooled over models: its mean, what a new model may show, its verdict."""
    return [
        {
            "Campaign": campaign["name"],
            "Measure": measure_name(block["measure"]),
            "Difference": comparison_name(block),
            "Unit": unit_name(block["unit"]),
            "Mean [95 % interval]": effect_interval(block, pooled),
            "A new model [95 %]": effect_interval(block, pooled, ("prediction_low", "prediction_high")),
            "Models": str(pooled["n"]),
            "p": p_value(pooled["p"]),
            "p (adjusted)": p_value(pooled["p_adjusted"]),
            "p of equivalence": _equivalence(pooled, block["unit"]),
            "Detectable": _detectable(pooled, block["unit"]),
            "Verdict": verdicts.text(pooled["verdict"]),
        }
        for block in blocks
        if (pooled := block["pooled"]) is not None
    ]


def check_rows(campaign: Mapping[str, Any], blocks: Sequence[Block]) -> list[dict[str, str]]:
    """Return one row an effect that is pooled: how much models differ, and the same mean by other methods."""
    return [
        {
            "Campaign": campaign["name"],
            "Measure": measure_name(block["measure"]),
            "Difference": comparison_name(block),
            "Models' SD (τ)": number(math.sqrt(pooled["tau2"]), 4),
            "I²": DASH if pooled["i2"] is None else f"{100 * pooled['i2']:.0f} %",
            "Runs' SD": DASH if block["run_variance"] is None else number(math.sqrt(block["run_variance"]), 4),
            "Mixed model": _mixed(block, pooled["mixed"]),
            "Bootstrap [95 %]": _bootstrap(block, pooled),
            "Posterior [95 %]": effect_interval(block, pooled["bayes"]),
            "P(within the margin)": _percent(pooled["bayes"]["p_within_margin"]),
            "of a new model": _percent(pooled["bayes"]["p_new_within_margin"]),
            "by the prior": _sensitivity(pooled["bayes"]),
        }
        for block in blocks
        if (pooled := block["pooled"]) is not None
    ]


def _mixed(block: Block, mixed: Mapping[str, Any] | None) -> str:
    if mixed is None:
        return "could not be fitted"
    spread = 1.96 * mixed["se"]
    ends = {"mean": mixed["mean"], "low": mixed["mean"] - spread, "high": mixed["mean"] + spread}
    return effect_interval(block, ends) + ("" if mixed["converged"] else " (not converged)")


def _bootstrap(block: Block, pooled: Mapping[str, Any]) -> str:
    found = pooled["bootstrap"]
    if found is None:
        return "refused: fewer than six models"
    nearest = min(COVERAGE, key=lambda models: abs(models - pooled["n"]))
    ends = effect_interval(block, {**found, "mean": pooled["mean"]})
    return f"{ends} (covers {100 * COVERAGE[nearest]:.0f} % at {nearest} models)"


def _sensitivity(bayes: Mapping[str, Any]) -> str:
    """Return P(within the margin) under each scale of the prior, from the narrowest."""
    return ", ".join(_percent(each["p_within_margin"]) for each in bayes["sensitivity"]) or DASH


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f} %"


def model_rows(campaign: Mapping[str, Any], blocks: Sequence[Block]) -> list[dict[str, str]]:
    """Return one row a model and effect."""
    return [_model_row(campaign["name"], block, model) for block in blocks for model in block["models"]]


def _model_row(campaign: str, block: Block, model: Mapping[str, Any]) -> dict[str, str]:
    items, test = model["items"], (model["mcnemar"] or {}).get("stratified")
    adjusted = p_value(model["p_adjusted"])
    adjusted += f" ({model['adjusted_by']})" if model["p_adjusted"] is not None else ""
    return {
        "Model": model["model"] + ("" if model["headline"] else "†"),
        "Campaign": campaign,
        "Measure": measure_name(block["measure"]),
        "Difference": comparison_name(block),
        "Unit": unit_name(block["unit"]),
        "Mean [95 % interval]": marked(
            effect_interval(block, model), marks_of({**model, "implausible_base": model["implausible"]})
        ),
        "Over": _over(model, item_noun(block["unit"])),
        "SE of questions / runs": _parts(items),
        "McNemar": DASH if test is None else f"{test['gained']} : {test['lost']}, p {p_value(test['p'])}",
        "p": p_value(model["p"]),
        "p (adjusted)": adjusted,
        "[FCR interval]": DASH if model["fcr_low"] is None else effect_interval(block, model, ("fcr_low", "fcr_high")),
        "p of equivalence": _equivalence(model, block["unit"]),
        "Detectable": _detectable(model, block["unit"]),
        "Verdict": verdicts.text(model["verdict"]),
    }


def item_noun(unit: str) -> str:
    """Return what single items are called: a loss is of rows of text."""
    return "row" if unit == NATS else "question"


def _over(model: Mapping[str, Any], noun: str) -> str:
    """Return what the interval is over, with its numbers."""
    items, seeds = model["items"], f"{model['seeds']} of {model['planned']} seeds"
    if model["over"] == "rounds":
        return f"{model['n']} rounds of one seed"
    if items is None:
        return seeds
    clusters = "" if items["n_clusters"] == items["n_questions"] else f" in {items['n_clusters']} subjects"
    return f"{seeds}, {count_text(items['n_questions'], noun)}{clusters}"


def _parts(items: Mapping[str, Any] | None) -> str:
    """Return the standard errors of the question part and of the run part."""
    if items is None:
        return DASH
    parts = (items["question_variance"], items["run_variance"])
    return " / ".join(DASH if part is None else number(math.sqrt(part), 4) for part in parts)


def count_words(blocks: Sequence[Block], results: Callable[[Block], list[dict[str, Any]]]) -> dict[str, int]:
    """Return how many results have each verdict's word, in the order of the words; those without one are left out."""
    order = (verdicts.EQUIVALENT, verdicts.WORSE, verdicts.BETTER, verdicts.CANNOT_TELL)
    found = [result["verdict"]["verdict"] for block in blocks for result in results(block)]
    return {word: found.count(word) for word in order if word in found}


def unanswered(campaign: Mapping[str, Any], blocks: Sequence[Block], wanted: float) -> list[str]:
    """Return a sentence for each headline result that cannot tell, with the difference that its data would have shown.

    Parameters
    ----------
    campaign, blocks
        Of the summary.
    wanted
        The power that the plan wants, 0 to 1.
    """
    lines = []
    for block in blocks:
        for result in headline_results(block):
            verdict, unit = result["verdict"], block["unit"]
            if verdict["verdict"] != verdicts.CANNOT_TELL:
                continue
            whose = result.get("model") or f"{result['n']} models"
            what = f"{campaign['name']}, {whose}: {measure_name(block['measure'])}, {comparison_name(block)}"
            if verdict["reason"]:
                # What hinders is not the width of the interval.
                lines.append(f"{what}: {verdict['reason']}.")
                continue
            chance = f"found with a probability of {100 * wanted:.0f} %"
            found = f"{what}: a true difference of {_detectable(result, unit)} is {chance}"
            power = equivalence_power(result["se"], result["df"], verdict["margin"])
            margin = margin_text(verdict["margin"], unit)
            lines.append(f"{found}; where there is none, it is shown to be within {margin} with {100 * power:.0f} %.")
    return lines
