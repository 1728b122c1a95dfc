"""Seconds and memory of the gradient probe, 5 batches of 1 in fp32: ours against aletheia-lora 0.1.2, the authors'.

SmolLM2-135M at 128 and 512 tokens, and a narrow Llama of 80 layers with random weights at 128. Both sides get the same
batches, every token a label, and take turns in one process. Memory is what a probe takes at its peak above the loaded
model, each side in a process of its own. Beside the times: the FLOPs of both sides' products, whose ratio is what they
alone would give, and where the time of ours goes. The share is the probe's time in a training of 200 steps of two
micro-batches of four sequences of 128 tokens, adapters in all layers, both with bf16 weights.

Needs the default study's staged model: `snakemake resources/models/smollm2-135m.lock.json`.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import profiles

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent / "workflow" / "scripts")]
LOCK = Path("resources/models/smollm2-135m.lock.json")
BATCHES = 5
PIECE = 1500  # characters between the beginnings of two texts, which overlap where they are longer
STEPS = 200
NARROW = {
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
}


def smollm2(tokens: int, dtype: str = "fp32") -> tuple[Any, list[dict[str, Any]]]:
    """Return SmolLM2-135M and five pieces of the licence, a batch each: a text that no edit of the code changes."""
    import torch

    from aletheia.method.loading import load

    model, tokenizer = load(LOCK, dtype=dtype)
    licence = (HERE.parent / "LICENSE").read_text(encoding="utf-8")
    texts = [licence[start:] for start in range(0, 5 * PIECE, PIECE)]
    return model, [_batch(torch.tensor(tokenizer(text)["input_ids"][:tokens])) for text in texts]


def narrow(tokens: int) -> tuple[Any, list[dict[str, Any]]]:
    """Return a Llama of 80 narrow layers with random weights, and five batches of random tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **NARROW))
    return model, [_batch(torch.randint(NARROW["vocab_size"], (tokens,))) for _ in range(BATCHES)]


def _batch(ids: Any) -> dict[str, Any]:
    import torch

    return {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None], "labels": ids[None].clone()}


def sides(model: Any, batches: list[dict[str, Any]]) -> dict[str, Callable[[], Any]]:
    """Return the authors' probe and both of ours, ready to run on the same batches."""
    from aletheia_lora.probe import gradient_probe

    from aletheia.method.probe import probe_layers

    rows = [{key: batch[key][0] for key in ("input_ids", "attention_mask")} for batch in batches]
    depth = model.config.num_hidden_layers
    return {
        "authors": lambda: gradient_probe(model, rows, depth, probe_batches=len(rows)),
        "exact": lambda: probe_layers(model, batches),
        "sketch": lambda: probe_layers(model, batches, method="sketch"),
    }


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return ratios of time and memory, the sketch's agreement and the probe's share of a training."""
    cases = {"smollm2_128": (smollm2, 128), "smollm2_512": (smollm2, 512), "narrow_80_layers_128": (narrow, 128)}
    seconds: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    agreement: dict[str, float] = {}
    bounds: dict[str, float] = {}
    parts: dict[str, dict[str, float]] = {}
    for case, (make, tokens) in cases.items():
        model, batches = make(tokens)
        calls = sides(model, batches)
        seconds[case] = interleaved({k: lambda call=call: timed(call) for k, call in calls.items()}, rounds=rounds)
        for ours in ("exact", "sketch"):
            ratios[f"{case}: authors / {ours}"] = ratio(seconds[case]["authors"], seconds[case][ours])
        counted = {side: profiles.flops(call) for side, call in calls.items()}
        bounds |= {f"{case}: authors / {ours}": counted["authors"] / counted[ours] for ours in ("exact", "sketch")}
        parts[case] = profiles.shares(calls["exact"])
        agreement[case] = _spearman(calls["exact"]().scores(), calls["sketch"]().scores())
        del model, calls
    memory = {f"{case}: {side}": _peak_apart(case, side) for case in cases for side in ("authors", "exact", "sketch")}
    for case in cases:
        for ours in ("exact", "sketch"):
            ratios[f"{case}: memory {ours} / authors"] = memory[f"{case}: {ours}"] / memory[f"{case}: authors"]
    return {
        "what": __doc__.splitlines()[0],
        "seconds": seconds,
        "peak_bytes_above_model": memory,
        "flops_of_products": bounds,
        "shares_of_exact": parts,
        "spearman_of_sketch": agreement,
        "ratios": {**ratios, "probe / 200 training steps": _share(rounds=3)},
    }


def _spearman(left: list[float], right: list[float]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(left, right).statistic)


def _share(*, rounds: int) -> float:
    """Return the probe's seconds over those of the passes of 200 steps, medians of ``rounds`` on the same machine."""
    import statistics

    import torch

    from aletheia.method.adapters import attach, placement_plan
    from aletheia.method.layers import adaptable_layers

    model, batches = smollm2(128, dtype="bf16")
    probe = statistics.median(timed(sides(model, batches)["exact"]) for _ in range(rounds + 1))
    plan = placement_plan(adaptable_layers(model), list(range(model.config.num_hidden_layers)), rank=16)
    adapted = attach(model, plan, dropout=0, seed=0).train()
    ids = torch.cat([batch["input_ids"] for batch in batches[:4]])

    def step() -> None:
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                loss = adapted(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
        adapted.zero_grad()

    return probe / (STEPS * statistics.median(timed(step) for _ in range(rounds + 1)))


def _peak_apart(case: str, side: str) -> int:
    """Return :func:`peak` of a process of its own."""
    ran = subprocess.run([sys.executable, __file__, case, side], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def peak(case: str, side: str) -> int:
    """Return the bytes that one probe takes at its peak, above the loaded model (Linux)."""
    import torch

    torch.set_num_threads(2)
    name, _, tokens = case.rpartition("_")
    model, batches = (smollm2 if name == "smollm2" else narrow)(int(tokens))
    for p in model.parameters():
        p.sum()  # brings mapped weights into memory
    call = sides(model, batches)[side]
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM, the highest resident size
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(rf"^{key}:\s+(\d+) kB$", text, re.MULTILINE).group(1))


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
