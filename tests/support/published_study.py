"""A study whose runs give the paper's own numbers: the published means and SDs as three seeds of ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from aletheia.analysis.ledger import build_ledger
from aletheia.analysis.paper_tables import load_published
from ledgers import SEEDS, evaluation, run
from reports import PUBLISHED

TABLES = load_published(PUBLISHED)
DEVICE = "NVIDIA A100-SXM4-64GB"
# Three values of mean 0 whose SD is 1 when it is divided by n.
THREE = np.array([-1.0, 0.0, 1.0]) * 1.5**0.5
LAYERS = {key: int(row["layers"]) for key, row in TABLES[1].items()}
REPORTS = {"campaign1": ["speed"], "campaign2": ["downstream", "compute_matched"]}


def published_ledger(
    *, speedup_shift: dict[str, float] | None = None, device: str = DEVICE, fails: tuple = ()
) -> pd.DataFrame:
    """Return the ledger of both campaigns of the paper.

    Parameters
    ----------
    speedup_shift
        Points by which a model's speedups differ from the paper's.
    device
        On which runs ran.
    fails
        (model, arm, seed) of runs that ended with NaN.
    """
    made = [_ledger(name, speedup_shift or {}, device, fails) for name in REPORTS]
    return pd.concat(made, ignore_index=True)


def _ledger(name: str, shifts: dict[str, float], device: str, fails: tuple) -> pd.DataFrame:
    planned, runs, evaluations = [], {}, {}
    models, benchmarks, arms_of = _plan(name)
    for model in models:
        for benchmark in benchmarks:
            made = evaluation(model, "base", None, benchmark, _base(name, model) / 100)
            evaluations[model, "base", None, benchmark] = made
        facts = {"parameters": int(1e9 * TABLES[1][model]["parameters_billions"]), "headline": True}
        facts |= {"model": model, "family": TABLES[1][model]["family"], "benchmarks": list(benchmarks)}
        for arm, (step, seed) in itertools.product(arms_of(model), zip(THREE, SEEDS, strict=True)):
            own = _run(name, model, arm, step, shifts.get(model, 0.0))
            if (model, arm, seed) in fails:
                own |= {"status": "nan_loss", "reason": "loss is NaN"}
            runs[model, arm, seed] = run(model, arm, seed, device=device, **own)
            for benchmark in benchmarks:
                score = _score(name, model, arm, benchmark) / 100
                evaluations[model, arm, seed, benchmark] = evaluation(model, arm, seed, benchmark, score)
            planned.append({**facts, "arm": arm, "seed": seed})
    return build_ledger([{"name": name, "reports": REPORTS[name], "runs": planned}], runs, evaluations)


def _plan(name: str) -> tuple[list[str], tuple[str, ...], Callable[[str], tuple[str, ...]]]:
    """Return a campaign's models and benchmarks, and the arms of each model."""
    if name == "campaign1":
        return list(TABLES[3]), ("mmlu",), lambda _: ("std", "ale")
    return (
        list(TABLES[4]),
        ("mmlu", "gsm8k", "humaneval"),
        lambda model: ("std", "ale", *(("cm",) if model in TABLES[5] else ())),
    )


def _run(campaign: str, model: str, arm: str, step: float, shift: float) -> dict[str, Any]:
    facts: dict[str, Any] = {"seconds": 100.0}
    if campaign == "campaign1":
        row = TABLES[2][model]
        std = row["std_seconds_mean"] + step * row["std_seconds_sd"]
        share = (row["speedup_percent_mean"] + shift + step * row["speedup_percent_sd"]) / 100
        facts["seconds"] = std if arm == "std" else std * (1 - share)
    elif model in TABLES[5]:
        row = TABLES[5][model]
        facts["eval_loss"] = row["cm_eval_loss" if arm == "cm" else "std_eval_loss"] + 0.002 * step * (arm == "cm")
    facts["placement"] = {"layers": [0], "layers_total": LAYERS[model], "lowest_layer": 0, "modules": {}}
    facts["placement"]["dtype"] = "fp32"
    return facts


def _base(campaign: str, model: str) -> float:
    return TABLES[3][model]["base_percent"] if campaign == "campaign1" else 50.0


def _score(campaign: str, model: str, arm: str, benchmark: str) -> float:
    if campaign == "campaign1":
        return TABLES[3][model][f"{arm}_percent"]
    return 50.0 + (TABLES[4][model][f"{benchmark}_extra_pp"] if arm == "ale" else 0.0)
