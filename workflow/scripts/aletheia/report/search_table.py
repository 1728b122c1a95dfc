"""Table S3: every run of the searches; for readers, what became of each recipe."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import pandas as pd

from aletheia.report.table_text import DASH, Table, count_text, number
from aletheia.search.space import STD
from aletheia.study.report_contents import SEARCH_TABLE

NOTE = (
    "Losses are in nats. Step: seconds of a step over those of std's, measured in turns [95 % interval over rounds]. "
    "Scan, full, push: the loss on the rows that choose, at the recipe's best rate; of one run each. Confirmed: "
    "the mean over fresh seeds on the rows that judge, of each rate that was confirmed. The table as CSV has every run."
)
KEYS = ("rung", "arm", "recipe", "rate", "seed", "status", "steps", "seconds", "loss", "test_loss", "retention")


def search_table(summary: Mapping[str, Any]) -> Table:
    """Return table S3.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.search_summary.summarise_searches`.
    """
    models = summary["models"]
    numbers = [{"model": m["model"], **{key: row[key] for key in KEYS}} for m in models for row in m["rows"]]
    display = pd.DataFrame([display_row(model, recipe) for model in models for recipe in recipes_of(model)])
    if len(models) == 1:
        display = display.drop(columns="Model")
    title = "Recipes of the search, and what became of each."
    return Table(SEARCH_TABLE, title, NOTE, pd.DataFrame(numbers), display)


def recipes_of(model: Mapping[str, Any]) -> list[str]:
    """Return the recipes that ran, in the order of their first run."""
    return list(dict.fromkeys(row["recipe"] for row in model["rows"]))


def display_row(model: Mapping[str, Any], recipe: str) -> dict[str, str]:
    """Return a recipe's row as text."""
    row = {"Model": model["model"], "Recipe": recipe, "Step": _cost(model["costs"].get(recipe))}
    for rung in ("scan", "full", "push"):
        best = _best(model, recipe, rung)
        row[f"{rung.capitalize()}: rate"] = DASH if best is None else f"{best['rate']:g}"
        row[f"{rung.capitalize()}: loss"] = DASH if best is None else number(best["loss"], 4)
    row["Confirmed"] = _confirmed(model, recipe)
    row["What became of it"] = outcome(model, recipe)
    return row


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return DASH
    if not cost["n"] or cost["low"] is None:
        return number(cost["value"], 2)
    return f"{number(cost['value'], 2)} [{number(cost['low'], 2)}, {number(cost['high'], 2)}]"


def _best(model: Mapping[str, Any], recipe: str, rung: str) -> Mapping[str, Any] | None:
    ran = [row for row in model["rows"] if (row["recipe"], row["rung"]) == (recipe, rung) and row["loss"] is not None]
    return min(ran, key=lambda row: (row["loss"], row["rate"]), default=None)


def _confirmed(model: Mapping[str, Any], recipe: str) -> str:
    by_arm: dict[str, list[float]] = {}
    for row in model["rows"]:
        if (row["recipe"], row["rung"]) == (recipe, "confirm") and row["test_loss"] is not None:
            by_arm.setdefault(row["arm"], []).append(row["test_loss"])
    told = [f"{number(statistics.fmean(each), 4)} ({count_text(len(each), 'seed')})" for each in by_arm.values()]
    return "; ".join(told) or DASH


def outcome(model: Mapping[str, Any], recipe: str) -> str:
    """Return what became of a recipe at the last rung that judged it, in words."""
    if recipe == STD:
        return "the standard, tuned on the same rates"
    for rung in ("push", "full", "scan"):
        for verdict in (*model[rung]["kept"], *model[rung]["dropped"]):
            if verdict["recipe"] == recipe:
                return f"{rung}: {verdict['outcome']}, {verdict['reason']}"
    confirmed = any(row["recipe"] == recipe and row["rung"] in ("confirm", "short") for row in model["rows"])
    return "a cell of the confirmation" if confirmed else "not asked"
