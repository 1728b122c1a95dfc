"""A model where it is known which layers matter: selections find them, and random ones do not.

Planted: a llama of 8 random layers. In all but layers 2 and 5 the value, output, up and down projections are made 100
times smaller. What such a layer adds to its input is smaller by 10⁴, so it is nearly the identity; and the gradient of
each of its weights has the factor of the other projection of its branch, so it is small too.
"""

import pytest
import torch

from aletheia.method.layer_scores import SUMMED
from aletheia.method.layers import layer_index
from aletheia.method.probe import probe_layers
from aletheia.method.probe_record import probe_payload
from aletheia.method.selection import choose_layers, selection_payload
from conftest import FAMILIES, random_batch

PLANTED = [2, 5]
HUSHED = {"v_proj", "o_proj", "up_proj", "down_proj"}
QUARTER = {"budget_percent": 25}
ADAPTER = {"rank": 4, "alpha": 8}


@pytest.fixture(scope="module")
def probe():
    """The probe of the planted model, with all that it measures."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **{**FAMILIES["llama"], "num_hidden_layers": 8})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if layer_index(name) not in (None, *PLANTED) and name.split(".")[-2] in HUSHED:
                weight.mul_(0.01)
    batches = [random_batch(1, 16, seed) for seed in range(5)]
    measured = probe_layers(model, batches, measure=("gradients", "activations"))
    return probe_payload(measured, model, dtype="fp32")


def chosen(probe, unit="layer", **arm):
    return selection_payload({**QUARTER, **arm, "unit": unit}, ADAPTER, seed=0, probe=probe)


@pytest.mark.parametrize("score", SUMMED[:-1])
def test_every_gradient_score_takes_the_planted_layers(probe, score):
    found = chosen(probe, layers="gradient", score=score)
    assert found["layers"] == PLANTED
    assert found["margin_at_cut"] > 0.5
    assert not {*PLANTED} & {*chosen(probe, layers="bottom", score=score)["layers"]}


@pytest.mark.parametrize("wanted", ["fisher", "block_influence"])
def test_fisher_information_and_block_influence_take_them_too(probe, wanted):
    found = chosen(probe, layers=wanted)
    assert found["layers"] == PLANTED
    assert found["margin_at_cut"] > 0.9


@pytest.mark.parametrize("wanted", ["gradient", "fisher"])
def test_a_choice_by_module_takes_each_kind_in_them(probe, wanted):
    assert chosen(probe, layers=wanted, unit="module")["layers"] == PLANTED


def test_a_cost_aware_choice_takes_them_before_cheaper_ones(probe):
    # A step costs one for each layer of the backward pass, and two for each adapted one: layers 6 and 7 are cheaper.
    scores = probe["scores"]["l2"]
    arm = {"layers": "cost_aware", "time_percent": 100 * (6 + 4) / (8 + 16)}
    found = choose_layers(8, arm, seed=0, scores=scores, seconds=lambda lowest, count: 8 - lowest + 2 * count)
    assert found == PLANTED


def test_random_draws_mostly_miss_them():
    """Of 28 pairs of layers one is theirs."""
    draws = [choose_layers(8, {**QUARTER, "layers": "random", "draw": draw}, seed=0) for draw in range(20)]
    assert sum(layers == PLANTED for layers in draws) <= 3
    assert len({tuple(layers) for layers in draws}) > 5


def test_random_draws_with_the_same_lowest_layer_miss_the_other(probe):
    arm = {**QUARTER, "layers": "random_same_lowest"}
    draws = [choose_layers(8, {**arm, "draw": n}, seed=0, scores=probe["scores"]["l2"]) for n in range(20)]
    assert {layers[0] for layers in draws} == {PLANTED[0]}
    assert sum(layers == PLANTED for layers in draws) <= 10
