"""Steps of arms in the last layers that keep the states of the frozen layers below, or read them back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aletheia.method.adapters import attach, placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.study.schema import section_defaults
from aletheia.timing.interleaving import copy_sharing_weights
from aletheia.training.frozen_prefix import FrozenPrefix
from aletheia.training.loop import Loop
from aletheia.training.prefix_blocks import MemoryBlocks

ALL, READS, KEEPS = "all", "reads", "keeps"
SUFFIXES = {"last_half": (2, 16), "last_third": (3, 16)}  # the last 1/n of the layers, and the rank
EPOCHS = 3
RANK, SEED = 16, 42


def prefix_sides(
    base: Any,
    batches: Sequence[Any],
    *,
    accumulation: int,
    dtype: str = "bf16",
    suffixes: Mapping[str, tuple[int, int]] = SUFFIXES,
) -> dict[str, Callable[[], float]]:
    """Return what times the next step of each arm.

    Parameters
    ----------
    base
        A base model, whose weights the arms share.
    batches
        Micro-batches of all steps, on the host.
    accumulation
        Micro-batches a step.
    dtype
        That all sides compute in.
    suffixes
        By name: n of the last 1/n of the layers, and the rank of their adapters.

    Returns
    -------
    dict
        ``all``: adapters in all layers. For each suffix: its plain step (``last_half``), one that keeps the states of
        the frozen layers (``last_half, keeps``), and one that reads them back (``last_half, reads``): the second visit,
        after an untimed first one.
    """
    depth = base.config.num_hidden_layers
    every, again = list(batches), []
    for first in range(0, len(every), accumulation):
        again += every[first : first + accumulation] * 2
    common = {"accumulation": accumulation, "dtype": dtype}
    sides = {ALL: _side(base, every, range(depth), RANK, **common)}
    for name, (share, rank) in suffixes.items():
        layers = range(depth - depth // share, depth)
        sides[name] = _side(base, every, layers, rank, **common)
        sides[f"{name}, {KEEPS}"] = _side(base, every, layers, rank, **common, kept=True)
        sides[f"{name}, {READS}"] = _side(base, again, layers, rank, **common, kept=True, visited=True)
    return sides


def prefix_ratios(seconds: dict[str, list[float]], ratio: Callable[..., Any]) -> dict[str, Any]:
    """Return the ratio of all layers to each suffix: plain, from the second visit on, and over three epochs.

    Parameters
    ----------
    seconds
        By side, by round.
    ratio
        Of two lists of seconds, with its interval (``benchmarks/run.py``).
    """
    found = {}
    for name in SUFFIXES:
        keeps, reads = seconds[f"{name}, {KEEPS}"], seconds[f"{name}, {READS}"]
        epochs = [(keep + (EPOCHS - 1) * read) / EPOCHS for keep, read in zip(keeps, reads, strict=True)]
        found[f"prefix_{name}"] = {
            **ratio(seconds[ALL], reads),
            f"over_{EPOCHS}_epochs": ratio(seconds[ALL], epochs),
            "plain": ratio(seconds[ALL], seconds[name]),
            "keeping_over_plain": ratio(keeps, seconds[name]),
            "median_seconds": {ALL: statistics.median(seconds[ALL]), READS: statistics.median(reads)},
        }
    return found


def _side(
    base: Any,
    batches: Sequence[Any],
    layers: range,
    rank: int,
    *,
    accumulation: int,
    dtype: str,
    kept: bool = False,
    visited: bool = False,
) -> Callable[[], float]:
    model = copy_sharing_weights(base)
    model = attach(model, placement_plan(adaptable_layers(model), list(layers), rank=rank), dropout=0, seed=SEED)
    settings = {**section_defaults("training"), "accumulation": accumulation}
    loop = Loop(
        model,
        batches,
        settings=settings,
        steps=len(batches) // accumulation,
        learning_rate=settings["learning_rate"],
        dtype=dtype,
        seed=SEED,
        prefix=FrozenPrefix(model, layers[0], MemoryBlocks()) if kept else None,
    )

    def step() -> float:
        if visited:
            loop.step()
        start = time.perf_counter()
        loop.step()
        return time.perf_counter() - start

    return step
