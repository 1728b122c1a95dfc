"""Synthetic studies with known numbers, as envelopes: what aggregate reads, without any training."""

from __future__ import annotations

import hashlib
import json
import runpy
import sys
from pathlib import Path
from typing import Any

from aletheia.analysis.ledger import build_ledger
from aletheia.provenance.artifacts import canonical_bytes, make_envelope, sha256_file
from aletheia.provenance.lineage import SCRIPTS, compact_json

SEEDS = (42, 123, 999)
ALL_REPORTS = ["speed", "downstream", "compute_matched"]
LAYERS = 12
ENDED = "2026-01-01T00:00:00+00:00"
# What each artifact's lineage has, beside what a test says of it.
LINEAGE = {
    "step": "test",
    "code": {},
    "config": {},
    "inputs": {},
    "environment": {"python": "3.11", "packages": {}},
    "commit": None,
    "dirty": None,
}


def run(model: str, arm: str, seed: int, *, seconds: float = 100.0, probe: float = 0.0, **changes: Any) -> dict:
    """Return a run's envelope; ``changes`` go into the payload, or into ``observed`` (host, device, resumed_at)."""
    adapted = list(range(LAYERS)) if arm == "std" else list(range(6, LAYERS))
    observed = {"host": changes.pop("host", "node1"), "device": changes.pop("device", "cpu"), "threads": 2}
    resumed = changes.pop("resumed_at", [])
    payload = {
        "status": "ok",
        "reason": None,
        "step": 40,
        "steps": 40,
        "model": model,
        "arm": arm,
        "seed": seed,
        "dtype": "bf16",
        "quantization": None,
        "gradient_checkpointing": False,
        "skipped_steps": 0,
        "eval_loss": 2.0,
        "final_train_loss": 1.9,
        "train_loss": [2.2, 1.9],
        "trainable_parameters": 1000 * len(adapted),
        "placement": {
            "layers": adapted,
            "layers_total": LAYERS,
            "lowest_layer": adapted[0],
            "modules": {},
            "dtype": "fp32",
        },
        "adapter": {"files": {}},
        "tokens": 1000,
        "batch_plan_sha256": "0" * 64,
    } | changes
    time = {
        "total_seconds": seconds + probe,
        "training_seconds": seconds,
        "median_step_seconds": seconds / 40,
        "warmup_seconds": 1.0,
        "probe_seconds": probe,
        "step_seconds": [],
        "resumed_at": resumed,
        "comparable": not resumed,
    }
    observed |= {"time": time, "tokens_per_second": 1000 / seconds, "peak_memory_bytes": 10**9}
    return {
        "payload": payload,
        "observed": observed,
        "lineage": {"step": "train", "code": {"train.py": "ab"}, "config": {}},
        "payload_sha256": f"{model}-{arm}-{seed}".ljust(64, "0"),
    }


def evaluation(model: str, arm: str, seed: int | None, benchmark: str, score: float | None, **changes: Any) -> dict:
    """Return an evaluation's envelope; ``score`` is the loss for ``heldout`` and ``retention``."""
    questions = {"mmlu": 200, "gsm8k": 200, "humaneval": 164, "heldout": 64, "retention": 48}.get(benchmark, 100)
    loss = benchmark in ("heldout", "retention")
    payload = {
        "status": "ok",
        "reason": None,
        "benchmark": benchmark,
        "model": model,
        "arm": arm,
        "seed": seed,
        "score": None if loss else score,
        "loss": score if loss else None,
        "stderr": None,
        "n": questions,
        "n_correct": None if loss else round((score or 0) * questions),
        "task_version": None if loss else "1",
        "questions_sha256": "1" * 64,
        "batch_size": 8,
        "dtype": "bf16",
        "num_fewshot": 0,
        "sandbox": None,
        "truncated": 0,
    } | changes
    lineage = {"step": "evaluate", "code": {"evaluate_run.py": "cd"}, "config": {}}
    return {"payload": payload, "observed": {}, "lineage": lineage}


