"""What a design can tell: as simulation and statsmodels have it, and as the usual formulas say where they hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from aletheia.inference.power import (
    Design,
    detectable_effect,
    equivalence_power,
    models_needed,
    planned_se,
    questions_needed,
    seeds_needed,
)

DRAWS = 200_000


def questions_alone(questions, discordance=0.10):
    """A design in which questions are all that varies: of a million seeds."""
    return Design(seeds=1_000_000, run_sd=0.0, questions=questions, discordance=discordance)


def drawn(se, df, *, true, seed, draws=DRAWS):
    """Estimates of a true difference, and their estimated standard errors."""
    rng = np.random.default_rng(seed)
    return rng.normal(true, se, draws), se * np.sqrt(rng.chisquare(df, draws) / df)


def near(share, draws=DRAWS):
    """Within four standard errors of a simulated share."""
    return pytest.approx(share, abs=4 * math.sqrt(max(share * (1 - share), 1 / draws) / draws))


@pytest.mark.parametrize(("questions", "points"), [(200, 6.3), (24, 18), (14_042, 0.75)])
def test_questions_alone_limit_what_accuracy_shows(questions, points):
    """With 10 % discordance, by (1.960 + 0.842)·√(0.1/Q)."""
    error = planned_se(questions_alone(questions))
    assert detectable_effect(error.se, math.inf) == pytest.approx(points, rel=0.01)
    # With as many degrees of freedom as there are questions, the spread being estimated, never less.
    assert 1 < detectable_effect(error.se, error.df) / detectable_effect(error.se, math.inf) < 1.05


@pytest.mark.parametrize(("margin", "questions"), [(2, 2141), (0.5, 34_256)])
def test_equivalence_takes_thousands_of_questions(margin, questions):
    """By 0.1·(1.645 + 1.282)²·100²/margin²; two more, since the spread is estimated."""
    assert questions_needed(margin, questions_alone(2)) == pytest.approx(questions, abs=2)


def test_three_seeds_find_only_what_is_thrice_their_spread():
    assert detectable_effect(1 / math.sqrt(3), 2) == pytest.approx(3.27, abs=0.01)


@pytest.mark.parametrize("df", [2, 5, 9, 23, 199])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_detectable_effect_is_statsmodels(df, power):
    """Where statsmodels has one: with 1 or thousands of degrees of freedom its search ends elsewhere, or is NaN."""
    theirs = TTestPower().solve_power(nobs=df + 1, alpha=0.05, power=power) * math.sqrt(df + 1)
    assert detectable_effect(1.0, df, power=power) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(("df", "power", "level"), [(1, 0.8, 0.05), (2, 0.8, 0.05), (9, 0.9, 0.01), (40, 0.3, 0.05)])
def test_the_detectable_effect_is_found_as_often_as_it_says(df, power, level):
    effect = detectable_effect(0.7, df, power=power, level=level)
    mean, se = drawn(0.7, df, true=effect, seed=df)
    assert np.mean(np.abs(mean) > stats.t.isf(level / 2, df) * se) == near(power)


def test_the_detectable_effect_has_the_unit_of_the_standard_error():
    assert detectable_effect(3.0, 5) == pytest.approx(3 * detectable_effect(1.0, 5))
    assert detectable_effect(0.0, 5) == 0.0
    with pytest.raises(ValueError, match=r"between the level 0\.05 and 1, found 1"):
        detectable_effect(1.0, 5, power=1.0)


@pytest.mark.parametrize(
    ("se", "df", "true"),
    [(0.5, 2, 0.0), (1.15, 2, 0.0), (0.58, 13, 0.0), (0.8, 9, 1.0), (0.8, 9, -1.0), (1.0, 2000, 0.5), (3.0, 2, 0.0)],
)
def test_equivalence_is_shown_as_often_as_it_says(se, df, true):
    mean, estimated = drawn(se, df, true=true, seed=7)
    shown = np.abs(mean) < 2.0 - stats.t.isf(0.05, df) * estimated
    assert equivalence_power(se, df, 2.0, true=true) == near(np.mean(shown))


@pytest.mark.parametrize("df", [1, 2, 9, 200, math.inf])
@pytest.mark.parametrize("se", [0.05, 0.5, 1.5, 40.0])
def test_equivalence_at_the_margin_is_claimed_in_at_most_one_of_twenty(se, df):
    assert equivalence_power(se, df, 2.0, true=2.0) <= 0.05 + 1e-6


def test_equivalence_needs_a_margin_and_no_spread_shows_it():
    assert equivalence_power(0.0, 2, 1.0) == 1.0
    assert equivalence_power(0.0, 2, 1.0, true=1.0) == 0.0
    with pytest.raises(ValueError, match="a margin is expected above 0, found 0"):
        equivalence_power(1.0, 2, 0.0)


def test_the_design_of_the_paper_cannot_show_equivalence_of_a_model():
    """Three seeds, ±2 points at a true 0: with 5 % a side in 13 % of cases where an SD of a seed is 2 points."""
    error = planned_se(Design(seeds=3, run_sd=2.0))
    assert equivalence_power(error.se, error.df, 2.0) == pytest.approx(0.13, abs=0.005)


def test_one_model_has_its_seeds_and_its_questions():
    design = Design(seeds=4, run_sd=1.0, questions=400, discordance=0.04)
    error = planned_se(design)
    assert error.se**2 == pytest.approx(1 / 4 + 100**2 * 0.04 / 400)
    # Satterthwaite of the variances 0.25 with 3 and 1.0 with 399 degrees of freedom.
    assert error.df == pytest.approx(1.25**2 / (0.25**2 / 3 + 1 / 399))
    without = planned_se(Design(seeds=4, run_sd=1.0))
    assert (without.se, without.df) == (0.5, 3)


def test_what_is_planned_for_one_model_is_what_its_samples_show():
    """Seeds and questions drawn, their variances estimated, intervals with Satterthwaite's degrees of freedom."""
    design, draws = Design(seeds=3, run_sd=1.0, questions=2000, discordance=0.10), 40_000
    rng = np.random.default_rng(3)
    runs = rng.normal(0, 1.0, (draws, 3))
    counts = rng.multinomial(2000, [0.05, 0.90, 0.05], draws)
    questions = 100 * (counts[:, 2] - counts[:, 0]) / 2000
    run_part = runs.var(axis=1, ddof=1) / 3
    question_part = (100**2 * (counts[:, 0] + counts[:, 2]) / 2000 - questions**2) / 1999
    squared = run_part + question_part
    df = squared**2 / (run_part**2 / 2 + question_part**2 / 1999)
    shown = np.abs(runs.mean(axis=1) + questions) < 2.5 - stats.t.isf(0.05, df) * np.sqrt(squared)
    error = planned_se(design)
    # Satterthwaite's is an approximation, and its degrees of freedom are estimated here.
    assert equivalence_power(error.se, error.df, 2.5) == pytest.approx(np.mean(shown), abs=0.03)


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
def test_what_all_models_do_on_a_question_does_not_average_out(shared):
    design = Design(seeds=3, run_sd=1.0, models=8, model_sd=0.5, questions=200, discordance=0.10, shared=shared)
    rng, question = np.random.default_rng(11), 100**2 * 0.10 / 200
    draws = rng.normal(0, math.sqrt(0.5**2 + 1 / 3 + (1 - shared) * question), (DRAWS, 8)).mean(axis=1)
    draws += rng.normal(0, math.sqrt(shared * question), DRAWS)
    error = planned_se(design)
    assert error.df == 7
    assert error.se == pytest.approx(draws.std(), rel=0.01)


