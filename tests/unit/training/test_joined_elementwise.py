"""Norms and rotations in closed form: the numbers of the models' own in every family, and nothing left behind."""

import contextlib
import sys

import pytest
import torch

from aletheia.training.elementwise_products import RMSNorm, Rotation
from aletheia.training.joined_elementwise import ROTATION, JoinedElementwise
from conftest import FAMILIES, random_batch, tiny_model
from loops import BF16, FP32, looped

BATCHES = [random_batch(2, 10, i, padding=i) for i in range(6)]
# Norms and whether rotations are replaced, of three layers: two norms each and the last one; Gemma adds 1 to a weight,
# GPT-NeoX, StableLM and GPT-J have layer norms, OLMo's have no weight, GPT-J rotates neighbours.
FOUND = {"llama": (7, True), "qwen2": (7, True), "mistral": (7, True), "gemma": (0, True), "gptj": (0, False)}


def drawn(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def gradients(function, *inputs):
    """Return what a function gives and its inputs' gradients under a drawn gradient of the result."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    y = function(*leaves)
    (dy,) = drawn(y.shape)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy)]


def close(found, expected):
    return all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(found, expected, strict=True))


def test_a_norm_and_its_gradient_are_those_of_its_formula():
    x, weight = drawn((2, 5, 16), (16,))

    def composed(x):
        return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3)

    assert close(gradients(lambda x: RMSNorm.apply(x, weight, 1e-3), x), gradients(composed, x))


def test_a_rotation_and_its_gradient_are_those_of_its_formula_also_where_halves_differ():
    x, cosine, sine = drawn((2, 5, 3, 8), (2, 1, 5, 8), (2, 1, 5, 8))
    x = x.transpose(1, 2)  # as models have it

    def composed(x):
        return x * cosine + torch.cat((-x[..., 4:], x[..., :4]), -1) * sine

    assert close(gradients(lambda x: Rotation.apply(x, cosine, sine), x), gradients(composed, x))


def outcome(loop, *, joined):
    """Return the losses of three steps and the first gradients."""
    if not joined:
        loop._computation._elementwise.active = contextlib.nullcontext
    losses, first = [], {}
    for _ in range(3):
        losses.append(loop.step().loss)
        first = first or {n: p.grad.clone() for n, p in loop.model.named_parameters() if p.grad is not None}
    return losses, first


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_models_own_in_every_family(family):
    loops = [looped([0, 2], model=tiny_model(family), steps=3, batches=BATCHES)[0] for _ in range(2)]
    (losses, found), (expected, plain) = (
        outcome(loop, joined=on) for loop, on in zip(loops, (True, False), strict=True)
    )
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, gradient in plain.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("family", FOUND)
def test_what_is_another_formula_stays(family):
    computation = looped([0, 2], model=tiny_model(family))[0].computation()
    assert (computation["norms"], computation["rotations"]) == FOUND[family]


def test_half_precision_differs_by_its_rounding_alone():
    losses = [
        outcome(looped([0, 2], steps=3, batches=BATCHES, dtype=BF16)[0], joined=joined)[0] for joined in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_checkpointing_changes_no_bit(dtype):
    made = {"dtype": dtype, "steps": 3, "batches": BATCHES}
    plain, recomputed = (outcome(looped([1, 2], checkpointing=on, **made)[0], joined=True) for on in (False, True))
    assert plain[0] == recomputed[0]
    assert all(torch.equal(plain[1][name], recomputed[1][name]) for name in plain[1])


def test_a_norm_that_trains_stays():
    model = tiny_model()
    model.requires_grad_(False)
    model.model.norm.weight.requires_grad_()
    assert JoinedElementwise(model).summary()["norms"] == 6


def test_a_norm_that_is_asked_for_more_than_its_input_computes_itself():
    model = tiny_model().requires_grad_(False)
    with JoinedElementwise(model).active(), pytest.raises(TypeError, match="gate"):
        model.model.norm(torch.randn(1, 3, 32), gate=None)


def test_nothing_is_left_after_the_context_though_a_pass_fails():
    model = tiny_model().requires_grad_(False)
    source = sys.modules[type(model).__module__]
    before = getattr(source, ROTATION)
    with contextlib.suppress(RuntimeError), JoinedElementwise(model).active():
        assert getattr(source, ROTATION) is not before
        model.model.norm(torch.randn(1, 3, 31))
        pytest.fail("the input is too short for the norm")
    assert getattr(source, ROTATION) is before
    assert not any("forward" in vars(module) for module in model.modules())
