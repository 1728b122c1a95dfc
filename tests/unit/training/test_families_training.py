"""Training on each family that is served: where its backward pass ends; kept states and checkpoints change nothing."""

import pytest
import torch

from aletheia.method.adapters import attach, audit, placement_plan
from aletheia.method.layers import adaptable_layers, decoder_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.training.activation_checkpointing import checkpoint_activations
from aletheia.training.frozen_prefix import FrozenPrefix
from aletheia.training.loop import Loop
from aletheia.training.prefix_blocks import MemoryBlocks
from aletheia.training.prefix_choice import PrefixPlace, choose_prefix
from conftest import random_batch, tiny_model
from families import SERVED
from loops import FP32, SETTINGS

BATCHES = [random_batch(2, 9 + i, i, padding=i) for i in range(2)] * 2  # each is visited twice


def loop_of(family, *, kept=False, checkpointing=False):
    """Return a loop that trains the last of three layers for two steps."""
    model = tiny_model(family)
    plan = placement_plan(adaptable_layers(model), [2], rank=2, alpha=4)
    wrapped = attach(model, plan, dropout=0.0, seed=3)
    if checkpointing:
        checkpoint_activations(wrapped)
    batches = [TokenBatch.from_labels(**batch) for batch in BATCHES]
    prefix = None
    if kept and choose_prefix("auto", wrapped, 2, train=batches, heldout=[], place=PrefixPlace(None)).store != "off":
        prefix = FrozenPrefix(wrapped, 2, MemoryBlocks())
    run = {"steps": 2, "learning_rate": 5e-3, "dtype": FP32, "seed": 1}
    return Loop(wrapped, batches, settings=SETTINGS, placement=audit(wrapped, plan), prefix=prefix, **run), prefix


def outcome(loop):
    losses = [loop.step().loss for _ in range(loop.steps)]
    return losses, [p.detach().clone() for p in loop.model.parameters() if p.requires_grad]


def equal(one, other):
    return one[0] == other[0] and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", SERVED)
def test_training_ends_its_backward_pass_at_the_lowest_adapter_and_repeats_itself(family):
    loop, _ = loop_of(family)
    entering = []
    decoder_layers(loop.model)[2].register_forward_pre_hook(
        lambda _, args, kwargs: entering.append((args or [kwargs["hidden_states"]])[0].grad_fn), with_kwargs=True
    )
    plain = outcome(loop)
    assert entering == [None] * 4
    assert loop.placement["frozen_layers"] == 2
    with torch.no_grad():
        labelled = [int((batch["labels"][:, 1:] != -100).sum()) for batch in BATCHES[:2]]
        own = [tiny_model(family)(**batch).loss * n for batch, n in zip(BATCHES, labelled, strict=False)]
    assert plain[0][0] == pytest.approx(float(sum(own)) / sum(labelled), rel=1e-5)
    kept, prefix = loop_of(family, kept=True)
    assert (prefix is None) == (family == "gemma4_text")
    assert equal(plain, outcome(kept))
    assert equal(plain, outcome(loop_of(family, checkpointing=True)[0]))


def test_no_prefix_is_kept_for_layers_that_take_keys_and_values_of_layers_below():
    loop, _ = loop_of("gemma4_text")
    batches = [TokenBatch.from_labels(**batch) for batch in BATCHES]
    choice = choose_prefix("auto", loop.model, 2, train=batches, heldout=[], place=PrefixPlace(None))
    assert choice.store == "off"
    assert "found 1 that take keys and values of layers below (num_kv_shared_layers)" in choice.reason
