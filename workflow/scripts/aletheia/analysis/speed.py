"""The speedup of ale over std: of each model, of families, and over a campaign's headline models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aletheia.analysis.stats import estimate, paired_test
from aletheia.study.planned_runs import TURNS

SPEEDS = ("speedup_percent", "speedup_with_probe_percent", "ratio", "ratio_with_probe")
BESIDE_TURNS = ("wall_clock_speedup_percent", "wall_clock_speedup_with_probe_percent", "same_speedup_percent")


def of_model(rows: pd.DataFrame) -> dict[str, Any]:
    """Return one model's times, speedups and ratios over its pairs, with the paired test.

    Parameters
    ----------
    rows
        Pairs of std and ale (:func:`aletheia.analysis.pairs.pairs`) of one campaign and model.
    """
    complete = rows.dropna(subset=_required_columns(rows))
    kinds = sorted(set(complete["paired"].dropna()))
    return {
        "std_seconds": estimate(complete["std_seconds"]),
        "ale_seconds": estimate(complete["ale_seconds"]),
        **{name: _estimate(complete, name) for name in SPEEDS},
        **_turns(complete),
        "probe_seconds": estimate(complete["probe_seconds"]),
        "test": _time_test(complete),
        "wins": int((complete["speedup_percent"] > 0).sum()),
        "busy": int(complete["busy"].sum()),
        "paired": kinds[0] if len(kinds) == 1 else " and ".join(kinds) or None,
    }


def in_turns(rows: pd.DataFrame) -> bool:
    """Tell whether the pairs of a campaign, or of one of its models, take their speed from turns."""
    return "speed" in rows and bool((rows["speed"] == TURNS).any())


def _required_columns(rows: pd.DataFrame) -> list[str]:
    """Return the columns without which a pair has no speedup."""
    return ["ratio"] if in_turns(rows) else ["std_seconds", "ale_seconds"]


def _time_test(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the paired test of log(t_std / t_ale).

    Not of the seconds: of those the largest models would decide, and in turns a ratio is what was measured.
    """
    return paired_test(np.log(rows["ratio"]), np.zeros(len(rows)))


def _estimate(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    """Return the estimate over seeds; of one pair timed in turns with the interval over its rounds."""
    result = estimate(rows[name])
    if result["n"] == 1 and f"{name}_low" in rows:
        pair = rows.dropna(subset=[name]).iloc[0]
        ends = {end: pair[f"{name}_{end}"] for end in ("low", "high")}
        result |= {end: None if pd.isna(value) else float(value) for end, value in ends.items()}
    return result


def _turns(rows: pd.DataFrame) -> dict[str, Any]:
    """Return ``{turns: …}`` where speed is taken in turns: wall clock, std against std, and the unit of intervals."""
    if not in_turns(rows):
        return {}
    over_rounds = len(rows) == 1 and "speedup_percent_low" in rows
    return {
        "turns": {
            **{name: _estimate(rows, name) for name in BESIDE_TURNS},
            "interval": "values" if len(rows) > 1 else "rounds" if over_rounds else None,
        }
    }


def overall(rows: pd.DataFrame) -> dict[str, Any] | None:
    """Return the speedup over all headline models, twice: models as the unit, and pairs as in the paper.

    Seeds of one model are no sample of models, so only the first estimate generalises to other models.
    """
    complete = rows.dropna(subset=_required_columns(rows))
    if complete.empty:
        return None
    measures = [name for name in complete if name in ("std_seconds", "ale_seconds", *SPEEDS, *BESIDE_TURNS)]
    by_model = complete.groupby("model", sort=False)[measures].mean()
    if in_turns(complete):
        by_model["speed"] = TURNS
    return {
        unit: {
            **{name: _estimate(table, name) for name in SPEEDS},
            **_turns(table),
            "test": _time_test(table),
            "wins": int((table["speedup_percent"] > 0).sum()),
        }
        for unit, table in (("models", by_model), ("pairs", complete))
    }


def by_family(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the speedup of each family over its headline models' means; of one model, over its seeds."""
    out = []
    complete = rows.dropna(subset=["speedup_percent"])
    for family, group in complete.groupby("family", sort=False):
        means = group.groupby("model", sort=False)["speedup_percent"].mean()
        unit, values = ("models", means) if len(means) > 1 else ("seeds", group["speedup_percent"])
        out.append(
            {
                "family": family,
                "models": len(means),
                "unit": unit,
                "speedup_percent": estimate(values) if unit == "models" else _estimate(group, "speedup_percent"),
            }
        )
    return out
