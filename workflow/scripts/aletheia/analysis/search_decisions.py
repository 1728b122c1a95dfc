"""The rungs of a search before its confirmation, each from what it read to its artifact's payload."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aletheia.analysis.search_rows import Evidence, Row, measured_costs, prices, results_of, rows_of
from aletheia.analysis.search_spending import asked_entries, bought, spent
from aletheia.search.confirmation import confirmed_cells
from aletheia.search.noise_floor import noise_floor
from aletheia.search.promotion import (
    Promotion,
    Verdict,
    full_decision,
    push_decision,
    scan_decision,
    tuned_rates,
)
from aletheia.search.push import push_moves
from aletheia.search.results import Result, losses_by_seed
from aletheia.search.space import Space
from aletheia.search.trials import FLOOR, FULL, PUSH, SCAN, Trial, trial_name

Payload = dict[str, Any]


@dataclass(frozen=True)
class Declared:
    """A search as its section declares it.

    Attributes
    ----------
    model
        Whose search.
    space, trials
        What there is to decide, and every run that it can ask for.
    """

    model: str
    space: Space
    trials: list[Trial]

    def of_rung(self, *rungs: str) -> list[Trial]:
        """Return the trials of some rungs."""
        return [trial for trial in self.trials if trial.rung in rungs]

    def named(self, rung: str, recipe: str, rate: float) -> list[Trial]:
        """Return the trials of a rung, recipe and rate, one a seed."""
        name = trial_name(rung, recipe, rate)
        return [trial for trial in self.trials if trial.arm_name == name]


def floor(search: Declared, evidence: Evidence) -> Payload:
    """Return the noise floor, and the indifference zone that follows."""
    rows = rows_of(search.of_rung(FLOOR), evidence, None)
    found = noise_floor(losses_by_seed(results_of(rows)), margin=search.space.margin)
    return {**_about(search, FLOOR, rows), "floor": asdict(found), "base_loss": _base_loss(evidence)}


def _base_loss(evidence: Evidence) -> float | None:
    """Return the held-out loss before the first step, where a run of the floor has taken it."""
    first = (point for run in evidence.runs for point in run.get("curve", [])[:1] if point["step"] == 0)
    return next((point["heldout_loss"] for point in first), None)


def cost(search: Declared, evidence: Evidence) -> Payload:
    """Return what a step of each recipe costs, measured in turns with std."""
    costs = measured_costs(evidence.turns)
    std = [each["std_seconds"] for each in costs.values() if each["std_seconds"] is not None]
    return {**_about(search, "cost", []), "costs": costs, "std_seconds": statistics.median(std) if std else None}


def scan(search: Declared, evidence: Evidence) -> Payload:
    """Return which recipes go on to full runs, and at which rates."""
    rows = rows_of(search.of_rung(SCAN), evidence, prices(evidence.before))
    decision = scan_decision(results_of(rows), search.space, **_zone(evidence))
    wishes = [trial for recipe, rate in decision.asked for trial in search.named(FULL, recipe, rate)]
    return _promoted(search, rows, evidence, decision, wishes)


def full(search: Declared, evidence: Evidence) -> Payload:
    """Return the leader of the full runs, its ties, and the moves that push tries from it."""
    rows = rows_of(search.of_rung(FULL), evidence, prices(evidence.before))
    decision = full_decision(results_of(rows), search.space, scan=_results(evidence, SCAN), **_zone(evidence))
    ran: dict[str, list[float]] = {}
    for row in rows:
        ran.setdefault(row["recipe"], []).append(row["rate"])
    moves = push_moves(decision.leader, search.space, ran) if decision.leader else []
    wishes = [trial for move in moves if not move.reason for trial in search.named(PUSH, move.recipe, move.rate)]
    return {**_promoted(search, rows, evidence, decision, wishes), "moves": [asdict(move) for move in moves]}


def push(search: Declared, evidence: Evidence) -> Payload:
    """Return the recipe that is confirmed, and the cells of its confirmation."""
    before = evidence.before
    costs = measured_costs(evidence.turns)
    rows = rows_of(search.of_rung(PUSH), evidence, prices(before, costs))
    used = spent(search.space, [*_rows_before(evidence), *rows], prices(before, costs))
    about = {**_about(search, PUSH, rows), "costs": costs, "spent": used, "delta": _zone(evidence)["delta"]}
    ran = _promotion(before[FULL])
    if ran.leader is None:
        return {**about, **_nothing("no recipe is left")}
    base_loss = _zone(evidence)["base_loss"]
    decision = push_decision(results_of(rows), ran, search.space, base_loss=base_loss)
    rates = tuned_rates(_results(evidence, FULL), _results(evidence, SCAN), search.space)
    chosen = decision.leader
    try:
        cells = confirmed_cells(search.space, recipe=chosen.recipe, rate=chosen.rate, std_rates=rates)
    except ValueError as error:
        return {**about, **_nothing(str(error))}
    trials = [trial for cell in cells for trial in search.named(cell.rung, cell.recipe, cell.rate)]
    listed = [{**asdict(cell), "arm": trial_name(cell.rung, cell.recipe, cell.rate)} for cell in cells]
    return {**about, **_verdicts(decision), "cells": listed, "asked": asked_entries(trials), "reason": None}


def _nothing(reason: str) -> Payload:
    return {"kept": [], "dropped": [], "std": None, "cells": [], "reason": f"{reason}: nothing to confirm"}


def _promotion(payload: Mapping[str, Any]) -> Promotion:
    """Return a rung's decision as its artifact has it."""
    listed = {key: [Verdict(**verdict) for verdict in payload[key]] for key in ("kept", "dropped")}
    return Promotion(payload["rung"], payload["delta"], **listed, std=Verdict(**payload["std"]), asked=[])


def _results(evidence: Evidence, rung: str) -> list[Result]:
    return results_of(evidence.before[rung]["rows"])


def _zone(evidence: Evidence) -> dict[str, Any]:
    floor_payload = evidence.before[FLOOR]
    return {"delta": floor_payload["floor"]["delta"], "base_loss": floor_payload["base_loss"]}


def _about(search: Declared, rung: str, rows: list[Row]) -> Payload:
    return {"model": search.model, "rung": rung, "rows": rows, "asked": []}


def _rows_before(evidence: Evidence) -> list[Row]:
    return [row for payload in evidence.before.values() for row in payload["rows"]]


def _promoted(
    search: Declared, rows: list[Row], evidence: Evidence, decision: Promotion, wishes: list[Trial]
) -> Payload:
    """Return the payload of a rung that promotes: verdicts, what is asked next, what the budget does not pay for."""
    known = prices(evidence.before)
    used = spent(search.space, [*_rows_before(evidence), *rows], known)
    chosen, refused = bought(search.space, wishes, used["left"], known)
    return {
        **_about(search, decision.rung, rows),
        **{"delta": decision.delta, **_verdicts(decision), "spent": used},
        **{"asked": asked_entries(chosen), "beyond_budget": asked_entries(refused)},
    }


def _verdicts(decision: Promotion) -> Payload:
    listed = {key: [asdict(verdict) for verdict in getattr(decision, key)] for key in ("kept", "dropped")}
    return {**listed, "std": asdict(decision.std)}


RUNGS: Mapping[str, Callable[[Declared, Evidence], Payload]] = {
    FLOOR: floor,
    "cost": cost,
    SCAN: scan,
    FULL: full,
    PUSH: push,
}
