"""Formats of training rows that other tools read, and in a few words how to make them ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# Other tools' names of our columns, the most telling first.
NAMES = {
    "instruction": ("instruction", "prompt", "question", "query", "problem"),
    "input": ("input", "context"),
    "output": ("output", "completion", "response", "answer", "solution", "chosen", "target", "label", "text"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat"),
}
# Columns that other tools' rows may have besides ours, and that none of our prompts shows.
UNREAD_COLUMNS = (
    *("system", "history", "context", "tools", "prompt", "question", "query", "completion", "response", "answer"),
    *NAMES["messages"][1:],
)
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
TOOLS = ("tool", "function", "ipython", "observation")


def renaming(columns: Iterable[Any]) -> str:
    """Say how rows of these columns become rows with instruction, input and output, or with messages.

    Parameters
    ----------
    columns
        The columns that a row has.

    Returns
    -------
    str
        "; rename prompt to instruction and completion to output", or nothing where no name is familiar.
    """
    columns = list(columns)
    known = {str(column).strip().casefold(): column for column in columns}
    chat = next((known[name] for name in NAMES["messages"] if name in known), None)
    if chat is not None:
        turns = ", and in its turns from to role (human: user, gpt: assistant) and value to content"
        return f"; rename {chat!r} to messages{turns if chat != 'messages' else ''}"
    if set(known) & {"text", "content"} and not set(known) & {*NAMES["instruction"], *NAMES["output"][:-1]}:
        text = known.get("text", known.get("content"))
        return (
            f"; to learn texts as they stand, rename {text!r} to output, add a column instruction with any words, and "
            "set encoding.prompt: text"
        )
    renamed = []
    for ours in ("instruction", "input", "output"):
        theirs = next((known.pop(name) for name in NAMES[ours] if name in known), None)
        if theirs is None and ours == "instruction":
            theirs = known.pop("input", None)
        if theirs not in (None, ours):
            renamed.append(f"{theirs!r} to {ours}")
    return f"; rename {' and '.join(renamed)}" if renamed else ""


def unread_columns(row: Mapping[Any, Any]) -> list[str]:
    """Return a row's columns beside our own that hold something and are, by their names, part of the task."""
    return [name for name, value in row.items() if str(name).strip().casefold() in UNREAD_COLUMNS and value]


def role_hint(message: Mapping[str, Any]) -> str:
    """Say how a turn of another tool's form becomes one with role and content."""
    if "role" not in message and {"from", "value"} <= set(message):
        return "; rename from to role (human: user, gpt: assistant) and value to content"
    role = str(message.get("role"))
    if role.casefold() in TOOLS:
        return "; tools are not learnt: leave such rows out, or write what tools say as user turns"
    ours = ROLES.get(role.casefold(), role.casefold())
    return f"; write {ours} for {role}" if ours in ("system", "user", "assistant") else ""


def content_hint(content: Any) -> str:
    """Say what to do with a content that is no text."""
    if isinstance(content, list):
        return "; join the text parts to one text (other parts, as images, are not learnt)"
    if content is None:
        return "; calls of tools are not learnt: leave such rows out, or write the call as text"
    return ""
