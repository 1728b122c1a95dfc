"""Budgets in time: steps of a recipe that take the seconds of std's, by step costs measured in turns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95


@dataclass(frozen=True)
class Cost:
    """Seconds of a step over those of std's.

    Attributes
    ----------
    value, low, high
        Geometric mean over rounds with its 95 % t-interval on the logarithm; no ends with one round.
    log2_se
        Standard error of log2 of the value; None with one round.
    n
        Rounds.
    """

    value: float
    low: float | None
    high: float | None
    log2_se: float | None
    n: int


def step_cost(own: Sequence[float], std: Sequence[float]) -> Cost:
    """Return what a step costs, from seconds that were taken in turns, one pair a round.

    Parameters
    ----------
    own, std
        ``[rounds]``: seconds of a step of the recipe and of std in the same round.

    Raises
    ------
    ValueError
        Without a round, for unequal numbers of rounds, and for seconds that are not above 0.
    """
    if not len(own) or len(own) != len(std) or not min(*own, *std) > 0:
        raise ValueError(f"expected seconds above 0 of as many rounds, at least one, found {own} and {std}")
    logs = np.log2(np.asarray(own, dtype=float) / np.asarray(std, dtype=float))
    mean, n = float(logs.mean()), len(logs)
    if n == 1:
        return Cost(2**mean, None, None, None, n)
    se = float(logs.std(ddof=1)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * se
    return Cost(2**mean, 2 ** (mean - half), 2 ** (mean + half), se, n)


def equal_steps(std_steps: int, cost: float, *, most: int | None = None) -> int:
    """Return how many steps take the seconds of ``std_steps`` steps of std: at least 1, at most ``most``."""
    if not cost > 0:
        raise ValueError(f"expected a cost above 0, found {cost}")
    steps = max(1, round(std_steps / cost))
    return steps if most is None else min(steps, most)


@dataclass(frozen=True)
class Affordable:
    """What of a list of wishes a budget pays for.

    Attributes
    ----------
    bought, refused
        Places of the wishes.
    left
        What remains.
    """

    bought: list[int]
    refused: list[int]
    left: float


def affordable(prices: Sequence[float], budget: float) -> Affordable:
    """Return which wishes a budget pays for, taken in their order, until one is too dear.

    Those after it are refused too, though they may be cheaper: the list is in the order of what matters.
    """
    paid = np.cumsum(np.asarray(prices, dtype=float))
    n = int((paid <= budget * (1 + 1e-9)).sum())
    return Affordable([*range(n)], [*range(n, len(paid))], budget - float(paid[n - 1] if n else 0.0))
