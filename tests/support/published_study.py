"""A study whose runs give the paper's own numbers: the published means and SDs as three seeds of ours."""

from __future__ import annotations

from pathlib import Path
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


def published_ledger(*, speedup_shift: dict[str, float] | None = None, device: str = DEVICE, fails: tuple = ()):
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
    campaigns, runs, evaluations = [], {}, {}
    for name, (models, benchmarks, arms) in _campaigns().items():
        planned = []
        for model in models:
            own = f"{model}"
            for benchmark in benchmarks:
                score = _base(name, model) / 100
                evaluations[own, "base", None, benchmark] = evaluation(own, "base", None, benchmark, score)
            for arm in arms(model):
                for i, seed in enumerate(SEEDS):
                    shift = (speedup_shift or {}).get(model, 0.0)
                    facts = _run(name, model, arm, THREE[i], shift)
                    if (model, arm, seed) in fails:
                        facts |= {"status": "nan_loss", "reason": "loss is NaN"}
                    runs.setdefault((own, arm, seed), run(own, arm, seed, device=device, **facts))
                    for benchmark in benchmarks:
                        score = _score(name, model, arm, benchmark) / 100
                        made = evaluation(own, arm, seed, benchmark, score)
                        evaluations.setdefault((own, arm, seed, benchmark), made)
                    facts = {"parameters": int(1e9 * TABLES[1][model]["parameters_billions"]), "headline": True}
                    facts |= {"family": TABLES[1][model]["family"], "benchmarks": list(benchmarks)}
                    planned.append({"model": own, "arm": arm, "seed": seed, **facts})
        campaigns.append({"name": name, "reports": REPORTS[name], "runs": planned})
        if name == "campaign1":
            ledgers = [build_ledger(campaigns, runs, evaluations)]
            campaigns, runs, evaluations = [], {}, {}
    return pd.concat([*ledgers, build_ledger(campaigns, runs, evaluations)], ignore_index=True)


def _campaigns() -> dict[str, Any]:
    matched = set(TABLES[5])
    return {
        "campaign1": (list(TABLES[3]), ("mmlu",), lambda _: ("std", "ale")),
        "campaign2": (
            list(TABLES[4]),
            ("mmlu", "gsm8k", "humaneval"),
            lambda model: ("std", "ale", *(("cm",) if model in matched else ())),
        ),
    }


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


def study_folder(folder: Path) -> Path:
    """Return a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
