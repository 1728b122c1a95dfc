"""How many steps a time is: a few steps of the standard arm, run and timed by the study's own rules."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

from aletheia.errors import UserError
from aletheia.fit.choices import LEAST_STEPS, Choices, choose
from aletheia.fit.folder import write_or_take_up
from aletheia.fit.options import NO_RETENTION, Options
from aletheia.fit.runner import Machine, run
from aletheia.fit.study_files import CAMPAIGN, CONFIG, DATA, MODEL, MODELS, STD, study_files
from aletheia.fit.survey import Survey
from aletheia.provenance import artifacts
from aletheia.study.paths import Paths

TIMED_STEPS = 6
FOLDER = "logs/timing"
STATED = re.compile(r"^  steps: (?P<steps>\d+)  # (?P<reason>--time .+)$", re.MULTILINE)


def timed_choices(options: Options, found: Survey, folder: Path, machine: Machine) -> Choices:
    """Return the numbers of a study whose trainings shall take ``options.seconds`` in all.

    Parameters
    ----------
    options, found
        What is asked, and what the data are.
    folder
        The study's. Where its campaign says already how many steps the time is, nothing is timed again.
    machine
        Where the steps are timed.

    Raises
    ------
    UserError
        When the time is too short for a few steps.
    """
    if stated := _stated(folder):
        steps, reason = stated
        return choose(options, found, steps=steps, steps_reason=reason)
    seconds = _step_seconds(options, found, folder, machine)
    runs = training_runs(options)
    steps = math.floor(options.seconds / runs / seconds)
    if steps < LEAST_STEPS:
        least = math.ceil(LEAST_STEPS * runs * seconds)
        raise UserError(
            f"--time: expected at least {LEAST_STEPS} steps for each of {runs} runs, found time for {steps} at "
            f"{seconds:.3g} s a step; give {least}s or more, or a smaller --max-tokens"
        )
    reason = f"--time {options.seconds:g}s: {runs} runs at {seconds:.3g} s a step, timed here"
    return choose(options, found, steps=steps, steps_reason=reason)


def training_runs(options: Options) -> int:
    """Return how many trainings a study has."""
    arms, seeds = 2 + len(options.arms), len(options.run_seeds)
    return arms * (seeds if options.search == "none" else seeds + 3)


def _stated(folder: Path) -> tuple[int, str] | None:
    """Return the steps that a campaign says a time is, and the sentence beside them."""
    path = folder / CAMPAIGN
    found = STATED.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return (int(found["steps"]), found["reason"]) if found else None


def short_study(options: Options, found: Survey, choices: Choices) -> dict[str, str]:
    """Return ``{name: text}`` of a study of a few steps of the standard arm, beside the registries of the whole one."""
    one = dataclasses.replace(options, search="none", arms=(), retention=NO_RETENTION)
    files = study_files(one, dataclasses.replace(found, passages=0), choices)
    config = files[CONFIG].replace(CAMPAIGN, f"{FOLDER}/{CAMPAIGN}")
    return {f"{FOLDER}/{CAMPAIGN}": files[CAMPAIGN], f"{FOLDER}/{CONFIG}": config}


def _step_seconds(options: Options, found: Survey, folder: Path, machine: Machine) -> float:
    """Return the median time of a step of the standard arm; its short run is replaced by the study's own later."""
    choices = choose(options, found, steps=TIMED_STEPS)
    files = study_files(options, found, choices)
    write_or_take_up(folder, {name: files[name] for name in (MODELS, DATA)})
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, text in short_study(options, found, choices).items():
        (folder / name).write_text(text, encoding="utf-8")
    result = Paths().run(MODEL, STD, options.run_seeds[0])
    run(folder, [result], machine, config=f"{FOLDER}/{CONFIG}")
    envelope = artifacts.read(folder / result, "run")
    seconds = envelope["observed"]["time"].get("median_step_seconds")
    if envelope["payload"]["status"] != "ok" or not seconds:
        raise UserError(
            f"{folder / result}: expected a few steps to time, found a run that ended otherwise; see its log"
        )
    return seconds
