"""From an estimate to one of four words: equivalent, better, worse, cannot tell. The margins are the plan's.

Equivalent: both one-sided t-tests reject at 5 %, so that the 90 % interval lies within the margins. Better or worse:
the 95 % interval leaves out 0. That a difference was not found is neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from aletheia.analysis.effects import POINTS
from aletheia.analysis.plan import Plan
from aletheia.analysis.stats import CONFIDENCE_LEVEL, t_quantile
from aletheia.inference.equivalence import tost

EQUIVALENT, BETTER, WORSE, CANNOT_TELL = "equivalent", "better", "worse", "cannot tell"
LEVEL = 1 - CONFIDENCE_LEVEL
FALSE_DISCOVERY = "Benjamini-Hochberg"  # by which a result is adjusted at the plan's rate, not at LEVEL
ONLY_GUESSES, NOT_MEASURED = "the base model only guesses", "not measured"
IMPLAUSIBLE = "the base model's score is implausible"
ONE_VALUE = "one value gives no interval"
ONE_RUN = "one seed, whose questions say nothing of other runs"
OVER_QUESTIONS = "questions"  # what the interval of one seed is over
NO_SPREAD = "all values are equal, so there is nothing to judge the error by"
SAME_FROM_ITSELF = "std differs as much from itself"
MATCHED = "matched"


@dataclass(frozen=True)
class Stated:
    """The plan of an analysis, and whether it was stated before the campaign's first result.

    Attributes
    ----------
    margins
        "beforehand", "afterwards" or "unknown" (:func:`aletheia.analysis.plan.margins_stated`).
    """

    plan: Plan
    margins: str


def equivalence(result: Mapping[str, Any], unit: str, plan: Plan) -> list[dict[str, Any]]:
    """Return both one-sided tests of an estimate at each margin of its unit; nothing without a standard error.

    Parameters
    ----------
    result
        With ``mean``, ``se`` and ``df``.
    unit
        The effect's.
    """
    if not result["se"]:
        return []
    margins = plan.margins.points if unit == POINTS else [plan.margin_of(unit)]
    tests = (tost(result["mean"], result["se"], result["df"], margin) for margin in margins)
    return [{**asdict(test), "of_verdict": test.margin == plan.margin_of(unit)} for test in tests]


def conclude(result: Mapping[str, Any], *, higher_is_better: bool, unit: str, stated: Stated) -> dict[str, Any]:
    """Return the verdict on a result, with its margin, the plan's hash, and when its margins were stated.

    Parameters
    ----------
    result
        ``mean``, ``se``, ``df``, ``p``; ``p_adjusted``, ``p_equivalence_adjusted`` and ``adjusted_by`` where it is one
        of a family;
        ``at_floor``, ``implausible`` and ``same`` (std against itself, in turns) where there are such.
    higher_is_better
        Whether a positive difference is an improvement.
    unit
        The effect's.
    """
    margin = stated.plan.margin_of(unit)
    of_rate = result.get("adjusted_by") == FALSE_DISCOVERY
    level = stated.plan.families.false_discovery_rate if of_rate else LEVEL
    word, reason = _word(result, margin, higher_is_better=higher_is_better, level=level)
    return {
        "verdict": word,
        "reason": reason,
        "margin": margin,
        "plan_sha256": stated.plan.sha256,
        "margins": stated.margins,
    }


def _word(
    result: Mapping[str, Any], margin: float, *, higher_is_better: bool, level: float = LEVEL
) -> tuple[str | None, str | None]:
    """Return the word and, where there is none or it cannot tell, the reason."""
    nothing = _why_nothing(result)
    if nothing is not None:
        return nothing
    p_difference, p_equivalence = result.get("p_adjusted"), result.get("p_equivalence_adjusted")
    if p_equivalence is None:
        p_equivalence = tost(result["mean"], result["se"], result["df"], margin).p
    if p_equivalence < level:
        return EQUIVALENT, None
    if (result["p"] if p_difference is None else p_difference) >= level:
        return CANNOT_TELL, None
    if result.get("same") and not exceeds(result, result["same"]):
        return CANNOT_TELL, SAME_FROM_ITSELF
    return (BETTER if (result["mean"] > 0) == higher_is_better else WORSE), None


def _why_nothing(result: Mapping[str, Any]) -> tuple[str | None, str] | None:
    """Return no word, or that it cannot tell, with the reason, where there is nothing to test; else None."""
    if result.get("implausible"):
        return None, IMPLAUSIBLE
    if result.get("at_floor") or result["mean"] is None:
        return None, ONLY_GUESSES if result.get("at_floor") else NOT_MEASURED
    if not result["se"]:
        return CANNOT_TELL, ONE_VALUE if result["se"] is None else NO_SPREAD
    return (CANNOT_TELL, ONE_RUN) if result.get("over") == OVER_QUESTIONS else None


def text(verdict: Mapping[str, Any]) -> str:
    """Return a verdict as words: the word, its reason, and a mark where the margins were not stated beforehand."""
    word, reason = verdict["verdict"], verdict["reason"]
    said = (f"says nothing: {reason}" if reason in (ONLY_GUESSES, IMPLAUSIBLE) else reason) if word is None else word
    said += f": {reason}" if word and reason else ""
    return said + (" (margins set afterwards)" if word and verdict["margins"] == "afterwards" else "")


def standard_error(estimate: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``mean``, ``se`` and ``df`` of an estimate, its interval read as a t-interval of n values."""
    low, high, n = estimate["low"], estimate["high"], estimate["n"]
    if low is None or n < 2:
        return {"mean": estimate["mean"], "se": None, "df": None}
    return {"mean": estimate["mean"], "se": (high - low) / 2 / t_quantile(n), "df": n - 1}


