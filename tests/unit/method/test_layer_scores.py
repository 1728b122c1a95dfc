"""Scores of layers and modules against plain gradients, and choice by module against choice by layer."""

import collections

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.layer_scores import SUMMED, module_scores
from aletheia.method.layers import adaptable_layers, layer_index
from aletheia.method.probe import probe_layers
from aletheia.method.probe_record import probe_payload
from aletheia.method.selection import choose_layers, selection_payload
from conftest import random_batch, tiny_model

FIVE = ("llama", "gpt_neox", "gptj", "mixtral", "phi3")
BATCHES = [random_batch(1, 9, 0), random_batch(1, 14, 1), random_batch(1, 16, 2, padding=5)]
ADAPTER = {"rank": 4, "alpha": 8, "modules": "all"}


@pytest.fixture(scope="module", params=FIVE)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def probe(family):
    """The payload of a probe."""
    model = tiny_model(family)
    return probe_payload(probe_layers(model, BATCHES), model, dtype="fp32")


@pytest.fixture(scope="module")
def gradients(family):
    """By batch: ``{parameter: (gradient, weight)}`` of autograd, of the decoder layers."""
    model, found = tiny_model(family), []
    for batch in BATCHES:
        model.zero_grad()
        model(**batch).loss.backward()
        named = model.named_parameters()
        found.append({n: (p.grad.clone(), p.detach()) for n, p in named if layer_index(n) is not None})
    return found


def plain(gradients, inside):
    """Each score of the parameters that are inside a group, of whole gradients put end to end."""
    scores = dict.fromkeys(SUMMED, 0.0)
    for of_batch in gradients:
        pairs = [pair for name, pair in of_batch.items() if inside(name)]
        gradient = torch.cat([g.flatten() for g, _ in pairs])
        weight = torch.cat([w.flatten() for _, w in pairs])
        scores["l2"] += gradient.norm().item()
        scores["relative"] += (gradient.norm() / weight.norm()).item()
        scores["fisher"] += (gradient @ gradient).item()
        scores["sum_of_norms"] += sum(g.norm().item() for g, _ in pairs)
        scores["gradient_times_weight"] += sum(g.norm().item() * w.norm().item() for g, w in pairs)
    return scores


def test_layer_scores_are_those_of_plain_gradients(probe, gradients):
    expected = [plain(gradients, lambda name, i=i: layer_index(name) == i) for i in range(3)]
    for score in SUMMED:
        assert probe["scores"][score] == pytest.approx([of_layer[score] for of_layer in expected], rel=1e-4), score


def test_gradient_times_weight_bounds_the_first_order_change(probe, gradients):
    """|⟨gradient, weight⟩| is what the loss changes by, to first order, where a layer's weights are taken out."""
    for layer in range(3):
        changes = [
            sum((g * w).sum().abs().item() for name, (g, w) in of_batch.items() if layer_index(name) == layer)
            for of_batch in gradients
        ]
        assert 0 < sum(changes) <= probe["scores"]["gradient_times_weight"][layer]


@pytest.mark.parametrize("score", SUMMED)
def test_module_scores_are_those_of_plain_gradients(family, probe, gradients, score):
    layers = adaptable_layers(tiny_model(family))
    modules = [name for layer in layers for names in layer.names().values() for name in names]
    arm = {"layers": "fisher"} if score == "fisher" else {"layers": "gradient", "score": score}
    found = module_scores(probe, arm, modules)
    assert list(found) == modules
    for module in modules:
        expected = plain(gradients, lambda name, m=module: name == m or name.startswith(f"{m}."))
        assert found[module] == pytest.approx(expected[score], rel=1e-4), module


def sizes(model, payload, rank):
    """Parameters of the adapters of a selection, by the shapes of the modules."""
    count = 0
    for name in payload["target_modules"]:
        count += rank * sum(model.get_submodule(name).weight.shape)
    for name in payload["target_parameters"]:
        experts, *shape = model.get_parameter(name).shape
        count += rank * experts * sum(shape)
    return count


