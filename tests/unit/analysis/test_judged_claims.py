"""A claim is held against numbers by its rule: what it allows, what one model can break, what stays open."""

import math

import numpy as np
import pytest
from scipy import stats

from aletheia.analysis.judged_claims import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, NOT_GIVEN, judge
from aletheia.analysis.published_claims import STUDY, Claim, Number

SPEED = "speedup_percent"


def claim(relation, *threshold, rule="every_model", models=("all",), quantity=SPEED):
    return Claim("x", "1", "words", models, quantity, relation, threshold, "percent", rule)


def numbers(*means, sd=None, n=3):
    return {(f"m{place}", SPEED): Number(mean, sd, n) for place, mean in enumerate(means)}


@pytest.mark.parametrize(
    ("relation", "threshold", "inside", "outside"),
    [
        ("at_least", ("-0.50",), (-0.5, 3), (-0.54,)),
        ("at_most", ("2",), (2, -7), (2.1,)),
        ("greater_than", ("0",), (0.01,), (0, -1)),
        ("less_than", ("2",), (1.99,), (2, 3)),
        ("between", ("15", "28"), (15, 28, 20), (14.9, 28.1)),
        ("equals", ("23.1",), (23.09, 23.14, 23.06), (23.2, 22.9)),
        ("equals", ("81",), (81,), (75, 82)),
        ("equals", ("0.000",), (0.0004,), (-0.17, 0.001)),
    ],
)
def test_a_relation_allows_what_it_says(relation, threshold, inside, outside):
    for value in inside:
        assert judge(claim(relation, *threshold), numbers(value)).verdict == HOLDS, value
    for value in outside:
        found = judge(claim(relation, *threshold), numbers(value))
        assert (found.verdict, found.decided) == (DOES_NOT_HOLD, ("m0",)), value


def test_a_sum_of_decimals_at_the_threshold_is_at_it():
    assert judge(claim("at_least", "0.3"), numbers(0.1 + 0.1 + 0.1 - 1e-16)).verdict == HOLDS
    assert judge(claim("greater_than", "0.3"), numbers(0.1 + 0.2)).verdict == DOES_NOT_HOLD


def test_one_model_breaks_what_every_model_must_fulfil_and_the_verdict_names_it():
    found = judge(claim("at_least", "-0.50"), numbers(-0.6, 0.01, -0.54))
    assert (found.verdict, found.decided, found.n) == (DOES_NOT_HOLD, ("m0", "m2"), 3)
    assert found.why == "2 of 3: m0 -0.6, m2 -0.54"
    assert found.numbers["m1"] == Number(0.01, None, 3)


def test_a_model_without_a_number_leaves_a_claim_open_unless_another_breaks_it():
    asked = {"models": ("m0", "m1", "gone")}
    open_one = judge(claim("greater_than", "0", **asked), numbers(1, 2))
    assert (open_one.verdict, open_one.missing, open_one.n) == (CANNOT_TELL, ("gone",), 2)
    assert judge(claim("greater_than", "0", **asked), numbers(1, -2)).verdict == DOES_NOT_HOLD
    for rule in ("mean_over_models", "most_models", "interval_over_models"):
        for means in ((1, 2), (-1, -2)):
            assert judge(claim("greater_than", "0", rule=rule, **asked), numbers(*means)).verdict == CANNOT_TELL


def test_what_is_not_given_is_said_to_be_so():
    found = judge(claim("less_than", "2", quantity="probe_percent"), numbers(1, 2))
    assert (found.verdict, found.n, found.numbers) == (NOT_GIVEN, 0, {})


def test_a_claim_without_a_bound_is_never_judged():
    for means in ((0.0,), (-40.0, 50.0)):
        found = judge(claim("states_no_bound", rule="interval_over_models"), numbers(*means))
        assert found.verdict == CANNOT_TELL
        assert "the paper states no bound" in found.why


def test_every_run_never_holds_where_a_run_breaks_it_nor_is_broken_where_all_keep_it():
    """Whichever SD a paper prints, the population's or the sample's; two equal runs and one apart are the edge."""
    rng = np.random.default_rng(1)
    verdicts = set()
    for runs in (*rng.normal(0, 1, (500, 3)), np.array([0.0, 1.0, 1.0])):
        for ddof, bound in ((0, rng.normal(-1, 1)), (1, rng.normal(-1, 1)), (0, runs.min() + 1e-6)):
            one = {("m0", SPEED): Number(float(runs.mean()), float(runs.std(ddof=ddof)), 3)}
            verdict = judge(claim("greater_than", str(bound), rule="every_run"), one).verdict
            assert verdict != (HOLDS if runs.min() < bound else DOES_NOT_HOLD)
            verdicts.add(verdict)
    assert verdicts == {HOLDS, DOES_NOT_HOLD, CANNOT_TELL}


