"""Held-out losses during training as one table: a row a campaign, run and point of its curve."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.study.planned_runs import planned_runs

COLUMNS = {
    **{"campaign": "str", "model": "str", "arm": "str", "seed": "int64"},
    **{"step": "int64", "seconds": "float64", "heldout_loss": "float64"},
}


def curve_table(campaigns: Sequence[Mapping[str, Any]], runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.DataFrame:
    """Return ``curves.csv``: step, training seconds (without the probe) and held-out loss in nats of each point.

    A run that failed has the points that it reached. Seconds are empty where a run was killed and resumed, since they
    contain the start of a process twice; a loss is empty where it was not finite.

    Parameters
    ----------
    campaigns
        As of :func:`aletheia.analysis.ledger.build_ledger`.
    runs
        Envelopes of kind ``run`` by (model, arm, seed).
    """
    rows = []
    for campaign in campaigns:
        for planned in planned_runs(campaign):
            key = {name: planned[name] for name in ("model", "arm", "seed")}
            run = runs[tuple(key.values())]
            curve, observed = run["payload"].get("curve") or [], run["observed"]
            seconds = observed.get("curve_seconds") or []
            if len(seconds) != len(curve) or not observed.get("time", {}).get("comparable", True):
                seconds = [None] * len(curve)
            rows += [
                {"campaign": campaign["name"], **key, **point, "seconds": after}
                for point, after in zip(curve, seconds, strict=True)
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def read_curve_table(path: Path) -> pd.DataFrame:
    """Read a table that :func:`curve_table` made."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=COLUMNS)
