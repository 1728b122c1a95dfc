"""``aletheia chat``: questions to a model with its adapter, typed or one a line from a file."""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.argument_types import whole_number
from aletheia.commands.export import add_run_arguments

if TYPE_CHECKING:
    from aletheia.exports.chat import Conversation

HELP = "/base: base model or adapter · /new: forget what was said · /quit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="DIR", help="a study, or an adapter (default: here)"
    )
    add_run_arguments(parser)
    parser.add_argument("--base-model", type=Path, metavar="FOLDER", help="of an adapter without its study")
    parser.add_argument("--base", action="store_true", help="begin with the base model, without the adapter")
    parser.add_argument(
        "--prompt", choices=("alpaca", "plain", "chat", "text"), help="wording of a question (default: the study's)"
    )
    parser.add_argument(
        "--max-new-tokens", type=whole_number(1), default=256, metavar="N", help="longest answer (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)")


def run(args: argparse.Namespace) -> None:
    """Answer until the questions end."""
    # The Hugging Face libraries read it once, when they are imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from aletheia.errors import UserError
    from aletheia.exports.chat import conversation
    from aletheia.exports.used_adapter import used_adapter

    if not 0 <= args.temperature < math.inf:
        raise UserError(f"--temperature: expected a number of at least 0, found {args.temperature:g}")
    used = used_adapter(args.folder, model=args.model, arm=args.arm, seed=args.seed, base_model=args.base_model)
    talk = conversation(used, prompt=args.prompt, max_new_tokens=args.max_new_tokens, temperature=args.temperature)
    talk.base = args.base
    if sys.stdin.isatty():
        print(f"{used.title}, prompt {talk.prompt}. {HELP}")
        _typed(talk)
    else:
        _one_a_line(talk)


def _one_a_line(talk: Conversation) -> None:
    r"""Answer each line of the input by a line, its own line breaks as ``\n``; each question stands alone."""
    for line in sys.stdin:
        if question := line.strip():
            talk.forget()
            print(talk.answer(question).replace("\\", "\\\\").replace("\n", "\\n"), flush=True)


def _typed(talk: Conversation) -> None:
    """Answer what is typed, as it is written, until the end of the input."""
    from transformers import TextStreamer

    streamer = TextStreamer(talk.tokenizer, skip_prompt=True, skip_special_tokens=True)
    while True:
        try:
            question = input("base> " if talk.base else "> ").strip()
        except EOFError:
            print()
            return
        if question == "/quit":
            return
        if question == "/base":
            talk.base = not talk.base
            talk.forget()
        elif question == "/new":
            talk.forget()
        elif question.startswith("/"):
            print(HELP)
        elif question:
            talk.answer(question, streamer=streamer)