def test_every_run_is_open_without_an_sd():
    assert judge(claim("greater_than", "0", rule="every_run"), numbers(5)).verdict == CANNOT_TELL
    assert judge(claim("greater_than", "0", rule="every_run"), numbers(5, n=1)).verdict == HOLDS
    assert judge(claim("greater_than", "0", rule="every_run"), numbers(5, sd=1.0)).verdict == HOLDS


def test_most_models_are_more_than_half():
    asked = claim("greater_than", "80", rule="most_models")
    assert judge(asked, numbers(81, 90, 10)).verdict == HOLDS
    assert judge(asked, numbers(81, 10)).verdict == DOES_NOT_HOLD


def test_a_mean_over_models_is_tested_with_models_as_the_unit():
    means = (26.7, 17.4)
    found = judge(claim("significant", "0.05", rule="mean_over_models"), numbers(*means))
    assert found.p == pytest.approx(stats.ttest_1samp(means, 0).pvalue)
    assert (found.verdict, round(found.low), round(found.high)) == (DOES_NOT_HOLD, -37, 81)
    assert judge(claim("significant", "0.05", rule="mean_over_models"), numbers(20)).verdict == CANNOT_TELL


def test_single_models_are_tested_over_their_runs():
    asked = claim("significant", "0.05")
    found = judge(asked, numbers(18.4, sd=0.4))
    assert found.verdict == HOLDS
    assert found.p == pytest.approx(2 * stats.t.sf(18.4 / (0.4 / math.sqrt(3)), 2))
    assert judge(asked, numbers(0.5, sd=0.4)).verdict == DOES_NOT_HOLD
    assert judge(asked, numbers(18.4)).verdict == CANNOT_TELL


def test_a_significant_loss_is_no_significant_gain():
    assert judge(claim("significant", "0.05"), numbers(-18.4, sd=0.4)).decided == ("m0",)
    found = judge(claim("significant", "0.05", rule="mean_over_models"), numbers(-5, -5.1, -4.9))
    assert (found.p < 0.05, found.verdict) == (True, DOES_NOT_HOLD)


def test_numbers_may_be_plain_triples():
    assert judge(claim("at_least", "1"), {("m0", SPEED): (2.0, None, 3)}).numbers == {"m0": Number(2.0, None, 3)}


def test_an_interval_must_lie_inside_or_outside_to_decide():
    asked = claim("at_least", "-0.50", rule="interval_over_models")
    for means, verdict in (((1, 1.1, 1.2), HOLDS), ((-9, -9.1, -9.2), DOES_NOT_HOLD), ((-0.6, 0, 0.5), CANNOT_TELL)):
        found = judge(asked, numbers(*means))
        interval = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
        assert (found.low, found.high) == pytest.approx(interval)
        assert found.verdict == verdict
    assert judge(asked, numbers(1, 1, 1)).verdict == HOLDS
    assert judge(asked, numbers(1)).verdict == CANNOT_TELL


def test_an_interval_over_runs_is_of_one_model():
    asked = claim("less_than", "0", rule="interval_over_runs")
    found = judge(asked, numbers(-5, sd=1.0))
    assert (found.verdict, found.high) == (HOLDS, pytest.approx(-5 + stats.t.ppf(0.975, 2) / math.sqrt(3)))
    assert judge(asked, numbers(-5)).verdict == CANNOT_TELL
    with pytest.raises(ValueError, match="expected one model"):
        judge(asked, numbers(-5, -6, sd=1.0))


def test_models_are_held_against_all_others_by_welchs_interval():
    asked = claim("at_least", "0", rule="mean_minus_others", models=("m0", "m1"))
    means = (17.4, 15.8, 26.1, 27.8, 17.6)
    found = judge(asked, numbers(*means))
    plain = stats.ttest_ind(means[:2], means[2:], equal_var=False)
    assert found.p == pytest.approx(plain.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(plain.confidence_interval(0.95)))
    assert judge(asked, numbers(1, 2, 3)).verdict == CANNOT_TELL


def test_a_claim_about_the_study_reads_the_studys_number_alone():
    asked = claim("equals", "8", rule="study", quantity="families")
    given = {(STUDY, "families"): Number(7), ("m0", "families"): Number(8)}
    assert judge(asked, given).verdict == DOES_NOT_HOLD
    assert judge(claim("equals", "8", quantity="families"), given).verdict == HOLDS
