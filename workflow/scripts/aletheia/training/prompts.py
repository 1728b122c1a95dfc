"""How a training row becomes text, and which part of that text is the response."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.training.tool_templates import refuse_lost_tools

PROMPTS = ("alpaca", "plain", "chat", "text")
Spans = list[tuple[int, int]]
# How much of a template's error, and of a long conversation, an error sentence shows.
MAX_MESSAGE_CHARACTERS, MAX_TURNS = 120, 8

# The wording of Stanford Alpaca, which Alpaca-style data sets assume.
ALPACA_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA_BARE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


def render(row: dict[str, Any], tokenizer: Any, prompt: str) -> tuple[str, Spans, bool]:
    """Render one row.

    Parameters
    ----------
    row
        Alpaca-style (``instruction``, ``input``, ``output``), chat (``messages``, and ``tools`` as JSON where the model
        may call any), or ``text``.
    tokenizer
        Its chat template is used for chat rows, and for Alpaca-style ones when ``prompt`` is ``chat``.
    prompt
        One of :data:`PROMPTS`; a text stands as it is whatever it says, and all of it is response.

    Returns
    -------
    tuple
        The text, the response's spans in it as (first, past-the-end) characters, and whether a chat template
        made it.
    """
    if "text" in row:
        return row["text"], [(0, len(row["text"]))], False
    if "messages" in row or prompt == "chat":
        return *_chat(row, tokenizer), True
    if prompt == "alpaca":
        head = (ALPACA_INPUT if row.get("input") else ALPACA_BARE).format_map(row)
    elif prompt == "plain":
        head = "".join(f"{row[key]}\n" for key in ("instruction", "input") if row.get(key))
    else:
        head = ""
    text = head + row["output"]
    return text, [(len(head), len(text))], False


def own_texts(row: dict[str, Any]) -> list[str]:
    """Return the texts of a row as its owner wrote them, without a prompt's words or a template's tokens."""
    if "messages" in row:
        calls = [call["function"] for message in row["messages"] for call in message.get("tool_calls", ())]
        texts = [message["content"] for message in row["messages"]]
        return texts + [call[key] for call in calls for key in ("name", "arguments")] + [row.get("tools", "")]
    return [row[key] for key in ("instruction", "input", "output", "text") if row.get(key)]


def _messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    if "messages" in row:
        return row["messages"]
    question = "\n\n".join(row[key] for key in ("instruction", "input") if row.get(key))
    return [{"role": "user", "content": question}, {"role": "assistant", "content": row["output"]}]


def _chat(row: dict[str, Any], tokenizer: Any) -> tuple[str, Spans]:
    """Render through the template; a span covers an assistant turn with its end-of-turn token."""
    if not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "the model's tokenizer has no chat template, which chat messages need; choose encoding.prompt: "
            "alpaca with instruction/output rows, or a model that was made for chat"
        )
    marked, options = _messages(row), {"tools": json.loads(row["tools"])} if "tools" in row else {}
    messages = [_spoken(message) for message in marked]
    turns = [i for i, turn in enumerate(marked) if turn["role"] == "assistant" and turn.get("train", True)]
    refuse_lost_tools(messages, functools.partial(_apply_template, tokenizer), **options)
    text, spans = "", []
    for turn in turns:
        head = _apply_template(tokenizer, messages[:turn], add_generation_prompt=True, **options)
        earlier, text = text, _apply_template(tokenizer, messages[: turn + 1], **options)
        if not (text.startswith(head) and head.startswith(earlier)):
            raise UserError(
                "the tokenizer's chat template rewrites earlier turns, so which tokens are the response "
                "cannot be told; mark the assistant's turns before the last one with train: false, or split the "
                "conversations into rows of one question and one answer"
            )
        # Templates end a turn with a line break that no generation ever has to produce.
        spans.append((len(head), len(text.rstrip()) if turn == turns[-1] else len(text)))
    return text[: spans[-1][1]], spans


def _spoken(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a turn as templates take it: arguments of calls as objects, without our mark of what is learnt."""
    return _with_arguments({key: value for key, value in message.items() if key != "train"}, json.loads)


def _with_arguments(turn: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a turn with the arguments of its calls changed."""
    if "tool_calls" not in turn:
        return dict(turn)
    functions = [
        {**call["function"], "arguments": change(call["function"]["arguments"])} for call in turn["tool_calls"]
    ]
    calls = [{**call, "function": function} for call, function in zip(turn["tool_calls"], functions, strict=True)]
    return {**turn, "tool_calls": calls}


def _apply_template(tokenizer: Any, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    """Return messages as the chat template writes them.

    Raises
    ------
    UserError
        When the template refuses them: an unknown role, turns out of order.
    """
    try:
        try:
            return tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except TypeError:  # a template that joins arguments to a text, as DeepSeek-R1's, takes them as JSON
            written = [_with_arguments(turn, functools.partial(json.dumps, ensure_ascii=False)) for turn in messages]
            return tokenizer.apply_chat_template(written, tokenize=False, **options)
    except Exception as error:
        if not _of_template(error):
            raise
        message = str(error).splitlines()[0][:MAX_MESSAGE_CHARACTERS] if str(error) else type(error).__name__
        roles = ", ".join(message["role"] for message in messages[:MAX_TURNS])
        raise UserError(
            f"the tokenizer's chat template refuses its turns ({roles}): {message}; change or remove the row"
        ) from None


def _of_template(error: Exception) -> bool:
    """Tell whether a template raised an error: one of its own, or any other while it was run.

    By names: jinja2 is a dependency of transformers that no environment here declares.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__module__ == "jinja2.exceptions" or any(frame.filename == "<template>" for frame in frames)
