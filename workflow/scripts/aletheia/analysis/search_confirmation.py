"""The confirmation of a search and its decision: new seeds, rows by which nothing was chosen, and what follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aletheia.analysis.search_decisions import Declared, Payload
from aletheia.analysis.search_rows import Evidence, Prices, Row, measured_costs, prices, rows_of
from aletheia.analysis.search_spending import spent
from aletheia.search.confirmation import BOTH, CELLS, PLAIN, SHORTER
from aletheia.search.confirmation import factorial as effects_of
from aletheia.search.decision import Candidate, decide, no_winner
from aletheia.search.results import OK
from aletheia.search.time_to_loss import TARGETS, Ratio, Times, fall_of_a_doubling, standard_ratios
from aletheia.search.trials import CONFIRM, FLOOR, PUSH, SHORT

BySeed = dict[int, float | None]


def factorial(search: Declared, evidence: Evidence) -> Payload:
    """Return the effects of the winner's choice and shape on the rows that judge, and costs measured anew."""
    costs = measured_costs(evidence.turns)
    known, pushed = prices(evidence.before, costs), evidence.before[PUSH]
    rows = rows_of(search.of_rung(CONFIRM, SHORT), evidence, known)
    cells = [{**cell, "losses": _listed(rows, cell["arm"])} for cell in pushed["cells"]]
    losses = {cell["name"]: _by_seed(rows, cell["arm"], "test_loss") for cell in cells if cell["name"] in CELLS}
    effects = asdict(effects_of(losses)) if cells else None
    about = {"model": search.model, "rung": "factorial", "rows": rows, "asked": [], "costs": costs}
    about["adapters"] = [{key: run[key] for key in ("arm", "seed")} | run["adapter"] for run in evidence.runs]
    return {**about, "cells": cells, "effects": effects, "reason": pushed["reason"]}


def _by_seed(rows: list[Row], arm: str, key: str) -> BySeed:
    return {row["seed"]: row[key] if row["status"] == OK else None for row in rows if row["arm"] == arm}


def _listed(rows: list[Row], arm: str) -> list[dict[str, Any]]:
    return [{"seed": seed, "loss": loss} for seed, loss in _by_seed(rows, arm, "test_loss").items()]


def decision(search: Declared, evidence: Evidence) -> Payload:
    """Return the winner, or that there is none; the three ratios; what the search took, and when that is repaid."""
    before = {rung: payload for rung, payload in evidence.before.items() if rung != "factorial"}
    confirmed, delta = evidence.before["factorial"], before[FLOOR]["floor"]["delta"]
    searched = [row for payload in before.values() for row in payload["rows"]]
    taken, rows = spent(search.space, searched, prices(before)), confirmed["rows"]
    known = prices(before, confirmed["costs"])
    cells = {cell["name"]: cell for cell in confirmed["cells"]}
    about = {"model": search.model, "rung": "decision", "rows": [], "asked": [], "spent": taken}
    about["confirmation_seconds"] = _confirmation_seconds(rows, confirmed["costs"]) if rows else None
    if not cells:
        found, ratios = no_winner(confirmed["reason"], delta=delta), {}
    else:
        candidates = {name: _candidate(cells[name], rows, known) for name in CELLS if name in cells}
        slope = _slope(cells, rows) if all(each.seconds for each in candidates.values()) else 0.0
        found = decide(candidates, delta=delta, slope=slope, retention_bound=search.space.retention_bound)
        ratios = _ratios(cells, rows, known)
    none = Ratio(None, None, None, 0, reason="nothing was confirmed, or seconds are not known")
    whole = {name: ratios.get(name, none) for name in TARGETS}
    recommended = _recommended(search, cells[found.winner or PLAIN], confirmed) if cells else None
    std_seconds = _seconds(rows, cells[PLAIN]["arm"]) if cells else None
    return {
        **about,
        **{"decision": asdict(found), "ratios": {name: asdict(ratio) for name, ratio in whole.items()}},
        "recommended": recommended,
        "repaid_after_runs": _repaid_after(taken["total"], std_seconds, whole["b"]),
    }


def _confirmation_seconds(rows: list[Row], costs: Mapping[str, Mapping[str, Any]]) -> float:
    measuring = (each["measured_seconds"] or 0.0 for each in costs.values())
    return sum(row["seconds"] or 0.0 for row in rows) + sum(measuring)


def _seconds(rows: list[Row], arm: str) -> float | None:
    """Return the seconds of a run of an arm by the measured costs."""
    return max((row["seconds"] for row in rows if row["arm"] == arm and row["seconds"] is not None), default=None)


