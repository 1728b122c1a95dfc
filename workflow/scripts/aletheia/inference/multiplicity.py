"""Several tests at once: adjusted p-values, and the levels of intervals that are shown because a test selected them."""

from __future__ import annotations

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values (family-wise error); a test without p counts for nothing and stays None."""
    return _adjusted(p, "holm")


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Return adjusted p-values after Benjamini and Hochberg (false discovery rate); None stays None."""
    return _adjusted(p, "fdr_bh")


def fcr_levels(p: Sequence[float | None], *, q: float = 0.05) -> list[float | None]:
    """Return the level of each selected test's interval, 1 − R·q/m (Benjamini and Yekutieli 2005, JASA 100:71).

    Of m tests with a p-value, Benjamini and Hochberg select R at rate ``q``. Intervals at this level leave out the
    truth in a share of at most q of those that are shown. None for a test that is not selected.
    """
    selected = [value is not None and value <= q for value in benjamini_hochberg(p)]
    tests = sum(value is not None for value in p)
    return [1 - sum(selected) * q / tests if chosen else None for chosen in selected]


def _adjusted(p: Sequence[float | None], method: str) -> list[float | None]:
    defined = [value for value in p if value is not None]
    adjusted = iter(multipletests(defined, method=method)[1] if defined else [])
    return [None if value is None else float(next(adjusted)) for value in p]
