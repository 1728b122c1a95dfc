"""Arms that take turns in one process, in rounds: the times of each, and the bootstrap over rounds.

Times of one round are correlated, so the bootstrap resamples whole rounds. (It imports numpy and no torch, for the
steps that only read such measurements.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

CONFIDENCE_LEVEL = 0.95
RESAMPLES = 9_999  # so that the interval's ends fall on values
SEED = 0  # of the resampling, so that equal times give equal intervals


@dataclass
class Turns:
    """The steps of one arm in its turns.

    Attributes
    ----------
    status, reason
        As a run's: ``ok``, ``diverged``, ``out_of_memory`` or ``crashed``, and one sentence where it is not ``ok``.
    step_seconds
        Wall-clock seconds of each step, by round; the warm-up is left out. Whole rounds only.
    placement
        The audit of its adapters (:attr:`aletheia.training.loop.Loop.placement`); None where no loop could be made.
    """

    status: str = "ok"
    reason: str | None = None
    step_seconds: list[list[float]] = field(default_factory=list)
    placement: Mapping[str, Any] | None = None


def resampled_rounds(rounds: int) -> np.ndarray:
    """Return the rounds of each resample, int array [RESAMPLES, rounds]: drawn with replacement, from a fixed seed."""
    return np.random.default_rng(SEED).integers(0, rounds, (RESAMPLES, rounds))


def interval(value: float, replicates: np.ndarray) -> dict[str, Any]:
    """Return a value with its 95 % percentile interval.

    Parameters
    ----------
    value
        The estimate from all rounds.
    replicates
        The same from each resample, array [RESAMPLES].

    Notes
    -----
    With few rounds the interval is too narrow rather than too wide: it can hold nothing beyond what was seen.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. (scipy's bootstrap is not in the
    environment that measures.)
    """
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.percentile(replicates, [tail, 100 - tail])
    return {"value": float(value), "low": float(low), "high": float(high)}
