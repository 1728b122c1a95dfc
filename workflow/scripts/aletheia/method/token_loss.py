"""The loss of a language model: cross-entropy of the tokens that count, each predicted from those before it.

With labels y [sequences, tokens], of which :data:`IGNORE` marks what is no target, the model's loss is the mean of
−log p(y_{t+1} | x_1 … x_t) over all positions t whose next label counts. Only there the head's logits are needed: one
for each word of the vocabulary, the widest tensor of a small model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from aletheia.method.token_batch import TokenBatch

IGNORE = -100  # the label of a token that does not count; torch's cross-entropy leaves it out


def find_targets(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the positions at which targets are predicted, and the targets.

    On a GPU this costs a synchronisation, so find the positions on the host, before the steps.

    Parameters
    ----------
    labels
        int64 of shape (sequences, longest).

    Returns
    -------
    tuple of torch.Tensor
        Positions into the flattened (sequences · longest), ascending, and the token that follows each; both int64 of
        shape (targets,).
    """
    from torch.nn.functional import pad

    following = pad(labels[:, 1:], (0, 1), value=IGNORE).flatten()
    positions = (following != IGNORE).nonzero().flatten()
    return positions, following[positions]


@contextlib.contextmanager
def head_at(model: PreTrainedModel, positions: torch.Tensor) -> Iterator[None]:
    """Let the head compute logits at ``positions`` alone, of shape (targets, vocabulary) (see :func:`find_targets`)."""

    def targets_only(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        return (inputs[0].flatten(0, 1).index_select(0, positions.to(inputs[0].device)),)

    hook = model.get_output_embeddings().register_forward_pre_hook(targets_only)
    try:
        yield
    finally:
        hook.remove()


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, *, reduction: str = "none") -> torch.Tensor:
    """Return −log p of each target in nats, in fp32; with ``reduction="sum"`` their sum.

    Parameters
    ----------
    logits
        Of shape (targets, vocabulary), in any precision.
    targets
        int64 of shape (targets,), on any device.
    """
    from torch.nn import functional

    return functional.cross_entropy(logits.float(), targets.to(logits.device), reduction=reduction)


def token_losses(model: PreTrainedModel, batch: TokenBatch, *, reduction: str = "none") -> torch.Tensor:
    """Return −log p of each target of a batch in nats, of shape (targets,); with ``reduction="sum"`` their sum.

    The sum equals the model's own loss times the number of targets.

    Parameters
    ----------
    model
        A causal language model, with or without adapters.
    batch
        On the device where the model wants its tokens.
    """
    with head_at(model, batch.positions):
        logits = model(**batch.inputs(), use_cache=False).logits
    return cross_entropy(logits, batch.targets, reduction=reduction)
