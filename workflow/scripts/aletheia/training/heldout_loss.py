"""Held-out loss: mean cross-entropy a target token on rows that no arm trained on (the paper's section 4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from aletheia.method.token_loss import token_losses
from aletheia.training.encoding import collate

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aletheia.method.token_batch import TokenBatch


class RowLoss(NamedTuple):
    """The loss of one row.

    Attributes
    ----------
    index
        Of the row among the examples.
    tokens
        Number of its target tokens.
    total
        Their summed cross-entropy in nats.
    """

    index: int
    tokens: int
    total: float


def row_losses(
    model: PreTrainedModel,
    examples: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    pad_token_id: int,
    around: Callable[[TokenBatch], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[list[RowLoss]]:
    """Yield the losses of the rows, one forward pass after another, so that a caller may look at a clock in between.

    Parameters
    ----------
    model
        A causal language model, with or without adapters; between passes its mode is as found.
    examples
        Encoded rows (``input_ids``, ``labels``).
    batch_size
        Rows a forward pass.
    pad_token_id
        Token that fills a batch up.
    around
        Returns the context that a pass over a batch runs in, such as one that reads a kept frozen prefix.
    """
    for indices, batch in passes(examples, batch_size=batch_size, pad_token_id=pad_token_id):
        with around(batch):
            sums = _pass(model, batch)
        yield [RowLoss(i, count, total) for i, (count, total) in zip(indices, sums, strict=True)]


def passes(
    examples: Sequence[Mapping[str, Any]], *, batch_size: int, pad_token_id: int
) -> Iterator[tuple[list[int], TokenBatch]]:
    """Yield the rows of each forward pass and their batch; rows of like length share one, the shortest come first."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield indices, collate([examples[i] for i in indices], pad_token_id)


def _pass(model: PreTrainedModel, batch: TokenBatch) -> list[tuple[int, float]]:
    """Return the number of targets and their summed loss for each sequence of a batch on the host."""
    import torch

    counts = batch.targets_by_sequence().tolist()
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            each = token_losses(model, batch.to(model.device))
    finally:
        model.train(training)
    totals = torch.stack([part.sum() for part in each.split(counts)])
    return list(zip(counts, totals.tolist(), strict=True))


def mean_loss(rows: Iterable[RowLoss]) -> float | None:
    """Return the summed loss over the summed tokens, or None where there is none or it is not finite."""
    rows = list(rows)
    tokens, total = sum(row.tokens for row in rows), math.fsum(row.total for row in rows)
    return total / tokens if tokens and math.isfinite(total) else None
