"""Seconds of the passes of one step (2 micro-batches of 2 × 128 tokens) of SmolLM2-135M with adapters in some layers.

Forward and backward only, without the optimiser's update. Needs the default study's staged model and one selection:
`snakemake results/select/smollm2-135m/ale/seed42.json`, which `make bench` runs first.

The gradient selection of the default study (seed 42), the last half, the last half but one with layer 0, every other
layer, and half the rank, each against all layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCK = Path("resources/models/smollm2-135m.lock.json")
SELECTION = Path("results/select/smollm2-135m/ale/seed42.json")


def _step(model: Any, ids: Any) -> float:
    import torch

    start = time.perf_counter()
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
    model.zero_grad()
    return time.perf_counter() - start


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return the ratios; needs the default study's staged model and its selection."""
    import torch

    from aletheia import artifacts
    from aletheia.adapters import attach, placement_plan
    from aletheia.layers import adaptable_layers
    from aletheia.models import load

    ids = torch.randint(0, 40_000, (2, 128), generator=torch.Generator().manual_seed(0))
    gradient = artifacts.payload(SELECTION, "selection")["layers"]
    arms = {
        "all": (range(30), 16),
        "gradient_half": (gradient, 16),
        "last_half": (range(15, 30), 16),
        "last_half_with_layer_0": ([0, *range(16, 30)], 16),
        "every_other": (range(0, 30, 2), 16),
        "all_rank_halved": (range(30), 8),
    }
    sides = {}
    for name, (layers, rank) in arms.items():
        model, _ = load(LOCK, dtype="bf16")
        plan = placement_plan(adaptable_layers(model), list(layers), rank=rank)
        model = attach(model, plan, dropout=0, seed=0).train()
        sides[name] = lambda model=model: _step(model, ids)
    seconds = interleaved(sides, rounds=rounds)
    return {
        "what": __doc__.splitlines()[0],
        "gradient_layers": gradient,
        "seconds": seconds,
        "ratios": {f"all / {name}": ratio(seconds["all"], seconds[name]) for name in sides if name != "all"},
    }
