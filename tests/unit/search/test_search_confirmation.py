"""The confirmation's cells and effects, the ratios of seconds, and the decision that follows."""

import math

import numpy as np
import pytest
from pandas import DataFrame
from scipy import stats
from statsmodels.formula.api import ols

from aletheia.inference.equivalence import tost
from aletheia.search.confirmation import (
    BOTH,
    CELLS,
    CHOICE_ALONE,
    PAPER,
    PLAIN,
    SHAPE_ALONE,
    SHORTER,
    confirmed_cells,
    factorial,
    paired_effect,
)
from aletheia.search.decision import Candidate, decide, no_winner
from aletheia.search.time_to_loss import Times, fall_of_a_doubling, fieller, standard_ratios, time_ratio
from aletheia.search.trials import declared, trial_name
from search_spaces import space

SEEDS = (101, 102, 103, 104, 105, 106)
WITH_EXTRAS = space(std={"extras": {"accumulation": 1}}, presets=["mlp", "last_half", "linear"])
STD_RATES = {"std": 1e-3, "std_extras": 2e-3}


def drawn(*, sd=0.003, seed=1, **means):
    """Return losses by cell and seed: a mean, what a seed's runs share, and noise."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.02, len(SEEDS))
    names = {"plain": PLAIN, "shape": SHAPE_ALONE, "choice": CHOICE_ALONE, "both": BOTH}
    return {
        names[name]: dict(zip(SEEDS, mean + shared + rng.normal(0, sd, len(SEEDS)), strict=True))
        for name, mean in means.items()
    }


def candidates(cells, seconds=None, **retention):
    seconds = seconds or {}
    return {
        name: Candidate(losses, seconds.get(name, 64.0), retention.get("retention", {}).get(name))
        for name, losses in cells.items()
    }


def cells_by_name(recipe, rate, of=WITH_EXTRAS, rates=STD_RATES):
    return {cell.name: cell for cell in confirmed_cells(of, recipe=recipe, rate=rate, std_rates=rates)}


def test_the_four_cells_are_the_winner_with_each_factor_taken_back():
    cells = cells_by_name("last_half", 4e-3)
    arms = {name: trial_name(cell.rung, cell.recipe, cell.rate) for name, cell in cells.items()}
    assert arms == {
        PLAIN: "c_std_r1em3",
        SHAPE_ALONE: "c_std_extras_r2em3",
        CHOICE_ALONE: "c_last_half__paper_r2em3",
        BOTH: "c_last_half_r4em3",
        PAPER: "c_std_r5em4",
        SHORTER: "h_last_half_r4em3",
    }
    assert WITH_EXTRAS.recipe("last_half__paper").keys == {"layers": "last", "budget_percent": 50}


@pytest.mark.parametrize("recipe", ["std_extras", "mlp", "mlp__rank_x2", "linear", "linear__rank_half"])
def test_every_cell_of_every_possible_winner_is_a_declared_trial(recipe):
    names = {(trial.arm_name, trial.seed) for trial in declared(WITH_EXTRAS)}
    std_rates = {"std": 5e-4, "std_extras": 4e-3, "linear": 4e-3}
    rates = WITH_EXTRAS.rates if "__" in recipe else (2.5e-4, *WITH_EXTRAS.rates, 8e-3)
    for rate in rates:
        for cell in confirmed_cells(WITH_EXTRAS, recipe=recipe, rate=rate, std_rates=std_rates):
            for seed in WITH_EXTRAS.confirm_seeds:
                assert (trial_name(cell.rung, cell.recipe, cell.rate), seed) in names


def test_a_winner_that_chooses_nothing_or_has_the_papers_shape_leaves_no_factorial():
    shape_only = cells_by_name("linear", 2e-3)
    assert CHOICE_ALONE not in shape_only
    assert (shape_only[SHAPE_ALONE].recipe, shape_only[SHAPE_ALONE].rate) == ("linear", 2e-3)
    plain = cells_by_name("mlp", 2e-3, of=space(), rates={"std": 1e-3})
    assert CHOICE_ALONE not in plain
    assert (plain[SHAPE_ALONE].recipe, plain[SHAPE_ALONE].rate) == ("std", 1e-3)


def test_a_standard_rate_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match="expected the best rate of std_extras, found none"):
        cells_by_name("mlp", 2e-3, rates={"std": 1e-3})


def test_effects_are_those_of_a_linear_model_with_seeds_as_blocks():
    cells = drawn(plain=1.25, shape=1.22, choice=1.24, both=1.20)
    signs = {PLAIN: (-0.5, -0.5), SHAPE_ALONE: (-0.5, 0.5), CHOICE_ALONE: (0.5, -0.5), BOTH: (0.5, 0.5)}
    rows = [
        {"loss": loss, "a": signs[cell][0], "b": signs[cell][1], "seed": seed}
        for cell, losses in cells.items()
        for seed, loss in losses.items()
    ]
    fitted = ols("loss ~ a * b + C(seed)", DataFrame(rows)).fit().params
    found = factorial(cells)
    assert found.n == 6
    assert found.choice.value == pytest.approx(fitted["a"])
    assert found.shape.value == pytest.approx(fitted["b"])
    # The product of both codes is ±1/4, Montgomery's AB half a difference of differences.
    assert found.interaction.value == pytest.approx(fitted["a:b"] / 2)


def test_each_effect_is_tested_by_a_paired_t_and_the_three_by_holm():
    cells = drawn(plain=1.25, shape=1.247, choice=1.24, both=1.236)
    found = factorial(cells)
    a = [(cells[CHOICE_ALONE][s] + cells[BOTH][s] - cells[PLAIN][s] - cells[SHAPE_ALONE][s]) / 2 for s in SEEDS]
    test = stats.ttest_1samp(a, 0)
    interval = test.confidence_interval()
    assert found.choice.p == pytest.approx(test.pvalue)
    assert (found.choice.low, found.choice.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    effects = sorted((found.choice, found.shape, found.interaction), key=lambda each: each.p)
    assert effects[0].p_holm == pytest.approx(3 * effects[0].p)
    assert all(each.p_holm >= each.p for each in effects)


def test_simple_effects_add_up():
    found = factorial(drawn(plain=1.25, shape=1.22, choice=1.24, both=1.20))
    whole, in_paper, in_own, of_all, of_choice = (each.value for each in found.simple)
    assert whole == pytest.approx(in_own + of_all)
    assert whole == pytest.approx(in_paper + of_choice)
    assert found.interaction.value == pytest.approx((in_own - in_paper) / 2)
    assert set(found.means) == set(CELLS)


def test_a_failed_run_takes_its_seed_out_of_the_effects_that_need_it_alone():
    cells = drawn(plain=1.25, shape=1.22, choice=1.24, both=1.20)
    cells[CHOICE_ALONE][103] = None
    found = factorial(cells)
    assert (found.n, found.choice.n, found.lost[CHOICE_ALONE]) == (5, 5, 1)
    assert [each.n for each in found.simple] == [6, 5, 6, 6, 5]


def test_without_scatter_or_seeds_there_is_no_test():
    assert paired_effect("", {}).value is None
    one = paired_effect("", {1: -0.1})
    assert (one.value, one.se, one.low, one.p) == (-0.1, None, None, None)
    assert paired_effect("", {1: 0.0, 2: 0.0}).p is None
    assert factorial({PLAIN: {1: 1.2, 2: 1.3}, BOTH: {1: 1.1, 2: 1.1}}).choice is None


def test_fiellers_interval_holds_the_ratios_that_a_paired_t_does_not_refuse():
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, y = rng.normal(0.03, 0.01, 6), rng.normal(0.08, 0.01, 6)
        low, high = fieller(x, y)
        assert low < x.mean() / y.mean() < high
        for rho in (low, high):
            assert stats.ttest_1samp(x - rho * y, 0).pvalue == pytest.approx(0.05, abs=1e-9)


def test_a_slope_that_may_be_0_bounds_no_ratio():
    own, shorter = {1: 1.2, 2: 1.3, 3: 1.25}, {1: 1.25, 2: 1.2, 3: 1.3}
    found = time_ratio({1: 1.3, 2: 1.3, 3: 1.3}, own, shorter, doublings=1.0, times=Times())
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 3)
    assert found.reason == "the recipe's loss is not shown to fall with more steps"
    falling = fieller(np.array([0.1, 0.2, 0.1]), np.array([-0.1, -0.2, -0.1]))
    assert falling is None


def test_a_ratio_is_the_seconds_at_which_the_line_meets_the_loss():
    # Falls by 0.1 a doubling and ends 0.05 below the target: half a doubling ahead.
    own = {seed: 1.20 + seed / 100 for seed in (1, 2, 3)}
    shorter = {seed: loss + 0.15 for seed, loss in own.items()}
    target = {seed: loss + 0.05 for seed, loss in own.items()}
    found = time_ratio(target, own, shorter, doublings=1.5, times=Times(std=64.0, own=60.0, fixed=5.0))
    assert found.value == pytest.approx(64 / (5 + 60 * 2**-0.5))
    assert (found.low, found.high) == (pytest.approx(found.value), pytest.approx(found.value))
    assert not found.extrapolated
    far = time_ratio(dict.fromkeys(own, 1.6), own, shorter, doublings=1.5, times=Times())
    assert far.extrapolated
    assert time_ratio({1: 1.3, 2: None}, own, shorter, doublings=1.5, times=Times()).reason.startswith("1 of the seeds")


def test_costs_widen_a_ratio_by_the_root_of_squares():
    cells = drawn(plain=1.25, both=1.20)
    shorter = {seed: loss + 0.11 + 0.001 * (seed % 3) for seed, loss in cells[BOTH].items()}
    alone, both = (
        time_ratio(cells[PLAIN], cells[BOTH], shorter, doublings=1.4, times=Times(log2_se=se, df=7)) for se in (0, 0.02)
    )
    cost = 0.02 * stats.t.ppf(0.975, 7)
    for end in ("low", "high"):
        losses = math.log2(getattr(alone, end) / alone.value)
        assert abs(math.log2(getattr(both, end) / both.value)) == pytest.approx(math.hypot(losses, cost))
    assert both.value == alone.value


def test_a_winner_that_is_std_with_extras_is_as_fast_as_itself():
    cells = drawn(plain=1.25, both=1.20) | {PAPER: dict.fromkeys(SEEDS, 1.4)}
    cells |= {SHAPE_ALONE: cells[BOTH], SHORTER: {seed: loss + 0.1 for seed, loss in cells[BOTH].items()}}
    found = standard_ratios(cells, doublings=1.4, times=dict.fromkeys("abc", Times()))
    assert (found["c"].value, found["c"].low, found["c"].high) == (1.0, 1.0, 1.0)
    assert found["a"].value > found["b"].value > 1


def test_the_winner_is_what_is_better_than_std_and_the_plainest_of_what_is_not_worse_by_delta():
    cells = drawn(plain=1.25, shape=1.205, choice=1.24, both=1.20)
    found = decide(candidates(cells), delta=0.02)
    assert (found.winner, found.better_than_std, found.best) == (SHAPE_ALONE, True, BOTH)
    told = {each.name: each for each in found.comparisons}
    behind = [cells[SHAPE_ALONE][s] - cells[BOTH][s] for s in SEEDS]
    assert told[SHAPE_ALONE].p_not_worse == pytest.approx(tost(np.mean(behind), stats.sem(behind), 5, 0.02).p_upper)
    assert told[CHOICE_ALONE].reason == "not shown to be within δ of the best"
    assert found.reason.startswith("Winner: shape alone; what the search chose against tuned std: -0.0")
    assert decide(candidates(cells), delta=0.002).winner == BOTH


def test_the_cheapest_goes_before_the_plainest_and_rounded_steps_make_no_recipe_cheaper():
    cells = drawn(plain=1.25, shape=1.202, choice=1.201, both=1.20)
    assert decide(candidates(cells, {BOTH: 63.5}), delta=0.02).winner == SHAPE_ALONE
    assert decide(candidates(cells, {BOTH: 50.0}), delta=0.02).winner == BOTH
    assert decide(candidates(cells, {CHOICE_ALONE: 50.0}), delta=0.02).winner == CHOICE_ALONE


def test_at_equal_seconds_what_one_took_longer_is_no_gain_and_costs_have_errors():
    cells = drawn(plain=1.25, both=1.235)
    gap = np.array([cells[BOTH][s] - cells[PLAIN][s] for s in SEEDS])

    def winner_at(seconds, **error):
        told = {PLAIN: Candidate(cells[PLAIN], 64.0), BOTH: Candidate(cells[BOTH], seconds, **error)}
        return decide(told, delta=0.005, slope=0.08)

    longer = winner_at(64 * 2**0.2)
    effect = {each.name: each.against_std for each in longer.comparisons}[BOTH]
    assert effect.value == pytest.approx(gap.mean() + 0.016)
    assert (longer.winner, longer.better_than_std) == (None, False)
    unsure = winner_at(64.0, log2_se=0.1, df=5)
    effect = {each.name: each.against_std for each in unsure.comparisons}[BOTH]
    own, cost = stats.sem(gap), 0.008
    df = (own**2 + cost**2) ** 2 / (own**4 / 5 + cost**4 / 5)
    assert effect.se == pytest.approx(math.hypot(own, cost))
    assert effect.p == pytest.approx(2 * stats.t.sf(abs(effect.value) / effect.se, df))
    assert (unsure.better_than_std, winner_at(64.0).winner) == (False, BOTH)


def test_the_fall_of_a_doubling_is_the_mean_of_the_seeds_that_have_both_lengths():
    own, shorter = {1: 1.2, 2: 1.3, 3: None}, {1: 1.3, 2: 1.44, 3: 1.5}
    assert fall_of_a_doubling(own, shorter, doublings=1.5) == pytest.approx(0.08)
    assert fall_of_a_doubling(shorter, own, doublings=1.5) == 0.0
    assert fall_of_a_doubling({}, {}, doublings=1.5) == 0.0


def test_a_gain_that_is_not_shown_or_does_not_matter_is_no_winner():
    equal = decide(candidates(drawn(plain=1.25, both=1.2495, seed=2)), delta=0.02)
    assert (equal.winner, equal.better_than_std) == (None, False)
    assert equal.reason.startswith("No winner: what the search chose against tuned std: ")
    small = decide(candidates(drawn(plain=1.25, both=1.24)), delta=0.05)
    assert (small.winner, small.better_than_std) == (None, True)
    assert small.reason.endswith("and by less than δ = 0.0500.")
    worse = decide(candidates(drawn(plain=1.25, both=1.30)), delta=0.02)
    assert (worse.winner, worse.best) == (None, PLAIN)
    nothing = no_winner("no recipe is left", delta=0.02)
    assert (nothing.winner, nothing.reason) == (None, "No winner: no recipe is left.")


def test_other_cells_are_tested_only_behind_the_winners_gate_and_by_holm():
    cells = drawn(plain=1.25, shape=1.24, choice=1.243, both=1.23)
    told = {each.name: each for each in decide(candidates(cells), delta=0.02).comparisons}
    plain = {
        name: stats.ttest_1samp([cells[name][s] - cells[PLAIN][s] for s in SEEDS], 0).pvalue
        for name in told
        if name != PLAIN
    }
    assert told[BOTH].p_better == pytest.approx(plain[BOTH])
    assert told[SHAPE_ALONE].p_better == pytest.approx(2 * plain[SHAPE_ALONE])
    assert told[CHOICE_ALONE].p_better == pytest.approx(max(plain[CHOICE_ALONE], 2 * plain[SHAPE_ALONE]))
    closed = decide(candidates(drawn(plain=1.25, shape=1.20, choice=1.2, both=1.26)), delta=0.02)
    assert closed.winner is None
    assert all(each.p_better is None for each in closed.comparisons)


def test_of_a_recipe_of_which_a_run_failed_nothing_is_claimed():
    cells = drawn(plain=1.25, shape=1.21, choice=1.24, both=1.20)
    cells[BOTH][102] = None
    found = decide(candidates(cells), delta=0.02)
    assert (found.winner, found.better_than_std) == (None, False)
    assert found.reason.endswith("; 1 of its 6 runs failed.")
    gone = decide(candidates({**cells, BOTH: dict.fromkeys(SEEDS)}), delta=0.02)
    assert gone.reason == "No winner: 0 of its seeds have a run of std and of the winner."
    lost_std = drawn(plain=1.25, both=1.20)
    lost_std[PLAIN][102] = None
    assert decide(candidates(lost_std), delta=0.02).winner == BOTH


def test_what_is_recommended_is_shown_to_hold_the_bound_on_general_text():
    cells = drawn(plain=1.25, both=1.20)
    kept = dict(zip(SEEDS, (0.010, 0.012, 0.011, 0.009, 0.010, 0.011), strict=True))
    near = dict(zip(SEEDS, (0.010, 0.030, 0.011, 0.009, 0.010, 0.031), strict=True))
    highest = np.mean(kept_values := list(kept.values())) + stats.t.ppf(0.95, 5) * stats.sem(kept_values)
    for bound, retention, winner in (
        (0.02, kept, BOTH),
        (highest * 0.999, kept, None),
        (highest * 1.001, kept, BOTH),
        (0.02, near, None),
        (0.02, None, None),
        (None, None, BOTH),
    ):
        found = decide(candidates(cells, retention={BOTH: retention}), delta=0.02, retention_bound=bound)
        assert found.winner == winner
        assert found.better_than_std
