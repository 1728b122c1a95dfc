"""Of whom a finding speaks, and how its numbers are said: each with its interval, and with what n counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.analysis import arms
from aletheia.analysis.arms import Comparison
from aletheia.analysis.frontier import IN_TURNS, relative_time
from aletheia.analysis.pairs import CM
from aletheia.analysis.stats import CONFIDENCE_LEVEL, estimate
from aletheia.report.table_text import number
from aletheia.study.arms import BASELINE

# From so many headline models on a finding speaks over models; of fewer an interval over models says next to nothing.
FEWEST_MODELS = 3
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
        That is compared with std.
    models
        Of the summary: those that have both arms; one alone where the finding is of that one.
    """

    campaign: Mapping[str, Any]
    arm: str
    models: Sequence[Mapping[str, Any]]

    @property
    def over_models(self) -> bool:
        """Whether each model's mean is one value."""
        return len(self.models) > 1

    @property
    def name(self) -> str:
        """Whose numbers these are."""
        if self.over_models:
            return f"{len(self.models)} headline models, campaign {self.campaign['name']}"
        (model,) = self.models
        headline = sum(other["headline"] and self.arm in other["against_std"] for other in self.campaign["models"])
        which = f", first of {headline} headline models" if headline > 1 else ""
        apart = which if model["headline"] else ", no part of the headline"
        return f"{model['model']}{apart}, campaign {self.campaign['name']}"

    def of(self, measure: str, arm: str | None = None) -> Comparison | None:
        """Return a comparison of the arm, or of another one, with std; None where there is none."""
        return self.measures(arm or self.arm).get(measure)

    def has(self, measure: str, arm: str | None = None) -> bool:
        """Tell whether a comparison has a value."""
        found = self.of(measure, arm)
        return found is not None and found["mean"] is not None

    def measures(self, arm: str) -> Mapping[str, Comparison]:
        """Return all comparisons of an arm with std."""
        return self._summarised("against_std").get(arm, _NOTHING)

    def controls(self) -> Mapping[str, Mapping[str, Comparison]]:
        """Return the arm less each control."""
        return self._summarised("against_controls") if self.arm == self.campaign["selecting_arm"] else _NOTHING

    def by_model(self, measure: str) -> list[Mapping[str, Comparison]]:
        """Return the arm's comparisons with std of each model that has a measure."""
        return [own for model in self.models if measure in (own := model["against_std"][self.arm])]

    def _summarised(self, key: str) -> Mapping[str, Any]:
        return self.campaign[key] if self.over_models else self.models[0][key]


def scope_of(campaign: Mapping[str, Any], arm: str) -> Scope | None:
    """Return over which models an arm's findings speak; None where no model has it beside std.

    All headline models that have it, from :data:`FEWEST_MODELS` on; else the first of them, or where none is of the
    headline the first model.
    """
    there = [model for model in campaign["models"] if {arm, BASELINE} <= set(model["against_std"])]
    headline = [model for model in there if model["headline"]]
    if len(headline) >= FEWEST_MODELS:
        return Scope(campaign, arm, headline)
    return Scope(campaign, arm, (headline or there)[:1]) if there else None


def main_scopes(summary: Mapping[str, Any]) -> list[Scope]:
    """Return the scope of each campaign with a pair: of the arm that selects, else of the first beside std."""
    found = []
    for campaign in summary["campaigns"]:
        names = dict.fromkeys(arm for model in campaign["models"] for arm in model["against_std"] if arm != BASELINE)
        scopes = [scope_of(campaign, arm) for arm in (campaign["selecting_arm"], *names) if arm]
        found += [scope for scope in scopes if scope][:1]
    return found


def matched_scopes(summary: Mapping[str, Any]) -> list[Scope]:
    """Return the scope of each campaign's compute-matched arm: ``cm``, else the first that took more steps."""
    found = []
    for campaign in summary["campaigns"]:
        names = dict.fromkeys(arm for model in campaign["models"] for arm in model["compute_matched"])
        scopes = [scope_of(campaign, arm) for arm in ((CM,) if CM in names else names)]
        found += [scope for scope in scopes if scope][:1]
    return found


def first_with(scopes: Sequence[Scope], has: Callable[[Scope], Any]) -> Scope:
    """Return the first scope of which something holds, else the first one."""
    return next((scope for scope in scopes if has(scope)), scopes[0])


def digits_of(found: Mapping[str, Any]) -> int:
    """Return the decimals that show two significant digits of an interval's width; without one, of the value."""
    low, high = found["low"], found["high"]
    # Where all values are equal, what is left of the width is rounding.
    narrow = low is None or high - low <= _NO_WIDTH * abs(found["mean"])
    size = abs(found["mean"]) if narrow else high - low
    return min(max(0, 1 - math.floor(math.log10(size))), _MOST_DIGITS) if size else 1


def said(found: Mapping[str, Any], unit: str, *, sign: str = "", beside: str = "", alone: bool = True) -> str:
    """Return "VALUE UNIT (95 % interval LOW to HIGH, n = N seeds)".

    Parameters
    ----------
    found
        A comparison with a value.
    unit
        Of the value, or nothing.
    sign
        "+" where gains are to show theirs.
    beside
        More to say within the brackets.
    alone
        Whether it stands by itself; else it is "VALUE UNIT, 95 % interval LOW to HIGH", beside one that says n.
    """
    digits = digits_of(found)
    value = " ".join(filter(None, (number(found["mean"], digits, sign), unit)))
    if found["low"] is None:
        how = "one value, so no interval"
    else:
        low, high = (number(found[end], digits, sign) for end in ("low", "high"))
        how = f"{100 * CONFIDENCE_LEVEL:g} % interval {low} to {high}"
    if not alone:
        return f"{value}, {how}" if found["low"] is not None else value
    return f"{value} ({how}, n = {counted(found['n'], found['unit'])}{beside})"


def counted(n: int, unit: str) -> str:
    """Return "3 seeds", "1 model"."""
    return f"{n} {unit}" + ("" if n == 1 else "s")


def time_share(scope: Scope) -> tuple[dict[str, Any], str]:
    """Return the estimate of t_arm / t_std with what n counts, the probe counted in, and how it was taken."""
    share, how = relative_time(scope.measures(scope.arm))
    turns = how == IN_TURNS
    speedup = scope.of(arms.TURNS_WITH_PROBE if turns else arms.WALL_CLOCK_WITH_PROBE)
    return {**share, "unit": speedup["unit"]}, IN_TURNS if turns else "by the wall clock"


def telling_extras(scope: Scope) -> dict[str, dict[str, Any]]:
    """Return an arm's tests on the benchmarks whose base is above the floor: of one model, or over those models.

    Over models only where at least :data:`FEWEST_MODELS` are above it, each one's mean as one value. They answered the
    same questions, so that what drawing these could move is not averaged out.
    """
    tests: dict[str, list[dict[str, Any]]] = {}
    for model in scope.models:
        for name, test in model["extra"].get(scope.arm, {}).items():
            if test["base_above_floor"] and test["difference"]["n"]:
                tests.setdefault(name, []).append(test)
    if not scope.over_models:
        return {name: {**test, "difference": {**test["difference"], "unit": "seed"}} for name, (test,) in tests.items()}
    return {
        name: {
            "base_above_floor": True,
            "difference": {**estimate(test["difference"]["mean"] for test in own), "unit": "model"},
            "sampling_half_width_pp": sum(test["sampling_half_width_pp"] for test in own) / len(own),
        }
        for name, own in tests.items()
        if len(own) >= FEWEST_MODELS
    }
