"""McNemar's exact test against statsmodels, and its promises by adding up all outcomes."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as theirs

from aletheia.inference.exact import mcnemar, stratified_mcnemar


@pytest.mark.parametrize(("gained", "lost"), [(3, 9), (9, 3), (0, 5), (7, 7), (1, 0), (40, 21)])
def test_the_exact_p_is_that_of_statsmodels(gained, lost):
    found = mcnemar(gained, lost)
    assert found.p == pytest.approx(theirs([[50, gained], [lost, 50]], exact=True).pvalue)
    assert (found.n_discordant, found.gained, found.lost) == (gained + lost, gained, lost)


def test_mid_p_by_hand():
    # 1 of 4: exact 2·(1 + 4)/16, mid-p 2·(1 + 4/2)/16.
    found = mcnemar(1, 3)
    assert (found.p, found.p_mid) == (pytest.approx(10 / 16), pytest.approx(6 / 16))
    assert mcnemar(3, 1).p_mid == found.p_mid
    assert mcnemar(5, 5).p_mid == pytest.approx(1)


def test_the_interval_of_the_share_is_clopper_pearson():
    found = mcnemar(3, 9)
    assert found.low == pytest.approx(stats.beta.ppf(0.025, 3, 10))
    assert found.high == pytest.approx(stats.beta.ppf(0.975, 4, 9))


def test_the_exact_interval_holds_at_least_95_percent_and_the_test_errs_at_most_in_5():
    """No simulation: all outcomes of each number of pairs, with their probabilities."""
    for n in (1, 2, 5, 10, 25, 60):
        found = [mcnemar(gained, n - gained) for gained in range(n + 1)]
        low, high = (np.array([getattr(each, side) for each in found]) for side in ("low", "high"))
        for share in np.linspace(0.01, 0.99, 99):
            chances = stats.binom.pmf(np.arange(n + 1), n, share)
            assert chances[(low <= share) & (share <= high)].sum() >= 0.95 - 1e-9
        even = stats.binom.pmf(np.arange(n + 1), n, 0.5)
        assert even[np.array([each.p for each in found]) <= 0.05].sum() <= 0.05 + 1e-9


def test_no_discordant_pair_tells_nothing():
    found = mcnemar(0, 0)
    assert (found.p, found.p_mid, found.low, found.high, found.n_discordant) == (1.0, 1.0, None, None, 0)


def test_seeds_are_added_up():
    assert stratified_mcnemar([(3, 1), (0, 0), (2, 6)]) == mcnemar(5, 7)
    assert stratified_mcnemar([]) == mcnemar(0, 0)


def test_the_stratified_test_errs_at_most_in_5_percent_where_arms_are_exchangeable():
    rng = np.random.default_rng(1)
    numbers = rng.integers(1, 5, (2000, 3))
    studies = [tuple(zip(g, n - g, strict=True)) for g, n in zip(rng.binomial(numbers, 0.5), numbers, strict=True)]
    p = {tables: stratified_mcnemar(tables).p for tables in set(studies)}
    assert np.mean([p[tables] <= 0.05 for tables in studies]) <= 0.05


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="counts from 0"):
        mcnemar(-1, 2)
