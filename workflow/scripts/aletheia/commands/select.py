"""``aletheia select MODEL DATA --out DIR``: the layers that will carry adapters, and what that will save."""

from __future__ import annotations

import argparse

from aletheia.commands.layer_scores import score_lines
from aletheia.commands.study_arguments import add_study_arguments, asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_study_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from aletheia.fit import study_run
    from aletheia.fit.prediction import prediction

    options, folder, machine = asked(args)
    study_run.prepare(options, folder, machine)
    selections = study_run.select(folder, machine)
    for arm, found in selections.items():
        print(f"{arm}: layers {', '.join(map(str, found['layers']))} of {found['layers_total']}")
    chosen = next((found["layers"] for found in selections.values()), [])
    print(*score_lines(study_run.layer_scores(folder), chosen), sep="\n")
    print(prediction(study_run.read_study(folder), selections, folder))
