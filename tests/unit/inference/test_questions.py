"""Paired differences over questions and runs: Miller's formulas by hand, statsmodels, and planted variances."""

import dataclasses
import json

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from aletheia.inference.questions import paired_difference, shared_variance

SUBJECTS = ["law", "law", "law", "maths", "maths", "history"]


def test_one_run_is_the_paired_t_test_over_questions():
    d = np.array([[1.0, 0, 0, -1, 1, 1, 0, 1]])
    found, plain = paired_difference(d), stats.ttest_1samp(d[0], 0)
    interval = plain.confidence_interval(0.95)
    assert (found.mean, found.se, found.df) == (0.375, pytest.approx(d.std(ddof=1) / 8**0.5), pytest.approx(7))
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.p, found.low90) == (pytest.approx(plain.pvalue), pytest.approx(plain.confidence_interval(0.9).low))
    assert (found.n_questions, found.n_clusters, found.n_seeds, found.dropped) == (8, 8, 1, 0)
    assert found.run_variance is None
    assert found.question_variance == pytest.approx(found.se_questions**2)


def test_the_clustered_error_by_hand():
    # Mean 1/2; residuals by subject: law (1/2, 1/2, −1/2), maths (1/2, −1/2), history (−1/2); sums 1/2, 0, −1/2.
    d = np.array([[1.0, 1, 0, 1, 0, 0]])
    found = paired_difference(d, clusters=SUBJECTS)
    millers = (1 / 4 + 0 + 1 / 4) / 6**2
    assert found.n_clusters == 3
    assert found.se_questions**2 == pytest.approx(millers * 3 / 2)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_clustered_error_is_that_of_statsmodels(weighted):
    rng = np.random.default_rng(1)
    labels, weights = rng.integers(12, size=90), rng.uniform(1, 5, 90) if weighted else np.ones(90)
    d = rng.normal(size=90) + rng.normal(size=12)[labels]
    fit = sm.WLS(d, np.ones(90), weights=weights)
    theirs = fit.fit(cov_type="cluster", cov_kwds={"groups": labels})
    plain = fit.fit(cov_type="cluster", cov_kwds={"groups": labels, "use_correction": False})
    found = paired_difference(d[None], clusters=labels, weights=weights)
    assert found.mean == pytest.approx(theirs.params[0])
    assert found.se_questions == pytest.approx(theirs.bse[0])
    # Without the factor for few clusters it is Miller's formula.
    assert found.se_questions * (11 / 12) ** 0.5 == pytest.approx(plain.bse[0])


def test_token_weights_give_the_ratio_and_its_linearised_error():
    d, tokens = np.array([[0.5, 0.1, -0.2, 0.3]]), np.array([10.0, 20, 30, 40])
    found = paired_difference(d, weights=tokens)
    ratio = (d[0] * tokens).sum() / tokens.sum()
    # Cochran's ratio estimator of Σ y / Σ x with y = w·d, x = w.
    error = (((tokens * d[0] - ratio * tokens) ** 2).sum() / 3 / 4) ** 0.5 / tokens.mean()
    assert (found.mean, found.se_questions) == (pytest.approx(ratio), pytest.approx(error))


def test_the_two_way_variance_is_that_of_the_textbook():
    rng = np.random.default_rng(2)
    d = rng.normal(size=(4, 1)) + rng.normal(size=25) + rng.normal(size=(4, 25))
    found = paired_difference(d)
    by_question, by_seed = d.mean(axis=0), d.mean(axis=1)
    residual = d - by_question - by_seed[:, None] + d.mean()
    mean_square = (residual**2).sum() / (3 * 24)
    a, b, c = by_question.var(ddof=1) / 25, by_seed.var(ddof=1) / 4, mean_square / 100
    assert found.se**2 == pytest.approx(a + b - c)
    assert found.question_variance == pytest.approx(a - c)
    assert found.run_variance == pytest.approx(b)


def test_planted_effects_come_out_in_their_part():
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.1, (5, 400))
    questions = paired_difference(rng.normal(0, 1, 400) + noise)
    runs = paired_difference(rng.normal(0, 1, (5, 1)) + noise)
    assert questions.question_variance > 100 * questions.run_variance
    assert questions.question_variance == pytest.approx(1 / 400, rel=0.2)
    assert runs.run_variance > 1000 * runs.question_variance
    assert runs.df == pytest.approx(4, rel=0.01)
    assert questions.df > 300


