"""Training rows in forms that are not read as they stand, and in few words how to make them ours."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aletheia.staging.text_files import short

# Other tools' names of our columns, the most telling first.
NAMES = {
    "instruction": ("instruction", "prompt", "question", "query", "problem"),
    "input": ("input", "context"),
    "output": ("output", "completion", "response", "answer", "solution", "target", "label", "summary"),
    "text": ("text", "content", "document"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat"),
}
# Columns that are, by their names, part of the task: where a row's format does not read them, its owner should know.
TASK_COLUMNS = {
    *("system", "history", "context", "tools", "functions", "prompt", "question", "query", "completion", "response"),
    *("answer", "instruction", "input", "output", "chat_template_kwargs", *NAMES["messages"]),
}
THOUGHTS = ("reasoning_content", "reasoning", "thinking")  # keys of turns beside content
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
TOOLS = ("ipython", "observation", "function_response")
PREFERRED, REFUSED = "chosen", "rejected"
JUDGED = "a label beside it, true or false; keep the rows whose label is true, and take that column out"
UNFAMILIAR = (
    "; name yours in the registry, source.columns (`aletheia fit`: --columns instruction=QUESTION output=ANSWER)"
)
FEW_COLUMNS = 12  # named in a sentence
PLAIN_NAME = re.compile(r"[A-Za-z_][\w-]*")  # needs no quotes in YAML


def conversion(row: Mapping[Any, Any]) -> str:
    """Say how a row that is of no format becomes one of ours.

    Parameters
    ----------
    row
        A raw row.

    Returns
    -------
    str
        Such as "; say in the registry source.columns: {instruction: question, output: answer} (`aletheia fit`:
        --columns instruction=question output=answer), or rename them".
    """
    known = {str(column).strip().casefold(): column for column in row}
    if PREFERRED in known and REFUSED in known:
        return f"; these are preference pairs: to learn the chosen ones alone, {_columns(_chosen(row, known))}"
    if "input_ids" in known:
        return (
            "; token ids belong to one tokenizer: write their text instead, "
            "{'text': tokenizer.decode(row['input_ids'])}"
        )
    found = _renamed(known)
    if found and set(found) <= {"instruction", "input"}:
        return "; a question alone teaches nothing: add its answer, in a column output"
    if not found:
        return UNFAMILIAR
    renamed = {ours: theirs for ours, theirs in found.items() if ours != theirs}
    return f"; {_columns(renamed)}, or rename {'it' if len(renamed) == 1 else 'them'}" if renamed else ""


def _chosen(row: Mapping[Any, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return which columns of a preference pair are ours, by our names."""
    chosen = row[known[PREFERRED]]
    asked = next((known[name] for name in NAMES["instruction"] if name in known), None)
    if isinstance(chosen, list):
        first = chosen[0] if chosen and isinstance(chosen[0], dict) else {}
        whole = first.get("role") in ("user", "system") or not isinstance(row.get(asked), list)
        answer = {"messages": known[PREFERRED]} if whole else {"completion": known[PREFERRED]}
        return answer if whole or asked == "prompt" else {"prompt": asked, **answer}
    return {"text": known[PREFERRED]} if asked is None else {"instruction": asked, "output": known[PREFERRED]}


def _renamed(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns by our names of them, as far as they are familiar."""
    for ours in ("messages", "text"):
        theirs = next((known[name] for name in NAMES[ours] if name in known), None)
        if theirs is not None and (ours == "messages" or not has_more_than_text(known)):
            return {ours: theirs}
    left, found = dict(known), {}
    for ours in ("instruction", "input", "output"):
        theirs = next((left.pop(name) for name in NAMES[ours] if name in left), None)
        if theirs is None and ours == "instruction":
            theirs = next((left.pop(name) for name in ("input", *NAMES["text"]) if name in left), None)
        if theirs is not None:
            found[ours] = theirs
    return found


def _columns(renamed: Mapping[str, Any]) -> str:
    """Return the words for columns of other names, for the registry and for the command line."""
    pairs = ", ".join(
        f"{ours}: {theirs if PLAIN_NAME.fullmatch(str(theirs)) else json.dumps(str(theirs), ensure_ascii=False)}"
        for ours, theirs in renamed.items()
    )
    words = " ".join(shlex.quote(f"{ours}={theirs}") for ours, theirs in renamed.items())
    return f"say in the registry source.columns: {{{pairs}}} (`aletheia fit`: --columns {words})"


def has_more_than_text(row: Mapping[Any, Any]) -> bool:
    """Tell whether a row with a column text has another one too that is, by its name, part of a task."""
    task = {*NAMES["instruction"], *NAMES["output"], *NAMES["messages"], PREFERRED, REFUSED} - {"text"}
    return any(str(name).strip().casefold() in task for name in row)


def unread_columns(row: Mapping[Any, Any], read: Iterable[str]) -> list[str]:
    """Return a row's columns and keys of turns that hold something, are part of the task by their names, and unread.

    Parameters
    ----------
    row
        A raw row.
    read
        The columns that its format reads.
    """
    read = set(read)
    rest = [name for name, value in row.items() if value and str(name).strip().casefold() in TASK_COLUMNS - read]
    turns = [turn for name in read if isinstance(row.get(name), list) for turn in row[name] if isinstance(turn, dict)]
    return rest + [key for key in THOUGHTS if any(turn.get(key) for turn in turns)]


def column_names(row: Mapping[Any, Any]) -> str:
    """Return the names of a row's columns, the first ones of many."""
    names = [short(name) for name in row]
    more = f" and {len(names) - FEW_COLUMNS} more" if len(names) > FEW_COLUMNS else ""
    return (", ".join(names[:FEW_COLUMNS]) or "no column") + more


def role_hint(message: Mapping[str, Any]) -> str:
    """Say how a turn of another tool's form becomes one with role and content."""
    role = str(message.get("role"))
    if role.casefold() in TOOLS:
        return f"; write tool for {role}"
    ours = ROLES.get(role.casefold(), role.casefold())
    return f"; write {ours} for {role}" if ours in ("system", "user", "assistant", "tool") else ""


def turns_hint(roles: Sequence[str]) -> str:
    """Say what a conversation lacks to be learnt from."""
    if "assistant" not in roles:
        return "; a question alone teaches nothing: add its answer, a turn of the assistant"
    if "user" in roles:
        return f"; take out what stands before the first question: turns[{roles.index('user')}:]"
    return ""


def content_hint(content: Any) -> str:
    """Say what to do with a content that is no text."""
    if isinstance(content, dict):
        return "; write it as text: json.dumps(content)"
    return "; fill it in or remove the row" if content is None else ""
