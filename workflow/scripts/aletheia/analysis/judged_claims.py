"""Holding a claim of the paper against numbers: its own (``published_numbers``) or those of a study.

A verdict is of what the claim says, in the numbers given: it adds no margin that the paper does not state, and takes
no sentence of the paper as its own evidence. Numbers that are printed with few digits are taken as printed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from scipy import stats

from aletheia.analysis.published_claims import ALL, STUDY, Claim, Number, Numbers

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = "holds", "does not hold", "cannot tell"
NOT_GIVEN = "not in the numbers"
LEVEL = 0.95  # of intervals
_BREAKABLE_BY_ONE = ("every_model", "every_run")
_TINY = 1e-9  # decimal numbers are floats here


@dataclass(frozen=True)
class Judgement:
    """What numbers say of a claim.

    Attributes
    ----------
    verdict
        :data:`HOLDS`, :data:`DOES_NOT_HOLD`, :data:`CANNOT_TELL` or :data:`NOT_GIVEN`.
    why
        In some words, with the numbers that decided.
    decided
        Of rules over single models: those that break the claim.
    estimate, low, high, p
        What was held against the threshold, in the claim's unit: one number, its 95 % interval, its two-sided p; None
        where the rule has none.
    numbers
        All that were read, by model.
    missing
        Models of the claim without a number.
    n
        How many models were read, 1 for a number of the study; each has its own number of runs.
    """

    verdict: str
    why: str
    decided: tuple[str, ...] = ()
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    numbers: dict[str, Number] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    n: int = 0


def judge(claim: Claim, numbers: Numbers) -> Judgement:
    """Return the verdict on a claim; a claim about all models reads every model that has the quantity.

    A model of the claim without a number leaves it open, unless another one breaks what each must fulfil.
    """
    given = {model: Number(*number) for (model, quantity), number in numbers.items() if quantity == claim.quantity}
    study = claim.rule == "study"
    wanted = (STUDY,) if study else tuple(m for m in given if m != STUDY) if claim.models == (ALL,) else claim.models
    read = {model: given[model] for model in wanted if model in given}
    missing = () if study else tuple(model for model in wanted if model not in given)
    if not read:
        return Judgement(NOT_GIVEN, f"no {claim.quantity} is given", missing=missing)
    if claim.relation == "states_no_bound":
        found = Judgement(CANNOT_TELL, f"the paper states no bound; {_shown(read)}")
    else:
        others = [number.mean for model, number in given.items() if model not in read and model != STUDY]
        found = _RULES[claim.rule](claim, read, others)
        if missing and (found.verdict == HOLDS or claim.rule not in _BREAKABLE_BY_ONE):
            found = replace(found, verdict=CANNOT_TELL, why=f"{found.why}; without {', '.join(missing)}")
    return replace(found, numbers=read, missing=missing, n=len(read))


class _Region(NamedTuple):
    """The values that a claim allows."""

    low: float
    high: float
    is_open: bool  # the ends themselves are outside

    def has(self, value: float) -> bool:
        slack = -_TINY if self.is_open else _TINY
        return self.low - slack <= value <= self.high + slack


def _region(claim: Claim) -> _Region:
    """Return what a claim allows; ``equals`` reaches half a unit of the threshold's last digit to either side."""
    first, last = float(claim.threshold[0]), float(claim.threshold[-1])
    if claim.relation == "equals":
        reach = 0.5 * 10.0 ** int(Decimal(claim.threshold[0]).as_tuple().exponent)
        return _Region(first - reach, first + reach, False)
    below = claim.relation in ("at_most", "less_than")
    above = claim.relation in ("at_least", "greater_than")
    low, high = (-math.inf if below else first), (math.inf if above else last)
    return _Region(low, high, claim.relation in ("greater_than", "less_than"))


def _t_interval(mean: float, se: float, df: float) -> tuple[float, float, float]:
    """Return both ends of the interval of level :data:`LEVEL`, and the two-sided p of a mean of 0."""
    if se == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * se
    return mean - half, mean + half, 2 * float(stats.t.sf(abs(mean) / se, df))


def _by_interval(claim: Claim, mean: float, se: float, df: float) -> Judgement:
    low, high, p = _t_interval(mean, se, df)
    region = _region(claim)
    inside = region.has(low) and region.has(high)
    outside = high < region.low or low > region.high
    verdict = HOLDS if inside else DOES_NOT_HOLD if outside else CANNOT_TELL
    return Judgement(verdict, f"{mean:.3g} [{low:.3g}, {high:.3g}]", (), mean, low, high, p)


def _every_model(claim: Claim, read: dict[str, Number], _others: list[float]) -> Judgement:
    if claim.relation == "significant":
        return _significant_in_each(claim, read)
    region = _region(claim)
    broken = [model for model, number in read.items() if not region.has(number.mean)]
    if broken:
        return _breaking(read, broken)
    return Judgement(HOLDS, _shown(read))


