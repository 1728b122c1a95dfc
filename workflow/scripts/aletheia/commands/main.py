"""``aletheia COMMAND``: the table of commands. Only the module of the one that was asked for is imported."""

from __future__ import annotations

import argparse
import importlib
import sys

from aletheia import __version__
from aletheia.errors import run_main

# Each module has ``add_arguments(parser)`` and ``run(args)``, and imports nothing heavy before it runs.
COMMANDS = {
    "fit": ("aletheia.commands.fit", "fine-tune a model on your rows, and say whether it was worth it"),
    "probe": ("aletheia.commands.probe", "measure how strongly your rows pull at each layer"),
    "select": ("aletheia.commands.select", "choose the layers that will carry adapters"),
    "export": ("aletheia.commands.export", "write the choice as the configuration of another trainer"),
    "merge": ("aletheia.commands.merge", "put an adapter into its model's weights"),
    "chat": ("aletheia.commands.chat", "talk with a model and its adapter"),
    "verify": ("aletheia.commands.verify", "hold every artifact of a study against its hash"),
    "audit": ("aletheia.commands.audit", "say what would be made again, why, and how long that took"),
}


def parser(asked: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Parameters
    ----------
    asked
        The command whose arguments it has; of the others it knows no more than their names.
    """
    top = argparse.ArgumentParser(prog="aletheia", description="Gradient-guided layer selection for LoRA.")
    top.add_argument("--version", action="version", version=f"aletheia {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, line) in COMMANDS.items():
        command = commands.add_parser(
            name, help=line, description=line, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == asked:
            found = importlib.import_module(module)
            found.add_arguments(command)
            command.set_defaults(run=found.run)
    return top


def main() -> None:
    """Run the command that the command line names."""
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    args = parser(asked).parse_args()
    run_main(lambda: args.run(args))


if __name__ == "__main__":
    main()