def test_parts_are_unbiased_over_many_planted_studies():
    rng = np.random.default_rng(4)
    parts = [
        paired_difference(rng.normal(0, 0.5, (3, 1)) + rng.normal(0, 2, 40) + rng.normal(0, 1, (3, 40)))
        for _ in range(1500)
    ]
    assert np.mean([part.question_variance for part in parts]) == pytest.approx(4 / 40, rel=0.05)
    # What new runs change: their own difference, and their own noise on each question.
    assert np.mean([part.run_variance for part in parts]) == pytest.approx(0.25 / 3 + 1 / 120, rel=0.1)
    assert np.mean([part.se**2 for part in parts]) == pytest.approx(4 / 40 + 0.25 / 3 + 1 / 120, rel=0.06)


def test_the_error_is_never_below_that_of_either_sample():
    rng = np.random.default_rng(5)
    for _ in range(200):
        d = rng.normal(size=(3, 8))
        found = paired_difference(d)
        assert found.se >= max(found.se_questions, d.mean(axis=1).std(ddof=1) / 3**0.5) - 1e-12
        assert found.question_variance + found.run_variance == pytest.approx(found.se**2)


def test_a_question_that_one_run_did_not_answer_is_left_out_for_all():
    rng = np.random.default_rng(6)
    d, tokens = rng.normal(size=(3, 6)), rng.uniform(1, 2, 6)
    holed = d.copy()
    holed[1, 2] = np.nan
    kept = [0, 1, 3, 4, 5]
    found = paired_difference(holed, clusters=SUBJECTS, weights=tokens)
    plain = paired_difference(d[:, kept], clusters=[SUBJECTS[q] for q in kept], weights=tokens[kept])
    assert found == dataclasses.replace(plain, dropped=1)


def test_what_cannot_be_computed_is_none():
    nothing = paired_difference(np.full((2, 3), np.nan))
    assert (nothing.n_questions, nothing.dropped, nothing.mean, nothing.se) == (0, 3, None, None)
    one_subject = paired_difference(np.ones((2, 3)), clusters=["law"] * 3)
    assert (one_subject.mean, one_subject.n_clusters, one_subject.se, one_subject.low) == (1.0, 1, None, None)


def test_constant_answers_have_an_error_of_zero_and_no_p():
    found = paired_difference(np.full((3, 10), 0.1))
    assert (found.mean, found.se, found.p) == (pytest.approx(0.1), 0.0, None)
    assert found.low == found.high == found.mean


def test_a_cluster_that_outweighs_the_others_leaves_few_degrees_of_freedom():
    d = np.random.default_rng(7).normal(size=(1, 100))
    equal = paired_difference(d, clusters=np.arange(100) // 10)
    skewed = paired_difference(d, clusters=np.maximum(np.arange(100) - 90, 0))
    assert equal.df == pytest.approx(9)
    assert skewed.df == 1


def test_a_question_without_a_cluster_is_its_own():
    d = np.random.default_rng(10).normal(size=(2, 6))
    some = paired_difference(d, clusters=["law", "law", None, float("nan"), None, "maths"])
    named = paired_difference(d, clusters=["law", "law", 1, 2, 3, "maths"])
    assert some == named
    assert paired_difference(d, clusters=[None] * 6) == paired_difference(d)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[seeds, questions\]"):
        paired_difference(np.ones(4))
    with pytest.raises(ValueError, match="4 clusters and weights"):
        paired_difference(np.ones((2, 4)), clusters=["a"])
    with pytest.raises(ValueError, match="above 0"):
        paired_difference(np.ones((2, 2)), weights=[1, 0])


def test_shared_variance_is_the_mean_covariance_of_two_models_means():
    rng = np.random.default_rng(8)
    questions = rng.normal(0, 1, 50)
    models = [questions + rng.normal(0, 0.5, 50) for _ in range(4)]
    covariance = np.cov(models) / 50
    assert shared_variance(models) == pytest.approx(covariance[~np.eye(4, dtype=bool)].mean())


def test_models_with_questions_of_their_own_share_next_to_nothing():
    rng = np.random.default_rng(9)
    found = [shared_variance([rng.normal(size=60) for _ in range(6)]) for _ in range(300)]
    assert min(found) == 0.0
    assert np.mean(found) < 0.1 / 60


def test_shared_variance_of_one_model_is_none_of_it():
    assert shared_variance([np.arange(5.0)]) == 0.0


def test_what_is_found_is_json():
    json.dumps(dataclasses.asdict(paired_difference(np.eye(3))), allow_nan=False)
