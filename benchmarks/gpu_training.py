"""Seconds of one optimiser step on a GPU by arm, joined and plain, and how busy the GPU is; prints one JSON object.

    python benchmarks/gpu_training.py           shapes of the paper's models, 0.5B to 8B, random bf16 weights
    python benchmarks/gpu_training.py --models qwen2.5-0.5b llama-3.1-8b      some of them
    python benchmarks/gpu_training.py --tiny    the same on tiny shapes, on a CPU too: does it run?

A step has two micro-batches of four rows, the longest of 512 tokens and the others of 70 to 100 % of that, so that a
tenth of the padded positions is padding. In turns, on equal batches: the arms of bench_training.py, with and without
gradient checkpointing; `plain`, the same arms with PEFT's modules on padded rows; the variants of bench_step.py; the
frozen prefix (prefix_sides.py). The gradient selection is that of our own probe on the same random weights. Peak memory
is that of a step above what the weights and all arms' adapters take. `launches` has a step's kernels and the share of
the wall clock in which one runs: far below 1, a step waits for the CPU to launch kernels, and what an arm leaves out is
launches, not arithmetic.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from typing import Any

import torch
from bench_step import loop_sides, step_ratios
from bench_training import ACCUMULATION, BATCH, arm_ratios, arm_sides
from gpu_probe import QWEN, SHAPES, TINY, measured, random_model
from prefix_sides import prefix_ratios, prefix_sides
from run import interleaved, ratio

from aletheia.method.probe import probe_layers
from aletheia.method.selection import select_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.training.computation import Joins

MODELS = {
    **SHAPES,
    "qwen2.5-3b": {
        **QWEN,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
}
PLAIN = Joins(linears=False, rows=False, elementwise=False)
SHORTEST = 0.7  # of the longest row's tokens


def random_batch(vocabulary: int, sequences: int, tokens: int, seed: int) -> TokenBatch:
    """Return a batch of random tokens, each a target, in rows of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary, (sequences, tokens), generator=generator)
    lengths = torch.randint(int(SHORTEST * tokens), tokens + 1, (sequences, 1), generator=generator)
    lengths[0] = tokens
    mask = (torch.arange(tokens) < lengths).long()
    return TokenBatch.from_labels(ids, torch.where(mask.bool(), ids, -100), attention_mask=mask)


def launches(step: Callable[[], float], device: torch.device) -> dict[str, Any] | None:
    """Return the number of a step's kernels, their seconds, and the share of the wall clock in which one runs."""
    if device.type == "cpu":
        step()
        return None
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        seconds = step()
    kernels = [event for event in profiled.events() if event.device_type == DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6
    return {"kernels": len(kernels), "seconds": busy, "busy": busy / seconds}


def compare(shape: dict[str, Any], *, tokens: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Return medians, ratios, launches and peak memory of one shape."""
    model = random_model(shape, device)
    vocabulary = shape["vocab_size"]
    probed = [random_batch(vocabulary, 1, tokens, seed) for seed in range(5)]
    layers = select_layers(probe_layers(model, probed).scores(), budget_percent=50)
    # Two steps more, for the memory and the launches.
    batches = [random_batch(vocabulary, BATCH, tokens, seed) for seed in range(ACCUMULATION * (rounds + 3))]
    sides = arm_sides(model, batches, layers)
    plain = arm_sides(model, batches, layers, joins=PLAIN, checkpointing=False)
    both = interleaved({**sides, **{f"{name}, plain": step for name, step in plain.items()}}, rounds=rounds)
    seconds, plain_seconds = {name: both[name] for name in sides}, {name: both[f"{name}, plain"] for name in plain}
    variants = interleaved(loop_sides(model, batches, dtype="bf16"), rounds=rounds)
    kept = interleaved(prefix_sides(model, batches, accumulation=ACCUMULATION), rounds=rounds)
    return {
        "gradient_layers": layers,
        "median_seconds": {name: statistics.median(values) for name, values in both.items()},
        "ratios": arm_ratios(seconds, ratio),
        "ratios_plain": arm_ratios(plain_seconds, ratio),
        "joins": step_ratios(variants, ratio),
        **prefix_ratios(kept, ratio),
        "launches": {name: launches(step, device) for name, step in sides.items()},
        "launches_plain": {name: launches(step, device) for name, step in plain.items()},
        "peak_bytes_of_a_step": {name: measured(step, device)[2] for name, step in sides.items()},
    }


def main() -> None:
    """Run the shapes and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="which shapes")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, 16 tokens")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of the longest row")
    parser.add_argument("--rounds", type=int, default=9, help="rounds after the first")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not args.tiny:
        parser.error("no GPU found; --tiny runs tiny shapes on a CPU")
    small = {**TINY, "num_hidden_layers": 4, "vocab_size": 96} if args.tiny else {}
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"
    result: dict[str, Any] = {"card": card, "torch": torch.__version__}
    for name in args.models:
        shape = {**MODELS[name], **small}
        result[name] = compare(shape, tokens=16 if args.tiny else args.tokens, rounds=args.rounds, device=device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
