"""Seconds and memory of the probe on a GPU, exact and sketch, against the authors' package; prints one JSON object.

    python benchmarks/gpu_probe.py              Qwen2.5-0.5B, 1.5B, 7B shapes, random bf16 weights, 5 batches of 512
    python benchmarks/gpu_probe.py --tiny       the same on tiny shapes, on a CPU too: does it run?

All sides get the same batches, every token a label, and take turns in one process. The authors' probe computes in fp16
autocast by its own default; here it is told bf16, the dtype of the weights, as ours computes.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "workflow" / "scripts")]

from aletheia.method.probe import TOKENS_PER_PASS, probe_layers  # noqa: E402

QWEN = {"vocab_size": 151936, "max_position_embeddings": 32768, "rope_theta": 1e6}
SHAPES = {
    "qwen2.5-0.5b": {
        **QWEN,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-1.5b": {
        **QWEN,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "qwen2.5-7b": {
        **QWEN,
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


def random_model(shape: dict[str, Any], device: torch.device) -> Any:
    """Return a model of this shape (of the Qwen2 family where it names none), its weights drawn on the device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**{"model_type": "qwen2", **shape})
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def measured(call: Callable[[], Any], device: torch.device) -> tuple[Any, float, int | None]:
    """Return a call's result, its seconds, and on a GPU its peak of memory above what was there."""
    if device.type == "cpu":
        start = time.perf_counter()
        return call(), time.perf_counter() - start, None
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    result = call()
    torch.cuda.synchronize()
    return result, time.perf_counter() - start, torch.cuda.max_memory_allocated() - before


def compare(shape: dict[str, Any], *, tokens: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Return medians, ratios to the authors' and the largest difference of scores of one shape."""
    from aletheia_lora.probe import gradient_probe

    model = random_model(shape, device)
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(shape["vocab_size"], (tokens,), generator=generator) for _ in range(5)]
    rows = [{"input_ids": i, "attention_mask": torch.ones_like(i)} for i in ids]
    batches = [{**{k: v[None] for k, v in row.items()}, "labels": row["input_ids"][None].clone()} for row in rows]
    depth = shape["num_hidden_layers"]
    sides = {
        "authors": lambda: gradient_probe(model, rows, depth, probe_batches=5, compute_dtype=torch.bfloat16),
        "exact": lambda: probe_layers(model, batches),
        "exact, a batch a pass": lambda: probe_layers(model, batches, tokens_per_pass=1),
        "sketch": lambda: probe_layers(model, batches, method="sketch"),
    }
    results: dict[str, Any] = {}
    taken: dict[str, list[tuple[float, int | None]]] = {name: [] for name in sides}
    for number in range(rounds + 1):  # the first fills caches and is left out
        for name, call in sides.items():
            results[name], *cost = measured(call, device)
            if number:
                taken[name].append(tuple(cost))
    seconds = {name: statistics.median(s for s, _ in costs) for name, costs in taken.items()}
    memory = {name: costs[-1][1] for name, costs in taken.items()}
    ours, theirs = results["exact"].scores("sum_of_norms"), results["authors"]
    return {
        "seconds": seconds,
        "peak_bytes_above_model": memory,
        "times_as_fast_as_authors": {name: seconds["authors"] / s for name, s in seconds.items()},
        "memory_over_authors": {name: m / memory["authors"] for name, m in memory.items() if m},
        "largest_relative_difference": max(abs(s / theirs[i] - 1) for i, s in enumerate(ours)),
    }


def main() -> None:
    """Run the shapes and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, 16 tokens")
    parser.add_argument("--tokens", type=int, default=512, help="tokens a batch")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after the first")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not args.tiny:
        parser.error("no GPU found; --tiny runs tiny shapes on a CPU")
    shapes = {n: {**s, **TINY, "num_hidden_layers": 3, "vocab_size": 96} if args.tiny else s for n, s in SHAPES.items()}
    result = {
        "card": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU",
        "torch": torch.__version__,
        "tokens_per_pass": TOKENS_PER_PASS[device.type],
    }
    for name, shape in shapes.items():
        tokens = 16 if args.tiny else args.tokens
        result[name] = compare(shape, tokens=tokens, rounds=args.rounds, device=device)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
