"""What is predicted before training: lowest layers, cut passes, ranges of times, and what it does not claim."""

import json

import pytest

from aletheia.provenance.lineage import ROOT
from aletheia.report.fit_prediction import predicted_saving
from aletheia.timing.predicted_saving import predicted_run
from controlled_study import attribution, selection
from ledgers import LAYERS

UPPER = list(range(LAYERS // 2, LAYERS))


def of_smollm(layers):
    return selection(layers, layers_total=30)


MEASURED = json.loads((ROOT / "benchmarks" / "training.json").read_text(encoding="utf-8"))
CHOICES = {
    "gradient_half": of_smollm(MEASURED["gradient_layers"]),
    "last_half": of_smollm(list(range(15, 30))),
    "last_third": of_smollm(list(range(20, 30))),
}


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("choice", ["gradient_half", "last_half"])
def test_the_range_of_a_step_holds_what_was_measured_on_a_small_model(choice, recomputed):
    """Within the measurement's own interval."""
    how = ", checkpointing" if recomputed else ""
    found = MEASURED["ratios"][f"all{how} / {choice}{how}"]
    step = predicted_run(CHOICES[choice], epochs=1, recomputed=recomputed).step
    assert step.low <= 1 / found["low"]
    assert 1 / found["high"] <= step.high


@pytest.mark.parametrize("choice", ["last_half", "last_third"])
def test_the_range_from_the_second_epoch_on_holds_what_was_measured(choice):
    found, later = MEASURED[f"prefix_{choice}"], predicted_run(CHOICES[choice], epochs=3).later
    assert later.low <= 1 / found["low"]
    assert 1 / found["high"] <= later.high


def test_measured_costs_give_a_number_in_place_of_a_range():
    """Of 48 s with all layers: six layers' backward pass and six layers' adapters are not there."""
    run = predicted_run(selection(UPPER), epochs=2, attribution=attribution())
    assert run.step.low == run.step.high == pytest.approx(36 / 48)
    assert run.later.low == pytest.approx(30 / 48)
    assert run.run.low == pytest.approx((36 + 30) / 2 / 48)
    failed = {**attribution(), "status": "crashed", "cost_model": None}
    assert predicted_run(selection(UPPER), epochs=2, attribution=failed).step.low < 36 / 48


def test_recomputed_activations_make_a_cut_pass_worth_more():
    plain, recomputed = (predicted_run(selection(UPPER), epochs=1, recomputed=value) for value in (False, True))
    assert recomputed.step.high < plain.step.high


def test_modules_of_a_layer_count_as_their_share():
    names = [f"layers.{layer}.q_proj" for layer in UPPER] + ["layers.11.down_proj"]
    chosen = selection(UPPER, unit="module", target_modules=names)
    assert predicted_run(chosen, epochs=1).shape.adapted == 3.5


def some_modules(*kinds):
    """What would be the selection of an arm with some of seven modules in each of 30 layers."""
    names = [f"layers.{layer}.{kind}" for layer in range(30) for kind in kinds]
    return {**of_smollm(list(range(30))), "unit": "module", "target_modules": names}


def test_fewer_modules_in_all_layers_save_their_adapters_alone():
    """Three of seven modules: at most 3.75 − 4/7 · 1.75 of 3.75 passes a layer, at least all of them."""
    chosen = some_modules("gate_proj", "up_proj", "down_proj")
    run = predicted_run(chosen, epochs=3, modules_total=210)
    assert run.shape.adapted == pytest.approx(30 * 3 / 7)
    assert (run.step.low, run.step.high) == (pytest.approx(2.75 / 3.75), 1.0)
    assert run.later == run.run == run.step
    text = predicted_saving({"std": None, "mlp": chosen}, epochs=3, modules_total=210)
    assert "mlp: gate_proj, up_proj, down_proj of all 30 layers, so nothing of the backward pass is cut" in text
    assert "the other modules have no adapters; a step takes 73 to 100 % of standard LoRA's time" in text


def test_layer_0_is_said_to_cut_nothing_and_to_leave_nothing_to_read_back():
    text = predicted_saving({"std": None, "ale": CHOICES["gradient_half"]}, epochs=3)
    assert "ale: 15 layers from 0 to 29 of 30; the lowest is layer 0" in text
    assert "layer 0 is among them, so nothing of the backward pass is cut: only absent adapters are saved" in text
    assert "from the second epoch on nothing more: below layer 0 there is nothing that could be kept" in text
    assert "a step takes 77 to 100 % of standard LoRA's time" in text


def test_the_last_half_is_said_to_cut_half_of_the_pass_and_to_be_read_back():
    text = predicted_saving({"ale": CHOICES["last_half"]}, epochs=3)
    assert "the backward pass stops there: 50 % of it is cut" in text
    assert "from the second epoch on the 15 layers below are read back, not computed: 50 to 56 %" in text
    assert "over 3 epochs together 54 to 63 %" in text
    assert "read back" not in predicted_saving({"ale": CHOICES["last_half"]}, epochs=1)
    assert "prefix_cache is off" in predicted_saving({"ale": CHOICES["last_half"]}, epochs=3, prefix_cache=False)


def test_seconds_are_predicted_where_a_step_is_known_and_nowhere_else():
    arms = {"std": None, "ale": selection(UPPER)}
    told = {"epochs": 1, "steps": 60, "attribution": attribution()}
    # A standard run takes 60 s, the other 45 s.
    assert "all trainings: about 105 s, " in predicted_saving(arms, **told, step_seconds=1.0)
    assert "all trainings: about 4.5 minutes, " in predicted_saving(
        arms, **told, step_seconds=1.0, seeds=2, further_runs=1
    )
    assert "trainings" not in predicted_saving(arms, **told)
    probed = predicted_saving(arms, **told, step_seconds=1.0, probe_seconds=3.0)
    assert "the probe took 3.0 s, 5.0 % of a standard run, which it has to save first" in probed


def test_what_was_not_measured_is_said_and_losses_are_not_predicted():
    ranged, measured = (
        predicted_saving({"ale": selection(UPPER)}, attribution=costs) for costs in (None, attribution())
    )
    assert "These are ranges, since what adapters and head weigh on this machine is not known" in ranged
    assert "Step costs are those measured on this machine." in measured
    assert all("Nothing here says what choosing layers does to the loss" in text for text in (ranged, measured))


def test_arms_without_a_choice_are_told_as_such():
    failed = {**selection(UPPER), "status": "diverged", "reason": "not finite", "layers": [], "lowest_layer": None}
    text = predicted_saving({"std": None, "ale": failed, "v_o_down": None})
    assert "ale: no layers could be chosen (not finite)" in text
    assert "v_o_down: adapters in all layers, so nothing is cut short" in text
    assert "std" not in text.replace("standard", "")
