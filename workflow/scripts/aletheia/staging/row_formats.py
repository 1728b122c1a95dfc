"""The formats of training rows: which columns tell each, and the row that each becomes.

Whatever the format, a staged row is one of three: ``instruction``, ``input`` and ``output``; ``messages`` (with
``tools``); or ``text``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError
from aletheia.staging import other_formats
from aletheia.staging.conversations import conversation, read_turns, unlearnt
from aletheia.staging.text_files import check_text, kind_of, shows

ALPACA = ("instruction", "input", "output")
Row = dict[str, Any]


@dataclass(frozen=True)
class RowFormat:
    """A format of training rows.

    Attributes
    ----------
    title
        What a sentence calls it.
    needs
        The columns that make a row one of this format.
    reads
        All columns that it reads.
    read
        From a raw row, where it stands, and the words for a missing cell, to a staged row; refuses what cannot be
        learnt from.
    """

    title: str
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    read: Callable[[Mapping[str, Any], str, Collection[str]], Row]


def format_of(row: Mapping[str, Any], missing: Collection[str]) -> RowFormat | None:
    """Return the format of a row by its columns; None where it is none of ours.

    Parameters
    ----------
    row
        A raw row.
    missing
        Words that stand for a missing cell in its file.
    """
    for each in FORMATS:
        if all(name in row for name in each.needs) and not (each is MESSAGES and is_missing(row["messages"], missing)):
            return None if each is TEXT and other_formats.has_more_than_text(row) else each
    return None


def is_missing(value: Any, words: Collection[str]) -> bool:
    """Tell whether a cell holds no value: null, a number that is none, or one of a format's words for it."""
    if isinstance(value, str):
        return bool(words) and (not value or value.strip() in words)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _read_messages(row: Mapping[str, Any], where: str, _missing: Collection[str]) -> Row:
    return conversation(read_turns(row["messages"], where), where, tools=row.get("tools"))


def _read_sharegpt(row: Mapping[str, Any], where: str, _missing: Collection[str]) -> Row:
    turns = read_turns(row["conversations"], where, column="conversations")
    return conversation(turns, where, tools=row.get("tools"), system=row.get("system"))


def _read_alpaca(row: Mapping[str, Any], where: str, missing: Collection[str]) -> Row:
    given = row.get("input")
    empty = is_missing(given, missing) or (isinstance(given, str) and not shows(given))
    cells = {name: _cell(row[name], name, where, missing) for name in ("instruction", "output")}
    return {**cells, "input": "" if empty else _text(given, "input", where)}


def _read_prompt(row: Mapping[str, Any], where: str, missing: Collection[str]) -> Row:
    """Read a prompt and its completion: two texts, or two lists of turns, of which the second is learnt."""
    prompt, completion = row["prompt"], row["completion"]
    if str(row.get("label")).casefold() in ("true", "false"):
        raise UserError(f"{where}: expected a completion to learn, found {other_formats.JUDGED}")
    if isinstance(prompt, list) and isinstance(completion, list):
        asked = unlearnt(read_turns(prompt, f"{where}, prompt", column="prompt"))
        answered = read_turns(completion, f"{where}, completion", column="completion")
        return conversation(asked + answered, where, tools=row.get("tools"))
    if isinstance(prompt, list) or isinstance(completion, list):
        raise UserError(
            f"{where}: expected prompt and completion to be two texts or two lists of turns, found {kind_of(prompt)} "
            f"and {kind_of(completion)}"
        )
    cells = [_cell(row[name], name, where, missing) for name in ("prompt", "completion")]
    return dict(zip(ALPACA, (cells[0], "", cells[1]), strict=True))


def _read_text(row: Mapping[str, Any], where: str, missing: Collection[str]) -> Row:
    return {"text": _cell(row["text"], "text", where, missing)}


def _cell(value: Any, name: str, where: str, missing: Collection[str]) -> str:
    """Return the text of a cell that must not be empty."""
    if is_missing(value, missing) and value != "":
        meant = f"; where the text {value} is meant, write the rows as JSONL" if isinstance(value, str) else ""
        shown = value.strip() if isinstance(value, str) else "null" if value is None else "NaN"
        raise UserError(f"{where}: the {name} is missing ({shown}); fill it in or remove the row{meant}")
    if not shows(_text(value, name, where)):
        raise UserError(f"{where}: the {name} is empty; fill it in or remove the row")
    return value


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected text in the column {name}, found {kind_of(value)}")
    check_text(value, f"{where}: the {name}")
    return value


MESSAGES = RowFormat("messages", ("messages",), ("messages", "tools"), _read_messages)
TEXT = RowFormat("text", ("text",), ("text",), _read_text)
# A row is of the first one that has its columns.
FORMATS = (
    MESSAGES,
    RowFormat("instruction and output", ("instruction", "output"), ALPACA, _read_alpaca),
    RowFormat("conversations", ("conversations",), ("conversations", "system", "tools"), _read_sharegpt),
    RowFormat("prompt and completion", ("prompt", "completion"), ("prompt", "completion", "tools"), _read_prompt),
    TEXT,
)
