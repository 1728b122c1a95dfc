"""What a campaign will be able to tell, and what not, in words (numbers: :mod:`aletheia.analysis.planned_power`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aletheia.analysis.plan import Plan, Unit
from aletheia.analysis.planned_power import PlannedPower
from aletheia.inference.power import FEWEST_POOLED
from aletheia.study.benchmarks import either

MOST_NAMES = 6  # of arms that a sentence lists
UNITS = {"points": "points", "nats": "nats", "log_ratio": "% of time"}


def amount(value: float, unit: Unit) -> str:
    """Return a difference with its unit, to two digits: "0.85 points", "0.01 nats", "5 % of time"."""
    number = 100 * math.expm1(value) if unit == "log_ratio" else value
    digits = f"{number:.2g}" if number < 100 else f"{number:.0f}"
    return f"1 {UNITS[unit].removesuffix('s')}" if digits == "1" else f"{digits} {UNITS[unit]}"


def amounts(low: float, high: float, unit: Unit) -> str:
    """Return a range of differences, which may be one: "2.4 to 7.1 points"."""
    first, last = amount(low, unit), amount(high, unit)
    return last if first == last else f"{first.partition(' ')[0]} to {last}"


def percents(low: float, high: float) -> str:
    """Return a range of probabilities in whole percents, rounded down: 79.9 % is not yet the power that is wanted."""
    first, last = (math.floor(100 * value) for value in (low, high))
    return f"{last} %" if first == last else f"{first} to {last} %"


def sentence(told: PlannedPower, wanted: float) -> str | None:
    """Return what a campaign cannot tell about a measure, and what it would take; None where it can tell.

    Of times the question is whether they differ: a campaign should find a difference of the plan's margin. Of all else
    it is whether they are equivalent within that margin.

    Parameters
    ----------
    told
        With or without power.
    wanted
        The power that suffices.
    """
    who = f"{told.campaign} ({arms_in_words(told.arms)})"
    if told.power is None or told.power_at_best is None or told.detectable is None:
        return f"{who} says nothing of seeds to come on {told.title}: one seed of one model shows no spread."
    if told.unit == "log_ratio":
        smallest = amount(told.detectable, told.unit)
        return f"{who} may miss a difference below {smallest}." if told.detectable > told.margin else None
    if told.power >= wanted:
        return None
    within = f"equivalence within ±{amount(told.margin, told.unit)} on {told.title}{_of_each(told)}"
    power = percents(told.power, told.power_at_best)
    if told.power_at_best >= wanted:
        return f"{who} shows {within} only where models change on questions of their own: power {power}; {_cure(told)}."
    return f"{who} cannot show {within}: power {power}; {_cure(told)}."


def assumptions(plan: Plan) -> str:
    """Return what the numbers mean and rest on, in sentences."""
    assumed, wanted = plan.power.assumed, f"{100 * plan.power.wanted:g} %"
    seeds, models = (
        f"{amount(getattr(assumed, f'{of}_sd_points'), 'points')}, {amount(getattr(assumed, f'{of}_sd_nats'), 'nats')} "
        f"and {getattr(assumed, f'{of}_sd_log_time'):g} of the logarithm of time"
        for of in ("seed", "model")
    )
    return (
        f"Detects: the smallest true difference that is found with {wanted} power. Shown with: the power to show "
        "equivalence within the margin, by two one-sided tests, where the true difference is 0. A range: where all "
        "models change on the same questions, and where each changes on its own. Fewer than three headline models are "
        f"told one by one. Assumed ({plan.path}): SDs over seeds {seeds}; over models {models}; "
        f"{100 * assumed.discordance:g} % of questions answered differently. Left out: that rows of a loss are a "
        "sample too, and that runs may fail."
    )


def _of_each(told: PlannedPower) -> str:
    return " for any one model" if 1 < told.models < FEWEST_POOLED else ""


def _cure(told: PlannedPower) -> str:
    """Return what it would take, for the end of a sentence."""
    best = {"seeds": told.seeds_needed_at_best, "models": told.models_needed_at_best}
    others = [f"{count} {name}" for name, count in best.items() if count]
    pooled = told.models >= FEWEST_POOLED
    if told.questions and pooled and others:
        others = [f"at best {either(others)}"]
    cures = [*([_questions(told)] if told.questions_needed or told.questions_needed_at_best else []), *others]
    if cures:
        return f"it would take {either(cures)}"
    tried = [*(["questions"] if told.questions else []), "seeds", *(["models"] if pooled else [])]
    return f"more {either(tried)} alone would not do"


def _questions(told: PlannedPower) -> str:
    """Return how many questions it would take: "296 to 2,960 questions (it has 1,319)"."""
    numbers = list(dict.fromkeys(filter(None, (told.questions_needed_at_best, told.questions_needed))))
    at_best = "" if told.questions_needed else "at best "
    has = f" (it has {told.all_questions:,})" if told.all_questions and numbers[-1] > told.all_questions else ""
    return f"{at_best}{' to '.join(f'{number:,}' for number in numbers)} questions{has}"


def arms_in_words(arms: Sequence[str]) -> str:
    """Return the names of some arms; of many their number and the first ones."""
    if len(arms) <= MOST_NAMES:
        return ", ".join(arms)
    return f"{len(arms)} arms: {', '.join(arms[: MOST_NAMES - 2])}, …"
