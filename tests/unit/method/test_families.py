"""Each family that is served, against plain passes: its probe, its sketch, its adapters, its loss."""

import copy
import math
import re

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method import gradient_norms
from aletheia.method.adapters import attach, audit, placement_plan, save_adapter
from aletheia.method.layers import REFUSED, adaptable_layers, is_linear, layer_index
from aletheia.method.probe import probe_layers
from aletheia.method.probe_pass import PLAIN_HEADS
from aletheia.method.token_batch import TokenBatch
from aletheia.method.token_loss import token_losses
from conftest import ROOT, random_batch, tiny_model
from families import SERVED

TOGETHER = 10**6
# One whose prompt is no target, one of another length, one with padding.
BATCHES = [random_batch(1, 9, 0), random_batch(1, 14, 1), random_batch(1, 16, 2, padding=5)]
BATCHES[0]["labels"][:, :4] = -100
# Their logits are scaled or capped; llama4_text's decoder is not its base model.
OWN_HEADS = {
    *("cohere", "cohere2", "gemma2", "gemma4_text", "granite", "granitemoe", "granitemoeshared", "hyperclovax"),
    *("llama4_text", "minicpm3", "nanochat", "vaultgemma"),
}


@pytest.fixture(scope="module", params=SERVED)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    """The family's tiny model, for tests that leave it as it is."""
    return tiny_model(family)


@pytest.fixture(scope="module")
def probe(model):
    """The exact probe of all batches, in one pass where the family allows it."""
    return probe_layers(model, BATCHES, tokens_per_pass=TOGETHER, measure=("gradients", "activations"))


def plain_norms(model, batches):
    """Return by batch the norm of each layer parameter's gradient, and the losses: one plain pass for each batch."""
    norms, losses = [], []
    for p in model.parameters():
        p.requires_grad_(True)
    for batch in batches:
        model.zero_grad()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        losses.append(loss.item())
        graded = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        norms.append({n: g.double().norm().item() for n, g in graded.items() if layer_index(n) is not None})
    return norms, losses


def test_each_parameters_gradient_has_its_plain_norm(model, probe):
    norms, losses = plain_norms(copy.deepcopy(model), BATCHES)
    assert probe.losses == pytest.approx(losses, rel=1e-5)
    for found, expected in zip(probe.norms, norms, strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7 * max(expected.values()))


def test_the_sketch_comes_to_the_norms_as_its_rank_grows(model, probe, monkeypatch):
    monkeypatch.setattr(gradient_norms, "SKETCH_RANK", 2_000)
    (sketch,), exact = probe_layers(model, BATCHES[:1], method="sketch").norms, probe.norms[0]
    linear = {f"{n}.weight" for n, m in model.named_modules() if is_linear(m)} & exact.keys()
    assert sum(sketch[name] for name in linear) == pytest.approx(sum(exact[name] for name in linear), rel=5e-2)
    assert any(sketch[name] != exact[name] for name in linear)
    assert {n: v for n, v in sketch.items() if n not in linear} == pytest.approx(
        {n: v for n, v in exact.items() if n not in linear}, rel=1e-5, abs=1e-7 * max(exact.values())
    )


def test_activations_are_those_of_the_hidden_states(model, probe):
    for batch, found in zip(BATCHES, probe.activation_norm, strict=True):
        with torch.no_grad():
            states = model(**batch, use_cache=False, output_hidden_states=True).hidden_states
        kept = [state[batch["attention_mask"].bool()].norm(dim=-1).mean().item() for state in states]
        assert len(kept) == 4
        assert found[:2] == pytest.approx(kept[1:3], rel=1e-5)  # the last one is behind the final norm


def test_exactly_the_named_modules_of_the_selected_layers_carry_adapters(family, model):
    layers = adaptable_layers(model)
    named = {i: [*layer.attention, *layer.mlp, *layer.experts] for i, layer in enumerate(layers)}
    assert {name.split(f".{i}.", 1)[1] for i, names in named.items() for name in names} == SERVED[family].names()
    plan = placement_plan(layers, [0, 2], rank=2, alpha=4)
    wrapped = attach(copy.deepcopy(model), plan, dropout=0, seed=1)
    assert set(audit(wrapped, plan)["modules"]) == {*named[0], *named[2]}
    trainable = {name for name, p in wrapped.named_parameters() if p.requires_grad}
    assert {layer_index(name.removeprefix("base_model.model.")) for name in trainable} == {0, 2}
    with torch.no_grad():
        batch = random_batch(1, 8, 0)
        assert torch.equal(wrapped(**batch).logits, model(**batch).logits)


