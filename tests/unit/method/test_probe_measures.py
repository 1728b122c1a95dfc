"""What the probe measures beside gradients, against plain passes and plain singular values."""

import copy
import itertools
import json
import math

import jsonschema
import numpy as np
import pytest
import torch

from aletheia.errors import UserError
from aletheia.method import probe_pass
from aletheia.method.activations import ActivationMeter
from aletheia.method.hooks import forward_alone
from aletheia.method.layer_scores import module_scores
from aletheia.method.layers import LAYER_PATH, adaptable_layers
from aletheia.method.probe import compare_methods, probe_layers
from aletheia.method.probe_record import probe_payload
from aletheia.method.selection import selection_payload
from aletheia.method.token_batch import TokenBatch
from aletheia.method.weight_snr import layer_snr, signal_to_noise
from aletheia.provenance.artifacts import payload, read
from conftest import ROOT, random_batch, run_script, tiny_model
from four_bit import dequantised, in_4_bits

FIVE = ("llama", "gpt_neox", "gptj", "mixtral", "phi3")
BATCHES = [random_batch(1, 9, 0), random_batch(1, 14, 1), random_batch(1, 16, 2, padding=5)]
ALL = ("gradients", "activations", "weights")
FINAL_NORM = {"gpt_neox": "final_layer_norm", "gptj": "ln_f"}


def schema(kind):
    return json.loads((ROOT / f"workflow/schemas/{kind}.schema.json").read_text(encoding="utf-8"))


def plain_activations(model, batches, family="llama"):
    """Return (block influence, activation norm) a layer, from the hidden states that transformers gives."""
    model = copy.deepcopy(model)
    # The last hidden state that it gives is behind the final norm.
    setattr(model.base_model, FINAL_NORM.get(family, "norm"), torch.nn.Identity())
    rows = []
    for batch in batches:
        with torch.no_grad():
            states = model.base_model(
                batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
            ).hidden_states
        kept = [h[batch["attention_mask"].bool()].double() for h in states]
        cosines = [
            torch.stack([torch.dot(x, y) / (x.norm() * y.norm()) for x, y in zip(before, after, strict=True)])
            for before, after in itertools.pairwise(kept)
        ]
        rows.append([[1 - c.mean().item() for c in cosines], [h.norm(dim=-1).mean().item() for h in kept[1:]]])
    return np.array(rows).mean(axis=0).tolist()


def activations_equal(probe, reference, abs_=1e-6, rel=1e-5):
    influence, norms = reference
    assert probe.scores("block_influence") == pytest.approx(influence, abs=abs_, rel=rel)
    assert probe.scores("activation_norm") == pytest.approx(norms, rel=rel)


@pytest.mark.parametrize("measure", [("activations",), ALL], ids=["alone", "with-the-others"])
@pytest.mark.parametrize("tokens", [1, 10**6], ids=["a-batch-a-pass", "together"])
@pytest.mark.parametrize("family", FIVE)
def test_activations_are_those_of_the_hidden_states(family, tokens, measure):
    model = tiny_model(family)
    probe = probe_layers(model, BATCHES, tokens_per_pass=tokens, measure=measure)
    activations_equal(probe, plain_activations(model, BATCHES, family))
    assert len(set(probe.scores("block_influence"))) == 3
    if "gradients" in measure:
        alone = probe_layers(tiny_model(family), BATCHES, tokens_per_pass=tokens)
        assert probe.scores("l2") == alone.scores("l2")
        assert probe.losses == alone.losses


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["llama", "gptj", "mixtral"])
def test_gradient_checkpointing_changes_no_activation(family, reentrant):
    model = tiny_model(family)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    probe = probe_layers(model, BATCHES, measure=("gradients", "activations"))
    activations_equal(probe, plain_activations(tiny_model(family), BATCHES, family))


