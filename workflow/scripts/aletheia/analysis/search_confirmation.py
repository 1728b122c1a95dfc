"""The confirmation of a search and its decision: new seeds, rows by which nothing was chosen, and what follows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aletheia.analysis.search_decisions import Declared, Payload
from aletheia.analysis.search_rows import Evidence, Prices, Row, measured_costs, prices, rows_of
from aletheia.analysis.search_spending import spent
from aletheia.search.confirmation import BOTH, CELLS, PAPER, PLAIN, SHAPE_ALONE, SHORTER
from aletheia.search.confirmation import factorial as effects_of
from aletheia.search.decision import Candidate, decide
from aletheia.search.results import OK
from aletheia.search.time_to_loss import Ratio, time_ratio
from aletheia.search.trials import CONFIRM, FLOOR, PUSH, SHORT

# The three ratios of a verdict: seconds to the loss of this cell over seconds of the winner to it.
RATIOS = {"a": PAPER, "b": PLAIN, "c": SHAPE_ALONE}
BySeed = dict[int, float | None]


def factorial(search: Declared, evidence: Evidence) -> Payload:
    """Return the effects of the winner's choice and shape on the rows that judge."""
    costs = measured_costs(search.trials, evidence.turns)
    known = prices(evidence.before, costs)
    rows = rows_of(search.of_rung(CONFIRM, SHORT), evidence, known)
    cells = [{**cell, "losses": _listed(rows, cell["arm"])} for cell in evidence.before[PUSH]["cells"]]
    by_name = {cell["name"]: _by_seed(rows, cell["arm"], "test_loss") for cell in cells}
    whole = all(name in by_name for name in CELLS)
    return {
        **{"model": search.model, "rung": "factorial", "rows": rows, "asked": [], "costs": costs, "cells": cells},
        "effects": asdict(effects_of({name: by_name[name] for name in CELLS})) if whole else None,
        "reason": None if whole else evidence.before[PUSH]["reason"] or "some cell of the factorial has no runs",
    }


def _by_seed(rows: list[Row], arm: str, key: str) -> BySeed:
    return {row["seed"]: row[key] if row["status"] == OK else None for row in rows if row["arm"] == arm}


def _listed(rows: list[Row], arm: str) -> list[dict[str, Any]]:
    return [{"seed": seed, "loss": loss} for seed, loss in _by_seed(rows, arm, "test_loss").items()]


def decision(search: Declared, evidence: Evidence) -> Payload:
    """Return the winner, or that there is none; the three ratios; what the search took, and when that is repaid."""
    before, known = evidence.before, prices(evidence.before)
    rows = before["factorial"]["rows"]
    searched = [row for rung, payload in before.items() if rung != "factorial" for row in payload["rows"]]
    cells = {cell["name"]: cell for cell in before["factorial"]["cells"]}
    taken = spent(search.space, searched, known)
    confirmed = [row["seconds"] for row in rows if row["seconds"] is not None]
    about = {"model": search.model, "rung": "decision", "rows": [], "asked": [], "spent": taken}
    about["confirmation_seconds"] = sum(confirmed) if confirmed else None
    if not {PLAIN, BOTH} <= set(cells):
        none = {"winner": None, "decision": None, "recommended": None, "repaid_after_runs": None}
        ratios = {name: asdict(Ratio(None, None, None, 0, "nothing was confirmed")) for name in RATIOS}
        return {**about, **none, "ratios": ratios, "reason": before["factorial"]["reason"]}
    candidates = {name: _candidate(name, cells[name], rows) for name in CELLS if name in cells}
    found = decide(candidates, delta=before[FLOOR]["floor"]["delta"], retention_bound=search.space.retention_bound)
    ratios = {name: _ratio(cells, cell, rows, known) for name, cell in RATIOS.items()}
    return {
        **about,
        **{"winner": found.winner, "decision": asdict(found), "reason": found.reason},
        "ratios": {name: asdict(ratio) for name, ratio in ratios.items()},
        "recommended": _recommended(search, cells[found.winner or PLAIN], rows),
        "repaid_after_runs": _repaid_after(taken["total"], _seconds(rows, cells[PLAIN]["arm"]), ratios["b"]),
    }


def _seconds(rows: list[Row], arm: str) -> float | None:
    """Return the seconds of a run of an arm by the measured costs: those of its longest run."""
    return max((row["seconds"] for row in rows if row["arm"] == arm and row["seconds"] is not None), default=None)


def _candidate(name: str, cell: Mapping[str, Any], rows: list[Row]) -> Candidate:
    retention = _by_seed(rows, cell["arm"], "retention")
    known = any(value is not None for value in retention.values())
    losses = _by_seed(rows, cell["arm"], "test_loss")
    return Candidate(name, losses, _seconds(rows, cell["arm"]) or 0.0, retention if known else None)


def _ratio(cells: Mapping[str, Mapping[str, Any]], of: str, rows: list[Row], known: Prices) -> Ratio:
    """Return seconds of a cell over seconds of the winner to that cell's last loss, on the rows that judge."""
    missing = [name for name in (of, SHORTER) if name not in cells]
    if missing:
        return Ratio(None, None, None, 0, f"no runs of {missing[0]}")
    own, target, shorter = cells[BOTH], cells[of], cells[SHORTER]
    steps = {name: _steps(rows, cell["arm"]) for name, cell in (("own", own), ("target", target), ("shorter", shorter))}
    costs = [known.cost(cell["recipe"]) for cell in (own, target)]
    if None in costs or None in steps.values() or steps["own"] <= steps["shorter"]:
        return Ratio(None, None, None, 0, "its seconds are not known")
    errors = [cost["log2_se"] for cost in costs]
    degrees = [cost["df"] for cost in costs if cost["df"]]
    probe = known.probe_seconds(own["recipe"])
    return time_ratio(
        _by_seed(rows, target["arm"], "test_loss"),
        _by_seed(rows, own["arm"], "test_loss"),
        _by_seed(rows, shorter["arm"], "test_loss"),
        doublings=math.log2(steps["own"] / steps["shorter"]),
        seconds=known.seconds(target["recipe"], steps["target"]) or 1.0,
        own_seconds=(known.seconds(own["recipe"], steps["own"]) or 1.0) - probe,
        fixed_seconds=probe,
        log2_cost_se=math.hypot(*(error or 0.0 for error in errors)),
        cost_df=min(degrees, default=math.inf),
    )


def _steps(rows: list[Row], arm: str) -> int | None:
    return next((row["steps"] for row in rows if row["arm"] == arm and row["status"] == OK), None)


def _recommended(search: Declared, cell: Mapping[str, Any], rows: list[Row]) -> dict[str, Any] | None:
    """Return what is recommended as an arm, and the run with the lowest loss whose adapter can be used."""
    trials = search.named(cell["rung"], cell["recipe"], cell["rate"])
    ended = [row for row in rows if row["arm"] == cell["arm"] and row["test_loss"] is not None]
    if not trials or not ended:
        return None
    best = min(ended, key=lambda row: (row["test_loss"], row["seed"]))
    keys = {**trials[0].arm_settings, "steps": best["steps"]}
    return {"cell": cell["name"], "keys": keys, **{key: best[key] for key in ("arm", "seed", "test_loss")}}


def _repaid_after(searched: float | None, std: float | None, ratio: Ratio) -> float | None:
    """Return after how many runs to tuned std's loss the search has saved its own seconds; None where it saves none."""
    if searched is None or std is None or ratio.value is None or ratio.value <= 1:
        return None
    return searched / (std * (1 - 1 / ratio.value))


RUNGS = {"factorial": factorial, "decision": decision}
