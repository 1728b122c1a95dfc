"""Adapters whose products are joined: the numbers of PEFT's own modules in every family, and nothing left behind."""

import contextlib

import pytest
import torch

from aletheia.method.adapters import attach, placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.training.joined_linears import JoinedLinears, sibling_groups
from conftest import FAMILIES, random_batch, tiny_model
from loops import BF16, FP16, FP32, looped, nf4_model

BATCHES = [random_batch(2, 10, i, padding=i) for i in range(6)]
TOLERANCES = {FP32: 1e-5, BF16: 2e-2, FP16: 3e-3}


def outcome(loop, *, joined):
    """Return the losses of three steps and the first gradients, by joined products or by PEFT's modules."""
    if not joined:
        loop._computation._linears.active = contextlib.nullcontext
    losses, gradients = [], {}
    for _ in range(3):
        losses.append(loop.step().loss)
        gradients = gradients or {n: p.grad.clone() for n, p in loop.model.named_parameters() if p.requires_grad}
    return losses, gradients


def apart(found, expected):
    """Return how far gradients are from others, each over the largest of its tensor."""
    assert found.keys() == expected.keys()
    return max(float((found[n] - expected[n]).abs().max() / expected[n].abs().max().clamp(min=1e-8)) for n in found)


def twins(layers, *, models=tiny_model, **changes):
    """Return both outcomes of the same loop."""
    made = [looped(layers, model=models(), steps=3, batches=BATCHES, **changes)[0] for _ in range(2)]
    return outcome(made[0], joined=True), outcome(made[1], joined=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_pefts_modules_in_every_family(family):
    (losses, gradients), (expected, plain) = twins([0, 2], models=lambda: tiny_model(family))
    assert losses == pytest.approx(expected, rel=TOLERANCES[FP32])
    # B starts at 0, so that A has no gradient in the first step.
    assert any(gradient.any() for name, gradient in gradients.items() if ".lora_B." in name)
    assert apart(gradients, plain) < 1e-4


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_half_precision_differs_by_its_rounding_alone(dtype):
    (losses, gradients), (expected, plain) = twins([1, 2], dtype=dtype)
    assert losses == pytest.approx(expected, rel=TOLERANCES[dtype] / 10)
    assert apart(gradients, plain) < TOLERANCES[dtype] * 3


def test_four_bit_weights_keep_their_own_product(nf4_folder):
    def model():
        quantised = nf4_model(nf4_folder)
        quantised.to = lambda dtype: quantised  # looped's cast, which 4-bit weights refuse
        return quantised

    (losses, gradients), (expected, plain) = twins([1, 2], models=model, dtype=BF16)
    assert losses == pytest.approx(expected, rel=2e-3)
    assert apart(gradients, plain) < 0.06
    assert looped([1], model=model(), dtype=BF16)[0].computation()["adapted"] == 7


def test_checkpointing_changes_no_bit():
    made = {"dtype": BF16, "steps": 3, "batches": BATCHES}
    plain, recomputed = (outcome(looped([1, 2], checkpointing=on, **made)[0], joined=True) for on in (False, True))
    assert plain[0] == recomputed[0]
    assert all(torch.equal(plain[1][name], recomputed[1][name]) for name in plain[1])


def test_dropout_leaves_the_modules_to_peft():
    losses = []
    for joined in (True, False):
        loop, _ = looped([0, 2], dropout=0.3, steps=3, batches=BATCHES)  # which seeds the masks
        assert loop.computation()["adapted"] == 0
        losses.append(outcome(loop, joined=joined)[0])
    assert losses[0] == losses[1]


def test_layers_that_train_in_turns_join_too():
    turns = {"layers_active": {"every": 1, "count": 1, "draw": 0}}
    losses = [
        outcome(looped([0, 2], steps=3, batches=BATCHES, **turns)[0], joined=joined)[0] for joined in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_product_reads_an_input():
    loop, _ = looped([0, 2])
    assert (loop.computation()["adapted"], loop.computation()["products"]) == (14, 8)
    names = [f"layers.{i}.{kind}" for i in (0, 1) for kind in ("v_proj", "up_proj", "q_proj", "o_proj", "gate_proj")]
    assert sibling_groups(names) == [
        [f"layers.{i}.{kind}" for kind in kinds]
        for i in (0, 1)
        for kinds in (("q_proj", "v_proj"), ("gate_proj", "up_proj"), ("o_proj",))
    ]


def adapted(layers=(0,)):
    model = tiny_model()
    wrapped = attach(model, placement_plan(adaptable_layers(model), list(layers), rank=2), dropout=0, seed=1)
    for name, parameter in wrapped.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter)
    return wrapped, wrapped.get_base_model().model.layers[0].self_attn


def test_a_module_that_is_given_another_input_computes_its_own():
    wrapped, attention = adapted()
    one, other = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    expected = [attention.q_proj(one), attention.k_proj(other), attention.v_proj(one), attention.q_proj(one)]
    with JoinedLinears(wrapped).active():
        found = [attention.q_proj(one), attention.k_proj(other), attention.v_proj(one), attention.q_proj(one)]
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_base_module_that_someone_listens_to_is_called():
    wrapped, attention = adapted()
    seen = []
    attention.k_proj.base_layer.register_forward_hook(lambda *_: seen.append(1))
    with JoinedLinears(wrapped).active():
        attention.q_proj(torch.randn(1, 3, 32))
    assert seen == [1]


def test_nothing_is_left_after_the_context_though_a_pass_fails():
    wrapped, attention = adapted()
    joined = JoinedLinears(wrapped)
    with pytest.raises(RuntimeError), joined.active():
        # Key and value of the first input are never asked for, and the second one is too short.
        [attention.q_proj(torch.randn(1, 3, size)) for size in (32, 31)]
    assert not any("forward" in vars(module) for module in wrapped.modules())
    assert not any(group._results or group._input is not None for group in joined._groups)