def study(
    models: dict[str, dict[str, Any]],
    *,
    arms: tuple[str, ...] = ("std", "ale", "cm"),
    seeds: tuple[int, ...] = SEEDS,
    benchmarks: tuple[str, ...] = ("heldout", "mmlu", "humaneval"),
    reports: list[str] | None = None,
    name: str = "synthetic",
) -> tuple[list[dict], dict, dict]:
    """Return campaigns, runs and evaluations of a study whose numbers are laws of model, arm and seed.

    A model is ``{family, std, ale, headline?, mmlu?}``: seconds of std and ale at the first seed, 1 s more
    for each further seed; cm takes 1.25 times ale's, the probe 2 s; scores move by a point a seed.
    """
    planned, runs, evaluations = [], {}, {}
    for model, law in models.items():
        for benchmark in benchmarks:
            start = 2.0 if benchmark in ("heldout", "retention") else law.get(benchmark, 0.4)
            evaluations[model, "base", None, benchmark] = evaluation(model, "base", None, benchmark, start)
            for arm in arms:
                for i, seed in enumerate(seeds):
                    step = {"std": -0.02, "ale": -0.01}.get(arm, -0.015) + 0.01 * (i - (arm == "ale") * (i == 2))
                    evaluations[model, arm, seed, benchmark] = evaluation(model, arm, seed, benchmark, start + step)
        for arm in arms:
            for i, seed in enumerate(seeds):
                seconds = {"std": law["std"], "ale": law["ale"]}.get(arm, 1.25 * law["ale"]) + i
                runs[model, arm, seed] = run(
                    model,
                    arm,
                    seed,
                    seconds=seconds,
                    probe=0.0 if arm == "std" else 2.0,
                    eval_loss=2.0 + 0.01 * i + {"std": 0.0, "ale": 0.02}.get(arm, 0.005 * (i + 1)),
                )
                planned.append(
                    {
                        "model": model,
                        "family": law["family"],
                        "arm": arm,
                        "seed": seed,
                        "headline": law.get("headline", True),
                        "benchmarks": list(benchmarks),
                        "parameters": law.get("parameters", 135_000_000),
                    }
                )
    campaign = {"name": name, "reports": ALL_REPORTS if reports is None else reports, "runs": planned}
    return [campaign], runs, evaluations


def pair(model: str, arm: str, seed: int, *, std: float, seconds: float, rounds: int = 6, **changes: Any) -> dict:
    """Return the envelope of an arm timed in turns with std, seconds of a step; the arm's rounds lie 1 % around it."""
    own = {"status": "ok", "reason": None, "layers": None, "frozen_layers": None, "trainable_parameters": None}
    times = {"std": [std] * rounds, arm: [seconds * (1 + 0.01 * (n % 3 - 1)) for n in range(rounds)]}
    times["std-again"] = times["std"]
    known = {"low": 0.99, "high": 1.01, "rounds": rounds, "steps": rounds}
    payload = {
        **{"model": model, "arm": arm, "seed": seed, "status": "ok", "reason": None, "rounds": rounds},
        "steps_per_round": 1,
        "probe_seconds": None,
        "ratio": {"value": std / seconds, **known},
        "same_ratio": {"value": 1.001, **known},
        "arms": {name: {**own, "step_seconds": [[step] for step in steps]} for name, steps in times.items()},
    }
    return {"payload": payload | changes, "observed": {}, "lineage": {"step": "paired", "code": {}, "config": {}}}


def turned(
    models: dict[str, dict[str, Any]], *, arms: tuple[str, ...] = ("std", "ale", "cm"), fails: tuple = (), **how: Any
):
    """Return the ledger of :func:`study` with ``speed: turns``; in turns an arm takes 0.7 of std's step.

    ``fails`` names (model, arm, seed) whose measurement ran out of memory.
    """
    (campaign,), runs, evaluations = study(models, arms=arms, **how)
    campaign["speed"] = "turns"
    turns = {}
    for model, arm, seed in runs:
        if arm != "std":
            turns[model, arm, seed] = pair(model, arm, seed, std=1.0, seconds=0.7 + seed % 10 / 1000, probe_seconds=2.0)
    for key in fails:
        lost = {"status": "out_of_memory", "reason": "arm ale: none left", "ratio": None, "same_ratio": None}
        turns[key]["payload"] |= {**lost, "arms": {}}
    return build_ledger([campaign], runs, evaluations, turns=turns)


