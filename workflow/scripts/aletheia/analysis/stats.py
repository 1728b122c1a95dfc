"""Means, intervals, paired tests, by scipy; undefined values are handled here.

Every number has its n and its interval. An undefined value (the SD of one value, t of differences that are all equal)
is None, never NaN and never zero.

Notation: d_i is the difference of pair i, n the number of pairs, SD the sample deviation (ddof 1).
t = mean(d) / (SD(d) / √n), and Cohen's d of paired values = mean(d) / SD(d) = t / √n.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE_LEVEL = 0.95  # the paper's intervals
# An SD below this share of the values is rounding: t would be huge and meaningless.
NO_SPREAD = 1e-12


def estimate(values: Iterable[float]) -> dict[str, Any]:
    """Return n, mean, SD (ddof 1) and the t-interval of the mean of the values that are not missing.

    Parameters
    ----------
    values
        Numbers; missing ones are left out.

    Returns
    -------
    dict
        ``{n, mean, sd, low, high}``: mean ± t(0.975, n − 1)·SD/√n. With n = 1 all but the mean are None, with
        n = 0 all.
    """
    x = np.asarray(pd.Series(list(values), dtype="float64").dropna())
    n = len(x)
    result: dict[str, Any] = {"n": n, "mean": None, "sd": None, "low": None, "high": None}
    if n:
        result["mean"] = float(x.mean())
    if n > 1:
        sd = float(x.std(ddof=1))
        half = t_quantile(n) * sd / n**0.5
        result |= {"sd": sd, "low": result["mean"] - half, "high": result["mean"] + half}
    return result


def values_needed(interval: Mapping[str, Any], margin: float, *, most: int = 1000) -> int | None:
    """Return the number of values whose mean has an interval of half-width ``margin``, at the observed SD.

    The smallest n with t(0.975, n − 1)·SD/√n ≤ margin. The SD is computed from the interval; one over rounds is treated
    like a t-interval.

    Parameters
    ----------
    interval
        ``{n, low, high}``.
    margin
        In the interval's unit.
    most
        The largest n that is tried.

    Returns
    -------
    int or None
        None without an interval, and where more than ``most`` would be needed.
    """
    if interval["low"] is None or interval["n"] < 2:
        return None
    sd = (interval["high"] - interval["low"]) / 2 * interval["n"] ** 0.5 / t_quantile(interval["n"])
    return next((n for n in range(2, most + 1) if t_quantile(n) * sd / n**0.5 <= margin), None)


def t_quantile(n: int) -> float:
    """Return t(0.975, n − 1): the half-width of the mean of n values in standard errors."""
    return float(stats.t.ppf(0.5 + CONFIDENCE_LEVEL / 2, n - 1))


def paired_test(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Return the paired t-test of ``first`` − ``second`` (two-sided, scipy's ``ttest_rel``) and Cohen's d.

    Returns
    -------
    dict
        ``{difference: estimate, t, p, d}`` with d = mean(difference) / SD(difference) = t / √n. ``t``, ``p``
        and ``d`` are None below two pairs and where all differences are equal.
    """
    frame = pd.DataFrame({"first": list(first), "second": list(second)}, dtype="float64").dropna()
    differences = frame["first"] - frame["second"]
    result: dict[str, Any] = {"difference": estimate(differences), "t": None, "p": None, "d": None}
    sd = result["difference"]["sd"]
    if sd is not None and sd > NO_SPREAD * float(frame.abs().to_numpy().max()):
        test = stats.ttest_rel(frame["first"], frame["second"])
        result |= {"t": float(test.statistic), "p": float(test.pvalue)}
        result["d"] = result["difference"]["mean"] / sd
    return result


def above_floor(share: float, questions: int, chance: float) -> bool:
    """Tell whether a score is above that of guessing; a model at the floor has nothing to forget.

    One-sided exact binomial test at 5 % against ``chance``; with a chance of 0, one right answer is above.

    Parameters
    ----------
    share
        The score, 0 to 1.
    questions
        n.
    chance
        Expected score of guessing: 1/4 for four choices, 0 for generated answers.
    """
    correct = round(share * questions)
    if not chance:
        return correct > 0
    return bool(stats.binomtest(correct, questions, chance, alternative="greater").pvalue < 1 - CONFIDENCE_LEVEL)
