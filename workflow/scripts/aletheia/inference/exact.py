"""Exact tests of paired right and wrong answers: only questions that one side alone got right can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats
from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test.

    Attributes
    ----------
    n_discordant, gained, lost
        Pairs that differ: right with the arm alone, right with the other alone.
    p, p_mid
        Two-sided, of equal chances for both: exact, and mid-p (twice the smaller tail that counts half of what was
        seen; less cautious, Fagerland, Lydersen and Laake 2013). Both 1 without a discordant pair.
    low, high
        Exact 95 % interval (Clopper and Pearson) of the share gained among discordant pairs; None without one.
    """

    n_discordant: int
    gained: int
    lost: int
    p: float
    p_mid: float
    low: float | None
    high: float | None


def mcnemar(gained: int, lost: int) -> McNemar:
    """Test whether as many answers were gained as lost, by the binomial distribution of the discordant pairs."""
    if gained < 0 or lost < 0:
        raise ValueError(f"expected counts from 0, found {gained} gained and {lost} lost")
    n = gained + lost
    if not n:
        return McNemar(0, 0, 0, p=1.0, p_mid=1.0, low=None, high=None)
    low, high = proportion_confint(gained, n, alpha=0.05, method="beta")
    fewer = min(gained, lost)
    tail = stats.binom.cdf(fewer, n, 0.5) - stats.binom.pmf(fewer, n, 0.5) / 2
    p, p_mid = float(stats.binomtest(gained, n).pvalue), float(min(1.0, 2 * tail))
    return McNemar(n, gained, lost, p=p, p_mid=p_mid, low=float(low), high=float(high))


def stratified_mcnemar(tables: Sequence[tuple[int, int]]) -> McNemar:
    """Test gained against lost over seeds, given each seed's number of discordant pairs.

    Under equal chances in every seed the gained add up to a binomial of all discordant pairs, so the sums are tested.
    That takes the pairs of different seeds as independent. It holds where the two arms are exchangeable question by
    question and seed by seed; where one question tends the same way in all seeds, the p-value is of these questions and
    too small for others: :func:`aletheia.inference.questions.paired_difference` is the test for those.

    Parameters
    ----------
    tables
        (gained, lost) of each seed.
    """
    return mcnemar(sum(gained for gained, _ in tables), sum(lost for _, lost in tables))
