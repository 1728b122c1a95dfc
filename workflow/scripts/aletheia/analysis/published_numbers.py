"""The paper's numbers by model and quantity, as far as its tables give them: what claims are held against.

A sentence of the text is no number here, or it would be its own evidence; what follows from a table and the stated
recipe is (half of the layers, one rank, 5 batches in chunks of 8 layers, 200 steps and 250).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.analysis.paper_tables import load_published
from aletheia.analysis.published_claims import STUDY, Number
from aletheia.errors import UserError

SEEDS = 3  # section 4.5
STEPS, COMPUTE_MATCHED_STEPS = 200, 250  # section 4.3
BUDGET = 0.5  # section 3.3: the share of layers that ale adapts
PROBE_BATCHES, PROBE_CHUNK = 5, 8  # section 3.2: batches, and layers a pass
LEDGER_ROWS = 30 + 51  # appendix A: campaign 1 has a row a pair, campaign 2 a row a run
FAILED_MODEL, FAILED_ROWS = "pythia-1.4b", 51 - 6 * 2 * SEEDS - 3 * SEEDS  # what its 6 models' runs leave of the 51
AUTORESEARCH_MODEL = "qwen2.5-3b"  # section 3.5

_Key = tuple[str, str]
_Tables = dict[int, dict[str, dict[str, Any]]]


def published_numbers(folder: Path) -> dict[_Key, Number]:
    """Return ``{(model key or STUDY, quantity): Number}`` of the tables in a folder.

    Raises
    ------
    UserError
        When a table is missing.
    """
    tables = load_published(folder)
    found = {**_speed(tables), **_scores(tables), **_losses(tables), **_layers(tables), **_counts(tables)}
    return found | _autoresearch(Path(folder) / "autoresearch.csv", tables[5][AUTORESEARCH_MODEL]["std_eval_loss"])


def _speed(tables: _Tables) -> dict[_Key, Number]:
    rows = {key: row for key, row in tables[2].items() if key != "overall"}
    speedups = {
        (key, "speedup_percent"): Number(row["speedup_percent_mean"], row["speedup_percent_sd"], SEEDS)
        for key, row in rows.items()
    }
    matched = 100 * COMPUTE_MATCHED_STEPS / STEPS
    return speedups | {
        (key, "compute_matched_time_percent"): Number(
            matched * row["ale_seconds_mean"] / row["std_seconds_mean"], None, SEEDS
        )
        for key, row in rows.items()
        if key in tables[5]
    }


def _scores(tables: _Tables) -> dict[_Key, Number]:
    columns = {
        3: {
            "std_delta_pp": "mmlu_delta_std_points",
            "ale_delta_pp": "mmlu_delta_ale_points",
            "extra_pp": "mmlu_extra_points",
        },
        4: {
            "mmlu_extra_pp": "campaign2_mmlu_extra_points",
            "gsm8k_extra_pp": "gsm8k_extra_points",
            "humaneval_extra_pp": "humaneval_extra_points",
        },
    }
    return {
        (key, quantity): Number(row[column], None, SEEDS)
        for number, names in columns.items()
        for column, quantity in names.items()
        for key, row in tables[number].items()
    }


def _losses(tables: _Tables) -> dict[_Key, Number]:
    return {
        (key, "compute_matched_loss_difference"): Number(row["cm_eval_loss"] - row["std_eval_loss"], None, SEEDS)
        for key, row in tables[5].items()
    }


def _layers(tables: _Tables) -> dict[_Key, Number]:
    """Return what follows from the numbers of layers; layers of a model are equal, and so are their adapters."""
    found = {}
    for key, row in tables[1].items():
        adapted = round(BUDGET * row["layers"])
        found[key, "layers_adapted"] = Number(adapted)
        found[key, "parameters_reduction_percent"] = Number(100 * (1 - adapted / row["layers"]))
        found[key, "probe_passes"] = Number(PROBE_BATCHES * math.ceil(row["layers"] / PROBE_CHUNK))
    return found


def _counts(tables: _Tables) -> dict[_Key, Number]:
    """Return counts; tables 2 to 5 have means of three seeds, so no run of their models failed."""
    failed = {(key, "runs_failed"): Number(0) for key in tables[1]} | {
        (FAILED_MODEL, "runs_failed"): Number(FAILED_ROWS)
    }
    return failed | {
        (STUDY, "rows_finished"): Number(LEDGER_ROWS - FAILED_ROWS),
        (STUDY, "models"): Number(len(tables[1])),
        (STUDY, "families"): Number(len({row["family"] for row in tables[1].values()})),
    }


def _autoresearch(path: Path, std_loss: float) -> dict[_Key, Number]:
    """Return the differences between the two best recipes of section 3.5, and of the best to std of table 5."""
    if not path.is_file():
        raise UserError(
            f"{path}: expected the numbers of the paper's section 3.5 here, found none; restore it from git"
        )
    rows = {str(row["name"]): row for row in pd.read_csv(path).to_dict("records")}
    best, second = rows["attn16_eval_loss"], rows["ffn_only_eval_loss"]
    # Independent runs, so their variances add.
    sd = math.hypot(best["sd"], second["sd"])
    return {
        (AUTORESEARCH_MODEL, "autoresearch_loss_difference"): Number(best["value"] - second["value"], sd, SEEDS),
        (AUTORESEARCH_MODEL, "autoresearch_loss_over_std"): Number(best["value"] - std_loss, best["sd"], SEEDS),
    }
