"""Budgets in time: steps of a recipe that take the seconds of std's, by step costs measured in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds of a step over those of std's.

    Attributes
    ----------
    value, low, high
        Geometric mean over rounds with its 95 % t-interval on the logarithm; no ends with one round.
    log2_se, df
        Of log2 of the value: None, 0 with one round.
    n
        Rounds.
    """

    value: float
    low: float | None
    high: float | None
    log2_se: float | None
    df: int
    n: int


def step_cost(own: Sequence[float], std: Sequence[float]) -> Cost:
    """Return what a step costs from seconds that were taken in turns, one pair a round."""
    raise NotImplementedError


def equal_steps(std_steps: int, cost: float, *, most: int | None = None) -> int:
    """Return how many steps take the seconds of ``std_steps`` steps of std: at least 1, at most ``most``."""
    raise NotImplementedError


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
    """Return which wishes a budget pays for, taken in their order; one that is too dear does not end the list."""
    raise NotImplementedError
