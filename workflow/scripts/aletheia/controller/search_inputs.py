"""Which files each rung of a search reads: its trials' runs, and what was measured of them.

The trials of floor and scan are known when a search begins. Which ones come after is decided by an artifact, so the
rules of the later rungs wait for it as Snakemake's checkpoints do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aletheia.controller.binding import SIGNATURE, Binder
from aletheia.errors import UserError
from aletheia.study.benchmarks import RETENTION
from aletheia.study.outputs import with_sidecar
from aletheia.study.paths import BASE, Paths, run_name
from aletheia.study.report_contents import RECIPE
from aletheia.study.search_rungs import BEFORE, DECIDED_BY, RUNGS, asked_trials, timed_trials
from aletheia.study.study import Study

Files = dict[str, list[str]]


class SearchInputs:
    """The inputs of the rules of a search.

    Parameters
    ----------
    bind
        Binds functions of the study to wildcards.
    checkpoints
        Snakemake's, by the names of rules.
    results
        The folder that holds the results.
    planned_whole
        Tells whether a dry run shows every job, also those that are done: the trials are then those that the artifacts
        on the disk ask for, since no checkpoint counts as done.
    """

    def __init__(self, bind: Binder, checkpoints: Any, results: str, planned_whole: Callable[[], bool]) -> None:
        self._bind, self._checkpoints, self._results, self._planned_whole = bind, checkpoints, results, planned_whole

    def __call__(self, rung: str) -> Callable[[Any], Files]:
        """Return the function of the wildcards of a rung's rule."""
        on_disk = Paths(self._results)

        def files(study: Study, paths: Paths, model: str) -> Files:
            return rung_files(study, paths, model, rung, on_disk)

        bound, decided_by = self._bind(files), DECIDED_BY.get(rung)

        def of(wildcards: Any) -> Files:
            if decided_by and not (self._planned_whole() and self._stands(wildcards.model, decided_by)):
                # Raises what makes Snakemake wait until that rung is decided.
                getattr(self._checkpoints, f"search_{decided_by}").get(model=wildcards.model)
            return bound(wildcards)

        of.__signature__ = SIGNATURE  # type: ignore[attr-defined]
        return of

    def _stands(self, model: str, rung: str) -> bool:
        return Path(Paths(self._results).search(model, f"{rung}.json")).is_file()


def rung_files(study: Study, paths: Paths, model: str, rung: str, on_disk: Paths) -> Files:
    """Return what a rung reads: ``before`` (artifacts of earlier rungs), ``runs``, ``turns`` and ``evaluations``.

    Parameters
    ----------
    study, paths
        The study, and its paths as the rules spell them.
    model, rung
        Whose rung.
    on_disk
        The paths by which the artifact is read that says what is asked.
    """
    search = study.searches[model]
    asked = asked_trials(search, rung, on_disk)
    judged = [(run_name(trial.arm_name, trial.seed), each) for trial in asked for each in search.judged(trial.rung)]
    if any(benchmark == RETENTION for _, benchmark in judged):
        judged.append((BASE, RETENTION))
    return {
        "before": [paths.search(model, f"{each}.json") for each in BEFORE[rung]],
        "runs": [paths.run(model, trial.arm_name, trial.seed) for trial in asked],
        "turns": [paths.pair(model, trial.arm_name, trial.seed) for trial in timed_trials(search, rung, asked)],
        "evaluations": [paths.evaluation(model, run, f"{benchmark}.json") for run, benchmark in judged],
    }


def report_inputs(study: Study, paths: Paths) -> list[str]:
    """Return the artifacts of every search of a study.

    Raises
    ------
    UserError
        When the study has none.
    """
    if not study.searches:
        raise UserError(
            "search: expected a campaign with a section search, found none in this study; name one, as "
            "config/search.yaml does"
        )
    return [paths.search(model, f"{rung}.json") for model in study.searches for rung in RUNGS]


def recipes(study: Study, paths: Paths) -> list[str]:
    """Return the recipe that each search ends with, and its sidecar."""
    return [file for model in study.searches for file in with_sidecar(paths.search(model, RECIPE))]
