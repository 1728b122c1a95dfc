"""From options to a finished study: look at the data, write the files, probe, predict, train, report."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.fit import outcome, plan_text, runner, timing
from aletheia.fit.choices import choose
from aletheia.fit.folder import expect_study, write_or_take_up
from aletheia.fit.options import Options, checked
from aletheia.fit.runner import Machine
from aletheia.fit.study_files import CONFIG, MODEL, SEARCH_CONFIG, study_files
from aletheia.fit.survey import survey
from aletheia.provenance import artifacts
from aletheia.staging.staged_rows import staged_train_rows
from aletheia.study.configuration_files import read_configuration
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.study import Run, Study

ANSWER = "fit"


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
    found = survey(checked(options))
    if options.seconds is None:
        choices = choose(options, found)
    else:
        choices = timing.timed_choices(options, found, folder, machine)
    again = write_or_take_up(folder, study_files(options, found, choices))
    print(plan_text.plan_text(options, found, choices, folder, again=again))


def probe(folder: Path, machine: Machine) -> Mapping[str, Any]:
    """Measure the layers at the study's first seed; return the payload of the probe."""
    (run,) = _selecting(folder)[:1] or [None]
    if run is None:
        raise UserError(f"{folder}: expected an arm that chooses layers, found none in its campaign; add one")
    target = Paths().probe(run.model, run.seed)
    runner.run(folder, [target], machine)
    return artifacts.payload(folder / target, "probe")


def layer_scores(folder: Path) -> list[float]:
    """Return the scores that the first of the arms which choose layers was chosen by; none where it reads no probe."""
    path = folder / Paths().probe(MODEL, _selecting(folder)[0].seed)
    return artifacts.payload(path, "probe")["scores"]["l2"] or [] if path.is_file() else []


def select(folder: Path, machine: Machine) -> dict[str, Mapping[str, Any]]:
    """Choose the layers of each arm at its first seed; return the payloads of the selections by arm."""
    targets = {run.arm: Paths().selection(run.model, run.arm, run.seed) for run in _selecting(folder)}
    runner.run(folder, list(targets.values()), machine)
    return {arm: artifacts.payload(folder / target, "selection") for arm, target in targets.items()}


def search(folder: Path, machine: Machine) -> None:
    """Run the search of a study that has one; the recipe that it ends with is an arm."""
    if (folder / SEARCH_CONFIG).is_file():
        runner.run(folder, ["search"], machine, config=SEARCH_CONFIG)


def finish(folder: Path, machine: Machine) -> Mapping[str, Any]:
    """Train, evaluate and report; return the report's summary."""
    runner.run(folder, [ANSWER], machine)
    return outcome.bring_up(folder)


def plan(folder: Path, machine: Machine, target: str = ANSWER) -> None:
    """Print the jobs that would run."""
    config = CONFIG
    if (folder / SEARCH_CONFIG).is_file():
        target, config = "search", SEARCH_CONFIG
    runner.dry_run(folder, [target], machine, config=config)


def read_study(folder: Path) -> Study:
    """Return the study of a folder."""
    with _inside(folder):
        staged = partial(staged_train_rows, Path(Paths().resources))
        return load_study(read_configuration([Path(CONFIG)]), staged_rows=staged)


def _selecting(folder: Path) -> list[Run]:
    """Return the run of each arm that chooses layers, at the campaign's first seed."""
    runs: dict[str, Run] = {}
    study = read_study(folder)
    for run in study.runs.values():
        if run.model == MODEL and run.selects and any(run.arm in each["arms"] for each in study.campaigns[-1:]):
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
