"""What a study will do, in a dozen lines, before it does it."""

from __future__ import annotations

from pathlib import Path

from aletheia.fit.choices import Choices
from aletheia.fit.options import Options
from aletheia.fit.study_files import ALE, STD
from aletheia.fit.survey import Survey
from aletheia.fit.timing import training_runs

SEARCHES = {
    "none": "at one rate, which is not tuned (--search quick tries three)",
    "quick": "each at its own best of three rates; two seeds of std say what noise is",
    "full": "the recipe that a search finds against both, at tuned rates",
}


def plan_text(options: Options, found: Survey, choices: Choices, folder: Path, *, again: bool) -> str:
    """Return what the command will do.

    Parameters
    ----------
    options, found, choices
        What is asked, what the data are, and what follows.
    folder
        The study's.
    again
        Whether its files were there.
    """
    reasons = choices.reasons
    apart = f"{choices.held_out} held out" + (f", {choices.test} to judge" if choices.test else "")
    step_rows = choices.batch_size * choices.accumulation
    rates = ", ".join(f"{rate:g}" for rate in choices.rates)
    length = f"{choices.steps} steps of {step_rows} rows"
    if "epochs" in choices.length:
        length = f"epochs {choices.length['epochs']:g}: {length}"
    else:
        length += f", {choices.steps * step_rows / choices.train_rows:.3g} passes over the rows"
    lines = [
        ("model", options.model),
        (
            "rows",
            f"{len(found.rows)} of {options.data}: {choices.train_rows} to train on, {apart} ({reasons['held_out']})",
        ),
        ("tokens", f"at most {choices.max_tokens} ({reasons['max_tokens']})"),
        ("prompt", found.prompt),
        ("arms", f"{', '.join([STD, ALE, *options.arms])}: {SEARCHES[options.search]}"),
        ("runs", f"{training_runs(options)} trainings, seeds {', '.join(map(str, options.run_seeds))}"),
        ("length", f"{length} ({reasons['length']})"),
        ("rate", f"{rates} ({reasons['rates']})"),
        ("folder", f"{folder} ({'goes on with what is there' if again else 'its YAML files say all of this'})"),
    ]
    if options.search == "full":
        lines = [line for line in lines if line[0] != "runs"]
    return "\n".join([*(f"{name:7} {text}" for name, text in lines), *(f"note: {note}" for note in found.notes)])
