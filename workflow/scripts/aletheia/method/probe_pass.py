"""One forward and backward pass of the probe: several batches side by side, each with the loss of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from aletheia.method.token_batch import TokenBatch
from aletheia.method.token_loss import cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Families whose logits are their head's output for the last hidden state, and whose loss is the mean over labels.
# Others scale their logits or cap them (Granite, Cohere, Gemma 2), and compute all of them.
PLAIN_HEADS = {
    *("gpt_neox", "gptj", "llama", "mistral", "mixtral", "olmo", "phi3", "qwen2", "stablelm"),
    *("apertus", "arcee", "biogpt", "bitnet", "bloom", "codegen", "cwm", "deepseek_v2", "deepseek_v3", "diffllama"),
    *("dots1", "ernie4_5", "ernie4_5_moe", "exaone4", "exaone_moe", "falcon", "flex_olmo", "gemma", "gemma3_text"),
    *("glm", "glm4", "glm4_moe", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_oss", "helium", "hunyuan_v1_dense"),
    *("hunyuan_v1_moe", "lfm2", "lfm2_moe", "minimax", "minimax_m2", "ministral", "ministral3", "mpt"),
    *("nemotron", "olmo2", "olmo3", "olmo_hybrid", "olmoe", "opt", "persimmon", "phi", "phimoe", "qwen2_moe", "qwen3"),
    *("qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "seed_oss", "smollm3", "starcoder2", "xglm"),
    "youtu",
}
# Settings with which one of them is not: a term for the routers in the loss, a cap on the logits.
OWN_LOSS = ("output_router_logits", "final_logit_softcapping")
# Logits at a time: 32 MiB on a CPU, 256 MiB on a GPU, in fp32; the loss holds about three times as much.
MAX_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 26}


def has_plain_head(model: PreTrainedModel) -> bool:
    """Tell whether the loss may be computed from the last hidden states of the labelled positions alone."""
    own = any(getattr(model.config, setting, None) for setting in OWN_LOSS)
    return model.config.model_type in PLAIN_HEADS and not own and model.get_output_embeddings() is not None


def group_batches(batches: Sequence[TokenBatch], *, tokens: int) -> Iterator[list[TokenBatch]]:
    """Yield lists of successive batches, each for one pass.

    Parameters
    ----------
    batches
        Batches of the probe. One with further inputs has a pass of its own.
    tokens
        The most tokens of a pass, padding included. A batch that has more has a pass of its own.
    """
    group: list[TokenBatch] = []
    for batch in batches:
        together = [*group, batch]
        shapes = [other.input_ids.shape for other in together]
        size = sum(sequences for sequences, _ in shapes) * max(length for _, length in shapes)
        alike = not any(other.further for other in together)
        if group and not (alike and len({sequences for sequences, _ in shapes}) == 1 and size <= tokens):
            yield group
            together = [batch]
        group = together
    if group:
        yield group


def join_batches(group: Sequence[TokenBatch]) -> TokenBatch:
    """Return the batches of a pass one after another, padded on the right to their longest."""
    if len(group) == 1:
        return group[0]
    longest = max(batch.input_ids.shape[1] for batch in group)
    ids, masks, positions, sequences_before = [], [], [], 0
    for batch in group:
        sequences, length = batch.input_ids.shape
        mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
        ids.append(pad(batch.input_ids, (0, longest - length)))
        masks.append(pad(mask, (0, longest - length)))
        positions.append((sequences_before + batch.positions // length) * longest + batch.positions % length)
        sequences_before += sequences
    return TokenBatch(
        torch.cat(ids), torch.cat(masks), torch.cat(positions), torch.cat([batch.targets for batch in group])
    )


def run(
    model: PreTrainedModel, batch: TokenBatch, batches: int, *, after_forward: Callable[[], None] | None = None
) -> torch.Tensor:
    """Send the batches of a group forward and backward together.

    The loss is the sum of the batches' mean losses, so that each batch has the gradient that it would have in a pass
    of its own.

    Parameters
    ----------
    model
        A causal language model.
    batch
        The batches of a group, joined (:func:`join_batches`).
    batches
        Their number.
    after_forward
        Called between the two passes.

    Returns
    -------
    torch.Tensor
        The mean loss of each batch in nats a target, fp32 of shape (batches,), on the model's device.
    """
    inputs = _inputs(model, batch)
    if not has_plain_head(model):
        loss = model(**inputs, labels=batch.labels().to(input_device(model)), use_cache=False).loss
        if after_forward:
            after_forward()
        loss.backward()
        return loss.detach().reshape(1)
    owners = batch.positions // (batch.input_ids.numel() // batches)
    hidden = model.base_model(**inputs, use_cache=False)[0]
    if after_forward:
        after_forward()
    predicting = hidden.flatten(0, 1).index_select(0, batch.positions.to(hidden.device))
    losses, gradient = _losses(model.get_output_embeddings(), predicting.detach(), batch.targets, owners, batches)
    predicting.backward(gradient)
    return losses


@torch.no_grad()
def run_forward(model: PreTrainedModel, batch: TokenBatch) -> None:
    """Send a batch through the decoder layers alone, for what listens to them."""
    model.base_model(**_inputs(model, batch), use_cache=False)


def _inputs(model: PreTrainedModel, batch: TokenBatch) -> dict[str, torch.Tensor]:
    return {name: values.to(input_device(model)) for name, values in batch.inputs().items()}


def _losses(
    head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor, batches: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each batch's mean cross-entropy, and the gradient of their sum with respect to ``hidden``.

    The logits are computed in parts of at most :data:`MAX_LOGITS` numbers.

    Parameters
    ----------
    head
        The map from hidden states to logits.
    hidden
        Last hidden states where a target is predicted, of shape (targets, hidden size).
    targets
        int64 of shape (targets,).
    owners
        The batch that each target belongs to, int64 of shape (targets,), from 0.
    batches
        Number of batches.

    Returns
    -------
    tuple of torch.Tensor
        Losses in nats, fp32 of shape (batches,), and the gradient, of the shape and dtype of ``hidden``.
    """
    targets, owners = targets.to(hidden.device), owners.to(hidden.device)
    counts = torch.bincount(owners, minlength=batches).float()
    share = (1 / counts)[owners]
    sums = torch.zeros(batches, device=hidden.device)
    gradient = torch.empty_like(hidden)
    rows = max(1, MAX_LOGITS.get(hidden.device.type, MAX_LOGITS["cuda"]) // head.weight.shape[0])
    for start in range(0, len(hidden), rows):
        part = slice(start, start + rows)
        leaf = hidden[part].requires_grad_()
        each = cross_entropy(head(leaf), targets[part])
        (gradient[part],) = torch.autograd.grad(each, leaf, share[part].to(each.device))
        sums.index_add_(0, owners[part], each.detach().to(hidden.device))
    return sums / counts, gradient


def input_device(model: PreTrainedModel) -> torch.device:
    """Return the device of the model's embeddings, which take the tokens; ``device_map`` may put the rest elsewhere."""
    embeddings = model.get_input_embeddings()
    hook = getattr(embeddings, "_hf_hook", None)  # accelerate's, for weights that are kept on another device
    device = getattr(hook, "execution_device", None)
    return embeddings.weight.device if device is None else torch.device(device)
