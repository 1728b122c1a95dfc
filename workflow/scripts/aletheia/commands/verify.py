"""``aletheia verify [DIR]``: hold every artifact of a study against its hash."""

from __future__ import annotations

import argparse

from aletheia.commands.programs import run_program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="where the study ran (this folder)")
    parser.add_argument("--json", action="store_true", help="print all as JSON")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    run_program("verify.py", args.folder, as_json=args.json, search=True)
