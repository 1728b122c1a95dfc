"""What tables 1 to 5 share: cells, labels, and the columns that a study shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from aletheia.report.speed_columns import SAME, WALL_CLOCK
from aletheia.report.table_text import DASH, MARK, Table, count_text, notes_on

SPREAD_NOTE = "Mean ± sample SD over n seeds."
BUSY = "Pairs on a busy machine"
OUTSIDE = f"{MARK} shown, but no part of the headline."
Published = dict[int, dict[str, dict[str, Any]]]


def flat(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {f"{name}_{part}": value[part] for part in ("n", "mean", "sd", "low", "high")}


def models_of(summary: dict[str, Any], report: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each campaign that makes ``report`` with each of its models."""
    for campaign in summary["campaigns"]:
        if report in campaign["reports"]:
            for model in campaign["models"]:
                yield campaign, model


def label(model: dict[str, Any]) -> str:
    return model["model"] + ("" if model["headline"] else MARK)


def make_table(index: int, title: str, note: str, numbers: list[dict], display: list[dict]) -> Table:
    """Return the table without the display columns that are empty or constant in this study."""
    shown = pd.DataFrame(display)
    if "Campaign" in shown and shown["Campaign"].nunique() == 1:
        shown = shown.drop(columns="Campaign")
    sparse = ("Paper", "Δ", BUSY, WALL_CLOCK, SAME)
    empty = [c for c in shown.columns if c.startswith(sparse) and (shown[c] == DASH).all()]
    if "Model" in shown and shown["Model"].str.contains(MARK).any():
        note = f"{note} {OUTSIDE}"
    note += notes_on(cell for row in display for cell in row.values())
    return Table(index, title, note, pd.DataFrame(numbers), shown.drop(columns=empty))


def published_cells(paper: dict[str, Any], *columns: str) -> dict[str, Any]:
    """Return the paper's cells of some columns, as columns of ours; None where it has none."""
    return {f"published_{name}": paper.get(name) for name in columns}


def prefix_note(summary: dict[str, Any]) -> str:
    """Return the note on runs that kept the states of their frozen layers; empty where none did."""
    kept: dict[str, int] = {}
    for campaign in summary["campaigns"]:
        for arm, runs in campaign["runs"]["prefix_cache"].items():
            kept[arm] = kept.get(arm, 0) + runs
    if not kept:
        return ""
    listed = ", ".join(f"{arm} ({count_text(runs, 'run')})" for arm, runs in kept.items())
    return (
        " Below their lowest adapter these runs computed each micro-batch once and read the result afterwards: "
        f"{listed}; their times hold the first visit, or what it took another run. Steps in turns compute every layer."
    )
