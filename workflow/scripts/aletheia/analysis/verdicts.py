"""The rule behind each verdict: margins fixed beforehand, one sentence for each case.

An interval decides, never a p-value: "no difference shown" and "difference shown to be small" are different
findings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from aletheia.analysis.benchmarks import FACTS, TITLES, questions_shown

# The paper's own bound ("Forgetting ≤ 2pp for all models"), adopted before any number here was measured.
MARGIN_PP = 2.0
# 1 % of perplexity, e^0.01: chosen by hand, before any number here was measured.
MARGIN_NATS = 0.01
# Two arms whose times differ by no more than this share count as compute-matched: chosen by hand.
MARGIN_TIME = 0.05

FORGETTING_MARGIN = f"The margin is ±{MARGIN_PP:g} points, the paper's own bound, fixed before any number was measured."
_FORGETTING_RULES = (
    FORGETTING_MARGIN,
    "The interval is the 95 % t-interval of the extra over the seeds.",
    "Interval wholly inside the margin: *no material extra forgetting shown*.",
    "Interval wholly below −margin: *material extra forgetting*; wholly above +margin: *material gain*.",
    "Interval on one side of 0 but across a margin: *extra forgetting* (or *gain*) *of unsettled size*.",
    "Interval across 0 and across a margin: *cannot tell at this n*.",
    "Fewer than two seeds: *cannot tell*, there is no interval.",
    "Base model not above guessing ({guessed}, one-sided exact binomial test at 5 %; generated answers: none right), "
    "or saying one choice whatever is asked: *says nothing*, since there is nothing to forget.",
    "Each verdict speaks of the questions that were asked. Where drawing other questions could move the "
    "difference by more than the margin (an upper bound that takes both scores as independent), it says "
    "*on these questions*.",
)
LOSS_RULES = (
    f"The margin is ±{MARGIN_NATS:g} nats of held-out loss (1 % of perplexity), chosen by hand beforehand.",
    "The interval is the 95 % t-interval of the paired difference, arm − std, over the seeds.",
    "Interval wholly inside the margin: *equal within the margin*; wholly beyond it: *worse* or *better*.",
    "Interval on one side of 0 but across a margin: *worse* (or *better*) *by an unsettled amount*.",
    "Otherwise *cannot tell at this n*; with fewer than two seeds there is no interval, so *cannot tell*.",
    "Compute counts as *matched* when the 95 % interval of the arm's time over std's, its probe counted, lies within "
    f"{100 * MARGIN_TIME:g} % of 1; wholly beyond that it is *less* or *more time than std*; otherwise *cannot tell*.",
    "Only where compute is matched does a verdict on the loss follow.",
)


def forgetting_rules(benchmarks: Iterable[str]) -> tuple[str, ...]:
    """Return the rules of the verdicts on forgetting, one sentence each.

    Parameters
    ----------
    benchmarks
        Those of the study; the rules name the score of guessing in each.
    """
    guessed = (f"{FACTS[n].title}: {100 * FACTS[n].chance:g} %" for n in questions_shown(benchmarks) if FACTS[n].chance)
    return tuple(rule.format(guessed=", ".join(guessed)) if "{guessed}" in rule else rule for rule in _FORGETTING_RULES)


def position(interval: dict[str, Any], margin: float) -> str:
    """Return the position of an interval relative to 0 and ±margin.

    Parameters
    ----------
    interval
        Of :func:`aletheia.analysis.stats.estimate`.
    margin
        Half-width of the zone that counts as equal, in the interval's unit.

    Returns
    -------
    str
        "none", "single", "inside", "below", "above", "negative", "positive" or "open".
    """
    low, high = interval["low"], interval["high"]
    if low is None:
        return "single" if interval["n"] else "none"
    cases = {
        "inside": -margin <= low and high <= margin,
        "below": high < -margin,
        "above": low > margin,
        "negative": high < 0,
        "positive": low > 0,
    }
    return next((name for name, holds in cases.items() if holds), "open")


_FORGETTING = {
    "none": "not measured",
    "single": "cannot tell: one seed gives no interval",
    "inside": "no material extra forgetting shown",
    "below": "material extra forgetting",
    "above": "material gain",
    "negative": "extra forgetting of unsettled size",
    "positive": "gain of unsettled size",
    "open": "cannot tell at this n",
}
_LOSS = {
    "none": "not measured",
    "single": "cannot tell: one seed gives no interval",
    "inside": "equal within the margin",
    "below": "better",
    "above": "worse",
    "negative": "better by an unsettled amount",
    "positive": "worse by an unsettled amount",
    "open": "cannot tell at this n",
}


def forgetting(test: dict[str, Any]) -> str:
    """Return the verdict on one benchmark's extra (see :func:`forgetting_rules`)."""
    if not test["base_above_floor"]:
        return "says nothing: the base model only guesses"
    where = position(test["difference"], MARGIN_PP)
    limited = where not in ("none", "single", "open") and test["sampling_half_width_pp"] > MARGIN_PP
    return _FORGETTING[where] + (", on these questions" if limited else "")


