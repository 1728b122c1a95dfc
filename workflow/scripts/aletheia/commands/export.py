"""``aletheia export``: a run's choice of layers, ranks, rate and schedule as another trainer's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from aletheia.commands.run_arguments import add_run_arguments

TOOLS = ("trl", "axolotl", "llamafactory", "unsloth", "peft", "mlx")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_run_arguments(parser)
    parser.add_argument("--for", dest="tool", choices=TOOLS, required=True, help="the tool")
    parser.add_argument("--yaml", action="store_true", help="for trl: the file of `trl sft`, not a script")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: standard output)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from aletheia.exports.choice import read_choice
    from aletheia.exports.formats import exported
    from aletheia.exports.found_runs import find_run
    from aletheia.provenance.atomic_write import atomic_path

    found = find_run(args.folder, model=args.model, arm=args.arm, seed=args.seed)
    text = exported(read_choice(found), args.tool, yaml=args.yaml)
    if args.out is None:
        print(text, end="")
        return
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{args.out}: written from {found.path}")
