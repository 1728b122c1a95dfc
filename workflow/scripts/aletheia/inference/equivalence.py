"""Two one-sided tests (Schuirmann 1987): is an effect shown to lie within a margin?"""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats


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
