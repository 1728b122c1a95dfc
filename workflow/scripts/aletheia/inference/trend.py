"""Whether values rise or fall over ordered levels, within blocks; exact for a few runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST_LEVELS = 3


@dataclass(frozen=True)
class Trend:
    """A trend over levels, within blocks.

    Attributes
    ----------
    n_blocks, n_levels
        Blocks with a value at every level, and levels.
    slope, low, high
        Mean over blocks of the least-squares slope, in units of the values a unit of the levels, with the 95 %
        t-interval of that mean; no ends with one block.
    p
        Two-sided, of Page's test; None with one block.
    p_least
        The smallest p that so many blocks and levels can give.
    """

    n_blocks: int
    n_levels: int
    slope: float
    low: float | None
    high: float | None
    p: float | None
    p_least: float


def trend(values: Sequence[Sequence[float]], *, levels: Sequence[float]) -> Trend | None:
    """Return whether values rise or fall with the level; None without a whole block.

    Page's test: E. B. Page (1963), "Ordered hypotheses for multiple treatments: a significance test for linear ranks",
    Journal of the American Statistical Association 58(301), by :func:`scipy.stats.page_trend_test`. Its distribution is
    exact (by scipy up to 8 levels and 12 blocks, normal beyond): every order of the ranks within a block is as likely
    where levels change nothing, whatever the values' distribution and the blocks' differences. p is twice the smaller
    of both directions', at most 1. Equal values share their mean rank, and a rank sum between two whole ones counts as
    the lower: with ties p errs to the cautious side.

    Parameters
    ----------
    values
        One row a block (a seed), one column a level; a block with a missing value (NaN) is left out.
    levels
        Of the columns, rising.

    Raises
    ------
    ValueError
        For fewer than three levels, or levels that do not rise.
    """
    x = np.asarray(levels, dtype="float64")
    if len(x) < FEWEST_LEVELS or (np.diff(x) <= 0).any():
        raise ValueError(f"expected at least {FEWEST_LEVELS} rising levels, found {list(levels)}")
    rows = np.asarray(values, dtype="float64").reshape(-1, len(x))
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return None
    centred = x - x.mean()
    slopes = rows @ centred / (centred @ centred)
    low = high = None
    if len(slopes) > 1:
        half = float(stats.t.ppf(0.975, len(slopes) - 1) * slopes.std(ddof=1) / math.sqrt(len(slopes)))
        low, high = float(slopes.mean()) - half, float(slopes.mean()) + half
    return Trend(
        n_blocks=len(rows),
        n_levels=len(x),
        slope=float(slopes.mean()),
        low=low,
        high=high,
        p=None if len(rows) == 1 else min(1.0, 2 * min(_page(rows), _page(rows[:, ::-1]))),
        p_least=2 / math.factorial(len(x)) ** len(rows),
    )


def _page(rows: np.ndarray) -> float:
    """Return the one-sided p of values that rise from left to right."""
    return float(stats.page_trend_test(rows).pvalue)
