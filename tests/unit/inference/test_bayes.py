"""The hierarchy's grid against independent numerical integration, and against REML where priors say nothing."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import integrate, stats

from aletheia.inference.bayes import hierarchy
from aletheia.inference.random_effects import random_effects

EFFECTS, VARIANCES = np.array([0.3, -0.5, 1.2, 0.8]), np.array([0.1, 0.3, 0.2, 0.05])
MARGIN, SCALE = 0.6, 0.5


def fine(run_df):
    """Return masses over a fine even grid of μ, τ and r, the model's own numbers multiplied out, and the axes."""
    mu, tau = np.linspace(-3, 4, 141), (np.arange(120) + 0.5) * (2.5 / 120)
    ratio = (np.arange(60) + 0.5) * (3.6 / 60) if run_df else np.ones(1)
    variance = ratio[:, None] ** 2 * VARIANCES
    total = variance[None] + tau[:, None, None] ** 2
    log = np.zeros((len(mu), len(tau), len(ratio)))
    for i, effect in enumerate(EFFECTS):
        log -= np.log(total[None, :, :, i]) / 2 + (effect - mu[:, None, None]) ** 2 / (2 * total[None, :, :, i])
    log -= tau[None, :, None] ** 2 / (2 * SCALE**2)
    if run_df:
        log += stats.chi2.logpdf(run_df / ratio**2, run_df) - 2 * np.log(ratio)
        log -= ratio**2 * VARIANCES.mean() / (2 * SCALE**2)
    mass = np.exp(log - log.max())
    return mass / mass.sum(), mu, tau, ratio


@pytest.mark.parametrize("run_df", [None, 6])
def test_the_grid_is_an_independent_integration_of_the_model(run_df):
    found = hierarchy(EFFECTS, VARIANCES, tau_scale=SCALE, margin=MARGIN, run_df=run_df)
    mass, mu, tau, ratio = fine(run_df)
    of_mu, of_tau = mass.sum(axis=(1, 2)), mass.sum(axis=(0, 2))
    step = mu[1] - mu[0]
    assert found.mean == pytest.approx((of_mu * mu).sum(), abs=1e-3)
    below = np.cumsum(of_mu)
    assert found.low == pytest.approx(np.interp(0.025, below, mu + step / 2), abs=2e-3)
    assert found.high == pytest.approx(np.interp(0.975, below, mu + step / 2), abs=2e-3)
    within = np.interp(MARGIN, mu + step / 2, below) - np.interp(-MARGIN, mu + step / 2, below)
    assert found.p_within_margin == pytest.approx(within, abs=1e-3)
    assert found.tau == pytest.approx(np.interp(0.5, np.cumsum(of_tau), tau + (tau[1] - tau[0]) / 2), abs=5e-3)
    new = stats.norm.cdf((MARGIN - mu[:, None]) / tau) - stats.norm.cdf((-MARGIN - mu[:, None]) / tau)
    assert found.p_new_within_margin == pytest.approx((mass.sum(axis=2) * new).sum(), abs=1e-3)
    own = ratio**2 * VARIANCES[2]
    pull = own / (own + tau[:, None] ** 2)
    shrunken = pull * mu[:, None, None] + (1 - pull) * EFFECTS[2]
    assert found.models[2]["mean"] == pytest.approx((mass * shrunken).sum(), abs=1e-3)
    sd = np.sqrt(pull * tau[:, None] ** 2)
    inside = stats.norm.cdf((MARGIN - shrunken) / sd) - stats.norm.cdf((-MARGIN - shrunken) / sd)
    assert found.models[2]["p_within_margin"] == pytest.approx((mass * inside).sum(), abs=1e-3)


def test_the_fine_grid_is_the_model_as_written():
    """The integration that the grid is held against, against the plain density of (μ, τ) by adaptive quadrature."""
    mass, mu, _, _ = fine(None)

    def density(tau, at, power):
        variance = VARIANCES + tau**2
        likelihood = np.exp(-((EFFECTS - at) ** 2) / (2 * variance)) / np.sqrt(variance)
        return at**power * likelihood.prod() * np.exp(-(tau**2) / (2 * SCALE**2))

    total, first = (integrate.dblquad(density, -3, 4, 0, 2.5, args=(power,), epsabs=1e-6)[0] for power in (0, 1))
    assert (mass.sum(axis=(1, 2)) * mu).sum() == pytest.approx(first / total, abs=1e-3)


def test_data_that_contradict_the_prior_are_integrated_too():
    """Effects a hundred times as far apart as the prior expects: the marginal of τ by plain quadrature."""
    y, v = np.array([0.0, 100.0, -100.0]), np.full(3, 0.01)

    def density(tau):
        total = 0.01 + tau**2
        return np.exp(-(tau**2) / 2 - 20000 / (2 * total) + 140) / total  # two contrasts: (0.01 + τ²)^(−2/2)

    whole = integrate.quad(density, 0, 60, points=[12])[0]
    found = hierarchy(y, v, tau_scale=1.0, margin=1.0)
    assert integrate.quad(density, 0, found.tau, limit=200)[0] / whole == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("scale", [0.01, 0.3, 5.0])
