"""The scope of a finding (which arm, over which models), and its numbers as text, with interval, n and unit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.analysis import arms
from aletheia.analysis.arms import Comparison
from aletheia.analysis.frontier import IN_TURNS, relative_time
from aletheia.analysis.inference import FEWEST_MODELS, headline_results, tells_something
from aletheia.analysis.pairs import CM
from aletheia.analysis.stats import CONFIDENCE_LEVEL
from aletheia.report.effects_text import item_noun
from aletheia.report.table_text import count_text, number
from aletheia.study.arms import STD
from aletheia.study.benchmarks import QUESTION_BENCHMARKS

_MOST_DIGITS = 6
_NO_WIDTH = 1e-9
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Scope:
    """One arm of a campaign, in one model or over the headline models.

    Attributes
    ----------
    campaign
        Of the summary.
    arm
        The arm that is compared with std.
    models
        Of the summary: those with both arms; a single one where the finding is about that model.
    """

    campaign: Mapping[str, Any]
    arm: str
    models: Sequence[Mapping[str, Any]]

    @property
    def over_models(self) -> bool:
        """Whether n counts models, each with its mean as one value."""
        return len(self.models) > 1

    @property
    def name(self) -> str:
        """The models and the campaign of the numbers."""
        if self.over_models:
            return f"{len(self.models)} headline models, campaign {self.campaign['name']}"
        (model,) = self.models
        headline = sum(other["headline"] and self.arm in other["against_std"] for other in self.campaign["models"])
        which = f", first of {headline} headline models" if headline > 1 else ""
        suffix = which if model["headline"] else ", no part of the headline"
        return f"{model['model']}{suffix}, campaign {self.campaign['name']}"

    def of(self, measure: str, arm: str | None = None) -> Comparison | None:
        """Return a comparison of the arm, or of another one, with std; None where there is none."""
        return self.measures(arm or self.arm).get(measure)

    def has(self, measure: str, arm: str | None = None) -> bool:
        """Tell whether a comparison has a value."""
        comparison = self.of(measure, arm)
        return comparison is not None and comparison["mean"] is not None

    def measures(self, arm: str) -> Mapping[str, Comparison]:
        """Return all comparisons of an arm with std."""
        return self._comparisons("against_std").get(arm, _NOTHING)

    def effect(self, measure: str, *, reference: str = STD, arm: str | None = None) -> Mapping[str, Any] | None:
        """Return the result of an effect of the arm, or of another one: pooled over models, or of the one model.

        None where there is no such effect, or no value; a model at the floor of a benchmark, or with an implausible
        base score, counts as none.
        """
        names = (arm or self.arm, reference, measure)
        blocks = (b for b in self.campaign["effects"] if (b["arm"], b["reference"], b["measure"]) == names)
        block = next(blocks, None)
        if block is None or self.over_models:
            return None if block is None else block["pooled"]
        of_model = (result for result in block["models"] if result["model"] == self.models[0]["model"])
        result = next(of_model, None)
        return result if result is not None and tells_something(result) else None

    def too_few(self, measure: str, *, reference: str = STD) -> int:
        """Return how many models have a value of an effect, where they are too few to be pooled; else 0."""
        names = (self.arm, reference, measure)
        blocks = (b for b in self.campaign["effects"] if (b["arm"], b["reference"], b["measure"]) == names)
        block = next(blocks, None)
        return 0 if block is None or block["pooled"] or not self.over_models else len(headline_results(block))

    def controls(self) -> Mapping[str, Mapping[str, Comparison]]:
        """Return the arm's comparisons with each control."""
        return self._comparisons("against_controls") if self.arm == self.campaign["selecting_arm"] else _NOTHING

    def by_model(self, measure: str) -> list[Mapping[str, Comparison]]:
        """Return the arm's comparisons with std of each model that has a measure."""
        measures = (model["against_std"][self.arm] for model in self.models)
        return [each for each in measures if measure in each]

    def _comparisons(self, key: str) -> Mapping[str, Any]:
        return self.campaign[key] if self.over_models else self.models[0][key]


def scope_of(campaign: Mapping[str, Any], arm: str) -> Scope | None:
    """Return the scope of an arm's findings; None where no model has both it and std.

    All headline models with the arm, if there are at least :data:`FEWEST_MODELS`; else the first of them, or the first
    model where none is in the headline.
    """
    with_arm = [model for model in campaign["models"] if {arm, STD} <= set(model["against_std"])]
    headline = [model for model in with_arm if model["headline"]]
    if len(headline) >= FEWEST_MODELS:
        return Scope(campaign, arm, headline)
    return Scope(campaign, arm, (headline or with_arm)[:1]) if with_arm else None


