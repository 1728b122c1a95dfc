"""Does a published mean lie where one's own mean of the same quantity says it should?

Both means have errors, so the difference is held against the sum of their variances: the published value is expected in
x_o ± t_ν·√(s_o²/n_o + s_p²·k/n_p + q_o² + q_p² + u²/12), the prediction interval of an original mean given its
replication (Spence and Stanley 2016; Patil, Peng and Leek 2016). s are standard deviations over runs and n their
numbers; k = n/(n − 1) where a published one was divided by n, 3/2 of three runs; q are standard errors over questions;
u is the unit of the last printed digit. ν is Satterthwaite's (1946).

Functions of intervals take arrays too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
SMALLEST_TAIL = 1e-300  # a smaller one may round to 0, whose score is endless
INSIDE, SAME_SIGN, OPPOSITE_SIGN = "inside", "outside, same sign", "outside, opposite sign"
NOT_COMPARABLE, NOT_INFORMATIVE = "not comparable", "not informative"
EQUAL, UNEQUAL = "equal", "not equal"
OUTSIDE = (SAME_SIGN, OPPOSITE_SIGN)


@dataclass(frozen=True)
class Spread:
    """How values scatter.

    Attributes
    ----------
    n
        Number of values behind a mean.
    sd
        Their standard deviation; None where it is not known.
    ddof
        1 where it was divided by n − 1, 0 by n.
    """

    n: int
    sd: Any
    ddof: int = 1

    def variance(self) -> Any:
        """Return the unbiased variance of one value; None where it is not known."""
        if self.sd is None or self.n < 2:
            return None
        return np.square(self.sd) * (self.n - self.ddof) / (self.n - 1)


@dataclass(frozen=True)
class Component:
    """A part of the variance of the difference, with its degrees of freedom (may be infinite)."""

    variance: Any
    df: float


@dataclass(frozen=True)
class Interval:
    """Where the published value is expected.

    Attributes
    ----------
    se, df
        Standard error of the difference, and Satterthwaite's degrees of freedom.
    low, high
        Ends.
    """

    se: Any
    df: Any
    low: Any
    high: Any


def components(
    *,
    ours: Spread,
    published: Spread,
    question_variance: float = 0.0,
    question_df: float = math.inf,
    questions: tuple[int, int] | None = None,
    unit: float = 0.0,
) -> list[Component]:
    """Return the parts of the variance of published mean − own mean; none where no spread but rounding is known.

    Where one side's spread over runs is not known, the other's stands for it; where neither is, runs add nothing.

    Parameters
    ----------
    ours, published
        Spread over runs.
    question_variance, question_df
        Squared standard error of the own mean over questions, q_o², and its degrees of freedom.
    questions
        Number of questions, own and published. The published side's q_p² is that of as many other questions of the
        same kind: q_o² times their ratio. None: the published value has no error over questions.
    unit
        Of the last printed digit of the published value.
    """
    own, other = ours.variance(), published.variance()
    both = 1 / ours.n + 1 / published.n
    parts = []
    if own is None or other is None:
        known, df = (own, ours.n - 1) if other is None else (other, published.n - 1)
        parts += [] if known is None else [Component(known * both, df)]
    else:
        parts += [Component(own / ours.n, ours.n - 1), Component(other / published.n, published.n - 1)]
    if np.any(question_variance):
        ratio = questions[0] / questions[1] if questions else 0.0
        parts.append(Component(question_variance * (1 + ratio), question_df))
    # Rounding alone would pass for near certainty.
    known = any(np.any(part.variance > 0) for part in parts)
    return [*parts, Component(unit**2 / 12, math.inf)] if known else []


def interval(mean: Any, parts: Sequence[Component], *, level: float = LEVEL) -> Interval | None:
    """Return where the published value is expected, given one's own mean.

    Parameters
    ----------
    mean
        One's own.
    parts
        Of :func:`components`.
    level
        Of the interval.

    Returns
    -------
    Interval or None
        None where no variance is known.
    """
    total = sum((part.variance for part in parts), start=np.zeros(()))
    if not np.all(total > 0):
        return None
    share = sum((np.square(part.variance) / part.df for part in parts), start=np.zeros(()))
    df = np.where(share > 0, np.square(total) / np.where(share > 0, share, 1.0), np.inf)
    se = np.sqrt(total)
    half = stats.t.ppf((1 + level) / 2, df) * se
    return Interval(*(value if np.ndim(value) else float(value) for value in (se, df, mean - half, mean + half)))


def verdict(published: float, mean: float, expected: Interval | None, *, informative_below: float) -> str:
    """Return what an interval says of a published value.

    Parameters
    ----------
    published, mean
        The two means.
    expected
        Of :func:`interval`.
    informative_below
        The largest half-width with which "inside" says something. A value outside says something at any width.
    """
    if expected is None:
        return NOT_COMPARABLE
    if expected.low <= published <= expected.high:
        return INSIDE if (expected.high - expected.low) / 2 <= informative_below else NOT_INFORMATIVE
    return OPPOSITE_SIGN if published * mean < 0 else SAME_SIGN


def normal_score(published: float, mean: float, expected: Interval) -> float:
    """Return the published value's place in its interval as a standard normal score: Φ⁻¹(T_ν((x_p − x_o) / se))."""
    t = (published - mean) / expected.se
    # From the lower tail, which does not round to 1.
    tail = max(float(stats.t.sf(abs(t), expected.df)), SMALLEST_TAIL)
    return math.copysign(float(stats.norm.isf(tail)), t)


def as_few_inside(inside: int, k: int, *, level: float = LEVEL) -> float:
    """Return the probability that of k independent intervals as few or fewer hold their value: Binomial(k, level)."""
    return float(stats.binom.cdf(inside, k, level))


def heterogeneity(scores: Sequence[float]) -> tuple[float, float]:
    """Return Q = Σ z² over k normal scores and its p by χ² of k degrees of freedom.

    Of scores, not of t, since the square of a t of few degrees of freedom is larger on average.
    """
    q = float(np.square(scores).sum())
    return q, float(stats.chi2.sf(q, len(scores)))
