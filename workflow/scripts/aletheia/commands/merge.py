"""``aletheia merge``: an adapter put into its model's weights, for tools that take a whole model."""

from __future__ import annotations

import argparse
from pathlib import Path

from aletheia.commands.run_arguments import add_adapter_arguments, asked_adapter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_adapter_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the merged model goes")


def run(args: argparse.Namespace) -> None:
    """Run the command, and say how well the result agrees."""
    used = asked_adapter(args)
    from aletheia.exports.merge import merge

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
