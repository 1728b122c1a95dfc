"""Scores by a few steps of training: the norm of what adapters have added, and a whole step from staged files."""

import json
import math

import pytest
import torch

from aletheia.method.adapters import adapted_modules, attach, placement_plan
from aletheia.method.layers import adaptable_layers, layer_index
from aletheia.provenance import artifacts
from aletheia.training.adapter_updates import OVERFLOWED, layer_updates, module_updates, train_steps
from aletheia.training.run_inputs import RunInputs
from conftest import FAMILIES, run_script, said, tiny_model
from loops import FP16, looped


@pytest.mark.parametrize("scaling", ["standard", "rslora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_update_is_the_norm_of_the_scaled_product(family, scaling):
    model = tiny_model(family)
    plan = placement_plan(adaptable_layers(model), [0, 2], rank={"attention": 3, "mlp": 2}, alpha=5)
    wrapped = attach(model, plan, dropout=0, seed=1, scaling=scaling)
    assert module_updates(wrapped) == dict.fromkeys(plan["rank_pattern"], 0)  # B starts at 0
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    found = module_updates(wrapped)
    formed = {
        name: float(module.get_delta_weight("default").detach().norm()) for name, module in adapted_modules(wrapped)
    }
    assert found == pytest.approx(formed, rel=1e-5)
    assert found.keys() == plan["rank_pattern"].keys()
    layers = layer_updates(found, 3)
    assert layers[1] == 0
    for layer in (0, 2):
        plain = math.sqrt(sum(value**2 for name, value in formed.items() if layer_index(name) == layer))
        assert layers[layer] == pytest.approx(plain, rel=1e-5)


def test_steps_that_overflow_score_nothing():
    loop, _ = looped([0, 1, 2], dtype=FP16)
    loop._scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    losses, failure = train_steps(loop, 3)
    assert (len(losses), failure) == (3, OVERFLOWED)


def test_a_loss_that_is_not_finite_ends_the_steps():
    loop, _ = looped([0, 1, 2])
    with torch.no_grad():
        loop.model.get_output_embeddings().weight[0] = math.inf
    losses, failure = train_steps(loop, 3)
    assert losses == []
    assert failure.startswith("the loss of step 1 is not finite")


@pytest.fixture
def updates(finished, tmp_path):
    """Return a function that runs the step with further settings, and returns its artifact."""

    def measured(*settings):
        places = ["--model-lock", finished / "resources/models/tiny-llama.lock.json", "--seed", 1]
        places += ["--data-lock", finished / "resources/data/rows.lock.json", "--out", tmp_path / "updates.json"]
        common = ("model.dtype=fp32", "encoding.max_tokens=320", "adapter.rank=2", "training.batch_size=2")
        done = run_script("adapter_updates.py", *places, "--set", *common, "probe.update_steps=3", *settings)
        assert done.returncode == 0, said(done)
        return artifacts.read(tmp_path / "updates.json", "probe")

    return measured


@pytest.mark.slow
def test_a_probe_by_training_is_the_first_steps_of_the_standard_arm(finished, updates, tmp_path):
    """The same rows, starting values and rate as of a run by hand without a warm-up, at a constant rate."""
    settings = ("training.schedule=constant", "training.warmup_steps=0", "training.timing_warmup_steps=0")
    probe = updates(*settings)
    payload, observed = probe["payload"], probe["observed"]
    assert (payload["status"], payload["method"], payload["steps"]) == ("ok", "updates", 3)
    places = ["--model-lock", finished / "resources/models/tiny-llama.lock.json", "--seed", 1]
    places += ["--data-lock", finished / "resources/data/rows.lock.json", "--out", tmp_path / "run.json"]
    common = ("model.dtype=fp32", "encoding.max_tokens=320", "adapter.rank=2", "training.batch_size=2")
    given = ("--adapter", tmp_path / "adapter", "--set", *common, *settings, "training.steps=3")
    done = run_script("train.py", *places, *given)
    assert done.returncode == 0, said(done)
    run = json.loads((tmp_path / "run.json").read_text())["payload"]
    assert payload["losses"] == run["train_loss"]
    # Other schedules make no difference, nor do layers that take turns.
    other = updates("training.layers_active={every: 1, count: 1}", "training.warmup_steps=20", "training.steps=40")
    assert other["payload"]["scores"] == payload["scores"]
    assert set(payload["module_update"]) == set(run["placement"]["modules"])
    assert min(payload["scores"]["adapter_update"]) > 0
    assert observed["part_seconds"] == {"updates": observed["probe_seconds"]}


@pytest.mark.slow
def test_layers_are_selected_by_a_probe_by_training(updates, tmp_path):
    scores = updates()["payload"]["scores"]["adapter_update"]
    chosen = ("arm.layers=adapter_update", "arm.budget_percent=50", "adapter.rank=2")
    places = ("--probe", tmp_path / "updates.json", "--seed", 1, "--out", tmp_path / "selection.json")
    done = run_script("select_layers.py", *places, "--set", *chosen)
    assert done.returncode == 0, said(done)
    selection = artifacts.payload(tmp_path / "selection.json", "selection")
    assert selection["layers"] == sorted(sorted(range(4), key=lambda layer: -scores[layer])[:2])


PARTS = {"gradients": 1.0, "activations": 2.0, "weights": None}


@pytest.mark.parametrize(
    ("layers", "parts", "seconds"),
    [
        ("gradient", PARTS, 1.0),
        ("random_same_lowest", PARTS, 1.0),
        ("cost_aware", PARTS, 1.0),
        ("block_influence", PARTS, 2.0),
        ("adapter_update", {"updates": 3.0}, 3.0),
        ("gradient", None, 9.0),
        ([0, 1], PARTS, 9.0),
    ],
)
def test_a_run_pays_for_the_part_of_the_probe_that_its_choice_reads(layers, parts, seconds):
    observed = {"probe_seconds": 9.0} | ({} if parts is None else {"part_seconds": parts})
    envelope = {"schema": "probe", "payload": {}, "observed": observed}
    inputs = RunInputs(model_lock="", data_lock="", seed=1, probe=artifacts.Artifact("probe.json", "", envelope))
    assert inputs.probe_seconds({"layers": layers}) == seconds
    assert RunInputs(model_lock="", data_lock="", seed=1).probe_seconds({"layers": layers}) == 0