@pytest.mark.parametrize("budget", [34, 67, 100])
def test_a_choice_by_module_has_the_parameters_of_a_choice_by_layer(family, probe, budget):
    arm, model = {"layers": "gradient", "budget_percent": budget}, tiny_model(family)
    by_layer = selection_payload(arm, ADAPTER, seed=0, probe=probe)
    by_module = selection_payload({**arm, "unit": "module"}, ADAPTER, seed=0, probe=probe)
    assert sizes(model, by_module, 4) == sizes(model, by_layer, 4) > 0
    assert (by_layer["unit"], by_module["unit"]) == ("layer", "module")
    # Each kind of module has the same number, in the layers where its score is highest.
    count = len(by_layer["layers"])
    kinds = collections.Counter(name.rpartition(".")[2] for name in by_module["rank_pattern"])
    assert set(kinds.values()) == {count}
    scores = module_scores(
        probe, arm, selection_payload({"layers": "all"}, ADAPTER, seed=0, probe=probe)["rank_pattern"]
    )
    for kind in kinds:
        ranked = sorted((name for name in scores if name.endswith(f".{kind}")), key=lambda name: -scores[name])
        assert set(ranked[:count]) <= set(by_module["rank_pattern"])
    assert by_module["layers"] == sorted({layer_index(name) for name in by_module["rank_pattern"]})
    assert by_module["lowest_layer"] == by_module["layers"][0]


def test_a_selection_by_module_is_placed_as_it_says(family, probe):
    from aletheia.method.adapters import attach, audit

    arm = {"layers": "gradient", "budget_percent": 34, "unit": "module"}
    chosen = selection_payload(arm, ADAPTER, seed=0, probe=probe)
    model = tiny_model(family)
    expected = sizes(model, chosen, 4)
    adapted = attach(model, chosen, dropout=0.0, seed=0)
    placement = audit(adapted, chosen)
    assert placement["layers"] == chosen["layers"]
    assert placement["trainable_parameters"] == expected


def test_modules_are_chosen_among_those_that_carry_adapters():
    model = tiny_model()
    taken = probe_payload(probe_layers(model, BATCHES), model, dtype="fp32")
    arm = {"layers": "gradient", "budget_percent": 34, "unit": "module"}
    chosen = selection_payload(arm, {**ADAPTER, "modules": ["v_proj"]}, seed=0, probe=taken)
    assert [name.rpartition(".")[2] for name in chosen["rank_pattern"]] == ["v_proj"]


def test_module_scores_that_another_step_measured_choose_modules():
    model = tiny_model()
    taken = probe_payload(probe_layers(model, BATCHES), model, dtype="fp32")
    arm = {"layers": "adapter_update", "budget_percent": 34, "unit": "module"}
    names = [name for names in taken["adaptable"] for kind in names.values() for name in kind]
    # q_proj moved most in layer 2, all others in layer 0.
    moved = {name: float(layer_index(name) == (2 if name.endswith("q_proj") else 0)) for name in names}
    updates = {**taken, "scores": {"adapter_update": [1.0, 2.0, 3.0]}, "module_update": moved}
    chosen = selection_payload(arm, ADAPTER, seed=0, probe=updates)
    assert set(chosen["rank_pattern"]) == {name for name, value in moved.items() if value}
    assert chosen["layers"] == [0, 2]
    assert (chosen["score"], chosen["reads"]) == ("adapter_update", "updates")
    assert chosen["held_norm_share"] == 1
    by_layer = selection_payload({**arm, "unit": "layer"}, ADAPTER, seed=0, probe=updates)
    assert by_layer["layers"] == [2]


@pytest.mark.parametrize("unit", ["layer", "module"])
@pytest.mark.parametrize("wanted", ["weight_snr", "adapter_update"])
def test_what_was_not_measured_is_named(wanted, unit):
    model = tiny_model()
    taken = probe_payload(probe_layers(model, BATCHES), model, dtype="fp32")
    arm = {"layers": wanted, "budget_percent": 34, "unit": unit}
    with pytest.raises(UserError, match=f"^layers: {wanted}: expected .* in the probe's artifact, found none; measure"):
        selection_payload(arm, ADAPTER, seed=0, probe=taken)


@pytest.mark.parametrize("wanted", ["random", "block_influence", [0]])
def test_modules_are_chosen_by_scores_of_modules_alone(wanted):
    names = [layer.names() for layer in adaptable_layers(tiny_model())]
    arm = {"layers": wanted, "budget_percent": 34, "unit": "module"}
    with pytest.raises(UserError, match=r"^unit: module: expected layers chosen by gradient, fisher, .*take unit out$"):
        selection_payload(arm, ADAPTER, seed=0, adaptable=names)


@pytest.mark.parametrize("score", SUMMED[:-1])
def test_the_arms_score_ranks(probe, score):
    arm = {"layers": "gradient", "budget_percent": 34, "score": score}
    chosen = selection_payload(arm, ADAPTER, seed=0, probe=probe)
    assert chosen["layers"] == choose_layers(3, arm, seed=0, scores=probe["scores"][score])
    assert chosen["score"] == score
