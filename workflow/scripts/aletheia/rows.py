"""Training rows that users bring: JSONL, JSON, CSV or Parquet, checked where they enter."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aletheia.errors import UserError

COLUMNS = ("instruction", "input", "output")
ROLES = ("system", "user", "assistant")
Located = tuple[str, dict[str, Any]]  # (where it stands, for messages; the raw row)


def read_training_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of one training file, each either Alpaca-style or chat.

    Parameters
    ----------
    path
        ``.jsonl``, ``.ndjson``, ``.json`` (an array of objects), ``.csv``, ``.tsv`` or ``.parquet``; text
        files may be gzipped.

    Returns
    -------
    list of dict
        ``{"instruction", "input", "output"}`` or ``{"messages": [{"role", "content"}, …]}``, with
        ``source_row``, the row's number from 0. Other columns are dropped.

    Raises
    ------
    UserError
        With file and line: an empty file, a malformed line, a missing column, a wrong type, an empty output.
    """
    rows = [{**_checked(row, where), "source_row": i} for i, (where, row) in enumerate(located_rows(path))]
    if not rows:
        raise UserError(f"{path}: expected at least one training row and found an empty file")
    return rows


def located_rows(path: Path) -> Iterator[Located]:
    """Yield each raw row of a table file with where it stands ("mine.jsonl, line 3")."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in _READERS:
        raise UserError(
            f"{path}: expected a file that ends in {', '.join(_READERS)} (text files may be gzipped), found "
            f"{path.name!r}"
        )
    if not path.is_file():
        raise UserError(f"{path}: expected a data file here and found none; check the path in the data registry")
    yield from _READERS[suffix](path)


def read_text(path: Path) -> str:
    """Return a text file's content, gzipped or not; what is no UTF-8 is refused with its line."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: expected UTF-8 text; save the file as UTF-8") from None
    except (gzip.BadGzipFile, EOFError):
        raise UserError(f"{path}: expected a gzip file and found something else or half of one") from None


def _jsonl(path: Path) -> Iterator[Located]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{where}: expected one JSON object, found a malformed one ({error.msg} at column {error.colno})"
            ) from None
        yield where, row


def _json(path: Path) -> Iterator[Located]:
    text = read_text(path)
    try:
        rows = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: expected a JSON array of objects, found malformed JSON "
            f"({error.msg}); a file with one object a line must be named .jsonl"
        ) from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a JSON array of objects, found {kind_of(rows)}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


def _delimited(delimiter: str) -> Callable[[Path], Iterator[Located]]:
    def read(path: Path) -> Iterator[Located]:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
        line = 1  # where a row begins: cells may hold line breaks
        try:
            columns = reader.fieldnames or []
            line = reader.line_num + 1
            for row in reader:
                where = f"{path}, line {line}"
                found = sum(v is not None for k, v in row.items() if k is not None) + len(row.get(None, []))
                if found != len(columns):
                    raise UserError(f"{where}: expected {len(columns)} cells as in the header, found {found}")
                yield where, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: expected well-formed CSV ({error})") from None

    return read


def _parquet(path: Path) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: expected a Parquet file ({str(error).splitlines()[0]})") from None
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}, row {number}", row


_READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".parquet": _parquet,
}


def kind_of(value: Any) -> str:
    """Return the type of a JSON value in plain words."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a truth value",
        type(None): "nothing (null)",
    }
    return names.get(type(value), f"the number {value}" if isinstance(value, (int, float)) else type(value).__name__)


def _checked(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected one JSON object with named columns, found {kind_of(row)}")
    if row.get("messages") is not None:
        return {"messages": _checked_messages(row["messages"], where)}
    missing = [name for name in ("instruction", "output") if name not in row]
    if missing:
        raise UserError(
            f"{where}: expected the columns instruction, output and, if you like, input (or one column "
            f"messages); {' and '.join(missing)} missing, found {', '.join(map(str, row)) or 'no column'}"
        )
    # An input that is absent and one that is null both mean: there is none.
    cells = {name: row.get(name) for name in COLUMNS}
    cells["input"] = "" if cells["input"] is None else cells["input"]
    for name, value in cells.items():
        if not isinstance(value, str):
            raise UserError(f"{where}: expected text in the column {name}, found {kind_of(value)}")
    for name in ("instruction", "output"):
        if not cells[name].strip():
            raise UserError(f"{where}: the {name} is empty; fill it in or remove the row")
    return cells


def _checked_messages(messages: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where}: expected messages to be a list of turns, found {kind_of(messages)}")
    for turn, message in enumerate(messages, start=1):
        at = f"{where}, message {turn}"
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise UserError(f"{at}: expected a turn with role ({', '.join(ROLES)}) and content")
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            raise UserError(f"{at}: expected text in content, found {kind_of(message.get('content'))}")
    roles = [message["role"] for message in messages]
    if "assistant" not in roles or "user" not in roles[: roles.index("assistant")]:
        raise UserError(
            f"{where}: expected a user turn and then an assistant turn to learn from, found {', '.join(roles)}"
        )
    return [{"role": m["role"], "content": m["content"]} for m in messages]
