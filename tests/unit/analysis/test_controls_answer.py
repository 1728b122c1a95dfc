"""The controls' answer: places among draws, losses at equal time, overlap and equal budgets, by hand."""

import itertools

import pytest

from aletheia.analysis.controls_arms import choice, draws_for, named_selector
from aletheia.analysis.controls_summary import Evidence, summarise_controls
from aletheia.errors import UserError
from controlled_study import DRAWS, attribution, entries, evidence, section, selection
from ledgers import LAYERS, turned


def summarised(arms, losses, **how):
    found = summarise_controls(section(arms, *losses), evidence(losses, **how))
    return found["campaigns"][0]


def with_draws(draws=DRAWS, **others):
    """Return losses of std, ale, others and of draws at 2.00, 2.01, …."""
    return {"std": 1.9, "ale": 1.95, **others} | {f"random{i}": 2.0 + i / 100 for i in range(draws)}


def test_the_best_of_twenty_draws_has_one_in_twenty_one():
    campaign = summarised(entries(), {"tiny": with_draws()})
    (test,) = [test for test in campaign["models"][0]["tests"] if test["arm"] == "ale"]
    assert (test["rank"], test["draws"], test["p"]) == (1, 20, 1 / 21)
    assert test["difference"] == pytest.approx(1.95 - 2.095)
    assert test["draws_mean"] == pytest.approx(2.095)


def test_std_is_held_against_no_draws():
    tests = summarised(entries(), {"tiny": with_draws()})["models"][0]["tests"]
    assert {test["arm"] for test in tests} == {"ale"}


def test_a_draw_without_a_loss_is_left_out_and_named_and_its_run_is_a_row():
    failed = {"random3": {"status": "out_of_memory", "eval_loss": None}}
    model = summarised(entries(), {"tiny": with_draws()}, changes=failed)["models"][0]
    (test,) = model["tests"]
    assert (test["draws"], test["lost"], test["p"]) == (19, ["random3"], 1 / 20)
    row = model["arms"]["random3"]
    assert (row["runs"], row["ok"], row["failures"], row["loss"]["mean"]) == (1, 0, ["seed 1: out_of_memory"], None)


def test_losses_are_means_over_the_seeds_that_all_draws_have():
    losses = {"tiny": {"std": 1.0, "ale": (1.0, 9.0), "random0": (2.0, 2.0), "random1": (2.0, None)}}
    campaign = summarised(entries(2), losses, seeds=(1, 2))
    (test,) = campaign["models"][0]["tests"]
    assert (test["seeds"], test["loss"], test["p"]) == ([1], 1.0, 1 / 3)


def test_draws_of_another_recipe_or_budget_are_no_draws_of_an_arm():
    further = {
        "wide": {"layers": "random", "draw": 7, "rank": 16},
        "third": {"layers": "random", "draw": 8, "budget_percent": 33},
    }
    arms = entries(2, **further)
    assert draws_for(arms, "ale", "random", {}) == ["random0", "random1"]


def test_a_list_of_layers_has_the_draws_of_as_many_layers():
    arms = entries(1, mine={"layers": [1, 2]})
    assert draws_for(arms, "mine", "random", {"mine": 2, "random0": 2}) == ["random0"]
    assert draws_for(arms, "mine", "random", {"mine": 2, "random0": 3}) == []


def test_draws_with_the_same_lowest_layer_are_for_choices_that_have_it():
    same = {f"low{draw}": {"layers": "random_same_lowest", "draw": draw} for draw in range(2)}
    arms = entries(2, **same, last={"layers": "last"})
    losses = {"tiny": {"std": 1.0, "ale": 1.1, "last": 1.2, "random0": 1.3, "random1": 1.3, "low0": 1.4, "low1": 1.4}}
    lowest = {"last": {"placement": {"layers": [8, 9], "layers_total": LAYERS, "lowest_layer": 8}}}
    tests = summarised(arms, losses, changes=lowest)["models"][0]["tests"]
    assert {(test["arm"], test["against"]) for test in tests} == {
        ("ale", "random"),
        ("ale", "random_same_lowest"),
        ("last", "random"),
    }


