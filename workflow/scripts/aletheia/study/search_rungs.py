"""The rungs of a search: what each reads of the earlier ones, and which trials it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aletheia.provenance import artifacts
from aletheia.search.trials import FLOOR, FULL, PUSH, SCAN, Trial
from aletheia.study.paths import Paths
from aletheia.study.searches import Search

COST, FACTORIAL, DECISION = "cost", "factorial", "decision"
# Each rung, in order, with the rungs whose artifacts it reads.
BEFORE: dict[str, tuple[str, ...]] = {
    FLOOR: (),
    COST: (FLOOR,),
    SCAN: (FLOOR, COST),
    FULL: (FLOOR, COST, SCAN),
    PUSH: (FLOOR, COST, SCAN, FULL),
    FACTORIAL: (FLOOR, COST, PUSH),
    DECISION: (FLOOR, COST, SCAN, FULL, PUSH, FACTORIAL),
}
RUNGS = tuple(BEFORE)
# Rungs whose trials another one decides.
DECIDED_BY = {FULL: SCAN, PUSH: FULL, FACTORIAL: PUSH}


def asked_trials(search: Search, rung: str, paths: Paths) -> list[Trial]:
    """Return the trials whose runs a rung reads.

    Parameters
    ----------
    search
        The model's.
    rung
        One of :data:`RUNGS`.
    paths
        Where the artifact of the rung before it stands, which says what is asked; its trials are none where that is not
        there.

    Raises
    ------
    UserError
        When that artifact is damaged.
    """
    if rung in (FLOOR, SCAN):
        return search.of_rung(rung)
    if rung not in DECIDED_BY:
        return []
    path = Path(paths.search(search.model, f"{DECIDED_BY[rung]}.json"))
    asked = artifacts.payload(path, DECIDED_BY[rung])["asked"] if path.is_file() else []
    keys = {(each["arm"], each["seed"]) for each in asked}
    return [trial for trial in search.trials if (trial.arm_name, trial.seed) in keys]


def timed_trials(search: Search, rung: str, asked: Sequence[Trial]) -> list[Trial]:
    """Return the trials whose measurements in turns a rung reads: each recipe's once, where it is first needed."""
    of_scan = {trial.recipe for trial in search.of_rung(SCAN)}
    if rung == COST:
        return [trial for recipe, trial in search.timed_as.items() if recipe in of_scan]
    later = {trial.recipe for trial in asked} - of_scan if rung in (PUSH, FACTORIAL) else set()
    return [trial for recipe, trial in search.timed_as.items() if recipe in later]
