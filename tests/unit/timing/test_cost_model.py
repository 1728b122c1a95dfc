"""The cost model finds the costs that made the times, and splits a saving into its causes."""

import dataclasses
import functools

import matplotlib as mpl
import numpy as np
import pytest

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.report import attribution_figure, plot_style
from aletheia.timing.rounds import Turns, interval, resampled_rounds
from aletheia.timing.step_attribution import CALIBRATING, PREDICTED, SWITCHED, arms, attribution, scaled_rank
from aletheia.timing.step_cost import PARTS, CostModel, Shape, calibrate
from aletheia.timing.step_prediction import step_costs
from conftest import run_script
from reports import STYLE, words

COSTS = {"fixed": 3e-4, "forward": 2e-5, "backward": 1.5e-5, "adapter": 4e-6, "adapter_rank": 1e-7}
LAYERS, RANK = 30, 16
GRADIENT = [*range(6, 12), *range(20, 29)]
LINEAGE = {"inputs": {}, "code": {}, "config": {}, "environment": {"python": "3", "packages": {}}}
LINEAGE |= {"commit": None, "dirty": False}


def by_hand(arm, rank, positions):
    """Return seconds of a step, with the formula written out."""
    differentiated = LAYERS - min(arm.layers)
    seconds = COSTS["fixed"] + LAYERS * COSTS["forward"] + differentiated * COSTS["backward"]
    seconds += differentiated * COSTS["forward"] if arm.recomputed else 0
    for _ in arm.layers:
        seconds += COSTS["adapter"] + rank * COSTS["adapter_rank"]
    return positions * seconds


def synthetic(*, recomputed=False, rounds=4, noise=0.0, failed=()):
    """Return shapes, turns and positions of arms whose times the formula made; each round is a quarter slower."""
    generator = np.random.default_rng(7)
    planned = arms(LAYERS, GRADIENT, recomputed=recomputed)
    positions = (256 + 16 * np.arange(rounds * 2).reshape(rounds, 2)).tolist()
    shapes, turns = {}, {}
    for name, arm in planned.items():
        rank = scaled_rank(RANK, arm.rank_factor)
        shapes[name] = Shape(LAYERS, len(arm.layers), min(arm.layers), rank, arm.recomputed)
        seconds = [[by_hand(arm, rank, n) for n in block] for block in positions]
        scale = 1 + noise * generator.standard_normal((rounds, 1))
        turns[name] = Turns(step_seconds=(np.array(seconds) * scale).tolist())
        if name in failed:
            turns[name] = Turns("out_of_memory", "out of memory")
    return shapes, turns, positions


def payload(**changes):
    """Return a payload of the attribution's schema from synthetic times."""
    shapes, turns, positions = synthetic(**changes)
    found = attribution(shapes, turns, positions)
    own = {
        name: {
            **{k: value for k, value in dataclasses.asdict(turns[name]).items() if k != "placement"},
            **{"frozen_layers": shapes[name].lowest, "trainable_parameters": 1, "layers": [shapes[name].lowest]},
            **{"lowest_layer": shapes[name].lowest, "rank": shapes[name].rank},
            "gradient_checkpointing": shapes[name].recomputed,
        }
        for name in shapes
    }
    facts = {"mode": "interleaved", "about": "x", "model": "m", "seed": 1, "status": "ok", "reason": None}
    facts |= {"dtype": "bf16", "quantization": None, "gradient_checkpointing": changes.get("recomputed", False)}
    facts |= {"rounds": 4, "steps_per_round": 2, "warmup_rounds": 1, "micro_batches": 20, "batch_plan_sha256": "0" * 64}
    facts |= {"positions": positions, "layers_total": LAYERS}
    return {**facts, **found, "arms": {name: {**own[name], **entry} for name, entry in found["arms"].items()}}


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_costs_that_made_the_times_are_found_again(recomputed):
    planned = arms(LAYERS, GRADIENT, recomputed=recomputed)
    shapes = {
        n: Shape(LAYERS, len(a.layers), min(a.layers), RANK * a.rank_factor, a.recomputed) for n, a in planned.items()
    }
    seconds = [by_hand(planned[name], shapes[name].rank, 1) for name in CALIBRATING]
    model = calibrate([shapes[name] for name in CALIBRATING], seconds)
    assert vars(model) == pytest.approx(COSTS, rel=1e-9)
    for name in PREDICTED:
        assert model.seconds(shapes[name], 512) == pytest.approx(
            by_hand(planned[name], shapes[name].rank, 512), rel=1e-9
        )


