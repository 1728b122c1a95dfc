"""Choose between bf16 and fp32 by what this machine does faster, once for all jobs of a model."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPEATS = 3  # of each; interleaved, so that a busy moment meets both


def faster_dtype(model: PreTrainedModel, *, sequences: int, tokens: int) -> tuple[str, dict[str, float]]:
    """Return the faster of bf16 and fp32 for one forward and backward pass, and the median seconds of each.

    Parameters
    ----------
    model
        A model in fp32; its weights are not changed.
    sequences, tokens
        Shape of the micro-batch that training will use.

    Returns
    -------
    tuple
        ``"bf16"`` or ``"fp32"``, and ``{dtype: seconds}``. On a GPU bf16 is taken without measuring where the device
        supports it.
    """
    import copy

    import torch

    if torch.cuda.is_available():
        return ("bf16" if torch.cuda.is_bf16_supported() else "fp32"), {}
    twins = {"fp32": model, "bf16": copy.deepcopy(model).to(torch.bfloat16)}
    generator = torch.Generator().manual_seed(0)
    vocabulary = int(model.config.vocab_size)
    ids = torch.randint(0, vocabulary, (sequences, tokens), generator=generator)
    seconds: dict[str, list[float]] = {name: [] for name in twins}
    for _ in range(REPEATS + 1):
        for name, twin in twins.items():
            seconds[name].append(_pass_seconds(twin, ids))
    # The first pass of each fills caches and is left out.
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    return min(medians, key=lambda name: medians[name]), medians


def _pass_seconds(model: PreTrainedModel, ids: Any) -> float:
    """Time one forward and one backward pass through all layers, down to the embeddings' output."""
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_(True)
    start = time.perf_counter()
    model(inputs_embeds=embedded, labels=ids, use_cache=False).loss.backward(inputs=[embedded])
    return time.perf_counter() - start
