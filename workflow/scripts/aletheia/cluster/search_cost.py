"""The most that a search can ask, for its estimate and for the wall time of its allocations.

How many runs it will ask is decided on the way; these are bounds: every full run and every move that the budget of runs
leaves room for, each cell of the confirmation at each of its seeds. At equal seconds every run takes as long as std's.
"""

from __future__ import annotations

from dataclasses import dataclass

from aletheia.search.presets import RATE_MOVES
from aletheia.search.trials import CONFIRM, FLOOR, FULL, PUSH, SCAN, SHORT
from aletheia.study.searches import Search
from aletheia.study.study import Study

CELLS = 5  # of a confirmation, at full length: the factorial's four, and std at the campaign's own rate


@dataclass(frozen=True)
class MostAsked:
    """The most jobs of a search.

    Attributes
    ----------
    trainings
        Runs by rung.
    recipes_timed
        Measurements in turns with std, before the scan and in all.
    probed_seeds
        Seeds with a probe; none where no recipe's layers follow from one.
    selections
        Most selections in all.
    """

    trainings: dict[str, int]
    recipes_timed: tuple[int, int]
    probed_seeds: list[int]
    selections: int

    def evaluations(self, search: Search) -> int:
        """Return the most runs that are evaluated."""
        return sum(count for rung, count in self.trainings.items() if search.judged(rung))


def most_asked(study: Study, search: Search) -> MostAsked:
    """Return the most jobs that a model's search can ask for."""
    space, seeds = search.space, len(search.space.confirm_seeds)
    floor, scan = len(search.of_rung(FLOOR)), len(search.of_rung(SCAN))
    full, moves = len(search.of_rung(FULL)), len(space.asked_moves)
    if space.budget_runs is not None:
        full = min(full, max(0, space.budget_runs - floor - scan))
        moves = min(moves, max(0, space.budget_runs - floor - scan - full))
    trainings = {FLOOR: floor, SCAN: scan, FULL: full, PUSH: moves, CONFIRM: CELLS * seeds, SHORT: seeds}
    made = sum(move not in RATE_MOVES for move in space.asked_moves)
    before = sum(recipe in search.timed for recipe in space.scanned)
    # What push leads to, and the leader and each of these in the paper's shape.
    further = min(2 * made + 1, len(search.timed) - before)
    runs = [run for run in study.trials.values() if run.model == search.model]
    probed = any(run.probes for run in runs)
    selects = any(run.selects for run in runs)
    return MostAsked(
        trainings,
        (before, before + further),
        [space.search_seed, *space.confirm_seeds] if probed else [],
        sum(trainings.values()) + before + further if selects else 0,
    )


def most_at_once(study: Study, search: Search, seed: int) -> dict[str, int]:
    """Return the most jobs of a search that may share the allocation of a seed, by rung, and ``turns``."""
    most, space = most_asked(study, search), search.space
    found = {FLOOR: int(seed in space.floor_seeds)}
    if seed in space.confirm_seeds:
        found |= {CONFIRM: CELLS, SHORT: 1}
    if seed == space.search_seed:
        found |= {rung: most.trainings[rung] for rung in (SCAN, FULL, PUSH)} | {"turns": most.recipes_timed[1]}
    return found