def test_a_layer_that_runs_again_in_a_pass_counts_once():
    """So does a checkpointed one, where the checkpoint is around its hooks."""
    model, batch = tiny_model(), TokenBatch.from_labels(**BATCHES[0])
    again, ran = model.model.layers[1], []

    def run_again(module, inputs, named, _):
        if not ran:
            ran.append(module)
            module(torch.ones_like(inputs[0]), *inputs[1:], **named)

    meter = ActivationMeter(model)
    with meter.attached(), forward_alone(model):
        again.register_forward_hook(run_again, with_kwargs=True)
        meter.begin_pass(batch, 1)
        probe_pass.run_forward(model, batch)
        meter.end_forward()
    assert ran
    influence, norms = plain_activations(tiny_model(), BATCHES[:1])
    assert meter.block_influence == [pytest.approx(influence, abs=1e-6)]
    assert meter.activation_norm == [pytest.approx(norms)]


def layers_of(model):
    return [module for name, module in model.named_modules() if LAYER_PATH.fullmatch(f"{name}.")]


def test_padding_on_the_left_is_left_out_too():
    batch = random_batch(2, 12, 3)
    batch["attention_mask"][0, :5] = 0
    model = tiny_model()
    probe = probe_layers(model, [batch], measure=["activations"])
    activations_equal(probe, plain_activations(model, [batch]))


def test_activations_of_a_model_spread_by_device_map():
    from accelerate import dispatch_model

    model = tiny_model()
    places = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head"), "cpu")
    places |= {f"model.layers.{i}": "cpu" for i in range(3)}
    spread = dispatch_model(model, places, main_device="cpu", force_hooks=True)
    activations_equal(
        probe_layers(spread, BATCHES, measure=("gradients", "activations")), plain_activations(tiny_model(), BATCHES)
    )


@pytest.mark.parametrize("measure", [("activations",), ("gradients", "activations")])
def test_4_bit_models_have_the_activations_of_their_values(nf4_folder, measure):
    model = in_4_bits(nf4_folder)
    kept = {n: p.detach().clone() for n, p in model.named_parameters()}
    probe = probe_layers(model, BATCHES, measure=measure)
    activations_equal(probe, plain_activations(dequantised(nf4_folder, model), BATCHES), abs_=1e-4, rel=1e-3)
    assert all(torch.equal(p, kept[n]) for n, p in model.named_parameters())


def numpy_snr(weight):
    """Spectrum's ratio, by its formula."""
    values = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    sigma = (np.quantile(values, 0.75) - np.quantile(values, 0.25)) / 1.349
    edge = sigma * (1 + math.sqrt(min(weight.shape) / max(weight.shape)))
    signal, noise = values[values > edge].sum(), values[values <= edge].sum()
    return signal / noise / values.max() if noise else math.inf


@pytest.mark.parametrize("family", FIVE)
def test_signal_to_noise_is_that_of_numpys_singular_values(family):
    model = tiny_model(family)
    probe = probe_layers(model, BATCHES, measure=["weights"])
    weights = dict(model.named_parameters())
    layers = adaptable_layers(model)
    expected = {}
    for layer in layers:
        for name in (*layer.attention, *layer.mlp):
            expected[name] = numpy_snr(weights[f"{name}.weight"].detach())
        for name in layer.experts:
            expected[name] = np.mean([numpy_snr(expert) for expert in weights[name].detach()])
    assert probe.module_snr == pytest.approx(expected, rel=1e-4)
    # [layers, modules of a layer]: all layers have the same kinds in the same order.
    table = np.array(list(expected.values())).reshape(3, -1)
    table[:, np.isinf(table).all(axis=0)] = 1
    table = np.minimum(table, np.where(np.isinf(table), 0, table).max(axis=0))
    assert probe.scores("weight_snr") == pytest.approx((table / table.mean(axis=0)).mean(axis=1), rel=1e-4)
    assert np.mean(probe.scores("weight_snr")) == pytest.approx(1)
    jsonschema.validate(probe_payload(probe, model, dtype="fp32"), schema("probe"))


