"""Training rows that users bring, checked where they enter (:mod:`aletheia.staging.table_files` reads their files)."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging import other_formats
from aletheia.staging.table_files import Located, check_keys, kind_of, located_rows
from aletheia.staging.text_files import check_text, short

COLUMNS = ("instruction", "input", "output")
ROLES = ("system", "user", "assistant")
# In CSV a missing value has no form of its own. These are what pandas writes for one: NaN, and <NA> in its newer types.
CSV_MISSING = frozenset({"NaN", "nan", "<NA>"})
# Words that may be meant as such (None answers a question, NA is Namibia's code): they are kept, with a note.
DOUBTFUL = frozenset({"none", "null", "na", "n/a", "nan", "<na>", "undefined"})
FEW_COLUMNS = 12  # named in a sentence


def read_training_rows(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of one training file, each either Alpaca-style or chat, and notes for its owner.

    A cell is missing where it is null or a NaN (Parquet, JSON), or where a CSV or TSV has nothing in it or ``NaN``,
    ``nan`` or ``<NA>``, which is how pandas writes a missing value. A missing input means that there is none; a missing
    instruction or output is refused. Other words for nothing (``None``, ``null``, ``NA``, ``N/A``) may well be
    answers: they are learnt as they stand and counted in a note.

    Parameters
    ----------
    path
        ``.jsonl``, ``.ndjson``, ``.json`` (an array of objects), ``.csv``, ``.tsv`` or ``.parquet``; text
        files may be gzipped.

    Returns
    -------
    tuple
        Rows: ``{"instruction", "input", "output"}`` or ``{"messages": [{"role", "content"}, …]}``, with
        ``source_row``, the row's number from 0; other columns are dropped, as are these where there are messages.
        Notes: a sentence each.

    Raises
    ------
    UserError
        With file and line: an empty file, a malformed line, a missing column, a wrong type, an empty output.
    """
    missing = CSV_MISSING if path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")) else ()
    located = list(located_rows(path))
    rows = [{**_check_row(row, where, missing), "source_row": i} for i, (where, row) in enumerate(located)]
    if not rows:
        raise UserError(f"{path}: expected at least one training row and found an empty file")
    return rows, _notes(path, located, rows)


def _notes(path: Path, located: Sequence[Located], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a sentence for each thing that is read otherwise than a user may think."""
    notes = []
    columns = dict.fromkeys(name for _, row in located for name in other_formats.unread_columns(row))
    if any("messages" in row for row in rows):
        chats = (raw for (_, raw), row in zip(located, rows, strict=True) if "messages" in row)
        columns |= dict.fromkeys(name for raw in chats for name in COLUMNS if raw.get(name))
    if columns:
        named = ", ".join(map(repr, columns))
        notes.append(f"{path}: not read, so not learnt: {named} (read are messages, or instruction, input and output)")
    doubtful = Counter(
        (name, row[name].strip())
        for row in rows
        for name in COLUMNS
        if name in row and row[name].strip().casefold() in DOUBTFUL
    )
    if doubtful:
        cells = ", ".join(f"{times} × {word!r} in {name}" for (name, word), times in doubtful.most_common())
        notes.append(f"{path}: learnt as text: {cells}; where nothing is meant, leave the cell empty")
    return notes


def _check_row(row: Any, where: str, missing: Collection[str]) -> dict[str, Any]:
    """Return a row's own columns; refuse what cannot be learnt from."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected one JSON object with named columns, found {kind_of(row)}")
    if not _is_missing(row.get("messages"), missing):
        return {"messages": _check_messages(row["messages"], where)}
    absent = [name for name in ("instruction", "output") if name not in row]
    if absent:
        raise UserError(
            f"{where}: expected the columns instruction, output and, if you like, input (or one column "
            f"messages); {' and '.join(absent)} missing, found {_column_names(row)}{other_formats.renaming(row)}"
        )
    cells = {name: row.get(name) for name in COLUMNS}
    if _is_missing(cells["input"], missing) or (isinstance(cells["input"], str) and not _shows(cells["input"])):
        cells["input"] = ""
    for name, value in cells.items():
        if _is_missing(value, missing) and value != "":
            meant = f"; where the text {value} is meant, write the rows as JSONL" if isinstance(value, str) else ""
            shown = value.strip() if isinstance(value, str) else "null" if value is None else "NaN"
            raise UserError(f"{where}: the {name} is missing ({shown}); fill it in or remove the row{meant}")
        if not isinstance(value, str):
            raise UserError(f"{where}: expected text in the column {name}, found {kind_of(value)}")
        check_text(value, f"{where}: the {name}")
    for name in ("instruction", "output"):
        if not _shows(cells[name]):
            raise UserError(f"{where}: the {name} is empty; fill it in or remove the row")
    return cells


def _is_missing(value: Any, words: Collection[str]) -> bool:
    """Tell whether a cell holds no value: null, a number that is none, or one of a format's words for it."""
    if isinstance(value, str):
        return bool(words) and (not value or value.strip() in words)
    return value is None or (isinstance(value, float) and math.isnan(value))


def _shows(text: str) -> bool:
    """Tell whether a text has anything but white space and characters that cannot be seen."""
    return any(not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf") for c in text)


def _column_names(row: dict[Any, Any]) -> str:
    """Return the names of a row's columns, the first ones of many."""
    names = [short(name) for name in row]
    more = f" and {len(names) - FEW_COLUMNS} more" if len(names) > FEW_COLUMNS else ""
    return (", ".join(names[:FEW_COLUMNS]) or "no column") + more


def _check_messages(messages: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        written = "; write it as a JSON list, not as text" if isinstance(messages, str) else ""
        raise UserError(f"{where}: expected messages to be a list of turns, found {kind_of(messages)}{written}")
    for turn, message in enumerate(messages, start=1):
        _check_turn(message, f"{where}, message {turn}")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles or "user" not in roles[: roles.index("assistant")]:
        raise UserError(
            f"{where}: expected a user turn and then an assistant turn to learn from, found {short(', '.join(roles))}"
        )
    return [{"role": m["role"], "content": m["content"]} for m in messages]


def _check_turn(message: Any, at: str) -> None:
    """Refuse a turn that is none, or that says more than role and content can."""
    expected = f"{at}: expected a turn with role ({', '.join(ROLES)}) and content"
    if not isinstance(message, dict):
        raise UserError(f"{expected}, found {kind_of(message)}")
    check_keys(message, at)
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        found = f"the role {short(role)!r}" if isinstance(role, str) else _column_names(message)
        raise UserError(f"{expected}, found {found}{other_formats.role_hint(message)}")
    if not isinstance(content, str):
        raise UserError(
            f"{at}: expected text in content, found {kind_of(content)}{other_formats.content_hint(content)}"
        )
    if not _shows(content):
        raise UserError(f"{at}: the content is empty; fill it in or remove the row")
    check_text(content, f"{at}: the content")
    if message.get("tool_calls") or message.get("function_call"):
        raise UserError(f"{at}: expected a turn of text, found a tool call beside it{other_formats.content_hint(None)}")
    if role == "assistant" and (message.get("weight") == 0 or message.get("train") is False):
        raise UserError(f"{at}: expected a turn to learn from, found one marked as none (weight, train); split the row")
