"""From rung to rung: noise floor, costs, budgets, and which recipes go on."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from aletheia.search.equal_time import affordable, equal_steps, step_cost
from aletheia.search.noise_floor import noise_floor
from aletheia.search.objective import seconds_as_loss, slope
from aletheia.search.promotion import (
    DROPPED,
    FAILED,
    KEPT,
    LEARNT_NOTHING,
    OVER_BOUND,
    TIED,
    best_rate,
    full_decision,
    push_decision,
    scan_decision,
    tuned_rates,
)
from aletheia.search.push import push_moves
from aletheia.search.results import Result, losses_by_seed
from aletheia.search.trials import FULL, PUSH, SCAN, trial_name
from search_spaces import EIGHT, space

SPACE = space(keep=2)
DELTA = 0.01


def run(recipe, loss, rate=2e-3, rung=SCAN, **told):
    return Result(arm=trial_name(rung, recipe, rate), recipe=recipe, rate=rate, seed=42, loss=loss, **told)


def runs(rung=SCAN, **losses):
    return [run(recipe, loss, rung=rung) for recipe, loss in losses.items()]


def outcomes(verdicts):
    return {each.recipe: each.outcome for each in verdicts}


def test_the_floor_is_the_root_mean_square_of_all_pairs_differences():
    losses = {1: 1.20, 2: 1.23, 3: 1.19, 4: 1.21}
    pairs = [a - b for i, a in losses.items() for j, b in losses.items() if i < j]
    found = noise_floor(losses, margin=0.005)
    assert found.sd == pytest.approx(np.sqrt(np.mean(np.square(pairs))))
    assert found.delta == 2 * found.sd
    low, high = (math.sqrt(3 * found.sd**2 / stats.chi2.ppf(level, 3)) for level in (0.975, 0.025))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_floor_is_never_below_the_margin_and_counts_runs_without_a_loss():
    assert noise_floor({1: 1.2, 2: 1.2001, 3: None}, margin=0.005).delta == 0.005
    found = noise_floor({1: 1.2, 2: None, 3: math.nan}, margin=0.005)
    assert (found.sd, found.n, found.lost, found.delta) == (None, 1, 2, 0.005)


def test_a_cost_is_the_geometric_mean_of_rounds_with_a_t_interval():
    own, std = [0.5, 0.6, 0.55], [1.0, 1.1, 0.9]
    logs = np.log2(np.divide(own, std))
    low, high = stats.t.interval(0.95, 2, logs.mean(), stats.sem(logs))
    found = step_cost(own, std)
    assert (found.value, found.low, found.high) == tuple(pytest.approx(2**each) for each in (logs.mean(), low, high))
    assert step_cost([0.5], [1.0]) == replace(found, value=0.5, low=None, high=None, log2_se=None, n=1)
    for bad in ([], [1.0, 2.0], [0.0]):
        with pytest.raises(ValueError, match="seconds above 0"):
            step_cost(bad, [1.0])


def test_equal_seconds_are_more_steps_of_a_cheaper_recipe_and_never_more_than_the_plan_has():
    assert [equal_steps(64, cost) for cost in (1.0, 0.5, 0.7, 1000.0)] == [64, 128, 91, 1]
    assert equal_steps(64, 0.5, most=100) == 100
    with pytest.raises(ValueError, match="above 0"):
        equal_steps(64, 0.0)


def test_a_budget_pays_in_the_order_of_what_matters():
    found = affordable([1.0, 2.0, 5.0, 1.0], 4.0)
    assert (found.bought, found.refused, found.left) == ([0, 1], [2, 3], 1.0)
    assert affordable([0.1] * 3, 0.3).bought == [0, 1, 2]
    assert affordable([], 2.0).left == 2.0
    assert affordable([3.0], 2.0).bought == []


def test_the_best_rate_is_that_of_the_lowest_loss_of_runs_that_ended_well():
    tried = [
        run("mlp", 1.3, 1e-3),
        run("mlp", 1.2, 2e-3),
        run("mlp", 1.2, 4e-3),
        run("mlp", 1.0, 8e-3, status="timeout"),
    ]
    assert best_rate(tried).rate == 2e-3
    assert best_rate([run("mlp", None, status="diverged"), run("mlp", math.nan), run("mlp", math.inf)]) is None
    assert losses_by_seed([run("mlp", math.nan)]) == {42: None}


def test_those_within_delta_of_the_last_one_kept_are_kept_too():
    found = scan_decision(
        runs(std=1.25, mlp=1.20, attention=1.205, last_half=1.2149, v_o_down=1.216), SPACE, delta=DELTA
    )
    assert outcomes(found.kept) == {"mlp": KEPT, "attention": KEPT, "last_half": TIED}
    assert outcomes(found.dropped) == {"v_o_down": DROPPED}
    assert found.leader.recipe == "mlp"
    assert found.dropped[0].behind == pytest.approx(0.016)
    assert "0.0110 behind the last one kept" in found.dropped[0].reason
    assert (found.std.recipe, found.std.loss) == ("std", 1.25)


def test_full_runs_are_asked_at_best_rates_first_then_beside_them_and_std_always():
    results = [run("std", 1.3, 5e-4), run("std", 1.4, 1e-3), run("mlp", 1.2, 2e-3), run("mlp", 1.3, 4e-3)]
    found = scan_decision([*results, run("attention", 1.29, 1e-3)], space(keep=1), delta=DELTA)
    assert found.asked == [("std", 5e-4), ("mlp", 2e-3), ("std", 1e-3), ("mlp", 1e-3), ("mlp", 4e-3)]
    assert found.std.at_edge
    assert found.leader.at_edge


def test_failed_runs_are_told_and_never_win():
    bad = [run("mlp", math.nan, 1e-3, status="diverged"), run("mlp", None, 2e-3, status="timeout")]
    found = scan_decision([*runs(std=1.25, attention=1.3), *bad], SPACE, delta=DELTA)
    assert outcomes(found.dropped) == {"mlp": FAILED}
    assert found.dropped[0].reason == "no run of it ended with a loss (0.001: diverged, 0.002: timeout)"
    assert "mlp" not in dict(found.asked)


def test_what_learns_nothing_is_dropped_even_where_nothing_else_is_left():
    found = scan_decision(runs(std=1.25, mlp=1.6, attention=1.595), SPACE, delta=DELTA, base_loss=1.6)
    assert outcomes(found.dropped) == {"mlp": LEARNT_NOTHING, "attention": LEARNT_NOTHING}
    assert found.leader is None
    assert found.asked[0] == ("std", 2e-3)


def test_a_standard_recipe_with_extras_can_lead_and_std_cannot():
    with_extras = space(std={"extras": {"accumulation": 1}})
    results = runs(FULL, std=1.10, std_extras=1.20, mlp=1.25)
    found = full_decision(results, with_extras, delta=DELTA)
    assert found.leader.recipe == "std_extras"
    assert "std" not in outcomes(found.kept + found.dropped)


def test_standard_recipes_take_no_candidates_place_in_the_scan():
    with_extras = space(std={"extras": {"accumulation": 1}}, keep=1)
    for loss, leads in ((1.1, "std_extras"), (1.4, "mlp")):
        found = scan_decision(runs(std=1.3, std_extras=loss, mlp=1.2, attention=1.25), with_extras, delta=DELTA)
        assert (found.leader.recipe, outcomes(found.kept)) == (leads, {"mlp": KEPT, "std_extras": KEPT})
        assert outcomes(found.dropped) == {"attention": DROPPED}


def test_the_leader_holds_the_bound_on_general_text():
    results = [run("std", 1.3, rung=FULL), run("mlp", 1.2, rung=FULL, retention=0.03)]
    results += [run("attention", 1.21, rung=FULL, retention=0.01), run("last_half", 1.1, rung=FULL)]
    found = full_decision(results, space(retention_bound=0.02), delta=DELTA)
    assert found.leader.recipe == "attention"
    assert outcomes(found.dropped) == {"last_half": OVER_BOUND, "mlp": OVER_BOUND}
    assert "is 0.0300 over the base model's, the bound is 0.02" in found.dropped[1].reason
    assert full_decision(results, SPACE, delta=DELTA).leader.recipe == "last_half"


def test_by_seconds_a_steep_recipe_is_as_far_ahead_as_its_loss_takes_time():
    scan = [run("std", 1.40), run("mlp", 1.42), run("attention", 1.28)]
    full = runs(FULL, std=1.30, mlp=1.27, attention=1.268)
    by_loss = full_decision(full, SPACE, delta=0.001, scan=scan)
    by_time = full_decision(full, space(objective="seconds_to_std_loss"), delta=0.001, scan=scan)
    doublings = math.log2(64 / 24)
    slopes = {each.recipe: slope(each, last, doublings=doublings) for each, last in zip(scan, full, strict=True)}
    assert slopes["mlp"] > slopes["std"] > slopes["attention"] > 0
    # The flat recipe is hardly better by loss, and far ahead by time.
    assert (by_loss.kept[0].recipe, by_time.kept[0].recipe) == ("attention", "attention")
    assert by_time.dropped[0].behind > by_loss.dropped[0].behind
    assert by_time.dropped[0].score == pytest.approx(1.30 - 0.03 * slopes["std"] / slopes["mlp"])
    assert by_time.kept[0].score == pytest.approx(1.30 - 0.032 * 2)


def test_without_a_slope_seconds_are_ranked_by_loss():
    ended = run("mlp", 1.2)
    assert slope(None, ended, doublings=1.0) is None
    assert slope(run("mlp", None), ended, doublings=1.0) is None
    for own in (None, -0.1, 0.0):
        assert seconds_as_loss(ended, own, target=1.3, std_slope=0.1) == 1.2
    lone = full_decision(runs(FULL, std=1.3, mlp=1.2), space(objective="seconds_to_std_loss"), delta=DELTA)
    assert lone.leader.score == 1.2


def test_standard_rates_are_those_of_full_runs_where_there_are_some():
    with_extras = space(std={"extras": {"accumulation": 1}})
    scan = [run("std", 1.3, 1e-3), run("std", 1.2, 2e-3), run("std_extras", 1.2, 4e-3), run("mlp", 1.0)]
    full = [run("std", 1.1, 1e-3, FULL), run("std_extras", None, 4e-3, FULL)]
    assert tuned_rates(full, scan, with_extras) == {"std": 1e-3, "std_extras": 4e-3}
    assert tuned_rates([], [run("std", None)], with_extras) == {}
    assert tuned_rates(runs(FULL, linear=1.2, mlp=1.1), [], space(presets=["linear", "mlp"])) == {"linear": 2e-3}


def pushed_from(leader="mlp", **losses):
    before = full_decision(runs(FULL, std=1.3, **{leader: 1.2}), SPACE, delta=DELTA)
    results = [replace(each, arm=each.arm.replace("f_", "p_")) for each in runs(FULL, **losses)]
    return push_decision(results, before, SPACE, base_loss=1.6)


def test_moves_that_ran_or_lead_nowhere_are_not_asked_again():
    before = full_decision([run("std", 1.3, rung=FULL), run("last_half", 1.2, rung=FULL)], SPACE, delta=DELTA)
    moves = {each.move: each for each in push_moves(before.leader, SPACE, {"last_half": [1e-3, 2e-3]})}
    assert set(moves) == set(SPACE.asked_moves)
    assert (moves["rate x2"].recipe, moves["rate x2"].rate, moves["rate x2"].reason) == ("last_half", 4e-3, None)
    assert moves["rate /2"].reason == "it has a full run at this rate"
    assert (moves["rank x2"].recipe, moves["rank x2"].rate) == ("last_half__rank_x2", 2e-3)
    declared_names = {recipe.name for recipe in SPACE.moves.values() if not isinstance(recipe, str)}
    assert {each.recipe for each in moves.values()} - {"last_half"} <= declared_names
    everywhere = full_decision([run("std", 1.3, 0.9, FULL), run("mlp", 1.2, 0.9, FULL)], SPACE, delta=DELTA)
    refused = {each.move: each.reason for each in push_moves(everywhere.leader, SPACE, {})}
    assert refused["rate x2"] == "the rate would be 1.8"
    assert refused["more layers"].startswith("all layers are adapted")


def test_a_move_leads_only_where_it_is_better_by_more_than_delta():
    assert pushed_from(mlp__rank_x2=1.1901).leader.recipe == "mlp"
    found = pushed_from(mlp__rank_x2=1.189, mlp__rank_half=1.17)
    assert [each.recipe for each in found.kept] == ["mlp__rank_half", "mlp__rank_x2", "mlp"]
    assert found.rung == PUSH
    assert found.leader.behind == pytest.approx(-0.03)


def test_failed_moves_are_told():
    found = pushed_from(mlp__rank_x2=None, mlp__rank_half=1.6)
    assert outcomes(found.dropped) == {"mlp__rank_x2": FAILED, "mlp__rank_half": LEARNT_NOTHING}
    assert found.leader.recipe == "mlp"


def test_every_candidate_of_a_rung_has_a_verdict_with_words():
    losses = {name: 1.2 + 0.01 * place for place, name in enumerate(EIGHT)}
    found = scan_decision(runs(std=1.3, **losses), SPACE, delta=DELTA)
    told = found.kept + found.dropped
    assert sorted(each.recipe for each in told) == sorted(EIGHT)
    assert all(each.reason for each in told)
    assert [each.score for each in found.kept] == sorted(each.score for each in found.kept)
