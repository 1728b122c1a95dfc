"""The bootstrap over models, runs and questions."""

import dataclasses
import json

import numpy as np
import pytest

from aletheia.inference.bootstrap import _cluster_sums, _means, _resampled, cluster_bootstrap
from aletheia.inference.random_effects import random_effects


def study(rng, *, models=8, seeds=3, questions=20):
    return [rng.normal(size=(seeds, questions)) + rng.normal() for _ in range(models)]


def test_below_six_models_there_is_none():
    assert cluster_bootstrap(study(np.random.default_rng(1), models=5), seed=1) is None


def test_the_same_seed_gives_the_same_interval():
    by_model = study(np.random.default_rng(1))
    assert cluster_bootstrap(by_model, seed=3) == cluster_bootstrap(by_model, seed=3)
    assert cluster_bootstrap(by_model, seed=3) != cluster_bootstrap(by_model, seed=4)


def test_draws_are_those_of_a_plain_loop():
    """Fast: sums by cluster, and products of matrices. Slow: the drawn runs and questions, copied out and averaged."""
    rng = np.random.default_rng(2)
    by_model = [rng.normal(size=(seeds, 7)) for seeds in (3, 2, 3, 1, 2, 3)]
    labels, tokens = np.array([0, 0, 1, 1, 1, 2, 3]), rng.uniform(1, 3, 7)
    seeds = np.array([len(values) for values in by_model])
    sums, totals = _cluster_sums(by_model, labels, tokens)
    runs, share, times = _resampled(rng, seeds, 4, 30)
    mean, se = _means(sums, totals, runs, share, times)
    rows = np.vstack(by_model)
    for draw in range(30):
        picked = np.concatenate([np.flatnonzero(labels == c) for c in range(4) for _ in range(int(times[draw, c]))])
        w, drawn = tokens[picked], []
        for model in range(6):
            used = runs[draw, model][share[draw, model] > 0]
            assert len({int(np.searchsorted(np.cumsum(seeds), run, side="right")) for run in used}) == 1
            drawn.append(rows[used][:, picked].mean(axis=0))
        of_models = np.array([(values * w).sum() / w.sum() for values in drawn])
        assert mean[draw] == pytest.approx(of_models.mean())
        over_models = np.mean([rows[runs[draw, m][share[draw, m] > 0]].mean(axis=0) for m in range(6)], axis=0)
        by_cluster = np.bincount(labels, weights=tokens * (over_models - mean[draw]))
        questions = (times[draw] * by_cluster**2).sum() / w.sum() ** 2 * 4 / 3
        assert se[draw] ** 2 == pytest.approx(of_models.var(ddof=1) / 6 + questions)


def test_without_questions_it_is_near_the_t_interval_for_many_normal_models():
    rng = np.random.default_rng(4)
    by_model = [rng.normal() + rng.normal(0, 0.1, (3, 1)) for _ in range(60)]
    found = cluster_bootstrap(by_model, seed=1, draws=8000)
    means = [values.mean() for values in by_model]
    pooled = random_effects(means, [0.0] * 60)
    assert found.mean == pytest.approx(np.mean(means))
    assert (found.low, found.high) == (pytest.approx(pooled.low, abs=0.04), pytest.approx(pooled.high, abs=0.04))


def test_questions_that_all_models_share_widen_the_interval():
    rng = np.random.default_rng(5)
    own = [rng.normal(size=(3, 50)) for _ in range(8)]
    hard = rng.normal(0, 3, 50)
    alone, shared = (cluster_bootstrap(values, seed=1) for values in (own, [values + hard for values in own]))
    assert shared.high - shared.low > 3 * (alone.high - alone.low)


def test_a_question_that_one_model_did_not_answer_is_left_out():
    by_model = study(np.random.default_rng(6))
    holed = [values.copy() for values in by_model]
    holed[3][1, 4] = np.nan
    without = [np.delete(values, 4, axis=1) for values in by_model]
    assert cluster_bootstrap(holed, seed=1) == cluster_bootstrap(without, seed=1)
    holed[0][:] = np.nan
    assert cluster_bootstrap(holed, seed=1) is None


def test_models_that_do_not_differ_have_no_interval():
    found = cluster_bootstrap([np.full((3, 4), 0.1)] * 6, seed=1)
    assert (found.low, found.high) == (None, None)
    assert found.mean == pytest.approx(0.1)


def test_other_questions_are_refused():
    with pytest.raises(ValueError, match="same questions"):
        cluster_bootstrap([np.ones((3, 4))] * 5 + [np.ones((3, 5))], seed=1)


def test_what_is_found_is_json():
    found = cluster_bootstrap(study(np.random.default_rng(7)), seed=1)
    json.dumps(dataclasses.asdict(found), allow_nan=False)
