"""The rungs of a search: what each reads of the earlier ones, and which trials it asks for."""

from __future__ import annotations

from pathlib import Path

from aletheia.provenance import artifacts
from aletheia.search.space import IN_PAPERS_SHAPE
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


def timed_recipes(search: Search, rung: str, paths: Paths) -> list[str]:
    """Return the recipes whose measurements in turns a rung reads, each where it is first needed.

    Those that are scanned: before the scan. Those that a push can lead to, and in the paper's shape what it can end
    with: with the push, so that no run of the confirmation waits for a measurement.

    Parameters
    ----------
    search, rung, paths
        As of :func:`asked_trials`.
    """
    scanned = [recipe for recipe in search.space.scanned if recipe in search.timed]
    if rung == COST:
        return scanned
    path = Path(paths.search(search.model, f"{FULL}.json"))
    if rung != PUSH or not path.is_file():
        return []
    leader = [verdict["recipe"] for verdict in artifacts.payload(path, FULL)["kept"][:1]]
    reached = dict.fromkeys([*leader, *(trial.recipe for trial in asked_trials(search, PUSH, paths))])
    wanted = [name for recipe in reached for name in (recipe, recipe + IN_PAPERS_SHAPE)]
    return [recipe for recipe in wanted if recipe in search.timed and recipe not in scanned]
