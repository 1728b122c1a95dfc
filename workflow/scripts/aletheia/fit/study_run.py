"""From options to a finished study: look at the data, write the files, probe, predict, train, report."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.fit import outcome, plan_text, runner, timing
from aletheia.fit.choices import choose
from aletheia.fit.folder import expect_room, expect_study, write_or_take_up
from aletheia.fit.options import Options, checked
from aletheia.fit.runner import Machine
from aletheia.fit.study_files import CAMPAIGN, CONFIG, SEARCH_CONFIG, study_files
from aletheia.fit.survey import survey
from aletheia.provenance import artifacts
from aletheia.staging.staged_rows import staged_train_rows
from aletheia.study.configuration_files import read_configuration
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.schema import trees
from aletheia.study.study import Run, Study

ANSWER = "fit"


@dataclass(frozen=True)
class FolderStudy:
    """The study of a folder, and where its files are, from there."""

    study: Study
    paths: Paths

    @property
    def campaign(self) -> Mapping[str, Any]:
        """The campaign that is reported: the last one."""
        return self.study.campaigns[-1]

    @property
    def model(self) -> str:
        """The model's name."""
        return self.campaign["models"][0]


def prepare(options: Options | None, folder: Path, machine: Machine) -> None:
    """Write a study's files, or take up those that stand there; say what it will do.

    Parameters
    ----------
    options
        None goes on with what stands in the folder.
    folder, machine
        The study's folder, and where its jobs run.

    Raises
    ------
    UserError
        For options that cannot be, rows that cannot be read, a folder that holds something else.
    """
    _expect_snakemake()
    if options is None:
        expect_study(folder)
        print(f"Goes on with the study in {folder}.")
        return
    # Before the rows are read, which can take a while.
    expect_room(folder)
    found = survey(checked(options))
    if options.seconds is None:
        choices = choose(options, found)
    else:
        if not (folder / CAMPAIGN).is_file():
            print("First a few steps are timed, to see how many --time is.", flush=True)
        choices = timing.timed_choices(options, found, folder, machine)
    again = write_or_take_up(folder, study_files(options, found, choices))
    print(plan_text.plan_text(options, found, choices, folder, again=again), flush=True)


def probe(folder: Path, machine: Machine) -> Mapping[str, Any]:
    """Measure the layers at the study's first seed; return the payload of the probe.

    Raises
    ------
    UserError
        When no arm of the study chooses layers.
    """
    study = read_study(folder)
    if not (runs := _selecting(study)):
        raise UserError(f"{CAMPAIGN}: expected an arm that chooses layers, such as ale, found none; add one")
    target = study.paths.probe(study.model, runs[0].seed)
    runner.run(folder, [target], machine)
    return artifacts.payload(folder / target, "probe")


def layer_scores(folder: Path) -> list[float]:
    """Return the scores of the layers by the probe at the first seed; none where no arm has needed it."""
    study = read_study(folder)
    path = folder / study.paths.probe(study.model, study.campaign["seeds"][0])
    return artifacts.payload(path, "probe")["scores"]["l2"] or [] if path.is_file() else []


def select(folder: Path, machine: Machine) -> dict[str, Mapping[str, Any]]:
    """Choose the layers of each arm that does so, at its first seed; return the payloads of the selections by arm."""
    study = read_study(folder)
    targets = {run.arm: study.paths.selection(run.model, run.arm, run.seed) for run in _selecting(study)}
    if targets:
        runner.run(folder, list(targets.values()), machine)
    return {arm: artifacts.payload(folder / target, "selection") for arm, target in targets.items()}


def search(folder: Path, machine: Machine) -> None:
    """Run the search of a study that has one; the recipe that it ends with is an arm."""
    if (folder / SEARCH_CONFIG).is_file():
        runner.run(folder, ["search"], machine, config=SEARCH_CONFIG)


def finish(folder: Path, machine: Machine) -> Mapping[str, Any]:
    """Train, evaluate and report; return the report's summary."""
    runner.run(folder, [ANSWER], machine)
    return outcome.bring_up(folder, read_study(folder).paths)


def plan(folder: Path, machine: Machine, target: str = ANSWER) -> None:
    """Print the jobs that would run."""
    config = CONFIG
    if (folder / SEARCH_CONFIG).is_file():
        target, config = "search", SEARCH_CONFIG
    runner.dry_run(folder, [target], machine, config=config)


def read_study(folder: Path) -> FolderStudy:
    """Return the study of a folder, as its files say now."""
    with _inside(folder):
        configuration = read_configuration([Path(CONFIG)])
        paths = Paths(*trees(configuration))
        return FolderStudy(
            load_study(configuration, staged_rows=partial(staged_train_rows, Path(paths.resources))), paths
        )


def _selecting(folder: FolderStudy) -> list[Run]:
    """Return the run of each arm that chooses layers, at the campaign's first seed."""
    runs: dict[str, Run] = {}
    for run in folder.study.runs.values():
        if run.selects and run.model == folder.model and run.arm in folder.campaign["arms"]:
            runs.setdefault(run.arm, run)
    return list(runs.values())


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder: the paths of a configuration are taken from there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _expect_snakemake() -> None:
    import importlib.util

    lacking = [
        name for name in ("snakemake", "pandas", "lm_eval", "matplotlib") if importlib.util.find_spec(name) is None
    ]
    if lacking:
        raise UserError(
            f"expected the packages that a study needs, found no {lacking[0]}; pip install 'aletheia-study[study]'"
        )
