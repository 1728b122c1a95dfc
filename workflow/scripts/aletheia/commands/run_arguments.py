"""The arguments that export, merge and chat share: a study or an adapter, and which of its runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.argument_types import whole_number

if TYPE_CHECKING:
    from aletheia.exports.used_adapter import UsedAdapter


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which run of a study is meant."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="DIR", help="a study, or an adapter (default: here)"
    )
    parser.add_argument("--model", help="which, where the study has several")
    parser.add_argument("--arm", help="which, where the study has several")
    parser.add_argument("--seed", type=whole_number(0), metavar="N", help="which, where the study has several")


def add_adapter_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which adapter is used."""
    add_run_arguments(parser)
    parser.add_argument(
        "--base-model", type=Path, metavar="FOLDER", help="a base model, of an adapter without its study"
    )


def asked_adapter(args: argparse.Namespace) -> UsedAdapter:
    """Return the adapter that is asked for, and keep the process offline.

    Raises
    ------
    UserError
        As :func:`aletheia.exports.used_adapter.used_adapter`.
    """
    # The Hugging Face libraries read it once, when they are imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from aletheia.exports.used_adapter import used_adapter
    from aletheia.method.loading import leave_out_bitsandbytes

    used = used_adapter(args.folder, model=args.model, arm=args.arm, seed=args.seed, base_model=args.base_model)
    if used.lock is not None:
        leave_out_bitsandbytes(used.lock, used.quantization)
    return used
