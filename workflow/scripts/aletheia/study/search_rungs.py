"""The rungs of a search: what each reads of the earlier ones, and which trials it asks for."""

from __future__ import annotations

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


def timings(search: Search, rung: str, paths: Paths) -> list[tuple[str, int]]:
    """Return arm and seed of the measurements in turns that a rung reads, each where it is first needed.

    Those of the recipes that are scanned: before the scan. Those of the recipes that a push leads to: with the push.
    Those by which runs of the confirmation have their steps: with it.

    Parameters
    ----------
    search, rung, paths
        As of :func:`asked_trials`.
    """
    scanned = _timings_of(search, search.of_rung(SCAN))
    if rung == COST:
        return scanned
    if rung not in (PUSH, FACTORIAL):
        return []
    return [each for each in _timings_of(search, asked_trials(search, rung, paths)) if each not in scanned]


def _timings_of(search: Search, trials: list[Trial]) -> list[tuple[str, int]]:
    return [each for each in dict.fromkeys(map(search.timed_as, trials)) if each]