def test_a_planted_signal_has_the_higher_ratio():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 96, generator=generator)
    left, right = torch.randn(64, 4, generator=generator), torch.randn(4, 96, generator=generator)
    plain, planted = signal_to_noise(noise), signal_to_noise(noise + 3 * left @ right)
    # The ratio is per unit of the largest singular value, which the signal raises.
    assert planted * torch.linalg.svdvals(noise + 3 * left @ right)[0] > 2 * plain * torch.linalg.svdvals(noise)[0]


def test_4_bit_weights_have_the_ratios_of_their_values(nf4_folder):
    model = in_4_bits(nf4_folder)
    plain = probe_layers(dequantised(nf4_folder, model), BATCHES, measure=["weights"])
    assert probe_layers(model, BATCHES, measure=["weights"]).module_snr == pytest.approx(plain.module_snr, rel=1e-4)


def test_a_weight_of_zeros_has_no_signal():
    assert signal_to_noise(torch.zeros(4, 6)) == 0
    model = tiny_model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
    scores = probe_layers(model, BATCHES, measure=["weights"]).scores("weight_snr")
    assert all(map(math.isfinite, scores))


def test_an_infinite_ratio_ranks_first_and_is_no_failure():
    """As with Spectrum; the v_proj of several published models have some."""
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[2].self_attn.o_proj.weight.copy_(torch.eye(32))  # all its singular values are equal
    probe = probe_layers(model, BATCHES, measure=["weights"])
    name = "model.layers.{}.self_attn.o_proj".format
    assert probe.module_snr[name(2)] == math.inf
    taken = probe_payload(probe, model, dtype="fp32")
    jsonschema.validate(taken, schema("probe"))
    assert (taken["status"], taken["module_snr"][name(2)]) == ("ok", None)
    scores = module_scores(taken, {"layers": "weight_snr"}, [name(i) for i in range(3)])
    assert max(scores, key=scores.get) == name(2)
    # In the layer's mean it counts as the highest of its kind.
    others = max(probe.module_snr[name(i)] for i in range(2))
    assert scores[name(2)] == pytest.approx(others)
    finite = {**probe.module_snr, name(2): others}
    assert probe.scores("weight_snr") == pytest.approx(layer_snr(finite, adaptable_layers(model)))
    arm = {"layers": "weight_snr", "budget_percent": 34, "unit": "module"}
    chosen = selection_payload(arm, {"rank": 4, "alpha": 8}, seed=0, probe=taken)
    assert name(2) in chosen["target_modules"]


def test_experts_without_noise_leave_the_mean_to_the_others():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 32, 32, generator=generator)
    expected = (signal_to_noise(first) + signal_to_noise(second)) / 2
    assert signal_to_noise(torch.stack([first, torch.eye(32), second])) == pytest.approx(expected)
    assert signal_to_noise(torch.stack([torch.eye(32)] * 2)) == math.inf
    assert math.isnan(signal_to_noise(torch.stack([first, torch.full((32, 32), math.nan)])))


def test_a_weight_that_is_not_finite_is_a_status():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[0, 0] = math.nan
    taken = probe_payload(probe_layers(model, BATCHES, measure=["weights"]), model, dtype="fp32")
    assert taken["status"] == "diverged"
    assert taken["reason"] == "weight of model.layers.1.self_attn.o_proj is not finite"
    assert set(taken["scores"].values()) == {None}


def test_an_output_that_is_not_finite_is_a_status():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("inf")
    taken = probe_payload(probe_layers(model, BATCHES, measure=["activations"]), model, dtype="fp32")
    assert (taken["status"], taken["reason"]) == ("diverged", "batch 0: output of layer 1 is not finite")


