"""``aletheia chat``: questions to a model with its adapter, typed or one a line from a file."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

from aletheia.argument_types import whole_number
from aletheia.commands.run_arguments import add_adapter_arguments, asked_adapter
from aletheia.errors import UserError

if TYPE_CHECKING:
    from aletheia.exports.chat import Conversation

HELP = "/base: base model or adapter · /new: forget what was said · /quit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_adapter_arguments(parser)
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
    if not 0 <= args.temperature < math.inf:
        raise UserError(f"--temperature: expected a number of at least 0, found {args.temperature:g}")
    used = asked_adapter(args)
    from aletheia.exports.chat import conversation

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
