"""The most that a search can ask, for its estimate and for the wall time of its allocations.

How many runs it will ask is decided on the way; these are bounds: every full run and every move that the budget of runs
leaves room for, each cell of the confirmation at each of its seeds. At equal seconds every run takes as long as std's.
"""

from __future__ import annotations

from dataclasses import dataclass

from aletheia.cluster import cost
from aletheia.cluster.cost import Cost
from aletheia.search.presets import RATE_MOVES
from aletheia.search.trials import CONFIRM, FLOOR, FULL, PUSH, SCAN, SHORT
from aletheia.study.searches import Search
from aletheia.study.study import Study

CELLS = 5  # of a confirmation, at full length: the factorial's four, and std at the campaign's own rate
TIMED_AGAIN = 3  # recipes of its cells but std: what was chosen, the same in the paper's shape, std in its shape


@dataclass(frozen=True)
class MostAsked:
    """The most jobs of a search.

    Attributes
    ----------
    trainings
        Runs by rung.
    recipes_timed
        Measurements in turns with std, by rung: before the scan, with the push, and again for the confirmation.
    probed_seeds
        Seeds with a probe; none where no recipe's layers follow from one.
    selections
        Most selections in all.
    """

    trainings: dict[str, int]
    recipes_timed: dict[str, int]
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
    scanned = sum(recipe in search.timed for recipe in space.scanned)
    timed = {SCAN: scanned, PUSH: made, CONFIRM: min(TIMED_AGAIN, len(search.timed))}
    runs = [run for run in study.trials.values() if run.model == search.model]
    probed = any(run.probes for run in runs)
    selects = any(run.selects for run in runs)
    return MostAsked(
        trainings,
        timed,
        [space.search_seed, *space.confirm_seeds] if probed else [],
        sum(trainings.values()) + sum(timed.values()) if selects else 0,
    )


def most_at_once(study: Study, search: Search, seed: int) -> list[dict[str, int]]:
    """Return the most jobs of a search that may share an allocation of a seed, by rung, and ``turns``.

    One entry for each part of the search: what comes after an artifact that is waited for has an allocation of its own.
    """
    most, space = most_asked(study, search), search.space
    at_first = {FLOOR: int(seed in space.floor_seeds)}
    parts = [at_first]
    if seed == space.search_seed:
        at_first |= {SCAN: most.trainings[SCAN], "turns": most.recipes_timed[SCAN]}
        parts += [{FULL: most.trainings[FULL]}, {PUSH: most.trainings[PUSH], "turns": most.recipes_timed[PUSH]}]
    if seed in space.confirm_seeds:
        parts.append({CONFIRM: CELLS, SHORT: 1})
    return parts


def estimate_searches(study: Study) -> list[Cost]:
    """Return the cost of the most that each search can ask for, without the base models of its campaign."""
    return [_cost_of_search(study, search) for search in study.searches.values()]


def _cost_of_search(study: Study, search: Search) -> Cost:
    entry, shared, most = study.models[search.model], study.shared[search.model], most_asked(study, search)
    standard, short = search.standard(study).settings, (SCAN, SHORT)
    training = sum(
        count
        * cost.training_seconds(
            entry, standard, steps=search.space.steps_scan if rung in short else search.space.steps_full
        )
        for rung, count in most.trainings.items()
    )
    pace, turns = shared["interleaving"], sum(most.recipes_timed.values())
    training += turns * cost.turns_seconds(entry, pace, arms=cost.ARMS_PER_MEASUREMENT)
    training += len(most.probed_seeds) * cost.probe_seconds(entry, standard)
    small = most.selections + len({trial.seed for trial in search.trials})
    judged, evaluations = search.judged(CONFIRM), most.evaluations(search)
    questions = {name: count for name, count in cost.questions_of(study, search.model).items() if name in judged}
    return Cost(
        campaign=f"{search.campaign} (search)",
        model=search.model,
        gpus=entry["gpus"],
        trainings=sum(most.trainings.values()),
        evaluations=evaluations,
        training_seconds=training + small * cost.SMALL_JOB_SECONDS,
        evaluation_seconds=evaluations * cost.evaluation_seconds(entry, standard, shared["evaluation"], questions),
    )
