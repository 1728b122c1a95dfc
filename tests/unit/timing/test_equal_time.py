"""Steps by equal time: the ratio of two arms' step costs, by the formula written out, or why there is none."""

from __future__ import annotations

import pytest

from aletheia.errors import UserError
from aletheia.study.schema import section_defaults
from aletheia.timing.equal_time import ratio_of, time_ratio
from aletheia.timing.step_cost import FORMULA, PARTS, Shape
from aletheia.training.run import execute
from aletheia.training.run_inputs import RunInputs
from aletheia.training.trainer import TimeRatio, planned_steps
from ledgers import sealed

# Seconds of a step. A step with all four layers at rank 2 takes 1 + 4·1 + 4·1 + 4·(0.5 + 2·0.25) = 13.
COSTS = {"fixed": 1.0, "forward": 1.0, "backward": 1.0, "adapter": 0.5, "adapter_rank": 0.25}
ALL = Shape(layers_total=4, adapted=4, lowest=0, rank=2, recomputed=False)
LAST = Shape(layers_total=4, adapted=2, lowest=2, rank=2, recomputed=False)  # 1 + 4 + 2 + 2·1 = 9
HALF = {"seconds_of": "ale"}


def attribution(changes=None, **facts):
    """Return the payload of an attribution, of these costs with some changed; of failed calibration without any."""
    parts = {**COSTS, **(changes or {})}
    estimates = {
        name: None if parts[name] is None else dict.fromkeys(("value", "low", "high"), parts[name]) for name in PARTS
    }
    fitted = {"formula": FORMULA, "calibrated_on": [], "seconds_per_step": estimates, "negative": []}
    return {
        **{"mode": "interleaved", "about": "By hand.", "model": "tiny", "seed": 1, "status": "ok", "reason": None},
        **{"dtype": "fp32", "quantization": None, "gradient_checkpointing": False, "rounds": 2, "steps_per_round": 1},
        **{"warmup_rounds": 1, "micro_batches": 1, "batch_plan_sha256": None, "positions": None, "layers_total": 4},
        **{"positions_per_step": 64.0, "cost_model": fitted, "fit": None, "arms": {}},
        **facts,
    }


def test_the_ratio_is_that_of_the_two_step_times():
    assert ratio_of(attribution(), own=LAST, timed=ALL) == TimeRatio(13 / 9)
    assert ratio_of(attribution(), own=ALL, timed=LAST) == TimeRatio(9 / 13)
    assert ratio_of(attribution({"forward": None}), own=ALL, timed=ALL) == TimeRatio(1.0)


@pytest.mark.parametrize(("ratio", "steps"), [(13 / 9, 14), (9 / 13, 6), (1.0, 10), (0.01, 1)])
def test_steps_take_no_longer_than_the_other_arm_s_and_are_one_at_least(ratio, steps):
    """Ten steps of 13 s are 130 s, which buys 14 steps of 9 s."""
    assert planned_steps({"steps": 10}, {"layers": "all", "steps": HALF}, time_ratio=TimeRatio(ratio)) == steps


@pytest.mark.parametrize(
    ("costs", "own", "reason"),
    [
        (attribution(cost_model=None, status="crashed", reason="out of luck"), LAST, "(crashed: out of luck)"),
        (attribution({"forward": None}), Shape(4, 4, 0, 2, recomputed=True), "do not tell checkpointing"),
        (attribution({"fixed": -9.5}), LAST, "a step would take no time"),
    ],
)
def test_costs_that_say_nothing_are_a_reason(costs, own, reason):
    found = ratio_of(costs, own=own, timed=ALL)
    assert found.value is None
    assert reason in found.reason


@pytest.mark.parametrize("selected", [True, False])
def test_an_arm_without_a_selection_adapts_all_layers(tmp_path, selected):
    """Its ranks are those of its own settings, by the modules of the model's lock."""
    names = [{"attention": [f"layers.{i}.q_proj"], "mlp": [f"layers.{i}.up_proj"], "experts": []} for i in range(4)]
    model = {
        "model": "tiny",
        "source": {"type": "random"},
        "revision": None,
        "files": {"x": {"sha256": "0" * 64, "bytes": 1}},
        "parameters": 1,
        "layers": 4,
    }
    lock = sealed(
        tmp_path / "tiny.lock.json", "model_lock", {**model, "family": "llama", "licence": None, "adaptable": names}
    )
    costs = sealed(tmp_path / "costs.json", "attribution", attribution())
    adapter = {"modules": "all", "rank": 2, "alpha": 4}
    selection = {
        **{
            "status": "ok",
            "reason": None,
            "method": "last",
            "reads": "nothing",
            "unit": "layer",
            "predicted_step_percent": None,
            "score": None,
            "budget_percent": 50,
        },
        **{"layers": [3], "lowest_layer": 3, "layers_total": 4, "target_modules": [], "target_parameters": []},
        **{"rank_pattern": {"a": 2, "b": 2}, "alpha_pattern": {}},
        **dict.fromkeys(("held_norm_share", "held_squared_share", "margin_at_cut")),
    }
    own = sealed(tmp_path / "own.json", "selection", selection) if selected else None
    wider = {**HALF, "adapter": {**adapter, "rank": 8, "alpha": 8}, "gradient_checkpointing": False}
    config = {"arm": {"steps": wider}, "adapter": adapter, "training": {"gradient_checkpointing": False}}
    found = time_ratio(costs, config, lock, selection=own, timed_selection=None)
    # All layers at rank 8, 1 + 4 + 4 + 4·2.5; the last one at rank 2, 1 + 4 + 1 + 1, or all of them.
    assert found.value == pytest.approx(19 / (7 if selected else 13))


def test_a_run_without_costs_is_refused():
    with pytest.raises(UserError, match=r"seconds_of needs the model's step costs; give its attribution \(--costs\)"):
        planned_steps({"steps": 10}, {"layers": "all", "steps": HALF})


@pytest.mark.parametrize(("ratio", "reason"), [(0.1, "only 4 steps fit"), (0.01, "only 1 step fits")])
def test_steps_that_all_warm_up_are_a_run_that_says_so(ratio, reason):
    """Else it would train at a part of its rate, and nobody would know."""
    config = {
        "run": {"model": "tiny", "arm": "half"},
        "model": {"dtype": "fp32", "quantization": None},
        "arm": {"layers": "all", "steps": HALF},
        "training": {**section_defaults("training"), "steps": 40, "warmup_steps": 4},
    }
    # It ends before anything is read.
    inputs = RunInputs(model_lock="none.lock.json", data_lock="none.lock.json", seed=1)
    found = execute(inputs, config, None, time_ratio=TimeRatio(ratio))
    assert found.record.status == "crashed"
    assert reason in found.record.reason
    assert "training.warmup_steps=4 takes them all" in found.record.reason
