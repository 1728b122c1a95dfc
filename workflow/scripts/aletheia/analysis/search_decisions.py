"""The rungs of a search before its confirmation, each from what it read to its artifact's payload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aletheia.analysis.search_rows import Evidence, Row, measured_costs, prices, results_of, rows_of
from aletheia.analysis.search_spending import asked_entries, bought, spent
from aletheia.search.confirmation import confirmed_cells
from aletheia.search.noise_floor import noise_floor
from aletheia.search.promotion import Promotion, Verdict, full_decision, push_decision, push_moves, scan_decision
from aletheia.search.results import losses_by_seed
from aletheia.search.space import STD, Space
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
    import statistics

    costs = measured_costs(search.trials, evidence.turns)
    std = [each["std_seconds"] for each in costs.values() if each["std_seconds"] is not None]
    return {**_about(search, "cost", []), "costs": costs, "std_seconds": statistics.median(std) if std else None}


def scan(search: Declared, evidence: Evidence) -> Payload:
    """Return which recipes go on to full runs, and at which rates."""
    space, known = search.space, prices(evidence.before)
    rows = rows_of(search.of_rung(SCAN), evidence, known)
    decision = scan_decision(
        results_of(rows),
        rates=space.rates,
        stds=list(space.stds),
        delta=_delta(evidence),
        keep=space.keep,
        base_loss=evidence.before[FLOOR]["base_loss"],
    )
    wishes = [trial for recipe, rate in decision.asked for trial in search.named(FULL, recipe, rate)]
    return _promoted(search, SCAN, rows, evidence, decision, wishes)


def full(search: Declared, evidence: Evidence) -> Payload:
    """Return the leader of the full runs, its ties, and the moves that push tries from it."""
    space, known = search.space, prices(evidence.before)
    rows = rows_of(search.of_rung(FULL), evidence, known)
    decision = full_decision(
        results_of(rows),
        stds=list(space.stds),
        delta=_delta(evidence),
        base_loss=evidence.before[FLOOR]["base_loss"],
        retention_bound=space.retention_bound,
    )
    ran: dict[str, list[float]] = {}
    for row in rows:
        ran.setdefault(row["recipe"], []).append(row["rate"])
    moves = push_moves(decision.leader, space, ran) if decision.leader else []
    wishes = [trial for move in moves if not move.reason for trial in search.named(PUSH, move.recipe, move.rate)]
    return {**_promoted(search, FULL, rows, evidence, decision, wishes), "moves": [asdict(move) for move in moves]}


def push(search: Declared, evidence: Evidence) -> Payload:
    """Return the recipe that is confirmed, and the cells of its confirmation."""
    space, before = search.space, evidence.before
    costs = measured_costs(search.trials, evidence.turns)
    rows = rows_of(search.of_rung(PUSH), evidence, prices(before, costs))
    kept = [Verdict(**verdict) for verdict in before[FULL]["kept"]]
    about = {**_about(search, PUSH, rows), "costs": costs, "delta": _delta(evidence)}
    about["spent"] = spent(space, [*_rows_before(evidence), *rows], prices(before, costs))
    std_rates = {std["recipe"]: std["rate"] for std in before[FULL]["stds"] if std["rate"] is not None}
    if not kept or STD not in std_rates:
        missing = "no recipe is left" if not kept else "std has no full run that ended well"
        return {
            **about,
            "kept": [],
            "dropped": [],
            "cells": [],
            "asked": [],
            "reason": f"{missing}: nothing to confirm",
        }
    decision = push_decision(results_of(rows), kept[0], delta=_delta(evidence), retention_bound=space.retention_bound)
    leader = decision.leader or kept[0]
    cells = confirmed_cells(space, recipe=leader.recipe, rate=leader.rate, std_rates=std_rates)
    trials = [trial for cell in cells for trial in search.named(cell.rung, cell.recipe, cell.rate)]
    listed = [{**asdict(cell), "arm": trial_name(cell.rung, cell.recipe, cell.rate)} for cell in cells]
    verdicts = {key: [asdict(verdict) for verdict in getattr(decision, key)] for key in ("kept", "dropped")}
    return {**about, **verdicts, "cells": listed, "asked": asked_entries(trials), "reason": None}


def _about(search: Declared, rung: str, rows: list[Row]) -> Payload:
    return {"model": search.model, "rung": rung, "rows": rows, "asked": []}


def _delta(evidence: Evidence) -> float:
    return evidence.before[FLOOR]["floor"]["delta"]


def _rows_before(evidence: Evidence) -> list[Row]:
    return [row for payload in evidence.before.values() for row in payload["rows"]]


def _promoted(
    search: Declared,
    rung: str,
    rows: list[Row],
    evidence: Evidence,
    decision: Promotion,
    wishes: list[Trial],
) -> Payload:
    """Return the payload of a rung that promotes: verdicts, what is asked next, and what the budget does not pay for."""
    known = prices(evidence.before)
    used = spent(search.space, [*_rows_before(evidence), *rows], known)
    chosen, refused = bought(search.space, wishes, used["left"], known)
    verdicts = {key: [asdict(verdict) for verdict in getattr(decision, key)] for key in ("kept", "dropped", "stds")}
    return {
        **_about(search, rung, rows),
        **{"delta": decision.delta, **verdicts, "spent": used},
        **{"asked": asked_entries(chosen), "beyond_budget": asked_entries(refused)},
    }


RUNGS: Mapping[str, Callable[[Declared, Evidence], Payload]] = {
    FLOOR: floor,
    "cost": cost,
    SCAN: scan,
    FULL: full,
    PUSH: push,
}
