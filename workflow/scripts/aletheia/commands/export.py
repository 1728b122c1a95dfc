"""``aletheia export``: a run's choice of layers, ranks, rate and schedule as another trainer's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from aletheia.argument_types import whole_number

TOOLS = ("trl", "axolotl", "llamafactory", "unsloth", "peft", "mlx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="DIR", help="a study (default: here)")
    parser.add_argument("--for", dest="tool", choices=TOOLS, required=True, help="the tool")
    parser.add_argument("--yaml", action="store_true", help="for trl: the file of `trl sft`, not a script")
    add_run_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which run of a study is meant."""
    parser.add_argument("--model", help="which, where the study has several")
    parser.add_argument("--arm", help="which, where the study has several")
    parser.add_argument("--seed", type=whole_number(0), metavar="N", help="which, where the study has several")


def run(args: argparse.Namespace) -> None:
    """Write the file."""
    from aletheia.exports.choice import read_choice
    from aletheia.exports.formats import exported
    from aletheia.exports.found_runs import find_run

    found = find_run(args.folder, model=args.model, arm=args.arm, seed=args.seed)
    text = exported(read_choice(found), args.tool, yaml=args.yaml)
    if args.out is None:
        print(text, end="")
        return
    from aletheia.provenance.atomic_write import atomic_path

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{args.out}: written from {found.path}")