def loss(test: dict[str, Any]) -> str:
    """Return the verdict on a difference of held-out losses (see :data:`LOSS_RULES`)."""
    return _LOSS[position(test["difference"], MARGIN_NATS)]


def speed(speedup: dict[str, Any], same: dict[str, Any] | None = None) -> str:
    """Return the verdict on a speedup over std, in percent.

    Parameters
    ----------
    speedup
        The estimate.
    same
        That of std over itself, measured in the same way, where there is one. A speedup is none unless it is larger
        than this one, whatever its sign, beyond the interval of their difference.

    Returns
    -------
    str
        "faster", "slower", "equal within 5 %", or "cannot tell" with the reason.
    """
    where = position(speedup, 100 * MARGIN_TIME)
    low, high = speedup["low"], speedup["high"]
    if where in ("none", "single"):
        return "not measured" if where == "none" else "cannot tell: one value gives no interval"
    if low <= 0 <= high:
        return f"equal within {100 * MARGIN_TIME:g} %" if where == "inside" else "cannot tell at this n"
    if same and same["low"] is not None and not _exceeds(speedup, same):
        return "cannot tell: std differs as much from itself"
    return "faster" if low > 0 else "slower"


def _exceeds(speedup: dict[str, Any], same: dict[str, Any]) -> bool:
    """Tell whether a speedup differs from 0 by more than std does from itself, in either direction.

    The lower end of the interval of a difference of two estimates is d − √((m₁ − l₁)² + (u₂ − m₂)²), of means m, lower
    ends l and upper ends u (MOVER: Zou and Donner, Statistics in Medicine 27, 2008, 1693-1702). That two intervals do
    not overlap would ask for more than 95 %.
    """
    mean, low, _ = _towards(speedup, 1 if speedup["mean"] > 0 else -1)
    for sign in (1, -1):
        own, _, high = _towards(same, sign)
        if mean - own <= math.hypot(mean - low, high - own):
            return False
    return True


def _towards(estimate: dict[str, Any], sign: int) -> tuple[float, float, float]:
    """Return mean, lower and upper end of an estimate times 1 or −1."""
    ends = sorted((sign * estimate["low"], sign * estimate["high"]))
    return sign * estimate["mean"], ends[0], ends[1]


_TIME = {
    "none": "not measured",
    "single": "cannot tell: one seed gives no interval",
    "inside": "matched",
    "below": "less time than std",
    "above": "more time than std",
}


def time(share: dict[str, Any]) -> str:
    """Return the verdict on an arm's time, from the estimate of t_arm / t_std (see :data:`LOSS_RULES`)."""
    return _TIME.get(position(from_one(share), MARGIN_TIME), "cannot tell")


def from_one(share: dict[str, Any]) -> dict[str, Any]:
    """Return the estimate of t_arm / t_std − 1."""
    ends = {end: None if share[end] is None else share[end] - 1 for end in ("mean", "low", "high")}
    return {**share, **ends}


def matched_loss(test: dict[str, Any], share: dict[str, Any]) -> str:
    """Return the verdict on the loss at matched compute, or that compute is not known to match.

    Parameters
    ----------
    test
        The paired test of the losses.
    share
        The estimate of t_arm / t_std.
    """
    matched = time(share)
    if matched == "matched":
        return loss(test)
    if matched.endswith("than std"):
        return f"none: compute did not match ({matched})"
    return "none: whether compute matched cannot be told"


def downstream(extra: dict[str, Any]) -> str:
    """Return one phrase over all benchmarks of one model: the worst case first, never a mean of verdicts."""
    telling = {name: test for name, test in extra.items() if test["base_above_floor"]}
    if extra and not telling:
        return "says nothing: the base model only guesses"
    positions = {name: position(test["difference"], MARGIN_PP) for name, test in telling.items()}
    for worst, phrase in (
        (("below",), "material loss"),
        (("negative",), "loss of unsettled size"),
        (("none", "single", "open"), "cannot tell at this n"),
    ):
        names = [name for name, where in positions.items() if where in worst]
        if names:
            return f"{phrase} ({', '.join(TITLES[name] for name in names)})"
    if not positions:
        return "not evaluated"
    wide = any(test["sampling_half_width_pp"] > MARGIN_PP for test in telling.values())
    return "no material loss shown" + (", on these questions" if wide else "")
