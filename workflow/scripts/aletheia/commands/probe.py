"""``aletheia probe MODEL DATA --out DIR``: how strongly the rows pull at each layer."""

from __future__ import annotations

import argparse

from aletheia.commands.layer_scores import score_lines
from aletheia.commands.study_arguments import add_study_arguments, asked
from aletheia.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_study_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from aletheia.fit import study_run

    options, folder, machine = asked(args)
    study_run.prepare(options, folder, machine)
    found = study_run.probe(folder, machine)
    if found["status"] != "ok":
        raise UserError(f"the probe ended as {found['status']}: {found['reason']}; see logs/probe in {folder}")
    print(*score_lines(found["scores"]["l2"]), sep="\n")
