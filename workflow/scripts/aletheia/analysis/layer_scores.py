"""The tidy table of probe scores: one row a layer of each probe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

SCORES = ("l2", "sum_of_norms", "relative", "normalized")
COLUMNS = {
    "model": "str",
    "seed": "Int64",
    "status": "str",
    "reason": "str",
    "layer": "Int64",
    "layers_total": "Int64",
    **dict.fromkeys(SCORES, "float64"),
}


def layer_table(probes: Mapping[tuple[str, int], Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a layer of each probe.

    Parameters
    ----------
    probes
        Payloads of kind ``probe`` by (model, seed); one that diverged has rows with its status and empty scores.
    """
    rows = [
        {
            "model": model,
            "seed": seed,
            "status": probe["status"],
            "reason": probe["reason"],
            "layer": layer,
            "layers_total": probe["layers_total"],
            **{score: values[layer] if (values := probe["scores"][score]) else None for score in SCORES},
        }
        for (model, seed), probe in probes.items()
        for layer in range(probe["layers_total"])
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def read_layer_table(path: Path) -> pd.DataFrame:
    """Read a table that :func:`layer_table` made."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=COLUMNS)
