"""``aletheia merge``: an adapter put into its model's weights, for tools that take a whole model."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from aletheia.commands.export import add_run_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="DIR", help="a study, or an adapter (default: here)"
    )
    add_run_arguments(parser)
    parser.add_argument("--base-model", type=Path, metavar="FOLDER", help="of an adapter without its study")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the merged model goes")


def run(args: argparse.Namespace) -> None:
    """Merge, and say how well the result agrees."""
    # The Hugging Face libraries read it once, when they are imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from aletheia.exports.merge import merge
    from aletheia.exports.used_adapter import used_adapter

    used = used_adapter(args.folder, model=args.model, arm=args.arm, seed=args.seed, base_model=args.base_model)
    if used.quantization:
        print(
            f"note: the adapter was trained on {used.quantization} weights; it is merged into the model's own "
            f"{used.stored_dtype()} weights, so answers can differ a little from those of the 4-bit model"
        )
    merged = merge(used, args.out)
    print(
        f"{args.out}: {used.title}, {merged.dtype}; over {merged.tokens} tokens its logits differ from those of the "
        f"model with its adapter by {merged.difference:.2g} of their size (largest {merged.largest:.2g}), and the "
        f"adapter moves them by {merged.effect:.2g}"
    )
