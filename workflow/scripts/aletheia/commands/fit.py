"""``aletheia fit MODEL DATA --out DIR``: from rows to an adapter, and whether it was worth it."""

from __future__ import annotations

import argparse

from aletheia.commands.study_arguments import add_study_arguments, asked
from aletheia.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_study_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="write the YAML files, show the jobs, run none")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from aletheia.fit import outcome, study_run
    from aletheia.fit.prediction import prediction

    options, folder, machine = asked(args)
    if args.dry_run and args.time:
        raise UserError("--dry-run: expected no --time beside it, which is turned into steps by running some")
    study_run.prepare(options, folder, machine)
    if args.dry_run:
        study_run.plan(folder, machine)
        return
    study_run.search(folder, machine)
    selections = study_run.select(folder, machine)
    print(prediction(study_run.read_study(folder), selections, folder), flush=True)
    summary = study_run.finish(folder, machine)
    print(f"\n{outcome.first_paragraph(folder)}\n")
    print(f"report   {folder / outcome.REPORT}")
    if summary["recommended"]:
        print(f"adapter  {folder / outcome.ADAPTER} (arm {summary['recommended']['arm']})")
