"""Held-out loss: mean cross-entropy a target token on rows that no arm trained on (the paper's section 4.4)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.method.token_loss import cross_entropy, head_at, predicted

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def row_losses(
    model: PreTrainedModel, examples: Sequence[Mapping[str, Any]], *, batch_size: int, pad_token_id: int
) -> list[tuple[int, float]]:
    """Return the number of target tokens and their summed cross-entropy for each row.

    Parameters
    ----------
    model
        A causal language model, with or without adapters; its mode is left as found.
    examples
        Encoded rows (``input_ids``, ``labels``; −100 marks what is no target).
    batch_size
        Rows a forward pass; rows of like length share a pass.
    pad_token_id
        Token that fills a batch up.

    Returns
    -------
    list of tuple
        ``(tokens, summed loss in nats)`` in the order of ``examples``.
    """
    import torch

    from aletheia.training.encoding import collate

    order = sorted(range(len(examples)), key=lambda i: len(examples[i]["input_ids"]))
    results: list[tuple[int, float]] = [(0, 0.0)] * len(examples)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch = collate([examples[i] for i in indices], pad_token_id)
            batch = {key: value.to(model.device) for key, value in batch.items()}
            positions, targets = predicted(batch.pop("labels"))
            with torch.no_grad(), head_at(model, positions):
                each = cross_entropy(model(**batch, use_cache=False).logits, targets)
            owners = positions // batch["input_ids"].shape[1]
            counts = torch.bincount(owners, minlength=len(indices)).tolist()
            losses = torch.stack([part.sum() for part in each.split(counts)])
            for i, count, loss in zip(indices, counts, losses.tolist(), strict=True):
                results[i] = (count, loss)
    finally:
        model.train(training)
    return results


def mean_loss(rows: Sequence[tuple[int, float]]) -> float | None:
    """Return the summed loss over the summed tokens, or None where there is none or it is not finite."""
    tokens = sum(count for count, _ in rows)
    total = math.fsum(loss for _, loss in rows)
    return total / tokens if tokens and math.isfinite(total) else None