def test_one_model_with_an_unknown_run_variance_by_plain_quadrature(scale):
    variance, df = 0.04, 6

    def density(r):
        return r**-df * np.exp(-df / (2 * r**2) - r**2 * variance / (2 * scale**2))

    peak = (df * scale**2 / variance) ** 0.25
    places = {"points": [0.2 * min(peak, 1), min(peak, 1), 2], "limit": 400}
    whole = integrate.quad(density, 0.005, 60, **places)[0]
    (model,) = hierarchy([0.3], [variance], tau_scale=scale, margin=0.5, run_df=df).models
    z = (model["high"] - 0.3) / variance**0.5
    below = integrate.quad(lambda r: density(r) * stats.norm.cdf(z / r), 0.005, 60, **places)[0] / whole
    assert below == pytest.approx(0.975, abs=1e-3)


def test_with_a_wide_prior_and_many_models_it_is_near_reml():
    rng = np.random.default_rng(1)
    y = 0.3 + rng.normal(0, 1, 40) + rng.normal(0, 0.5, 40)
    found, reml = hierarchy(y, [0.25] * 40, tau_scale=100, margin=1.0), random_effects(y, [0.25] * 40)
    assert found.mean == pytest.approx(reml.mean, abs=0.01)
    assert (found.low, found.high) == (pytest.approx(reml.low, abs=0.02), pytest.approx(reml.high, abs=0.02))
    assert found.tau**2 == pytest.approx(reml.tau2, rel=0.1)
    assert found.new_model_high == pytest.approx(reml.prediction_high, rel=0.1)


def test_single_models_are_drawn_towards_the_mean():
    found = hierarchy(EFFECTS, VARIANCES, tau_scale=SCALE, margin=MARGIN)
    for effect, model in zip(EFFECTS, found.models, strict=True):
        assert abs(model["mean"] - found.mean) < abs(effect - found.mean)
        assert model["low"] < model["mean"] < model["high"]


def test_the_prior_of_one_scale_is_that_of_the_answer_itself():
    found = hierarchy(EFFECTS, VARIANCES, tau_scale=SCALE, margin=MARGIN, prior_scales=(0.5, 1.0, 2.0))
    assert [line["scale"] for line in found.sensitivity] == [0.25, 0.5, 1.0]
    assert found.sensitivity[1] == {"scale": 0.5, "mean": found.mean, "p_within_margin": found.p_within_margin}
    # About 0 a wider prior of τ makes the mean less certain.
    centred = hierarchy(EFFECTS - found.mean, VARIANCES, tau_scale=SCALE, margin=MARGIN)
    assert centred.sensitivity[0]["p_within_margin"] > centred.sensitivity[2]["p_within_margin"]


def test_unknown_run_variance_widens_the_interval():
    known = hierarchy(EFFECTS, VARIANCES, tau_scale=2.0, margin=MARGIN)
    unknown = hierarchy(EFFECTS, VARIANCES, tau_scale=2.0, margin=MARGIN, run_df=4)
    assert unknown.high - unknown.low > known.high - known.low


def test_shared_questions_move_all_models_together():
    """y_i = θ_i + c + e_i with one c for all: a normal with a covariance, held against its closed form at a given τ."""
    tau, shared = 1e-4, 0.3
    found = hierarchy(EFFECTS, VARIANCES + shared, tau_scale=tau, margin=MARGIN, shared_variance=shared)
    precision = np.linalg.inv(np.diag(VARIANCES) + shared)
    variance = 1 / precision.sum()
    mean = variance * precision.sum(axis=0) @ EFFECTS
    assert found.mean == pytest.approx(mean, abs=1e-4)
    for high in (found.high, found.new_model_high, found.models[0]["high"]):
        assert high == pytest.approx(mean + 1.959964 * variance**0.5, abs=1e-3)


def test_one_model_speaks_of_itself_alone():
    found = hierarchy([0.3], [0.04], tau_scale=1.0, margin=0.5)
    assert (found.n, found.mean, found.tau, found.p_within_margin, found.sensitivity) == (1, None, None, None, [])
    (model,) = found.models
    assert (model["low"], model["high"]) == (pytest.approx(0.3 - 0.392, abs=1e-4), pytest.approx(0.692, abs=1e-4))
    assert model["p_within_margin"] == pytest.approx(stats.norm.cdf(1) - stats.norm.cdf(-4))


def test_constant_answers_say_nothing():
    found = hierarchy([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], tau_scale=1.0, margin=0.5, run_df=6)
    assert (found.mean, found.p_within_margin, found.models) == (None, None, [])
    assert hierarchy([0.0], [0.0], tau_scale=1.0, margin=0.5).models == []


@pytest.mark.slow
def test_intervals_hold_what_is_drawn_from_the_priors():
    """The posterior of one's own prior is calibrated: of many worlds drawn from it 95 in 100 lie inside."""
    rng, held = np.random.default_rng(3), []
    for _ in range(200):
        tau, mu = abs(rng.normal(0, 0.5)), rng.normal(0, 3)
        y = rng.normal(mu, np.sqrt(tau**2 + VARIANCES))
        found = hierarchy(y, VARIANCES, tau_scale=0.5, margin=MARGIN, prior_scales=())
        held.append(found.low <= mu <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.047)  # three standard errors of 200


@pytest.mark.parametrize("bad", [{"tau_scale": 0.0}, {"margin": 0.0}, {"variances": [0.1]}])
def test_senseless_input_is_refused(bad):
    with pytest.raises(ValueError, match="above 0"):
        hierarchy(**{"effects": EFFECTS, "variances": VARIANCES, "tau_scale": 1.0, "margin": 1.0} | bad)


def test_what_is_found_is_json():
    found = hierarchy(EFFECTS, VARIANCES, tau_scale=SCALE, margin=MARGIN, run_df=8)
    json.dumps(dataclasses.asdict(found), allow_nan=False)
