"""Two one-sided tests (Schuirmann 1987) and the one verdict that follows from an estimate and a margin."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Tost:
    """Two one-sided tests against a margin.

    Attributes
    ----------
    margin
        Half the width of what counts as equal, in the effect's unit.
    p_lower, p_upper
        Of an effect at or below −margin, and at or above +margin. None without a standard error above 0.
    p
        The larger of the two: below 0.05 the effect is shown to lie within the margin.
    """

    margin: float
    p_lower: float | None
    p_upper: float | None
    p: float | None


def tost(mean: float | None, se: float | None, df: float | None, margin: float) -> Tost:
    """Test that an effect lies within ±margin; the same as its 90 % t-interval lying inside."""
    if not margin > 0:
        raise ValueError(f"expected a margin above 0, found {margin}")
    if mean is None or not se or not df:
        return Tost(margin, None, None, None)
    lower, upper = float(stats.t.sf((mean + margin) / se, df)), float(stats.t.cdf((mean - margin) / se, df))
    return Tost(margin, lower, upper, max(lower, upper))


def verdict(
    *,
    mean: float | None,
    se: float | None,
    df: float | None,
    margin: float,
    higher_is_better: bool,
    low: float | None = None,
    high: float | None = None,
) -> str:
    """Return "equivalent", "better", "worse" or "cannot tell": the first that holds, never two.

    Equivalent where both one-sided tests have p < 0.05, also where the effect is small and differs from 0; else better
    or worse where the interval leaves out 0; else cannot tell. A standard error of 0 or None is "cannot tell": two
    arms that give one constant answer to every question differ nowhere, and show nothing about another question.

    Parameters
    ----------
    low, high
        The interval that decides between better and worse, where it is one adjusted for several tests; else the 95 %
        t-interval does. It has no part in equivalence.
    """
    if mean is None or not se or not df:
        return "cannot tell"
    if tost(mean, se, df, margin).p < SIGNIFICANCE:
        return "equivalent"
    half = float(stats.t.ppf(1 - SIGNIFICANCE / 2, df)) * se
    low, high = (mean - half, mean + half) if low is None or high is None else (low, high)
    if low <= 0 <= high:
        return "cannot tell"
    return "better" if (low > 0) == higher_is_better else "worse"
