"""The one-pass probe against the plain formula, on every family."""

import math

import pytest
import torch

from aletheia.errors import UserError
from aletheia.layers import layer_index
from aletheia.probe import Probe, probe_layers, probe_payload
from conftest import FAMILIES, random_batch, tiny_model


def chunked_probe(model, batches, *, layers, chunk=8):
    """Return (l2, sum_of_norms) a layer by the paper's plain algorithm: chunks of layers, one pass for each."""
    l2, sums = [0.0] * layers, [0.0] * layers
    for start in range(0, layers, chunk):
        inside = range(start, min(start + chunk, layers))
        for name, p in model.named_parameters():
            p.requires_grad_(layer_index(name) in inside)
        for batch in batches:
            model(**batch).loss.backward()
            for layer in inside:
                norms = [p.grad.norm().item() for n, p in model.named_parameters() if layer_index(n) == layer]
                l2[layer] += math.sqrt(sum(n * n for n in norms))
                sums[layer] += sum(norms)
            model.zero_grad()
    return l2, sums


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_the_plain_algorithm(family):
    model = tiny_model(family)
    batches = [random_batch(1, 12, seed) for seed in range(3)]
    probe = probe_layers(model, batches)
    l2, sums = chunked_probe(tiny_model(family), batches, layers=3, chunk=2)
    assert probe.scores("l2") == pytest.approx(l2, rel=1e-5)
    assert probe.scores("sum_of_norms") == pytest.approx(sums, rel=1e-5)
    assert sum(probe.scores("normalized")) == pytest.approx(1)


def test_relative_divides_by_the_weights():
    model = tiny_model()
    probe = probe_layers(model, [random_batch(1, 12, 0)])
    for layer, score in enumerate(probe.scores("relative")):
        weights = [p for n, p in model.named_parameters() if layer_index(n) == layer]
        norm = math.sqrt(sum(p.norm().item() ** 2 for p in weights))
        assert score == pytest.approx(probe.scores("l2")[layer] / norm, rel=1e-5)


def test_padding_does_not_count():
    model = tiny_model()
    plain, padded = random_batch(1, 12, 0), random_batch(1, 16, 0, padding=4)
    padded["input_ids"][:, :12], padded["labels"][:, :12] = plain["input_ids"], plain["labels"]
    assert probe_layers(model, [padded]).scores() == pytest.approx(probe_layers(model, [plain]).scores(), rel=1e-5)


def test_same_batches_same_scores_bit_for_bit():
    batches = [random_batch(2, 12, 5)]
    assert probe_layers(tiny_model(), batches).scores() == probe_layers(tiny_model(), batches).scores()


def test_the_model_is_left_as_it_was_found():
    model = tiny_model().train()
    names = dict(model.named_parameters())
    names["model.layers.1.mlp.up_proj.weight"].requires_grad_(False)
    kept = names["model.layers.0.mlp.up_proj.weight"]
    kept.grad = torch.ones_like(kept)
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in names.items()}
    probe_layers(model, [random_batch(1, 12, 0)])
    assert model.training
    assert torch.equal(kept.grad, torch.ones_like(kept))
    for name, p in model.named_parameters():
        weights, flag = before[name]
        assert torch.equal(p, weights)
        assert p.requires_grad is flag
        assert p is kept or p.grad is None
        assert not p._post_accumulate_grad_hooks


def test_a_gradient_that_is_not_finite_is_a_status():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("inf")
    batches = [random_batch(1, 12, 0)]
    payload = probe_payload(probe_layers(model, batches), model, dtype="fp32")
    assert payload["status"] == "diverged"
    assert payload["reason"].startswith("batch 0:")
    assert payload["scores"]["l2"] is None


def test_bad_requests_are_one_sentence():
    with pytest.raises(UserError, match="at least one batch"):
        probe_layers(tiny_model(), [])
    with pytest.raises(UserError, match="expected one of l2"):
        Probe([], {}, [], 0).scores("l3")
