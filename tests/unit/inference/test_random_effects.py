"""Pooling of models against plain formulas, an independent optimiser, and statsmodels."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import combine_effects

from aletheia.inference.prediction import half_width
from aletheia.inference.random_effects import pool_variance, random_effects
from aletheia.inference.reml import fit

EFFECTS = [0.3, -0.5, 1.2, 0.8, -0.1, 0.4, 2.0]
VARIANCES = [0.1, 0.3, 0.2, 0.05, 0.4, 0.1, 0.25]


def restricted_likelihood(tau2, y, v):
    """Return minus twice the restricted log-likelihood, as in the books."""
    w = 1 / (v + tau2)
    mean = (w * y).sum() / w.sum()
    return (-np.log(w)).sum() + np.log(w.sum()) + (w * (y - mean) ** 2).sum()


def test_pooled_variance_by_hand():
    # 1, 3, 5: sum of squares 8 on 2 df; 2, 4: 2 on 1; a single value adds nothing.
    assert pool_variance([[1, 3, 5], [2, 4], [7]]) == (pytest.approx(10 / 3), 3)
    assert pool_variance([[1], [2]]) == pool_variance([]) == (None, 0)


def test_equal_variances_are_a_t_interval_over_models():
    found = random_effects(EFFECTS, [0.2] * 7)
    plain = stats.ttest_1samp(EFFECTS, 0)
    interval = plain.confidence_interval(0.95)
    assert (found.mean, found.p, found.df) == (pytest.approx(np.mean(EFFECTS)), pytest.approx(plain.pvalue), 6)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.low90 == pytest.approx(plain.confidence_interval(0.90).low)
    assert found.tau2 == pytest.approx(np.var(EFFECTS, ddof=1) - 0.2)


def test_tau_is_the_maximum_of_the_restricted_likelihood_found_by_another_optimiser():
    rng = np.random.default_rng(5)
    for _ in range(50):
        y, v = rng.normal(0, 1, 8), rng.uniform(0.05, 2, 8)
        grid = np.linspace(0, 10, 401)
        best = grid[np.argmin([restricted_likelihood(tau2, y, v) for tau2 in grid])]
        found = optimize.minimize_scalar(
            restricted_likelihood,
            args=(y, v),
            bounds=(max(0, best - 0.05), best + 0.05),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert random_effects(y, v).tau2 == pytest.approx(found.x, abs=1e-5)


def test_given_tau_the_error_is_that_of_knapp_and_hartung_in_statsmodels():
    found = random_effects(EFFECTS, VARIANCES)
    # With τ² added to the variances statsmodels' fixed effects are our random ones.
    theirs = combine_effects(np.array(EFFECTS), np.array(VARIANCES) + found.tau2, use_t=True)
    assert found.mean == pytest.approx(theirs.mean_effect_fe)
    assert found.se == pytest.approx(theirs.sd_eff_w_fe_hksj)
    plain = combine_effects(np.array(EFFECTS), np.array(VARIANCES))
    assert (found.q, found.i2) == (pytest.approx(plain.q), pytest.approx(plain.i2))
    assert found.q_p == pytest.approx(stats.chi2.sf(plain.q, 6))


def test_shared_variance_is_taken_off_the_variances_and_added_to_the_squared_error():
    own = random_effects(EFFECTS, VARIANCES)
    shared = random_effects(EFFECTS, np.add(VARIANCES, 0.5), shared_variance=0.5)
    assert shared.se == pytest.approx((own.se**2 + 0.5) ** 0.5)
    assert (shared.mean, shared.tau2) == (pytest.approx(own.mean), pytest.approx(own.tau2))
    assert shared.prediction_high > own.prediction_high


def test_without_sampling_variance_a_new_model_is_predicted_by_t():
    # V = s²·((k − 1)/C)·(1 + 1/k) with C ~ χ²(k − 2): a t-distribution with k − 2 degrees of freedom.
    found, k = random_effects(EFFECTS, [0.0] * 7), 7
    half = stats.t.ppf(0.975, k - 2) * np.std(EFFECTS, ddof=1) * ((1 + 1 / k) * (k - 1) / (k - 2)) ** 0.5
    assert found.prediction_high - found.mean == pytest.approx(half, rel=1e-4)
    assert found.mean - found.prediction_low == pytest.approx(half, rel=1e-4)


def test_the_prediction_for_unequal_variances_is_near_that_for_equal_ones():
    """Equal variances take a closed form, others a search; at nearly equal ones both must agree."""
    equal = random_effects(EFFECTS, [0.2] * 7)
    nearly = random_effects(EFFECTS, 0.2 + 1e-6 * np.arange(7))
    assert nearly.prediction_high == pytest.approx(equal.prediction_high, rel=1e-4)


def test_the_prediction_holds_its_level_by_plain_simulation_of_its_definition():
    y, v = np.array(EFFECTS), np.array(VARIANCES)
    found, rng = random_effects(y, v), np.random.default_rng(2)
    chi2 = rng.chisquare(5, 1500)

    def excess(tau2, target):
        w = 1 / (v + tau2)
        return (w * (y - (w * y).sum() / w.sum()) ** 2).sum() - target

    tau2 = [0.0 if excess(0, c) < 0 else optimize.brentq(excess, 0, 1e6, args=(c,)) for c in chi2]
    spread = np.sqrt(found.se**2 * 6 / chi2 + np.array(tau2))
    inside = np.mean(np.abs(spread * rng.normal(size=1500)) <= found.prediction_high - found.mean)
    assert inside == pytest.approx(0.95, abs=0.017)  # three standard errors of 1,500


def test_many_studies_at_once_are_fitted_as_each_alone():
    rng = np.random.default_rng(3)
    y, v = rng.normal(size=(20, 6)), rng.uniform(0.1, 2, (20, 6))
    together = fit(y, v)
    reach = half_width(y, v, together)
    for number in range(20):
        alone = random_effects(y[number], v[number])
        assert alone.mean == pytest.approx(together.mean[number], abs=1e-7)
        assert alone.tau2 == pytest.approx(together.tau2[number], abs=1e-7)
        assert alone.prediction_high == pytest.approx(together.mean[number] + reach[number], abs=1e-6)


def test_effects_that_are_all_equal_have_no_p():
    found = random_effects([0.1] * 5, [0.0] * 5)
    assert (found.mean, found.se, found.p, found.tau2) == (pytest.approx(0.1), 0.0, None, pytest.approx(0, abs=1e-12))
    assert found.low == found.high == found.mean
    assert found.prediction_low == pytest.approx(0.1)
    assert (found.q, found.q_p, found.i2) == (None, None, None)


def test_effects_that_are_equal_by_chance_keep_the_error_of_their_runs():
    found = random_effects([0.0] * 4, [0.5, 1.0, 1.0, 1.0])
    assert found.se == pytest.approx(0.2**0.5)
    assert found.p == 1.0
    assert found.prediction_high > 2 * found.se


def test_a_variance_of_zero_beside_others_stays_finite():
    found = random_effects(EFFECTS, [0.0, *VARIANCES[1:]])
    assert np.isfinite([found.mean, found.se, found.prediction_high]).all()
    assert found.tau2 > 0


def test_fewer_than_three_models_are_not_pooled():
    with pytest.raises(ValueError, match="fewer than 3 models are not pooled"):
        random_effects([1.0, 2.0], [0.1, 0.1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_what_is_not_finite_and_a_negative_variance_are_refused(bad):
    with pytest.raises(ValueError, match="finite effects, and variances from 0"):
        random_effects(EFFECTS, [bad, *VARIANCES[1:]])
    with pytest.raises(ValueError, match="one variance an effect"):
        random_effects(EFFECTS, VARIANCES[1:])


def test_what_is_found_is_json():
    json.dumps(dataclasses.asdict(random_effects(np.array(EFFECTS), np.array(VARIANCES))), allow_nan=False)