def test_without_the_switched_arm_the_forward_pass_is_not_told_apart_and_predictions_stay():
    planned = arms(LAYERS, GRADIENT, recomputed=True)
    shapes = {
        n: Shape(LAYERS, len(a.layers), min(a.layers), RANK * a.rank_factor, a.recomputed) for n, a in planned.items()
    }
    names = [name for name in CALIBRATING if name != SWITCHED]
    model = calibrate([shapes[n] for n in names], [by_hand(planned[n], shapes[n].rank, 1) for n in names])
    assert model.forward is None
    assert model.backward == pytest.approx(COSTS["backward"] + COSTS["forward"], rel=1e-9)
    assert model.fixed == pytest.approx(COSTS["fixed"] + LAYERS * COSTS["forward"], rel=1e-9)
    for name in PREDICTED:
        assert model.seconds(shapes[name], 1) == pytest.approx(by_hand(planned[name], shapes[name].rank, 1), rel=1e-9)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_arms_that_do_not_tell_the_parts_apart_are_refused(keep):
    shapes = [Shape(30, 30, 0, 16, False), Shape(30, 1, 0, 16, False), Shape(30, 1, 29, 16, False)][:keep]
    with pytest.raises(UserError, match="expected arms that tell fixed, backward, adapter, adapter_rank apart"):
        calibrate(shapes, [1.0] * keep)


def test_a_saving_is_the_difference_of_the_predictions():
    model = CostModel(**COSTS)
    whole, arm = Shape(30, 30, 0, 16, True), Shape(30, 15, 6, 8, True)
    saving = model.saving(whole, arm, 100)
    assert saving["truncated_backward"] == pytest.approx(100 * 6 * (1.5e-5 + 2e-5))
    assert saving["absent_adapters"] == pytest.approx(100 * (30 * 5.6e-6 - 15 * 4.8e-6))
    assert sum(saving.values()) == pytest.approx(model.seconds(whole, 100) - model.seconds(arm, 100))


@pytest.mark.parametrize("recomputed", [False, True])
def test_an_attribution_of_exact_times_explains_all_of_every_saving(recomputed):
    shapes, turns, positions = synthetic(recomputed=recomputed)
    found = attribution(shapes, turns, positions)
    assert found["positions_per_step"] == np.mean(positions)
    parts = found["cost_model"]["seconds_per_step"]
    for name in PARTS:
        assert parts[name]["value"] == pytest.approx(COSTS[name] * np.mean(positions), rel=1e-6)
    assert found["cost_model"]["negative"] == []
    assert set(found["fit"]["arms"]) == set(PREDICTED) - {"all"}
    assert found["fit"]["mean_absolute_error_percent"]["high"] == pytest.approx(0, abs=1e-6)
    whole = found["arms"]["all"]["measured_seconds"]["value"]
    again = COSTS["forward"] if recomputed else 0.0
    expected = {
        # Layers below the lowest; adapters fewer than 30 of rank 16, as though all had rank 16.
        "gradient50": (6, 15 * (4e-6 + 1.6e-6)),
        "last50": (15, 15 * (4e-6 + 1.6e-6)),
        "last50_with_layer0": (0, 15 * (4e-6 + 1.6e-6)),
        "every_other": (0, 15 * (4e-6 + 1.6e-6)),
        "rank_halved": (0, 30 * 0.8e-6),
    }
    for name, (frozen, adapters) in expected.items():
        saving = {cause: own["seconds"]["value"] for cause, own in found["arms"][name]["saving"].items()}
        step = np.mean(positions)
        assert saving["truncated_backward"] == pytest.approx(frozen * (COSTS["backward"] + again) * step, abs=1e-9)
        assert saving["absent_adapters"] == pytest.approx(adapters * step, abs=1e-9)
        assert saving["unexplained"] == pytest.approx(0, abs=1e-9)
        percent = found["arms"][name]["saving"]["measured"]["percent"]["value"]
        assert percent == pytest.approx(100 * saving["measured"] / whole)


