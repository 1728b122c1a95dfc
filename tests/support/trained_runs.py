"""A study's folder with runs trained by the real steps: what is exported, merged and talked with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import run_script

LLAMA = {
    **{"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024},
}
ROWS = [{"instruction": f"Say {i}.", "input": "twice" if i % 2 else "", "output": f"{i} and {i}"} for i in range(12)]
# An arm's settings, as --set has them: layers of equal modules, and what few tools can express.
ARMS = {
    "ale": ["arm.layers=[1, 3]", "adapter.rank=2", "adapter.alpha=4", "adapter.scaling=rslora", "model.dtype=bf16"],
    "mixed": [
        *("arm.layers=[0, 2]", "model.dtype=fp32"),
        *("adapter.modules=[v_proj, down_proj]", "adapter.rank={v_proj: 2, down_proj: 4}"),
        *("training.optimizer.loraplus_lr_ratio=4", "training.warmup_from=first_step"),
    ],
}
TRAINING = [
    *("training.steps=2", "training.batch_size=2", "training.accumulation=1", "training.warmup_steps=1"),
    *("training.timing_warmup_steps=1", "training.eval_rows=2", "training.learning_rate=0.02"),
    "encoding.max_tokens=256",
]


def step(folder: Path, script: str, *arguments: Any) -> None:
    """Run a step in the folder of a study, as a rule does."""
    done = run_script(script, *arguments, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def stage(folder: Path) -> tuple[str, ...]:
    """Stage a model and rows; return the arguments that name their locks."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    entries = {
        "model": ("resources/models/tiny.lock.json", {"source": {"type": "random", "config": LLAMA}}),
        "data": ("resources/data/rows.lock.json", {"source": {"type": "local", "path": "rows.jsonl"}, "held_out": 2}),
    }
    for kind, (lock, entry) in entries.items():
        name = Path(lock).name.removesuffix(".lock.json")
        step(folder, "stage.py", kind, name, "--out", lock, "--lineage", f"config:{kind}={json.dumps(entry)}")
    return tuple(word for kind, (lock, _) in entries.items() for word in (f"--{kind}-lock", lock))


def train(folder: Path, locks: tuple[str, ...], arm: str, settings: list[str]) -> None:
    """Select and train one arm: ``results/train/tiny/ARM/seed1``."""
    chosen, out = f"results/select/tiny/{arm}/seed1.json", f"results/train/tiny/{arm}/seed1"
    placing = [each for each in settings if each.startswith(("arm.", "adapter.")) and "scaling" not in each]
    step(folder, "select_layers.py", *locks[:2], "--seed", 1, "--set", *placing, "--out", chosen)
    step(
        folder,
        "train.py",
        *(*locks, "--tokens", "results/tokens/tiny.safetensors", "--selection", chosen, "--seed", 1),
        *("--out", f"{out}/run.json", "--adapter", f"{out}/adapter"),
        *("--set", "run.model=tiny", f"run.arm={arm}", *settings, *TRAINING),
    )


def trained_study(folder: Path, arms: dict[str, list[str]]) -> Path:
    """Return a folder with the runs of some arms of a tiny llama."""
    folder.mkdir()
    locks = stage(folder)
    step(folder, "tokenise.py", *locks, "--out", "results/tokens/tiny.safetensors", "--set", "encoding.max_tokens=256")
    for arm, settings in arms.items():
        train(folder, locks, arm, settings)
    return folder
