"""Intervals hold the truth as often as they say, over simulated studies."""

import json

import numpy as np
import pytest
from scipy import stats

import simulated_studies as coverage
from aletheia.analysis.stats import estimate
from aletheia.inference.bootstrap import COVERAGE
from aletheia.inference.questions import paired_difference
from conftest import ROOT

WRITTEN = json.loads((ROOT / "benchmarks" / "coverage.json").read_text(encoding="utf-8"))["rows"]


def written(interval, **settings):
    """Return the one row of coverage.json for an interval and its settings."""
    (row,) = [row for row in WRITTEN if row["interval"] == interval and settings.items() <= row.items()]
    return row


def held(interval):
    return 0.94 <= np.mean([low <= 0 <= high for low, high in interval]) <= 0.96


@pytest.mark.slow
def test_the_t_interval_over_questions_holds_95_percent():
    d = np.random.default_rng(1).normal(size=(10_000, 1, 12))
    assert held((found.low, found.high) for found in map(paired_difference, d))


@pytest.mark.slow
def test_the_interval_of_log_time_ratios_over_three_seeds_holds_95_percent():
    rng = np.random.default_rng(2)
    seconds = 100 * np.exp(rng.normal(0, 0.05, (2, 10_000, 3)))
    assert held((found["low"], found["high"]) for found in map(estimate, np.log(seconds[0] / seconds[1])))


@pytest.mark.parametrize("run_variances", coverage.RUN_VARIANCES)
@pytest.mark.parametrize("models", coverage.MODELS)
def test_the_mean_and_a_new_model_are_held_and_verdicts_err_as_seldom_as_promised(models, run_variances):
    """4,000 studies of three seeds a model, run variance pooled; models alike, and up to three run SD apart."""
    for tau in coverage.TAUS:
        settings = {"models": models, "tau": tau, "run_variances": run_variances}
        rows = {row["interval"]: row for row in coverage.pooled(**settings)}
        assert rows["mean over models"]["share"] >= 0.93, settings
        assert rows["new model"]["share"] >= 0.93, settings
        assert rows["difference claimed at 0"]["share"] <= 0.06, settings
        assert rows["equivalence claimed at the margin"]["share"] <= 0.06, settings
        for name, row in rows.items():
            assert row["share"] == pytest.approx(written(name, **settings)["share"], abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("run_sd", [0.3, 1.0, 3.0])
def test_one_models_interval_holds_new_seeds_and_new_questions(run_sd):
    both, alone = coverage.one_model(questions=24, run_sd=run_sd, ledgers=600)
    assert min(both["share"], alone["share"]) >= 0.93
    for row in (both, alone):
        assert written(row["interval"], questions=24, run_sd=run_sd)["share"] >= 0.93


@pytest.mark.slow
def test_the_variance_of_shared_questions_makes_the_mean_hold_and_without_it_it_does_not():
    with_it, without = coverage.with_questions(models=10, tau=0.0, ledgers=400)
    assert with_it["share"] >= 0.93
    assert without["share"] < 0.88
    for models in coverage.MODELS:
        for tau in (0.0, 1.0):
            assert written(with_it["interval"], models=models, tau=tau)["share"] >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("models", coverage.MODELS)
def test_the_bootstraps_coverage_is_the_one_that_is_stated(models):
    """Stated over 1,000 studies in coverage.json; 200 of them here."""
    assert COVERAGE[models] == written("bootstrap", models=models, tau=1.0)["share"]
    (row,) = coverage.bootstrapped(models=models, ledgers=200)
    assert stats.binomtest(round(200 * row["share"]), 200, COVERAGE[models]).pvalue > 0.01


def test_the_share_comes_with_its_exact_interval():
    row = coverage.share("x", [True] * 95 + [False] * 5, models=3)
    assert (row["share"], row["low"], row["high"], row["ledgers"]) == (0.95, 0.8872, 0.9836, 100)
