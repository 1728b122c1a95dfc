"""A trend over levels within blocks: exact by counting every order, and what it cannot say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from aletheia.inference.trend import trend

LEVELS = (25, 50, 75, 100)


def counted(rows):
    """Return Page's two-sided p by going through every order of the ranks within every block."""
    ranks = np.argsort(np.argsort(rows, axis=1), axis=1) + 1
    k = ranks.shape[1]
    order = np.arange(1, k + 1)
    of_block = [int(np.dot(order, one)) for one in itertools.permutations(order)]
    sums = np.array([sum(each) for each in itertools.product(of_block, repeat=len(ranks))])
    found, reverse = int((ranks @ order).sum()), int((ranks[:, ::-1] @ order).sum())
    return min(1.0, 2 * min((sums >= found).mean(), (sums >= reverse).mean()))


@pytest.mark.parametrize("seed", range(6))
def test_p_is_the_share_of_all_orders_that_are_as_far(seed):
    rows = np.random.default_rng(seed).normal(size=(3, 4)) + 0.3 * seed * np.arange(4)
    assert trend(rows, levels=LEVELS).p == pytest.approx(counted(rows))


def test_three_seeds_that_all_rise_have_the_least_p():
    rising = trend([[1, 2, 3, 4], [11, 12, 13, 14], [0, 2, 3, 9]], levels=LEVELS)
    assert rising.p == rising.p_least == pytest.approx(2 / 24**3)
    falling = trend([[4, 3, 2, 1]] * 3, levels=LEVELS)
    assert (falling.p, falling.slope) == (pytest.approx(2 / 24**3), pytest.approx(-0.04))


def test_the_slope_is_the_mean_of_the_seeds_slopes_with_their_interval():
    found = trend([[0, 1, 2, 3], [0, 2, 4, 6], [0, 3, 6, 9]], levels=LEVELS)
    slopes = np.array([1, 2, 3]) / 25
    assert found.slope == pytest.approx(slopes.mean())
    half = 4.302652729911275 * slopes.std(ddof=1) / math.sqrt(3)  # t(0.975, 2)
    assert (found.low, found.high) == (pytest.approx(slopes.mean() - half), pytest.approx(slopes.mean() + half))


def test_a_seed_without_a_level_is_left_out_and_none_is_no_trend():
    with_gap = trend([[1, 2, 3, 4], [1, math.nan, 3, 4], [2, 3, 4, 5]], levels=LEVELS)
    assert with_gap.n_blocks == 2
    assert trend([[1, math.nan, 3, 4]], levels=LEVELS) is None


def test_one_seed_has_a_slope_and_neither_p_nor_interval():
    one = trend([[1, 2, 3, 4]], levels=LEVELS)
    assert (one.slope, one.p, one.low, one.high) == (pytest.approx(0.04), None, None, None)


def test_equal_values_are_no_trend_and_ties_err_to_the_cautious_side():
    assert trend([[5, 5, 5, 5]] * 3, levels=LEVELS).p == 1.0
    tied, clear = ([[1, 2, 2, 3]] * 3, [[1, 2, 2.5, 3]] * 3)
    assert trend(tied, levels=LEVELS).p > trend(clear, levels=LEVELS).p


def test_under_no_effect_p_is_below_its_level_no_more_often_than_it_says():
    """All 24² orders of two seeds, the first of them fixed or not: the share with p ≤ α is at most α."""
    orders = list(itertools.permutations(range(4)))
    found = [trend([a, b], levels=LEVELS).p for a in orders for b in orders]
    for alpha in (0.01, 0.05, 0.2):
        assert np.mean(np.array(found) <= alpha) <= alpha


@pytest.mark.parametrize("levels", [(25, 50), (50, 25, 75, 100), (25, 25, 75, 100)])
def test_levels_must_rise_and_be_three(levels):
    with pytest.raises(ValueError, match="rising levels"):
        trend([[1] * len(levels)], levels=levels)
