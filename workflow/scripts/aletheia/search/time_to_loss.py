"""How many times as fast a recipe reaches the loss at which std ends: a ratio of seconds with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from aletheia.search.confirmation import BOTH, PAPER, PLAIN, SHAPE_ALONE, SHORTER, Losses

LEVEL = 0.95
TARGETS = {"a": PAPER, "b": PLAIN, "c": SHAPE_ALONE}  # whose loss each ratio is of


@dataclass(frozen=True)
class Ratio:
    """Seconds of std over seconds of the recipe to std's loss; above 1 the recipe is faster.

    Attributes
    ----------
    value, low, high
        The ratio and its 95 % interval; all None where the data do not bound it.
    n
        Seeds.
    extrapolated
        Whether the loss lies outside those of the recipe's two lengths, so that the line between them is prolonged.
    reason
        Why numbers are None; else None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    extrapolated: bool = False
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Times:
    """What runs take, by ``cost.json``.

    Attributes
    ----------
    std, own
        Seconds of a full run of the other recipe, and of this one, without what is fixed.
    fixed
        Seconds that this recipe takes whatever its length: its probe.
    log2_se, df
        Standard error of log2(own / std), and its degrees of freedom.
    """

    std: float = 1.0
    own: float = 1.0
    fixed: float = 0.0
    log2_se: float = 0.0
    df: float = math.inf


def time_ratio(target: Losses, own: Losses, shorter: Losses, *, doublings: float, times: Times) -> Ratio:
    """Return how many times as fast a recipe reaches the loss at which another ends.

    Over the logarithm of its steps a recipe's loss is taken as a line through its complete runs at two lengths. With D
    the mean over seeds of (other's loss − own loss) and B the mean fall of the own loss for each doubling, it is there
    D/B doublings before its end:

        ratio = std / (fixed + own · 2^(−D/B))

    D and B are means over the same seeds, normal and correlated (the recipe's long runs are in both), so that the
    interval of D/B is Fieller's (1954, "Some problems in interval estimation", JRSS B 16:175), exact with few seeds
    where the delta method is not; it has no ends where B is not shown to be above 0. The costs' error is independent
    of it and is added by the recovery of variances (Zou and Donner 2008, Statistics in Medicine 27:1693): each
    half-width is the root of the sum of both squares.

    A loss that flattens is below the line between its two lengths: the recipe is then further ahead than the line says,
    and the interval errs towards a ratio of 1. Beyond the shorter length (``extrapolated``) it errs the other way.

    Parameters
    ----------
    target
        ``{seed: loss}`` of the other at the end of its runs; None for a run that failed.
    own, shorter
        The same of the recipe, at the end of its runs and of its shorter ones.
    doublings
        log2(steps of the runs / steps of the shorter ones), above 0.
    times
        Of both.
    """
    seeds = [s for s, loss in target.items() if None not in (loss, own.get(s), shorter.get(s))]
    n = len(seeds)
    if n < 2:
        return Ratio(None, None, None, n, reason=f"{n} of the seeds have all three runs: expected at least two")
    gaps = np.array([target[s] - own[s] for s in seeds])
    falls = np.array([shorter[s] - own[s] for s in seeds]) / doublings
    ends = fieller(gaps, falls)
    if ends is None:
        return Ratio(None, None, None, n, reason="the recipe's loss is not shown to fall with more steps")
    ahead = float(gaps.mean() / falls.mean())
    half = float(special.stdtrit(times.df, (1 + LEVEL) / 2)) * times.log2_se if times.log2_se else 0.0
    low, high = ahead - math.hypot(ahead - ends[0], half), ahead + math.hypot(ends[1] - ahead, half)
    value, low, high = (times.std / (times.fixed + times.own * 2**-doubled) for doubled in (ahead, low, high))
    return Ratio(value, low, high, n, extrapolated=not 0 <= ahead <= doublings)


def fall_of_a_doubling(own: Losses, shorter: Losses, *, doublings: float) -> float:
    """Return by how much a recipe's loss falls for each doubling of its steps, mean over seeds; 0 if it does not.

    Parameters
    ----------
    own, shorter, doublings
        As of :func:`time_ratio`.
    """
    falls = [shorter[s] - loss for s, loss in own.items() if None not in (loss, shorter.get(s))]
    return max(0.0, float(np.mean(falls)) / doublings) if falls else 0.0


def fieller(numerator: np.ndarray, denominator: np.ndarray, *, level: float = LEVEL) -> tuple[float, float] | None:
    """Return Fieller's interval of a ratio of two means over the same units; None where it is not bounded.

    All ρ with (x̄ − ρȳ)² ≤ t²·(s_xx − 2ρ·s_xy + ρ²·s_yy)/n are in it: a quadratic in ρ.
    """
    n = len(numerator)
    x, y = float(numerator.mean()), float(denominator.mean())
    covariance = np.cov(numerator, denominator) * float(special.stdtrit(n - 1, (1 + level) / 2)) ** 2 / n
    a, b, c = y**2 - covariance[1, 1], x * y - covariance[0, 1], x**2 - covariance[0, 0]
    if a <= 0 or y <= 0:
        return None
    root = math.sqrt(max(0.0, b**2 - a * c))
    return (float(b - root) / a, float(b + root) / a)


def standard_ratios(cells: Mapping[str, Losses], *, doublings: float, times: Mapping[str, Times]) -> dict[str, Ratio]:
    """Return the three ratios that a search reports, of the recipe that it chose.

    It was chosen before the seeds of the confirmation were run, so that no ratio is one of the best of several.

    Parameters
    ----------
    cells
        ``{cell: {seed: loss}}`` with the cells of :func:`aletheia.search.confirmation.confirmed_cells`.
    doublings
        As of :func:`time_ratio`.
    times
        By ``a``, ``b``, ``c``.

    Returns
    -------
    dict
        ``a``: to the loss of std in the paper's shape and at its rate; ``b``: of std in that shape, at its own best
        rate; ``c``: of std with the recipe's extras, at its own best rate.
    """
    return {
        name: time_ratio(cells[cell], cells[BOTH], cells[SHORTER], doublings=doublings, times=times[name])
        for name, cell in TARGETS.items()
    }