def test_noise_leaves_the_parts_of_a_saving_adding_up_and_intervals_around_them():
    found = attribution(*synthetic(noise=0.05, rounds=6))
    for name in set(PREDICTED) - {"all"}:
        saving = found["arms"][name]["saving"]
        parts = [
            saving[cause]["percent"]["value"] for cause in ("truncated_backward", "absent_adapters", "unexplained")
        ]
        assert sum(parts) == pytest.approx(saving["measured"]["percent"]["value"])
        assert saving["measured"]["percent"]["low"] < saving["measured"]["percent"]["high"]
    # Calibrated on as many arms as it has parts, among them this one.
    assert found["arms"]["all"]["error_percent"]["value"] == pytest.approx(0, abs=1e-9)


def test_parts_that_noise_makes_negative_are_named_and_left():
    shapes, turns, positions = synthetic()
    # Adapters that seem to cost less than nothing: one layer's takes longer than all thirty.
    turns["first_layer_alone"].step_seconds = (2 * np.array(turns["all"].step_seconds)).tolist()
    found = attribution(shapes, turns, positions)
    assert "adapter" in found["cost_model"]["negative"]
    assert found["cost_model"]["seconds_per_step"]["adapter"]["value"] < 0
    assert found["arms"]["last50"]["saving"]["absent_adapters"]["percent"]["value"] < 0


def test_an_arm_that_failed_takes_only_what_needs_it_along():
    found = attribution(*synthetic(failed=["every_other"]))
    assert found["arms"]["every_other"]["measured_seconds"] is None
    assert found["arms"]["every_other"]["saving"] is None
    assert found["arms"]["every_other"]["predicted_seconds"]["value"] > 0
    assert "every_other" not in found["fit"]["arms"]
    without_switched = attribution(*synthetic(failed=[SWITCHED]))
    assert without_switched["cost_model"]["seconds_per_step"]["forward"] is None
    assert without_switched["arms"][SWITCHED]["predicted_seconds"] is None
    assert without_switched["fit"]["mean_absolute_error_percent"]["value"] == pytest.approx(0, abs=1e-6)
    uncalibrated = attribution(*synthetic(failed=["rank_doubled"]))
    assert uncalibrated["cost_model"] is None
    assert uncalibrated["fit"] is None
    assert set(uncalibrated["arms"]["last50"]["saving"]) == {"measured"}


@pytest.mark.slow
@pytest.mark.parametrize("failed", [(), ["every_other"], [SWITCHED], ["rank_doubled"], ["all"]])
def test_every_outcome_fits_its_schema_and_can_be_drawn(failed, tmp_path):
    one = payload(failed=failed, noise=0.02)
    envelope = artifacts.make_envelope("attribution", one, {}, {}, tmp_path / "x.json")
    assert artifacts.canonical_bytes(envelope)
    for found in ([one], [one, {**payload(noise=0.02), "model": "other"}], []):
        with mpl.rc_context(plot_style.rc(STYLE)):
            figure = attribution_figure.plot_attribution(found, STYLE)
            plot_style.save(figure, tmp_path / "figS3.svg")
            plot_style.save(figure, tmp_path / "figS3.pdf")
        if "all" in failed or "rank_doubled" in failed:
            nothing = len(found) < 2
            assert ("No model's arms could be measured" if nothing else "Not measured: m") in words(figure)


@pytest.mark.parametrize("failed", [(), [SWITCHED]])
@pytest.mark.parametrize("recomputed", [False, True])
def test_costs_for_choosing_layers_are_the_attributions_own_predictions(recomputed, failed):
    one = payload(recomputed=recomputed, failed=failed)
    costs = step_costs({**one, "status": "ok"})
    for name in PREDICTED:
        planned = arms(LAYERS, GRADIENT, recomputed=recomputed)[name]
        found = costs.seconds(min(planned.layers), len(planned.layers), RANK * planned.rank_factor)
        assert found == pytest.approx(one["arms"][name]["predicted_seconds"]["value"], rel=1e-6)
    share = costs.percent_of_all(lowest=15, adapted=15, rank=RANK)
    ratio = one["arms"]["last50"]["predicted_seconds"]["value"] / one["arms"]["all"]["predicted_seconds"]["value"]
    assert share == pytest.approx(100 * ratio, rel=1e-6)