def test_a_single_draw_is_no_test():
    losses = {"tiny": {"std": 1.0, "ale": 1.1, "random0": 1.3}}
    assert summarised(entries(1), losses)["models"][0]["tests"] == []


def test_two_models_are_combined_exactly():
    losses = {"a": with_draws(2), "b": {**with_draws(2), "ale": 2.005}}
    (together,) = summarised(entries(2), losses)["combined"]
    # Ranks 1 and 2 of 3: of nine pairs, (1, 1), (1, 2) and (2, 1) have a sum of 3 or less.
    assert (together["n"], together["p"], together["smallest_p"]) == (2, pytest.approx(3 / 9), 1 / 9)


def test_the_named_arm_is_ale_else_the_first_plain_choice_by_gradient():
    assert named_selector(entries()) == "ale"
    others = {
        "mod": {"layers": "gradient", "unit": "module"},
        "grad": {"layers": "gradient"},
        "g2": {"layers": "gradient"},
    }
    assert named_selector(others) == "grad"
    assert named_selector({"ale": {"layers": "last"}}) is None


def test_keys_that_a_choice_does_not_read_are_none():
    made = choice("last", {"layers": "last", "budget_percent": 50, "score": "l2", "draw": 0})
    assert (made.kind, made.score, made.draw, made.budget_percent) == ("control", None, None, 50)


HALVES = {("tiny", "ale", 1): selection([6, 7, 8, 9, 10, 11]), ("tiny", "random0", 1): selection([0, 2, 4, 6, 8, 10])}


def test_times_are_those_of_the_cost_model_and_charge_the_probe():
    model = summarised(entries(1), {"tiny": with_draws(1)}, selections=HALVES)["models"][0]
    # Of 48 s: 12 fixed, 12 forward, 6 backward, 6 adapters; the draw's backward pass goes down to layer 0.
    assert model["clock"] == "cost model"
    assert model["arms"]["ale"]["step_predicted"] == pytest.approx(36 / 48)
    assert model["arms"]["random0"]["step_predicted"] == pytest.approx(42 / 48)
    probe = 4.8 / (40 * 48)
    assert model["arms"]["ale"]["probe_percent"] == pytest.approx(100 * probe)
    assert model["arms"]["ale"]["run_time"] == pytest.approx(36 / 48 + probe)
    assert model["arms"]["std"]["run_time"] == 1


def test_times_measured_in_turns_go_before_the_cost_model():
    ledger = turned({"tiny": {"family": "f", "std": 100.0, "ale": 80.0}})
    arms = entries(0, cm={"layers": "gradient", "steps": "measured"})
    campaign = [{**section(arms, "tiny")[0], "name": "synthetic"}]
    found = summarise_controls(campaign, Evidence(ledger, attributions={"tiny": attribution()}))
    (model,) = found["campaigns"][0]["models"]
    own = model["arms"]["ale"]
    # In turns a step of ale took 0.702, 0.703 and 0.709 of std's, and its probe 2 of the 40 seconds of a standard run.
    assert model["clock"] == "in turns"
    assert own["step_measured"]["mean"] == pytest.approx((0.702 * 0.703 * 0.709) ** (1 / 3), rel=1e-9)
    assert (own["step_measured"]["n"], own["step_measured"]["unit"]) == (3, "seed")
    assert own["probe_percent"] == pytest.approx(100 * 2 / 40, rel=0.01)
    assert own["run_time"] == pytest.approx(own["step_measured"]["mean"] + own["probe_percent"] / 100)


def test_a_model_without_runs_in_the_ledger_is_one_sentence():
    with pytest.raises(UserError, match=r"^controls: expected runs of other in campaign half"):
        summarise_controls(section(entries(1), "other"), evidence({"tiny": with_draws(1)}))


