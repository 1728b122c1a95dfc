"""Seconds of one optimiser step on a GPU by arm, with and without gradient checkpointing; prints one JSON object.

    python benchmarks/gpu_training.py           Qwen2.5-0.5B, 1.5B, 7B shapes, random bf16 weights, 2 x 4 x 512 tokens
    python benchmarks/gpu_training.py --tiny    the same on tiny shapes, on a CPU too: does it run?

The arms are those of bench_training.py and of the frozen prefix (prefix_sides.py), on equal batches, in turns; the
gradient selection is that of our own probe on the same random weights. Peak memory is that of an arm's step above what
the weights and all arms' adapters take.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from typing import Any

import torch
from bench_training import ACCUMULATION, BATCH, arm_ratios, arm_sides
from gpu_probe import SHAPES, TINY, measured, random_model
from prefix_sides import prefix_ratios, prefix_sides
from run import interleaved, ratio

from aletheia.method.probe import probe_layers
from aletheia.method.selection import select_layers
from aletheia.method.token_batch import TokenBatch


def random_batch(vocabulary: int, sequences: int, tokens: int, seed: int) -> TokenBatch:
    """Return a batch of random tokens, each a target."""
    ids = torch.randint(vocabulary, (sequences, tokens), generator=torch.Generator().manual_seed(seed))
    return TokenBatch.from_labels(ids, ids.clone(), attention_mask=torch.ones_like(ids))


def compare(shape: dict[str, Any], *, tokens: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Return medians, ratios and peak memory of one shape."""
    model = random_model(shape, device)
    vocabulary = shape["vocab_size"]
    probed = [random_batch(vocabulary, 1, tokens, seed) for seed in range(5)]
    layers = select_layers(probe_layers(model, probed).scores(), budget_percent=50)
    # One step more for the memory.
    batches = [random_batch(vocabulary, BATCH, tokens, seed) for seed in range(ACCUMULATION * (rounds + 2))]
    sides = arm_sides(model, batches, layers)
    seconds = interleaved(sides, rounds=rounds)
    kept = prefix_sides(model, batches, accumulation=ACCUMULATION)
    return {
        "gradient_layers": layers,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratios": arm_ratios(seconds, ratio),
        **prefix_ratios(interleaved(kept, rounds=rounds), ratio),
        "peak_bytes_of_a_step": {name: measured(step, device)[2] for name, step in sides.items()},
    }


def main() -> None:
    """Run the shapes and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, 16 tokens")
    parser.add_argument("--tokens", type=int, default=512, help="tokens a sequence")
    parser.add_argument("--rounds", type=int, default=9, help="rounds after the first")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not args.tiny:
        parser.error("no GPU found; --tiny runs tiny shapes on a CPU")
    shapes = {n: {**s, **TINY, "num_hidden_layers": 4, "vocab_size": 96} if args.tiny else s for n, s in SHAPES.items()}
    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU"
    result: dict[str, Any] = {"card": card, "torch": torch.__version__}
    for name, shape in shapes.items():
        result[name] = compare(shape, tokens=16 if args.tiny else args.tokens, rounds=args.rounds, device=device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
