"""The noise floor: by how much two runs differ that differ in nothing but their seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """Noise of differences between two runs, and the indifference zone that follows.

    Attributes
    ----------
    sd, low, high
        SD of the difference of two runs of one recipe, with its 95 % interval by χ²; None with fewer than two runs.
    n
        Runs with a loss.
    lost
        Runs without one.
    margin
        As the section states it.
    delta
        max(margin, 2·sd); the margin alone without an SD.
    """

    sd: float | None
    low: float | None
    high: float | None
    n: int
    lost: int
    margin: float
    delta: float


def noise_floor(losses: Mapping[int, float | None], *, margin: float) -> Floor:
    """Return the noise floor of runs of one recipe on equal batches.

    Parameters
    ----------
    losses
        ``{seed: loss}``; None for a run that failed.
    margin
        Difference that does not matter, nats.
    """
    raise NotImplementedError