def test_without_costs_or_turns_no_time_is_said():
    model = summarised(entries(1), {"tiny": with_draws(1)}, selections=HALVES, costs=False)["models"][0]
    assert model["clock"] is None
    assert all(own["run_time"] is None and own["probe_percent"] is None for own in model["arms"].values())


def test_a_recipe_that_the_cost_model_does_not_know_has_no_time():
    arms = entries(1, small={"layers": "all", "batch_size": 1})
    model = summarised(arms, {"tiny": with_draws(1, small=1.8)}, selections=HALVES)["models"][0]
    assert model["arms"]["small"]["run_time"] is None


CURVES = {
    "std": [(0, 3.0), (20, 2.0), (40, 1.9)],
    "ale": [(0, 3.0), (20, 2.1), (40, 1.95)],
    "random0": [(0, 3.0), (20, 2.2), (40, 2.0)],
}


def test_losses_at_the_time_of_the_gradient_arm_are_read_off_the_curves():
    model = summarised(entries(1), {"tiny": with_draws(1)}, selections=HALVES, curves=CURVES)["models"][0]
    budget = 36 / 48 + 4.8 / (40 * 48)
    at = {arm: own["at_equal_time"] for arm, own in model["arms"].items()}
    assert at["ale"]["mean"] == 1.95
    assert not at["ale"]["ended"]
    assert at["std"]["mean"] == pytest.approx(2.0 - 0.1 * (40 * budget - 20) / 20)
    assert at["random0"]["mean"] == pytest.approx(2.2 - 0.2 * (40 * budget / (42 / 48) - 20) / 20)


def test_an_arm_that_takes_less_time_in_all_is_taken_at_its_end_and_marked():
    short = {"random0": {"steps": 20, "step": 20}}
    curves = {**CURVES, "random0": CURVES["random0"][:2]}
    found = summarised(entries(1), {"tiny": with_draws(1)}, selections=HALVES, curves=curves, changes=short)
    equal = found["models"][0]["arms"]["random0"]["at_equal_time"]
    assert (equal["mean"], equal["ended"]) == (2.2, True)


def test_the_time_to_stds_loss_is_interpolated_and_none_where_it_is_not_reached():
    curves = {**CURVES, "ale": [(0, 3.0), (20, 2.0), (40, 1.8)]}
    model = summarised(entries(1), {"tiny": with_draws(1)}, selections=HALVES, curves=curves)["models"][0]
    reached = {arm: own["time_to_std_loss"] for arm, own in model["arms"].items()}
    assert reached["ale"]["mean"] == pytest.approx(30 / 40 * 36 / 48 + 4.8 / (40 * 48))
    assert reached["std"]["mean"] == 1
    assert (reached["random0"]["mean"], reached["random0"]["n"], reached["random0"]["planned"]) == (None, 0, 1)


def test_overlap_is_by_hand_and_its_expectation_by_going_through_all_pairs():
    picked = {("tiny", "ale", 1): selection([0, 1]), ("tiny", "last", 1): selection([1, 2, 3])}
    losses = {"tiny": {"std": 1.0, "ale": 1.0, "last": 1.0}}
    (pair,) = summarised(entries(0, last={"layers": "last"}), losses, selections=picked)["models"][0]["overlap"]["arms"]
    everything = [
        len({*a} & {*b}) / len({*a} | {*b})
        for a in itertools.combinations(range(LAYERS), 2)
        for b in itertools.combinations(range(LAYERS), 3)
    ]
    assert (pair["first"], pair["second"], pair["unit"], pair["jaccard"]) == ("ale", "last", "layer", 1 / 4)
    assert pair["expected"] == pytest.approx(sum(everything) / len(everything))


