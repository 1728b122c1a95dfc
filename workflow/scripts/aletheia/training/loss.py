"""The training loss: cross-entropy of the target tokens, computed at the positions that predict one and at no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from peft import PeftModel


class MicroBatch(NamedTuple):
    """A collated batch as the loss reads it, on the device that computes.

    Attributes
    ----------
    input_ids
        Token ids, int64 of shape (sequences, longest), padded on the right.
    positions
        Where a target is predicted, int64 of shape (targets,), into the flattened (sequences · longest).
    targets
        The tokens predicted there, int64 of shape (targets,).
    tokens
        Number of tokens that are no padding.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    tokens: int


def prepared(batch: Mapping[str, Any], device: Any) -> MicroBatch:
    """Return a batch of :func:`aletheia.training.encoding.collate` as :func:`summed_loss` takes it.

    The positions are found here, on the host: found on a GPU during a step they would cost a synchronisation each.
    """
    import torch

    from aletheia.method.token_loss import IGNORE

    following = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE).flatten()
    positions = (following != IGNORE).nonzero().flatten()
    tensors = (batch["input_ids"], positions, following[positions])
    return MicroBatch(*(tensor.to(device) for tensor in tensors), tokens=int(batch["attention_mask"].sum()))


def summed_loss(model: PeftModel, batch: MicroBatch) -> torch.Tensor:
    """Return the cross-entropy of a micro-batch, summed over its targets, in nats.

    Equal to the model's own loss times the number of targets. The head's logits (one for each word of the vocabulary,
    the widest tensor of a small model) are computed for the positions that predict a target alone, and no attention
    mask is made: what pads stands to the right, where causal attention does not look.

    Parameters
    ----------
    model
        A causal language model with adapters.
    batch
        From :func:`prepared`.
    """
    from torch.nn.functional import cross_entropy

    def targets_only(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, batch.positions.to(inputs[0].device)),)

    hook = model.get_output_embeddings().register_forward_pre_hook(targets_only)
    try:
        logits = model(input_ids=batch.input_ids, use_cache=False).logits
    finally:
        hook.remove()
    return cross_entropy(logits.float(), batch.targets.to(logits.device), reduction="sum")
