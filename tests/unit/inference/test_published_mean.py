"""Where a published mean is expected, given one's own: the formula, its coverage, and what it makes of a value."""

import math

import numpy as np
import pytest
from scipy import stats

from aletheia.inference.replication import (
    INSIDE,
    NOT_COMPARABLE,
    NOT_INFORMATIVE,
    OPPOSITE_SIGN,
    SAME_SIGN,
    Spread,
    as_few_inside,
    components,
    heterogeneity,
    interval,
    normal_score,
    verdict,
)

DRAWS = 10_000


def test_the_interval_is_the_formula_with_every_part():
    ours, published = Spread(4, 0.7), Spread(3, 0.5, ddof=0)
    asked = {"question_variance": 0.3, "question_df": 56, "questions": (400, 200)}
    found = interval(2.0, components(ours=ours, published=published, unit=0.1, **asked))
    parts = [(0.7**2 / 4, 3), (0.5**2 * 1.5 / 3, 2), (0.3 + 0.3 * 400 / 200, 56), (0.1**2 / 12, math.inf)]
    total = sum(v for v, _ in parts)
    df = total**2 / sum(v**2 / df for v, df in parts)
    half = stats.t.ppf(0.975, df) * total**0.5
    assert (found.se, found.df) == (pytest.approx(total**0.5), pytest.approx(df))
    assert (found.low, found.high) == (pytest.approx(2 - half), pytest.approx(2 + half))


def test_three_halves_widen_a_published_sd_that_was_divided_by_n():
    values = np.array([1.0, 2.0, 4.0])
    assert Spread(3, values.std(), ddof=0).variance() == pytest.approx(values.var(ddof=1))
    assert Spread(3, 2.0, ddof=0).variance() == pytest.approx(1.5 * Spread(3, 2.0).variance())


def test_an_unknown_spread_is_taken_from_the_other_side():
    known, unknown = Spread(3, 0.6), Spread(3, None)
    for sides in ({"ours": known, "published": unknown}, {"ours": unknown, "published": known}):
        found = interval(0.0, components(**sides))
        assert (found.se, found.df) == (pytest.approx(0.6 * (2 / 3) ** 0.5), 2)


def test_without_any_spread_there_is_no_interval():
    assert interval(1.0, components(ours=Spread(1, None), published=Spread(3, None))) is None
    # Three equal values and a rounded number are none either.
    assert interval(1.0, components(ours=Spread(3, 0.0), published=Spread(3, None), unit=0.1)) is None
    assert verdict(1.0, 1.0, None, informative_below=1) == NOT_COMPARABLE


def coverage(n, own_sd, published_sd, *, known=True, question_sd=0.0):
    """Return the share of published means of three runs that lie in the interval, both means of one truth."""
    draw = np.random.default_rng(1)
    ours, published = draw.normal(0, own_sd, (n, DRAWS)), draw.normal(0, published_sd, (3, DRAWS))
    asked, value, mean = {}, published.mean(axis=0), ours.mean(axis=0)
    if question_sd:
        # Two samples of 200 questions; their variance is estimated from ours.
        sides = [draw.normal(0, question_sd, DRAWS) for _ in range(2)]
        value, mean = value + sides[0], mean + sides[1]
        variance = question_sd**2 * draw.chisquare(199, DRAWS) / 199
        asked = {"question_variance": variance, "question_df": 199, "questions": (200, 200)}
    spread = published.std(axis=0) if known else None
    parts = components(ours=Spread(n, ours.std(axis=0, ddof=1)), published=Spread(3, spread, ddof=0), **asked)
    found = interval(mean, parts)
    return ((found.low <= value) & (value <= found.high)).mean()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"n": 3, "own_sd": 1, "published_sd": 1, "known": False}, 0.95),
        ({"n": 5, "own_sd": 1, "published_sd": 1}, 0.955),
        ({"n": 3, "own_sd": 1, "published_sd": 0.3}, 0.95),
        ({"n": 3, "own_sd": 0.3, "published_sd": 1}, 0.95),
        # Satterthwaite's t is a little wide for three equal runs on each side: 96.3 %.
        ({"n": 3, "own_sd": 1, "published_sd": 1}, 0.963),
        ({"n": 3, "own_sd": 0.5, "published_sd": 0.5, "known": False, "question_sd": 2}, 0.95),
    ],
)
def test_it_holds_the_published_mean_in_95_percent_of_repetitions(how, expected):
    assert coverage(**how) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("published", "mean", "width", "expected"),
    [
        (1.0, 1.2, 1.0, INSIDE),
        (1.0, 1.2, 0.1, NOT_INFORMATIVE),
        (5.0, 1.2, 0.1, SAME_SIGN),
        (-5.0, 1.2, 0.1, OPPOSITE_SIGN),
        (0.0, 5.0, 9.0, SAME_SIGN),
    ],
)
def test_verdicts(published, mean, width, expected):
    found = interval(mean, components(ours=Spread(30, 1.0), published=Spread(30, 1.0)))
    assert verdict(published, mean, found, informative_below=width) == expected


def test_a_value_at_the_end_of_the_interval_has_the_score_of_95_percent():
    found = interval(1.0, components(ours=Spread(3, 1.0), published=Spread(3, 1.0)))
    assert normal_score(found.high, 1.0, found) == pytest.approx(1.959964, abs=1e-6)
    assert normal_score(found.low, 1.0, found) == pytest.approx(-1.959964, abs=1e-6)


def test_a_value_far_off_has_a_score_that_can_be_written():
    found = interval(0.0, components(ours=Spread(10_000, 1.0), published=Spread(10_000, 1.0)))
    assert 30 < normal_score(5.0, 0.0, found) < 40
    assert normal_score(-5.0, 0.0, found) == -normal_score(5.0, 0.0, found)


def test_a_study_is_judged_by_how_many_lie_inside_and_how_far_off_all_are():
    assert as_few_inside(9, 10) == pytest.approx(1 - 0.95**10)
    assert as_few_inside(10, 10) == 1
    q, p = heterogeneity([1.0, -2.0, 0.5])
    assert (q, p) == (5.25, pytest.approx(stats.chi2.sf(5.25, 3)))
