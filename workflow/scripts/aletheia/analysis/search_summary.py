"""All that the searches of a study came to: every run, the Pareto set, and the path of the decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.analysis.frontier import pareto_set
from aletheia.analysis.search_rows import Row, prices
from aletheia.search.space import STD

Rungs = Mapping[str, Mapping[str, Any]]
CONFIRMED = ("confirm", "short")


def summarise_searches(rungs: Mapping[str, Rungs]) -> dict[str, Any]:
    """Return the payload of ``summary.json``.

    Parameters
    ----------
    rungs
        By model and rung: the payloads of a search's artifacts.
    """
    return {"models": [_model(model, of_model) for model, of_model in rungs.items()]}


def _model(model: str, rungs: Rungs) -> dict[str, Any]:
    known = prices(rungs)
    rows = [row for payload in rungs.values() for row in payload["rows"]]
    priced = [{**row, "seconds": known.seconds(row["recipe"], row["steps"])} for row in rows]
    searched = [row for row in priced if row["rung"] not in CONFIRMED]
    costs = {STD: known.cost(STD), **{recipe: each["cost"] for recipe, each in known.costs.items()}}
    return {
        "model": model,
        "rows": priced,
        "costs": costs,
        "pareto": _pareto(searched),
        "path": _path(rungs, searched),
        **{rung: _without_rows(payload) for rung, payload in rungs.items()},
    }


def _without_rows(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key not in ("rows", "model", "rung", "adapters")}


def _pareto(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the runs that no other run beats in both seconds and loss, from the fastest."""
    points = {
        (row["arm"], row["seed"]): ({"mean": row["seconds"]}, {"mean": row["loss"]})
        for row in rows
        if row["seconds"] is not None and row["loss"] is not None
    }
    return [{"arm": arm, "seed": seed} for arm, seed in pareto_set(points)]


def _path(rungs: Rungs, rows: list[Row]) -> list[dict[str, Any]]:
    """Return the runs by which the decision went: std as it is, std tuned, and the leader of each rung."""
    by_arm = {row["arm"]: row for row in rows}
    floor = next((row for row in rows if row["rung"] == "floor" and row["loss"] is not None), None)
    leaders = [(rung, rungs[rung]["kept"][0]["arm"]) for rung in ("scan", "full", "push") if rungs[rung]["kept"]]
    named = [("std tuned", rungs["full"]["std"]["arm"]), *((f"leader of {rung}", arm) for rung, arm in leaders)]
    found = [("std as the paper has it", floor)] if floor else []
    found += [(words, by_arm[arm]) for words, arm in named if arm in by_arm]
    return [{"words": words, "arm": row["arm"], "seed": row["seed"]} for words, row in found]