def test_a_plan_is_on_the_cautious_side_unless_it_says_otherwise():
    cautious = Design(seeds=3, run_sd=1.0, models=10, model_sd=0.5, questions=200, discordance=0.10)
    assert cautious.shared == 1
    assert planned_se(cautious).se > 100 * math.sqrt(0.10 / 200)


def test_one_model_and_one_seed_are_not_told():
    assert planned_se(Design(seeds=1, run_sd=1.0, questions=200, discordance=0.1)) is None
    several = planned_se(Design(seeds=1, run_sd=3.0, models=4, model_sd=4.0))
    assert (several.se, several.df) == (2.5, 3)


@pytest.mark.parametrize(
    ("needed", "name", "run_sd"),
    [(questions_needed, "questions", 1.5), (seeds_needed, "seeds", 2.5), (models_needed, "models", 2.5)],
)
def test_the_fewest_that_suffice_suffice_and_one_less_does_not(needed, name, run_sd):
    design = Design(seeds=3, run_sd=run_sd, models=6, model_sd=0.5, questions=400, discordance=0.03, shared=0.0)
    fewest = needed(2.0, design)

    def power(count):
        error = planned_se(replace(design, **{name: count}))
        return equivalence_power(error.se, error.df, 2.0)

    assert power(fewest) >= 0.8 > power(fewest - 1)
    assert needed(2.0, design, most=fewest - 1) is None
    assert needed(2.0, design, wanted=0.9) > fewest


def test_no_number_of_seeds_or_models_makes_up_for_questions_that_all_share():
    design = Design(seeds=3, run_sd=1.0, models=10, model_sd=0.5, questions=200, discordance=0.10)
    assert seeds_needed(2.0, design) is None
    assert models_needed(2.0, design) is None
    assert 2141 < questions_needed(2.0, design) < 4000


def test_no_number_of_questions_makes_up_for_seeds_that_differ():
    assert questions_needed(2.0, Design(seeds=3, run_sd=4.0, discordance=0.10)) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seeds": 0}, "seeds: expected at least 1, found 0"),
        ({"models": 0}, "models: expected at least 1, found 0"),
        ({"questions": 1}, "questions: expected at least 2, found 1"),
        ({"run_sd": -1.0}, "run_sd: expected at least 0"),
        ({"discordance": 10}, "discordance: expected a share from 0 to 1, found 10"),
        ({"shared": -0.1}, "shared: expected a share from 0 to 1"),
    ],
)
def test_a_design_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        planned_se(Design(**{"seeds": 3, "run_sd": 1.0, **change}))
