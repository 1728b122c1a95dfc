"""Rows of a micro-batch without padding: losses and gradients of padded rows, in all families that can take them."""

import pytest
import torch

from aletheia.method.adapters import attach, placement_plan
from aletheia.method.attention import FP32 as FP32_ATTENTION
from aletheia.method.attention import register_fp32_attention
from aletheia.method.layers import adaptable_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.method.token_loss import token_losses
from aletheia.timing.measure import positions
from aletheia.training import joined_rows
from aletheia.training.joined_rows import attention_by_row, joined, positions_of
from conftest import FAMILIES, longrope_model, random_batch, tiny_model
from loops import BF16, FP32, looped


def ragged(seed, lengths=(11, 4, 7)):
    """Return a batch of rows of several lengths."""
    batch = random_batch(len(lengths), max(lengths), seed)
    for row, length in enumerate(lengths):
        for name, filler in (("input_ids", 0), ("attention_mask", 0), ("labels", -100)):
            batch[name][row, length:] = filler
    return batch


BATCHES = [ragged(seed) for seed in range(6)]


def outcome(layers, **changes):
    """Return the losses of three steps, the adapters' gradients of the last, and how many micro-batches were joined."""
    loop, _ = looped(layers, steps=3, batches=BATCHES, **changes)
    losses = [loop.step().loss for _ in range(3)]
    gradients = {name: p.grad for name, p in loop.model.named_parameters() if p.grad is not None}
    return losses, gradients, loop.computation()["joined_rows"]


def padded(monkeypatch, layers, **changes):
    with monkeypatch.context() as patch:
        patch.setattr(joined_rows, "FAMILIES", ())
        losses, gradients, count = outcome(layers, **changes)
    assert count == 0
    return losses, gradients


def assert_close(found, expected, tolerance):
    losses, gradients, count = found
    assert count == len(BATCHES)
    assert losses == pytest.approx(expected[0], rel=tolerance)
    for name, gradient in expected[1].items():
        assert torch.allclose(gradients[name], gradient, rtol=tolerance * 100, atol=tolerance * 10), name


@pytest.mark.parametrize("family", joined_rows.FAMILIES)
def test_losses_and_gradients_are_those_of_padded_rows(family, monkeypatch):
    expected = padded(monkeypatch, [0, 2], model=tiny_model(family))
    assert_close(outcome([0, 2], model=tiny_model(family)), expected, 1e-5)


def test_every_family_but_those_without_the_interface_joins_rows():
    assert set(FAMILIES) - set(joined_rows.FAMILIES) == {"gptj"}
    assert outcome([0, 2], model=tiny_model("gptj"))[2] == 0


def test_half_precision_differs_by_its_rounding_alone(monkeypatch):
    losses, _, count = outcome([0, 2], dtype=BF16)
    assert count == len(BATCHES)
    assert losses == pytest.approx(padded(monkeypatch, [0, 2], dtype=BF16)[0], rel=2e-3)


def test_attention_in_fp32_joins_rows_too(monkeypatch):
    register_fp32_attention()

    def model():
        made = tiny_model("gpt_neox")
        made.set_attn_implementation(FP32_ATTENTION)
        return made

    assert_close(outcome([0, 2], model=model()), padded(monkeypatch, [0, 2], model=model()), 1e-5)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_checkpointing_changes_no_bit(dtype):
    plain, recomputed = (outcome([1, 2], dtype=dtype, checkpointing=on) for on in (False, True))
    assert plain[0] == recomputed[0]
    assert all(torch.equal(plain[1][name], recomputed[1][name]) for name in plain[1])


def test_a_row_sees_no_other():
    model = tiny_model()
    one, other = ragged(0), ragged(0)
    other["input_ids"][1:, :4] = torch.randint(1, 96, (2, 4), generator=torch.Generator().manual_seed(9))
    losses = []
    for batch in (one, other):
        found, rows = joined(model, TokenBatch.from_labels(**batch))
        with torch.no_grad(), attention_by_row(model, rows):
            losses.append(token_losses(model, found))
    assert torch.equal(losses[0][:10], losses[1][:10])
    assert not torch.equal(losses[0][10:], losses[1][10:])


def test_longrope_takes_the_factors_of_its_longest_row(monkeypatch):
    window = 9  # one row of 11 tokens
    assert_close(
        outcome([0, 2], model=longrope_model(window)), padded(monkeypatch, [0, 2], model=longrope_model(window)), 1e-4
    )


@pytest.mark.parametrize("rows", [random_batch(3, 10, 0), random_batch(1, 10, 0)])
def test_rows_without_padding_stay_side_by_side(rows):
    batch, found = joined(tiny_model(), TokenBatch.from_labels(**rows))
    assert found is None
    assert batch.attention_mask is None


def test_rows_beyond_a_sliding_window_stay_padded():
    model = tiny_model("mistral")
    batch = TokenBatch.from_labels(**ragged(0))
    model.config.sliding_window = 11
    assert joined(model, batch)[1] is not None
    model.config.sliding_window = 10
    assert joined(model, batch)[1] is None


def test_positions_that_steps_compute_are_counted():
    batches = [TokenBatch.from_labels(**batch) for batch in BATCHES]
    loop, _ = looped([0, 2], steps=3, batches=BATCHES)
    assert loop.positions() == [44, 44, 44]
    assert [positions_of(tiny_model(family), batches[0]) for family in ("llama", "gptj")] == [22, 33]
    assert positions(tiny_model(), batches, accumulation=2, steps=1) == [[44], [44]]


def test_the_models_attention_is_its_own_afterwards():
    model = tiny_model()
    wrapped = attach(model, placement_plan(adaptable_layers(model), [1], rank=2), dropout=0, seed=1)
    own = model.config._attn_implementation
    batch, rows = joined(wrapped, TokenBatch.from_labels(**ragged(0)))
    with attention_by_row(wrapped, rows):
        assert model.config._attn_implementation != own
        short = model(input_ids=batch.input_ids[:, :1]).logits  # a pass of another length is not put apart
        token_losses(wrapped, batch)
    assert model.config._attn_implementation == own
    assert torch.equal(short, model(input_ids=batch.input_ids[:, :1]).logits)