def plan(model: str, seed: int) -> dict[str, Any]:
    """Return the payload of a plan of batches."""
    sizes = {"steps": 1, "batch_size": 1, "accumulation": 1, "examples": 1, "tokens": 1, "padded_tokens": 1}
    return {"model": model, "seed": seed, **sizes, "rows": [[0]]}


def sealed(path: Path, kind: str, payload: dict[str, Any], **observed: Any) -> Path:
    """Write an artifact without a script behind it."""
    seen = {"ended": ENDED, **observed}
    path.write_bytes(canonical_bytes(make_envelope(kind, payload, LINEAGE, seen, path)))
    return path


def locked_rows(
    folder: Path,
    tokenizer: Any,
    train: list[dict],
    heldout: list[dict],
    *,
    test: list[dict] | None = None,
    **config: Any,
) -> tuple[str, Path, str, Path]:
    """Write a model (what is read before its weights) and a data set; return the arguments that name their locks."""
    (folder / "mine").mkdir(parents=True)
    tokenizer.save_pretrained(folder / "tiny")
    about = {"model_type": "llama", "max_position_embeddings": 256, **config}
    (folder / "tiny" / "config.json").write_text(json.dumps(about))
    for name, rows in (("train", train), ("heldout", heldout), *([("test", test)] if test else [])):
        (folder / "mine" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {}
    for place in ("tiny", "mine"):
        paths = [path for path in (folder / place).iterdir() if path.is_file()]
        files[place] = {p.name: {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in paths}
    origin = {"source": {"type": "local", "path": "x"}, "revision": None, "licence": None}
    model = {"model": "tiny", **origin, "files": files["tiny"], "parameters": 1, "layers": 1, "family": "llama"}
    rows = {name: {**facts, "rows": 1} for name, facts in files["mine"].items()}
    mine = {"data": "mine", **origin, "files": rows, "format": "rows"}
    return (
        *("--model-lock", sealed(folder / "tiny.lock.json", "model_lock", {**model, "tokenizer_class": None})),
        *("--data-lock", sealed(folder / "mine.lock.json", "data_lock", mine)),
    )


def run_here(monkeypatch: Any, capsys: Any, name: str, *arguments: Any) -> tuple[int, str]:
    """Run one script in this process; return how it ended and what it printed."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / name), *map(str, arguments)])
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        ended = 0
    except SystemExit as end:
        ended = end.code
    printed = capsys.readouterr()
    return ended, printed.out + printed.err


def write_study(folder: Path, campaigns: list[dict], runs: dict, evaluations: dict) -> list[str]:
    """Write the envelopes below ``folder`` and return the arguments of aggregate.py that name them."""
    paths: dict[str, list[str]] = {"run": [], "evaluation": []}
    for kind, table in (("run", runs), ("evaluation", evaluations)):
        for key, envelope in table.items():
            path = folder / kind / ("-".join(map(str, key)) + ".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            body = {"schema": kind, "version": 1, **envelope, "lineage": LINEAGE | envelope["lineage"]}
            body["observed"] = {"ended": ENDED} | envelope["observed"]
            hashed = {name: body[name] for name in ("schema", "version", "payload")}
            body["payload_sha256"] = hashlib.sha256(canonical_bytes(hashed)).hexdigest()
            body["sha256"] = hashlib.sha256(canonical_bytes(body)).hexdigest()
            path.write_bytes(canonical_bytes(body))
            paths[kind].append(str(path))
    section = f"config:campaigns={compact_json(campaigns)}"
    return ["--runs", *paths["run"], "--evaluations", *paths["evaluation"], "--lineage", section]


TWO_MODELS = {
    "smollm2-135m": {"family": "llama", "std": 100.0, "ale": 80.0},
    "glasslm": {"family": "carroll", "std": 10.0, "ale": 9.0, "headline": False, "parameters": 850_000},
}
TEN_MODELS = {
    f"model-{i}": {
        "family": f"family-{i % 4}",
        "std": 90.0 + 30 * i,
        "ale": (90.0 + 30 * i) * (0.72 + 0.012 * i),
    }
    for i in range(10)
}


def ledger_of(models: dict[str, dict[str, Any]] = TWO_MODELS, **how: Any):
    """Return the ledger of :func:`study`."""
    return build_ledger(*study(models, **how))