def test_adapters_that_seem_to_cost_less_than_nothing_cost_nothing():
    one = payload()
    parts = one["cost_model"]["seconds_per_step"]
    parts["adapter"]["value"] = -5.0
    costs = step_costs(one)
    assert costs.seconds(3, 5, RANK) == costs.seconds(3, 1, RANK) > 0
    # A negative part alone is none where a layer's adapters cost something together.
    parts["adapter"]["value"], parts["adapter_rank"]["value"] = 1.0, -0.01
    assert step_costs(one).seconds(3, 5, RANK) - step_costs(one).seconds(3, 1, RANK) == pytest.approx(4 * 0.84)


def test_an_attribution_that_failed_gives_no_costs():
    crashed = step_costs(
        {**payload(failed=["rank_doubled"]), "status": "out_of_memory", "reason": "rank_doubled: none"}
    )
    assert (crashed.status, crashed.reason, crashed.seconds) == (
        "out_of_memory",
        "attribution: rank_doubled: none",
        None,
    )
    assert crashed.layers_total == LAYERS
    assert step_costs({**payload(), "cost_model": None}).status == "crashed"


def test_the_script_predicts_an_arms_step(tmp_path):
    made = functools.partial(
        artifacts.make_envelope, lineage={**LINEAGE, "step": "attribution"}, observed={"ended": "x"}
    )
    costs, out = tmp_path / "attribution.json", tmp_path / "selection.json"
    costs.write_bytes(artifacts.canonical_bytes(made("attribution", payload(), path=costs)))
    names = [{"attention": [f"model.layers.{i}.self_attn.q_proj"], "mlp": [], "experts": []} for i in range(LAYERS)]
    scores = dict.fromkeys(
        ("sum_of_norms", "relative", "gradient_times_weight", "fisher", "normalized", "block_influence"), None
    )
    probed = {"status": "ok", "reason": None, "method": "exact", "dtype": "fp32", "quantization": None}
    probed |= {"layers_total": LAYERS, "losses": [], "per_module": [], "weight_norms": {}, "module_snr": None}
    probed |= {"scores": {**scores, "activation_norm": None, "weight_snr": None, "l2": [1.0] * 29 + [2.0]}}
    probe = tmp_path / "probe.json"
    probe.write_bytes(artifacts.canonical_bytes(made("probe", {**probed, "adaptable": names}, path=probe)))
    arm = ("arm.layers=gradient", "arm.budget_percent=50", "adapter.rank=16", "adapter.alpha=32")
    done = run_script("select_layers.py", "--probe", probe, "--costs", costs, "--seed", 1, "--out", out, "--set", *arm)
    assert done.returncode == 0, done.stderr
    chosen = artifacts.payload(out, "selection")
    assert chosen["layers"] == [*range(14), 29]
    expected = step_costs(payload()).percent_of_all(lowest=0, adapted=15, rank=16)
    assert chosen["predicted_step_percent"] == pytest.approx(expected)


def test_the_arms_have_equal_budgets_and_the_lowest_layers_that_their_names_say():
    for depth in (2, 3, 7, 30):
        half = depth // 2
        planned = arms(depth, list(range(half)), recomputed=False)
        for name in ("gradient50", "last50", "last50_with_layer0", "every_other"):
            assert len(set(planned[name].layers)) == len(planned[name].layers) == half
        assert planned["last50"].layers[0] == depth - half
        assert planned["last50_with_layer0"].layers[0] == 0
        assert [a.recomputed for a in planned.values()].count(True) == 1
    with pytest.raises(UserError, match="expected a model of two layers or more, found 1"):
        arms(1, [0], recomputed=False)
    assert scaled_rank({"attention": 16, "mlp": 1}, 0.5) == {"attention": 8, "mlp": 1}


def test_the_bootstrap_interval_of_a_median_has_about_its_nominal_coverage():
    generator = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        values = generator.standard_normal(40)
        found = interval(np.median(values), np.median(values[resampled_rounds(40)[:999]], axis=1))
        inside += found["low"] <= 0 <= found["high"]
    assert 0.90 <= inside / 200 <= 0.99