def _slope(cells: Mapping[str, Mapping[str, Any]], rows: list[Row]) -> float:
    """Return by how much the winner's loss falls for each doubling of its steps; 0 where its runs do not say."""
    steps = {name: _steps(rows, cells[name]["arm"]) for name in (BOTH, SHORTER)}
    losses = {name: _by_seed(rows, cells[name]["arm"], "test_loss") for name in (BOTH, SHORTER)}
    if None in steps.values() or steps[BOTH] <= steps[SHORTER]:
        return 0.0
    return fall_of_a_doubling(losses[BOTH], losses[SHORTER], doublings=math.log2(steps[BOTH] / steps[SHORTER]))


def _candidate(cell: Mapping[str, Any], rows: list[Row], known: Prices) -> Candidate:
    retention = _by_seed(rows, cell["arm"], "retention")
    measured = any(value is not None for value in retention.values())
    losses = _by_seed(rows, cell["arm"], "test_loss")
    cost = known.cost(cell["recipe"])
    error = {"log2_se": cost["log2_se"], "df": cost["n"] - 1} if cost and cost["log2_se"] else {}
    return Candidate(losses, _seconds(rows, cell["arm"]) or 0.0, retention if measured else None, **error)


def _ratios(cells: Mapping[str, Mapping[str, Any]], rows: list[Row], known: Prices) -> dict[str, Ratio]:
    """Return the three ratios of seconds, on the rows that judge; none where seconds are not known."""
    own, losses = cells[BOTH], {name: _by_seed(rows, cell["arm"], "test_loss") for name, cell in cells.items()}
    steps = {name: _steps(rows, cell["arm"]) for name, cell in cells.items()}
    if None in (steps[BOTH], steps[SHORTER]) or steps[BOTH] <= steps[SHORTER]:
        return {}
    times = {name: _times(own, cells[cell], steps[BOTH], steps[cell], known) for name, cell in TARGETS.items()}
    if None in times.values():
        return {}
    return standard_ratios(losses, doublings=math.log2(steps[BOTH] / steps[SHORTER]), times=times)


def _times(
    own: Mapping[str, Any], other: Mapping[str, Any], own_steps: int, other_steps: int | None, known: Prices
) -> Times | None:
    """Return what runs of the winner and of another cell take; None where that is not known."""
    costs = [known.cost(cell["recipe"]) for cell in (own, other)]
    seconds = [known.training_seconds(cell["recipe"], n) for cell, n in ((own, own_steps), (other, other_steps))]
    if None in costs or None in seconds:
        return None
    same = own["recipe"] == other["recipe"]
    measured = [] if same else [cost for cost in costs if cost["log2_se"]]
    return Times(
        std=seconds[1],
        own=seconds[0],
        fixed=known.probe_seconds(own["recipe"]),
        log2_se=math.hypot(*(cost["log2_se"] for cost in measured)),
        df=min((cost["n"] - 1 for cost in measured), default=math.inf),
    )


def _steps(rows: list[Row], arm: str) -> int | None:
    return next((row["steps"] for row in rows if row["arm"] == arm and row["status"] == OK), None)


def _recommended(search: Declared, cell: Mapping[str, Any], confirmed: Payload) -> dict[str, Any] | None:
    """Return what is recommended as an arm, and the run with the lowest loss, whose adapter can be used."""
    trials = search.named(cell["rung"], cell["recipe"], cell["rate"])
    ended = [row for row in confirmed["rows"] if row["arm"] == cell["arm"] and row["test_loss"] is not None]
    if not trials or not ended:
        return None
    best = min(ended, key=lambda row: (row["test_loss"], row["seed"]))
    keys = {**trials[0].arm_settings, "steps": best["steps"]}
    told = {key: best[key] for key in ("arm", "recipe", "seed", "test_loss")}
    files = next(
        run["files"] for run in confirmed["adapters"] if (run["arm"], run["seed"]) == (best["arm"], best["seed"])
    )
    return {"cell": cell["name"], "keys": keys, **told, "adapter": files}


def _repaid_after(searched: float | None, std: float | None, ratio: Ratio) -> float | None:
    """Return after how many runs to tuned std's loss the search has saved its own seconds; None where it saves none."""
    if searched is None or std is None or ratio.value is None or ratio.value <= 1:
        return None
    return searched / (std * (1 - 1 / ratio.value))


RUNGS = {"factorial": factorial, "decision": decision}