def test_the_loss_of_the_targets_alone_is_the_models_own(model):
    plan = placement_plan(adaptable_layers(model), [0, 2], rank=2, alpha=4)
    wrapped = attach(copy.deepcopy(model), plan, dropout=0, seed=1)
    batch = random_batch(3, 11, 5, padding=4)
    batch["labels"][:, :3] = -100
    targets = int((batch["labels"][:, 1:] != -100).sum())
    own = wrapped(**batch).loss * targets
    ours = token_losses(wrapped, TokenBatch.from_labels(**batch).without_mask(), reduction="sum")
    assert float(ours.detach()) == pytest.approx(float(own.detach()), rel=2e-6)
    adapters = [p for p in wrapped.parameters() if p.requires_grad]
    for expected, found in zip(*(torch.autograd.grad(loss, adapters) for loss in (own, ours)), strict=True):
        assert torch.allclose(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_others_read_the_adapter(model, tmp_path):
    from peft import PeftModel

    plan = placement_plan(adaptable_layers(model), [0, 2], rank=2, alpha=4)
    wrapped = attach(copy.deepcopy(model), plan, dropout=0, seed=1).eval()
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    save_adapter(wrapped, tmp_path, "card", base="them/tiny", revision=None)
    batch = random_batch(1, 8, 0)
    with torch.no_grad():
        plain, expected = model(**batch).logits, wrapped(**batch).logits
        again = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).eval()
        assert torch.equal(again(**batch).logits, expected)
    assert not torch.allclose(expected, plain)


def test_what_a_head_is_known_to_be():
    assert set(SERVED) == PLAIN_HEADS | OWN_HEADS
    assert not PLAIN_HEADS & OWN_HEADS


@pytest.mark.parametrize("setting", [{"final_logit_softcapping": 2.0}, {"final_logit_softcapping": None}])
def test_a_cap_on_the_logits_is_kept(setting):
    model = tiny_model("gemma3_text", **setting)
    norms, losses = plain_norms(copy.deepcopy(model), BATCHES)
    probe = probe_layers(model, BATCHES, tokens_per_pass=TOGETHER)
    assert probe.losses == pytest.approx(losses, rel=1e-5)
    for found, expected in zip(probe.norms, norms, strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7 * max(expected.values()))


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_a_family_that_cannot_be_served_is_refused_with_its_reason(family):
    model = torch.nn.Linear(1, 1)
    model.config = type("Config", (), {"model_type": family})
    with pytest.raises(UserError, match=f"^model family '{family}' is not supported: [a-z][^.]*$"):
        adaptable_layers(model)


def listed(heading):
    """Return the families of a table of docs/families.md: ``{model_type: its row's last cell}``."""
    page = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    table = page.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| `")][1:]
    return {name: cells[-1] for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}


def test_the_page_lists_every_family_and_each_reason():
    assert listed("Refused") == REFUSED
    assert set(listed("Served")) == set(SERVED)
    for page in ("README.md", "docs/families.md", "docs/practitioner.md"):
        assert re.findall(r"(\d+) (?:families|are served)", (ROOT / page).read_text(encoding="utf-8")) == [
            str(len(SERVED))
        ]


def test_layers_without_attention_are_named():
    model = tiny_model("granitemoehybrid")
    with pytest.raises(UserError, match=r"attention and MLP linears, found none in layers \[0, 2\]"):
        adaptable_layers(model)
    assert len(adaptable_layers(tiny_model("granitemoehybrid", layer_types=["attention"] * 3))) == 3


def test_a_norm_of_one_plus_its_weight_is_told_from_one_of_its_weight_whatever_it_centres():
    from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P

    norm = NemotronLayerNorm1P(8)
    plain = torch.nn.LayerNorm(8)
    assert not gradient_norms.NormLayerInput(norm).factor_is_weight
    assert gradient_norms.NormLayerInput(plain).factor_is_weight
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.layer_norm(x, (8,))
    assert math.isclose(
        float((gradient_norms.NormLayerInput(norm).normalized(x) - expected).abs().max()), 0, abs_tol=1e-6
    )