def main_scopes(summary: Mapping[str, Any]) -> list[Scope]:
    """Return the main scope of each campaign with a pair: of its selecting arm, else of its first arm beside std."""
    main = []
    for campaign in summary["campaigns"]:
        names = dict.fromkeys(arm for model in campaign["models"] for arm in model["against_std"] if arm != STD)
        scopes = [scope_of(campaign, arm) for arm in (campaign["selecting_arm"], *names) if arm]
        main += [scope for scope in scopes if scope][:1]
    return main


def matched_scopes(summary: Mapping[str, Any]) -> list[Scope]:
    """Return the scope of each campaign's compute-matched arm: ``cm``, else the first with more steps than std."""
    matched = []
    for campaign in summary["campaigns"]:
        names = dict.fromkeys(arm for model in campaign["models"] for arm in model["compute_matched"])
        scopes = [scope_of(campaign, arm) for arm in ((CM,) if CM in names else names)]
        matched += [scope for scope in scopes if scope][:1]
    return matched


def first_with(scopes: Sequence[Scope], has: Callable[[Scope], Any]) -> Scope:
    """Return the first scope for which ``has`` is true, else the first one."""
    return next((scope for scope in scopes if has(scope)), scopes[0])


def digits_of(comparison: Mapping[str, Any]) -> int:
    """Return the decimals that show two significant digits of an interval's width; without one, of the value."""
    low, high = comparison["low"], comparison["high"]
    # Where all values are equal, a width above 0 is rounding.
    narrow = low is None or high - low <= _NO_WIDTH * abs(comparison["mean"])
    size = abs(comparison["mean"]) if narrow else high - low
    return min(max(0, 1 - math.floor(math.log10(size))), _MOST_DIGITS) if size else 1


def estimate_text(
    comparison: Mapping[str, Any], unit: str, *, sign: str = "", beside: str = "", alone: bool = True
) -> str:
    """Return "VALUE UNIT (95 % interval LOW to HIGH, n = N seeds)".

    Parameters
    ----------
    comparison
        With a value.
    unit
        Of the value, or nothing.
    sign
        "+" to show the sign of positive numbers too.
    beside
        Further text within the brackets.
    alone
        Whether it needs brackets and n; else it is "VALUE UNIT, 95 % interval LOW to HIGH", within another one.
    """
    digits = digits_of(comparison)
    value = " ".join(filter(None, (number(comparison["mean"], digits, sign), unit)))
    if comparison["low"] is None:
        how = "one value, so no interval"
    else:
        low, high = (number(comparison[end], digits, sign) for end in ("low", "high"))
        how = f"{100 * CONFIDENCE_LEVEL:g} % interval {low} to {high}"
    if not alone:
        return f"{value}, {how}" if comparison["low"] is not None else value
    return f"{value} ({how}, n = {count_text(comparison['n'], comparison['unit'])}{beside})"


def time_share(scope: Scope) -> tuple[dict[str, Any], str]:
    """Return the estimate of t_arm / t_std, probe included, with the unit of n, and how the time was measured."""
    share, how = relative_time(scope.measures(scope.arm))
    turns = how == IN_TURNS
    speedup = scope.of(arms.TURNS_WITH_PROBE if turns else arms.WALL_CLOCK_WITH_PROBE)
    return {**share, "unit": speedup["unit"]}, IN_TURNS if turns else "by the wall clock"


def telling_extras(scope: Scope) -> dict[str, Mapping[str, Any]]:
    """Return an arm's results on the benchmarks whose base is above the floor: of one model, or over those models."""
    results = {name: scope.effect(name) for name in QUESTION_BENCHMARKS}
    return {name: result for name, result in results.items() if result is not None}


def result_text(result: Mapping[str, Any], unit: str, *, sign: str = "+", beside: str = "") -> str:
    """Return an effect's result as :func:`estimate_text` does, with what its interval is over.

    Parameters
    ----------
    result
        Pooled, or of one model.
    unit
        Of the value.
    """
    items = result.get("items")
    counted = f" and {count_text(items['n_questions'], item_noun(unit))}" if items else ""
    if "over" not in result:
        return estimate_text({**result, "unit": "model"}, unit, sign=sign, beside=beside)
    of_rounds = result["over"] == "rounds"
    n, what = (result["n"], "round") if of_rounds else (result["seeds"], "seed")
    return estimate_text({**result, "n": n, "unit": what}, unit, sign=sign, beside=counted + beside)
