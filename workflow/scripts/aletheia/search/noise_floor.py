"""The noise floor: by how much two runs differ that differ in nothing but their seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

LEVEL = 0.95


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

    The root of the mean square of the differences of all pairs of n runs is √2·s, s the SD of the n losses; (n − 1)·s²
    over the variance is χ² with n − 1 degrees of freedom. With three runs the interval spans a factor of twelve: what
    keeps a lucky floor from promoting noise is the margin.

    Parameters
    ----------
    losses
        ``{seed: loss}``; None for a run that failed.
    margin
        Difference that does not matter, nats.
    """
    found = [loss for loss in losses.values() if loss is not None and math.isfinite(loss)]
    n, lost = len(found), len(losses) - len(found)
    if n < 2:
        return Floor(None, None, None, n, lost, margin, margin)
    sd = math.sqrt(2) * float(np.std(found, ddof=1))
    low, high = (sd * math.sqrt((n - 1) / special.chdtri(n - 1, tail)) for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Floor(sd, float(low), float(high), n, lost, margin, max(margin, 2 * sd))