def test_modules_are_compared_where_an_arm_chooses_modules():
    own = selection([0, 1], target_modules=["layers.0.q_proj", "layers.1.down_proj"])
    picked = {("tiny", "ale", 1): selection([0]), ("tiny", "mod", 1): own}
    arms = entries(0, mod={"layers": "gradient", "unit": "module"})
    (pair,) = summarised(arms, {"tiny": {"std": 1.0, "ale": 1.0, "mod": 1.0}}, selections=picked)["models"][0][
        "overlap"
    ]["arms"]
    assert (pair["unit"], pair["jaccard"]) == ("module", 1 / 3)


def test_one_arm_is_compared_with_itself_between_seeds():
    picked = {("tiny", "ale", seed): selection(layers) for seed, layers in ((1, [0, 1]), (2, [1, 2]), (3, [0, 1]))}
    model = summarised(entries(0), {"tiny": {"std": 1.0, "ale": 1.0}}, seeds=(1, 2, 3), selections=picked)["models"][0]
    (own,) = model["overlap"]["seeds"]
    assert (own["n"], own["jaccard"], own["least"]) == (3, pytest.approx((1 / 3 + 1 / 3 + 1) / 3), 1 / 3)


@pytest.mark.parametrize(
    ("what", "changes", "holds", "own"),
    [
        ("layers", {}, True, 6),
        ("layers", {"placement": {"layers": [1], "layers_total": LAYERS, "lowest_layer": 1}}, False, 1),
        ("parameters", {"trainable_parameters": 5999}, False, 5999),
        ("parameters", {"trainable_parameters": None}, None, None),
    ],
)
def test_claims_of_equal_budgets_hold_exactly_or_not(what, changes, holds, own):
    arms = entries(0, twin={"layers": "first", "equal": {what: "ale"}})
    losses = {"tiny": {"std": 1.0, "ale": 1.0, "twin": 1.2}}
    (claim,) = summarised(arms, losses, changes={"twin": changes})["models"][0]["claims"]
    assert (claim["holds"], claim["own"]) == (holds, own)
    assert claim["loss_difference"]["mean"] == pytest.approx(0.2)


@pytest.mark.parametrize(("steps", "holds"), [(34, True), (40, False)])
def test_equal_seconds_hold_within_five_percent(steps, holds):
    arms = entries(1, longer={"layers": "every_other", "equal": {"seconds": "ale", "layers": "ale"}})
    picked = {**HALVES, ("tiny", "longer", 1): selection([0, 2, 4, 6, 8, 10])}
    changes = {"longer": {"steps": steps, "step": steps}}
    losses = {"tiny": with_draws(1, longer=1.9)}
    first, second = summarised(arms, losses, selections=picked, changes=changes)["models"][0]["claims"]
    assert (first["what"], first["holds"], second["what"]) == ("seconds", holds, "layers")
    assert first["own"] == pytest.approx(steps / 40 * 42 / 48)


def test_equal_seconds_without_times_are_not_known():
    arms = entries(1, longer={"layers": "last", "equal": {"seconds": "ale"}})
    (claim,) = summarised(arms, {"tiny": with_draws(1, longer=1.9)}, costs=False)["models"][0]["claims"]
    assert claim["holds"] is None


def test_several_seeds_give_paired_differences_with_an_interval():
    losses = {"tiny": {"std": (1.0, 2.0, 3.0), "ale": (1.1, 2.2, 3.3)}}
    own = summarised(entries(0), losses, seeds=(1, 2, 3))["models"][0]["arms"]["ale"]["to_std"]
    assert (own["n"], own["mean"], own["sd"]) == (3, pytest.approx(0.2), pytest.approx(0.1))
    assert own["low"] == pytest.approx(0.2 - 4.302653 * 0.1 / 3**0.5, rel=1e-6)


def test_a_failed_attribution_predicts_nothing():
    losses = {"tiny": with_draws(1)}
    made = evidence(losses, selections=HALVES)
    made.attributions["tiny"]["cost_model"] = None
    found = summarise_controls(section(entries(1), "tiny"), made)["campaigns"][0]["models"][0]
    assert found["clock"] is None
    assert attribution()["cost_model"]
