"""Two one-sided tests, the one verdict, and what several tests at once cost."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from aletheia.analysis import verdicts
from aletheia.inference.equivalence import tost
from aletheia.inference.multiplicity import benjamini_hochberg, fcr_levels, holm
from reports import PLAN

WITHIN_ONE = verdicts.Stated(replace(PLAN, margins=replace(PLAN.margins, nats=1.0)), "unknown")


def verdict(*, mean, se, df=20, higher_is_better=True, **adjusted):
    p = 2 * stats.t.sf(abs(mean) / se, df) if se and mean is not None else None
    result = {"mean": mean, "se": se, "df": df, "p": p, **adjusted}
    return verdicts.conclude(result, higher_is_better=higher_is_better, unit="nats", stated=WITHIN_ONE)["verdict"]


def test_both_one_sided_tests_are_those_of_statsmodels():
    x = np.array([0.2, -0.1, 0.4, 0.3, 0.0, 0.1])
    p, lower, upper = DescrStatsW(x).ttost_mean(-0.5, 0.5)
    found = tost(x.mean(), x.std(ddof=1) / 6**0.5, 5, 0.5)
    assert (found.p, found.p_lower, found.p_upper) == tuple(pytest.approx(value) for value in (p, lower[1], upper[1]))
    assert found.margin == 0.5


def test_equivalence_is_the_90_percent_interval_within_the_margin():
    rng = np.random.default_rng(1)
    for mean, se in zip(rng.normal(0, 1, 200), rng.uniform(0.1, 1, 200), strict=True):
        half = stats.t.ppf(0.95, 8) * se
        assert (tost(mean, se, 8, 1.0).p < 0.05) == (abs(mean) + half < 1)


@pytest.mark.parametrize(
    ("mean", "se", "higher", "lower"),
    [
        (0.1, 0.2, "equivalent", "equivalent"),
        (0.6, 0.1, "equivalent", "equivalent"),  # differs from 0, and lies within the margin: one claim
        (3.0, 1.0, "better", "worse"),
        (-3.0, 1.0, "worse", "better"),
        (0.5, 2.0, "cannot tell", "cannot tell"),
    ],
)
def test_a_verdict_is_one_claim(mean, se, higher, lower):
    assert verdict(mean=mean, se=se, higher_is_better=True) == higher
    assert verdict(mean=mean, se=se, higher_is_better=False) == lower


def test_a_p_that_is_adjusted_decides_in_place_of_its_own():
    assert verdict(mean=3.0, se=1.0) == "better"
    assert verdict(mean=3.0, se=1.0, p_adjusted=0.06) == "cannot tell"
    assert verdict(mean=0.1, se=0.2, p_adjusted=0.9) == "equivalent"
    assert verdict(mean=0.1, se=0.2, p_equivalence_adjusted=0.06) == "cannot tell"


@pytest.mark.parametrize("se", [0.0, None])
def test_without_an_error_nothing_is_claimed(se):
    assert verdict(mean=0.0, se=se, df=2) == "cannot tell"
    assert tost(0.0, se, 2, 1.0).p is None
    assert verdict(mean=None, se=1.0, df=2) is None


def test_a_margin_of_zero_is_refused():
    with pytest.raises(ValueError, match="margin above 0"):
        tost(0.0, 1.0, 2, 0.0)


def test_adjusted_p_values_are_those_of_statsmodels_and_none_stays_none():
    p = [0.01, None, 0.04, 0.03, None, 0.5]
    for function, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        theirs = multipletests([0.01, 0.04, 0.03, 0.5], method=method)[1]
        found = function(p)
        assert [found[1], found[4]] == [None, None]
        assert [found[place] for place in (0, 2, 3, 5)] == pytest.approx(list(theirs))
        assert function([]) == []
        assert function([None]) == [None]


def test_levels_of_selected_intervals_by_hand():
    # Of four tests Benjamini and Hochberg select 0.001 and 0.02 at 5 %: each interval has 1 − 2·0.05/4.
    assert fcr_levels([0.001, 0.6, None, 0.02, 0.4]) == [pytest.approx(0.975), None, None, pytest.approx(0.975), None]
    assert fcr_levels([0.001, 0.02], q=0.1) == [pytest.approx(0.9), pytest.approx(0.9)]
    assert fcr_levels([None]) == [None]


def test_selected_intervals_leave_out_the_truth_in_at_most_5_percent():
    rng, truth = np.random.default_rng(2), np.r_[np.zeros(10), np.full(10, 2.5)]
    missed = []
    for _ in range(1000):
        z = truth + rng.normal(size=20)
        levels = fcr_levels(list(2 * stats.norm.sf(np.abs(z))))
        out = [abs(z[i] - truth[i]) > stats.norm.ppf((1 + level) / 2) for i, level in enumerate(levels) if level]
        missed.append(np.mean(out) if out else 0.0)
    assert np.mean(missed) <= 0.05