def _significant_in_each(claim: Claim, read: dict[str, Number]) -> Judgement:
    """Test that each model's mean over its runs is above 0 (two-sided p)."""
    unknown = [model for model, number in read.items() if number.sd is None or number.n < 2]
    if unknown:
        return Judgement(CANNOT_TELL, f"no SD over runs of {', '.join(unknown)}")
    p = {m: _t_interval(x.mean, float(x.sd or 0) / math.sqrt(x.n), x.n - 1)[2] for m, x in read.items()}
    level = float(claim.threshold[0])
    broken = tuple(model for model, number in read.items() if not (p[model] < level and number.mean > 0))
    largest = max(p.values())
    return Judgement(DOES_NOT_HOLD if broken else HOLDS, f"largest p = {largest:.2g}", broken, p=largest)


def _every_run(claim: Claim, read: dict[str, Number], _others: list[float]) -> Judgement:
    """Bound the runs by their mean and SD: none of n is farther than √(n − 1) SD from their mean (Samuelson 1968).

    That holds for the population SD (ddof 0), hence for the larger sample SD too.
    """
    region = _region(claim)
    broken = [model for model, number in read.items() if not region.has(number.mean)]
    if broken:
        return _breaking(read, broken)
    reach = {m: math.inf if x.sd is None and x.n > 1 else math.sqrt(x.n - 1) * (x.sd or 0.0) for m, x in read.items()}
    unsure = [m for m, x in read.items() if not (region.has(x.mean - reach[m]) and region.has(x.mean + reach[m]))]
    if unsure:
        return Judgement(CANNOT_TELL, f"the SD leaves room for a run that breaks it: {', '.join(unsure)}")
    return Judgement(HOLDS, f"no run of {sum(number.n for number in read.values())} can lie beyond")


def _most_models(claim: Claim, read: dict[str, Number], _others: list[float]) -> Judgement:
    region = _region(claim)
    broken = tuple(model for model, number in read.items() if not region.has(number.mean))
    kept = len(read) - len(broken)
    return Judgement(HOLDS if 2 * kept > len(read) else DOES_NOT_HOLD, f"{kept} of {len(read)} models", broken)


def _mean_over_models(claim: Claim, read: dict[str, Number], _others: list[float]) -> Judgement:
    values = [number.mean for number in read.values()]
    mean = math.fsum(values) / len(values)
    if claim.relation != "significant":
        return Judgement(HOLDS if _region(claim).has(mean) else DOES_NOT_HOLD, f"mean {mean:.4g}", (), mean)
    if len(values) < 2:
        return Judgement(CANNOT_TELL, "one model says nothing of others", (), mean)
    low, high, p = _t_interval(mean, stats.sem(values), len(values) - 1)
    verdict = HOLDS if p < float(claim.threshold[0]) and mean > 0 else DOES_NOT_HOLD
    return Judgement(verdict, f"{mean:.3g} [{low:.3g}, {high:.3g}], p = {p:.2g}", (), mean, low, high, p)


def _interval_over_models(claim: Claim, read: dict[str, Number], _others: list[float]) -> Judgement:
    values = [number.mean for number in read.values()]
    if len(values) < 2:
        return Judgement(CANNOT_TELL, "one model has no interval over models")
    return _by_interval(claim, math.fsum(values) / len(values), stats.sem(values), len(values) - 1)


def _interval_over_runs(claim: Claim, read: dict[str, Number], _others: list[float]) -> Judgement:
    if len(read) > 1:
        raise ValueError(f"{claim.id}: expected one model for an interval over runs, found {len(read)}")
    (number,) = read.values()
    if number.sd is None or number.n < 2:
        return Judgement(CANNOT_TELL, "no SD over runs is given", (), number.mean)
    return _by_interval(claim, number.mean, number.sd / math.sqrt(number.n), number.n - 1)


def _mean_minus_others(claim: Claim, read: dict[str, Number], others: list[float]) -> Judgement:
    """Take the models' mean less that of all other models; Welch's interval."""
    values = [number.mean for number in read.values()]
    if min(len(values), len(others)) < 2:
        return Judgement(CANNOT_TELL, f"{len(values)} models against {len(others)} others; two of each are needed")
    a, b = stats.sem(values) ** 2, stats.sem(others) ** 2
    df = (a + b) ** 2 / (a**2 / (len(values) - 1) + b**2 / (len(others) - 1)) if a + b else 1.0
    mean = math.fsum(values) / len(values) - math.fsum(others) / len(others)
    return _by_interval(claim, mean, math.sqrt(a + b), df)


def _breaking(read: dict[str, Number], broken: list[str]) -> Judgement:
    shown = _shown({model: read[model] for model in broken})
    return Judgement(DOES_NOT_HOLD, f"{len(broken)} of {len(read)}: {shown}", tuple(broken))


def _shown(read: dict[str, Number]) -> str:
    return ", ".join(f"{x.mean:.4g}" if model == STUDY else f"{model} {x.mean:.4g}" for model, x in read.items())


_RULES: dict[str, Callable[[Claim, dict[str, Number], list[float]], Judgement]] = {
    "every_model": _every_model,
    "every_run": _every_run,
    "most_models": _most_models,
    "mean_over_models": _mean_over_models,
    "mean_minus_others": _mean_minus_others,
    "interval_over_models": _interval_over_models,
    "interval_over_runs": _interval_over_runs,
    "study": _every_model,
}
