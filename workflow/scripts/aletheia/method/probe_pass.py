"""One forward and backward pass of the probe: several batches side by side, each with the loss of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from aletheia.method.token_loss import IGNORE, cross_entropy, predicted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = Mapping[str, torch.Tensor]
# Families whose logits are their head's output for the last hidden state, and whose loss is the mean over labels.
PLAIN_HEADS = {"gpt_neox", "gptj", "llama", "mistral", "mixtral", "olmo", "phi3", "qwen2", "stablelm"}
# Logits at a time: 32 MiB on a CPU, 256 MiB on a GPU, in fp32; the loss holds about three times as much.
LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}


def has_plain_head(model: PreTrainedModel) -> bool:
    """Tell whether the loss may be computed from the last hidden states, just where there are labels."""
    routed = getattr(model.config, "output_router_logits", False)  # its loss has a term of the routers' own
    return model.config.model_type in PLAIN_HEADS and not routed and model.get_output_embeddings() is not None


def grouped(batches: Sequence[Batch], *, tokens: int) -> Iterator[list[Batch]]:
    """Yield runs of successive batches that may go through together.

    Parameters
    ----------
    batches
        Dicts of ``input_ids``, ``attention_mask`` and ``labels``; those with other keys go alone.
    tokens
        The most tokens of a pass, padding counted; a batch that has more goes alone.
    """
    group: list[Batch] = []
    for batch in batches:
        together = [*group, batch]
        shapes = [other["input_ids"].shape for other in together]
        size = sum(sequences for sequences, _ in shapes) * max(length for _, length in shapes)
        alike = all(set(other) <= {"input_ids", "attention_mask", "labels"} for other in together)
        if group and not (alike and len({sequences for sequences, _ in shapes}) == 1 and size <= tokens):
            yield group
            together = [batch]
        group = together
    if group:
        yield group


def joined(group: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """Return the batches of a pass one after another, padded on the right to their longest."""
    if len(group) == 1:
        return dict(group[0])
    longest = max(batch["input_ids"].shape[1] for batch in group)
    fillers = {"input_ids": 0, "attention_mask": 0, "labels": IGNORE}

    def widened(batch: Batch, key: str) -> torch.Tensor:
        values = batch[key] if key in batch else torch.ones_like(batch["input_ids"])
        return torch.nn.functional.pad(values, (0, longest - values.shape[1]), value=fillers[key])

    return {key: torch.cat([widened(batch, key) for batch in group]) for key in fillers}


def run(model: PreTrainedModel, group: Sequence[Batch]) -> torch.Tensor:
    """Send the batches of a group forward and backward together.

    The loss is the sum of the batches' mean losses, so what one sequence receives as gradient is what it would alone.

    Returns
    -------
    torch.Tensor
        The loss of each batch.
    """
    batch = joined(group)
    device = input_device(model)
    inputs: dict[str, Any] = {key: value.to(device) for key, value in batch.items()}
    if not has_plain_head(model):
        loss = model(**inputs, use_cache=False).loss
        loss.backward()
        return loss.detach().reshape(1)
    positions, targets = predicted(batch["labels"])
    owners = positions // (batch["labels"].numel() // len(group))
    del inputs["labels"]
    hidden = model.base_model(**inputs, use_cache=False)[0]
    predicting = hidden.flatten(0, 1).index_select(0, positions.to(hidden.device))
    losses, gradient = _losses(model.get_output_embeddings(), predicting.detach(), targets, owners, len(group))
    predicting.backward(gradient)
    return losses


def _losses(
    head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor, batches: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each batch's mean cross-entropy and the gradient of their sum for ``hidden``, some logits at a time."""
    targets, owners = targets.to(hidden.device), owners.to(hidden.device)
    counts = torch.bincount(owners, minlength=batches).float()
    share = (1 / counts)[owners]
    sums = torch.zeros(batches, device=hidden.device)
    gradient = torch.empty_like(hidden)
    rows = max(1, LOGITS.get(hidden.device.type, LOGITS["cuda"]) // head.weight.shape[0])
    for start in range(0, len(hidden), rows):
        part = slice(start, start + rows)
        leaf = hidden[part].requires_grad_()
        each = cross_entropy(head(leaf), targets[part])
        (gradient[part],) = torch.autograd.grad(each, leaf, share[part].to(each.device))
        sums.index_add_(0, owners[part], each.detach().to(hidden.device))
    return sums / counts, gradient


def input_device(model: PreTrainedModel) -> torch.device:
    """Return where the model wants its tokens: at its embeddings, wherever ``device_map`` put the rest."""
    embeddings = model.get_input_embeddings()
    hook = getattr(embeddings, "_hf_hook", None)  # accelerate's, where embeddings are kept elsewhere than they run
    place = getattr(hook, "execution_device", None)
    return embeddings.weight.device if place is None else torch.device(place)
