"""Artifacts that a benchmark writes by hand, as the study's steps would: locks of questions, a run with its adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.provenance import artifacts

LINEAGE = {
    "step": "benchmark",
    "code": {},
    "config": {},
    "inputs": {},
    "environment": {"python": "3.11", "packages": {}},
    "commit": None,
    "dirty": None,
}
# Two questions of a few tokens: what is counted here is the loads of a model, and not its answers.
SETTINGS = {
    "model": {"dtype": "fp32", "quantization": None, "attention": None},
    "encoding": {"prompt": "alpaca", "max_tokens": 256, "loss_on": "response"},
    "evaluation": {
        "benchmarks": ["mmlu", "gsm8k", "humaneval"],
        "batch_size": 4,
        "prompt": "plain",
        "time_limit_seconds": None,
        "mmlu": {"questions": "mmlu", "num_fewshot": 0},
        "gsm8k": {"questions": "gsm8k", "num_fewshot": 0, "max_new_tokens": 8},
        "humaneval": {"questions": "humaneval", "max_new_tokens": 8, "sandbox": "rlimits"},
    },
}


def questions_lock(folder: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write questions as ``folder/name/questions.jsonl``; return their lock."""
    (folder / name).mkdir(parents=True)
    (folder / name / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    files = {path: {**facts, "rows": len(rows)} for path, facts in artifacts.folder_files(folder / name).items()}
    payload = {"data": name, "source": {"type": "local", "path": name}, "revision": None, "licence": None}
    return _written(folder / f"{name}.lock.json", "data_lock", {**payload, "files": files, "format": name})


def run_of(adapter: Path, model: str) -> Path:
    """Write the ``run.json`` of a run that ended well beside its adapter's folder; return it."""
    absent = ("reason", "quantization", "eval_loss", "final_train_loss", "trainable_parameters", "placement", "tokens")
    payload = {
        **dict.fromkeys((*absent, "batch_plan_sha256")),
        **{"status": "ok", "model": model, "arm": "ale", "seed": 42, "step": 1, "steps": 1, "dtype": "fp32"},
        **{"train_loss": [], "gradient_checkpointing": False, "skipped_steps": 0},
        "adapter": {"files": {path.name: artifacts.sha256_file(path) for path in adapter.iterdir()}},
    }
    return _written(adapter.with_name("run.json"), "run", payload)


def _written(path: Path, kind: str, payload: dict[str, Any]) -> Path:
    whole = artifacts.make_envelope(kind, payload, LINEAGE, {"ended": "2026-01-01T00:00:00+00:00"}, path)
    path.write_bytes(artifacts.canonical_bytes(whole))
    return path
