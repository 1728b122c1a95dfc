"""The mixed model agrees with the two stages, and is None where it cannot be fitted."""

import warnings

import numpy as np
import pytest

from aletheia.inference.mixed import mixed_model
from aletheia.inference.random_effects import pool_variance, random_effects


def study(seed, *, models=10, tau=1.0, sd=0.5, unit=1.0):
    rng = np.random.default_rng(seed)
    return unit * (0.3 + rng.normal(0, tau, (models, 1)) + rng.normal(0, sd, (models, 3)))


@pytest.mark.parametrize("unit", [1.0, 1e-3, 100.0])
def test_with_equal_seeds_both_ways_agree(unit):
    values = study(1, unit=unit)
    found, run = mixed_model(values), pool_variance(values)[0]
    two_stages = random_effects(values.mean(axis=1), [run / 3] * 10)
    assert found.converged
    assert found.mean == pytest.approx(two_stages.mean)
    assert found.se == pytest.approx(two_stages.se, rel=1e-3)
    assert found.model_variance == pytest.approx(two_stages.tau2, rel=1e-2)
    assert found.run_variance == pytest.approx(run, rel=1e-2)


def test_models_that_do_not_differ_are_fitted_without_a_warning():
    values = [np.roll([0.1, 0.5, 1.2], place) for place in range(6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mixed_model(values)
    assert found.mean == pytest.approx(0.6)
    assert found.model_variance == pytest.approx(0, abs=1e-3)


def test_numbers_of_seeds_may_differ():
    values = [list(row) for row in study(4)]
    values[0] = values[0][:1]
    assert np.isfinite(mixed_model(values).mean)


@pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [[1.0], [2.0], [3.0]], [[1.0, 1.0], [2.0, 2.0]]])
def test_what_has_no_models_or_no_runs_is_not_fitted(values):
    assert mixed_model(values) is None