def of_estimate(estimate: Mapping[str, Any], margin: float, *, higher_is_better: bool) -> tuple[str | None, str | None]:
    """Return the word on a plain estimate, one of no family, and the reason where it cannot tell.

    Parameters
    ----------
    estimate
        ``{n, mean, low, high}``.
    margin
        In its unit.
    """
    result = standard_error(estimate)
    p = None
    if result["se"]:
        p = float(2 * stats.t.sf(abs(result["mean"]) / result["se"], result["df"]))
    return _word({**result, "p": p}, margin, higher_is_better=higher_is_better)


def speed(speedup: Mapping[str, Any], same: Mapping[str, Any] | None, margin_percent: float) -> str:
    """Return the verdict on a speedup over std, in percent.

    Parameters
    ----------
    speedup
        The estimate.
    same
        That of std over itself, measured in the same way, where there is one. A speedup is none unless it is larger
        than this one, whatever its sign, beyond the interval of their difference.
    margin_percent
        Within which two speeds count as equal.

    Returns
    -------
    str
        "faster", "slower", "equivalent", or "cannot tell" with the reason.
    """
    word, reason = of_estimate(speedup, margin_percent, higher_is_better=True)
    if word in (BETTER, WORSE) and same and same["low"] is not None and not exceeds(speedup, same):
        word, reason = CANNOT_TELL, SAME_FROM_ITSELF
    said = {BETTER: "faster", WORSE: "slower", None: reason}.get(word, word)
    return f"{said}: {reason}" if word and reason else said


def exceeds(difference: Mapping[str, Any], same: Mapping[str, Any]) -> bool:
    """Tell whether an arm differs from std by more than std does from itself, in either direction.

    The lower end of the interval of a difference of two estimates is d − √((m₁ − l₁)² + (u₂ − m₂)²), of means m, lower
    ends l and upper ends u (MOVER: Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702). That two intervals do
    not overlap would ask for more than 95 %.
    """
    mean, low, _ = _towards(difference, 1 if difference["mean"] > 0 else -1)
    for sign in (1, -1):
        own, _, high = _towards(same, sign)
        if mean - own <= math.hypot(mean - low, high - own):
            return False
    return True


def _towards(estimate: Mapping[str, Any], sign: int) -> tuple[float, float, float]:
    """Return mean, lower and upper end of an estimate times 1 or −1."""
    ends = sorted((sign * estimate["low"], sign * estimate["high"]))
    return sign * estimate["mean"], ends[0], ends[1]


def time(share: Mapping[str, Any], margin_percent: float) -> str:
    """Return the verdict on an arm's time, from the estimate of t_arm / t_std: whether compute is matched.

    "matched" where it is shown to be 1 within the margin; "less time than std" or "more time than std" where the 95 %
    interval leaves out 1; else "cannot tell".
    """
    word, reason = of_estimate(from_one(share), margin_percent / 100, higher_is_better=False)
    said = {EQUIVALENT: MATCHED, BETTER: "less time than std", WORSE: "more time than std", None: reason}.get(
        word, word
    )
    return f"{said}: {reason}" if word and reason else said


def from_one(share: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of t_arm / t_std − 1."""
    ends = {end: None if share[end] is None else share[end] - 1 for end in ("mean", "low", "high")}
    return {**share, **ends}


def at_equal_compute(loss: str, matched: str) -> str:
    """Return the verdict on a loss where compute matched; else that it is not known to.

    Parameters
    ----------
    loss
        The verdict on the loss, as words.
    matched
        Of :func:`time`.
    """
    if matched == MATCHED:
        return loss
    if matched.endswith("than std"):
        return f"none: compute did not match ({matched})"
    return "none: whether compute matched cannot be told"


def over_benchmarks(verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one phrase over the verdicts of several benchmarks: the worst case first, never a mean of verdicts.

    Parameters
    ----------
    verdicts
        By title of the benchmark.
    """
    telling = {title: each["verdict"] for title, each in verdicts.items() if each["verdict"] is not None}
    if not telling:
        reasons = [each["reason"] for each in verdicts.values()]
        why = " or ".join(reason for reason in (ONLY_GUESSES, IMPLAUSIBLE) if reason in reasons)
        return f"says nothing: {why or ONLY_GUESSES}" if verdicts else "not evaluated"
    for word in (WORSE, CANNOT_TELL, BETTER):
        names = [title for title, found in telling.items() if found == word]
        if names:
            return f"{word} ({', '.join(names)})"
    return EQUIVALENT
