"""The training loss: cross-entropy of the target tokens, computed at the positions that predict one and at no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aletheia.method.token_loss import cross_entropy, head_at, predicted

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
    tensors = (batch["input_ids"], *predicted(batch["labels"]))
    return MicroBatch(*(tensor.to(device) for tensor in tensors), tokens=int(batch["attention_mask"].sum()))


def summed_loss(model: PeftModel, batch: MicroBatch) -> torch.Tensor:
    """Return the cross-entropy of a micro-batch, summed over its targets, in nats.

    Equal to the model's own loss times the number of targets. No attention mask is made: what pads stands to the right,
    where causal attention does not look.

    Parameters
    ----------
    model
        A causal language model with adapters.
    batch
        From :func:`prepared`.
    """
    with head_at(model, batch.positions):
        logits = model(input_ids=batch.input_ids, use_cache=False).logits
    return cross_entropy(logits, batch.targets, reduction="sum")
