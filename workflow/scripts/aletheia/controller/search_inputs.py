"""Which files each rung of a search reads: its trials' runs, and what was measured of them.

The trials of floor and scan are known when a search begins. Which ones come after is decided by an artifact, so the
rules of the later rungs wait for it as Snakemake's checkpoints do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aletheia.controller.binding import SIGNATURE, Binder
from aletheia.errors import UserError
from aletheia.study.benchmarks import RETENTION
from aletheia.study.outputs import with_sidecar
from aletheia.study.paths import BASE, Paths, run_name
from aletheia.study.report_contents import RECIPE
from aletheia.study.search_rungs import BEFORE, DECIDED_BY, RUNGS, asked_trials, timings
from aletheia.study.study import Study


class SearchInputs:
    """The inputs of the rules of a search that follow from what was decided before.

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
        self._bind, self._checkpoints, self._planned_whole = bind, checkpoints, planned_whole
        self._on_disk = Paths(results)

    def __call__(self, files: Callable[..., list[str]], rung: str) -> Callable[[Any], list[str]]:
        """Return a function of the wildcards of a rung's rule.

        Parameters
        ----------
        files
            :func:`runs`, :func:`turns` or :func:`evaluations`.
        rung
            One of :data:`aletheia.study.search_rungs.RUNGS`.
        """
        bound, decided_by = self._bind(partial(files, rung=rung, on_disk=self._on_disk)), DECIDED_BY.get(rung)

        def of(wildcards: Any) -> list[str]:
            if decided_by and not (self._planned_whole() and self._stands(wildcards.model, decided_by)):
                # Raises what makes Snakemake wait until that rung is decided.
                getattr(self._checkpoints, f"search_{decided_by}").get(model=wildcards.model)
            return bound(wildcards)

        of.__signature__ = SIGNATURE  # type: ignore[attr-defined]
        return of

    def _stands(self, model: str, rung: str) -> bool:
        return Path(self._on_disk.search(model, f"{rung}.json")).is_file()


def before(paths: Paths, model: str, *, rung: str) -> list[str]:
    """Return the artifacts of the earlier rungs that a rung reads."""
    return [paths.search(model, f"{each}.json") for each in BEFORE[rung]]


def runs(study: Study, paths: Paths, model: str, *, rung: str, on_disk: Paths) -> list[str]:
    """Return the runs that a rung reads.

    Parameters
    ----------
    study, paths
        The study, and its paths as the rules spell them.
    model, rung
        Whose rung.
    on_disk
        The paths by which the artifact is read that says what is asked.
    """
    asked = asked_trials(study.searches[model], rung, on_disk)
    return [paths.run(model, trial.arm_name, trial.seed) for trial in asked]


def turns(study: Study, paths: Paths, model: str, *, rung: str, on_disk: Paths) -> list[str]:
    """Return the measurements in turns with std that a rung reads; parameters as of :func:`runs`."""
    return [paths.pair(model, *arm_and_seed) for arm_and_seed in timings(study.searches[model], rung, on_disk)]


def evaluations(study: Study, paths: Paths, model: str, *, rung: str, on_disk: Paths) -> list[str]:
    """Return the evaluations that a rung reads, the base model's where retention is; parameters as of :func:`runs`."""
    search = study.searches[model]
    asked = asked_trials(search, rung, on_disk)
    judged = [(run_name(trial.arm_name, trial.seed), each) for trial in asked for each in search.judged(trial.rung)]
    if any(benchmark == RETENTION for _, benchmark in judged):
        judged.append((BASE, RETENTION))
    return [paths.evaluation(model, run, f"{benchmark}.json") for run, benchmark in judged]


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