def test_what_was_not_measured_is_missing():
    nothing = {
        "gradients": ("l2", "sum_of_norms", "relative", "gradient_times_weight", "fisher", "normalized"),
        "activations": ("block_influence", "activation_norm"),
        "weights": ("weight_snr",),
    }
    for part in ALL:
        model = tiny_model()
        probe = probe_layers(model, BATCHES, measure=[part])
        taken = probe_payload(probe, model, dtype="fp32")
        jsonschema.validate(taken, schema("probe"))
        assert {name for name, scores in taken["scores"].items() if scores} == set(nothing[part])
        assert list(probe.part_seconds) == [part]
        assert probe.part_seconds[part] > 0
        assert (taken["module_snr"] is None) == (part != "weights")
        assert bool(taken["per_module"]) == (part == "gradients")
        other = "weight_snr" if part != "weights" else "l2"
        with pytest.raises(UserError, match=f"^score '{other}': expected a probe that measured it"):
            probe.scores(other)
    with pytest.raises(UserError, match="expected measured gradients"):
        compare_methods(probe, model, BATCHES)


def test_a_probe_does_no_more_than_it_is_asked():
    """Weights need no pass, activations no backward pass; with gradients alone no layer is listened to."""
    found = {}
    for measure in (("weights",), ("activations",), ("gradients",), ("gradients", "activations")):
        model, hooks, saved = tiny_model(), [], []
        (first, *_) = layers_of(model)
        first.register_forward_pre_hook(lambda module, _, hooks=hooks: hooks.append(len(module._forward_hooks)))
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(1) or t, lambda t: t):
            probe_layers(model, BATCHES, measure=measure, tokens_per_pass=10**6)
        found[measure] = (hooks, bool(saved))
        assert not first._forward_hooks
    assert found == {
        ("weights",): ([], False),
        ("activations",): ([1], False),
        ("gradients",): ([0], True),
        ("gradients", "activations"): ([1], True),
    }


def test_the_model_is_left_as_it_was_found():
    model = tiny_model().train()
    model.activation_checkpointing_enable()
    modes = [module.training for module in model.modules()]
    probe_layers(model, BATCHES, measure=("activations", "weights"))
    assert [module.training for module in model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("measure", [[], ["guesses"], ["gradients", "guesses"]])
def test_what_to_measure_is_known(measure):
    with pytest.raises(UserError, match=r"^probe\.measure .*: expected one of gradients, activations, weights$"):
        probe_layers(tiny_model(), BATCHES, measure=measure)


@pytest.mark.parametrize("wanted", ["block_influence", "activation_norm", "weight_snr"])
def test_layers_are_chosen_by_what_was_measured(wanted):
    model = tiny_model()
    probe = probe_layers(model, BATCHES, measure=("activations", "weights"))
    taken, arm = probe_payload(probe, model, dtype="fp32"), {"layers": wanted, "budget_percent": 34}
    chosen = selection_payload(arm, {"rank": 4, "alpha": 8}, seed=0, probe=taken)
    scores = probe.scores(wanted)
    assert chosen["layers"] == [scores.index(max(scores))]
    assert chosen["reads"] == ("weights" if wanted == "weight_snr" else "activations")
    assert chosen["held_norm_share"] == pytest.approx(max(scores) / sum(scores))
    jsonschema.validate(chosen, schema("selection"))


@pytest.mark.slow
def test_the_script_measures_what_its_settings_say(finished, tmp_path):
    places = ["--model-lock", finished / "resources/models/tiny-llama.lock.json"]
    places += ["--data-lock", finished / "resources/data/rows.lock.json", "--seed", 1]
    settings = ["--set", "model.dtype=fp32", "encoding.max_tokens=320", "probe.batches=3"]
    out = tmp_path / "probe.json"
    done = run_script("probe.py", *places, *settings, "--out", out)
    assert done.returncode == 0, done.stderr
    parts = read(out)["observed"]["part_seconds"]
    assert parts["gradients"] > 0
    assert (parts["activations"], parts["weights"]) == (None, None)
    assert payload(out, "probe")["scores"]["block_influence"] is None
