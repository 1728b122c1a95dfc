"""Read the tables of users and benchmarks, row by row with its place: JSONL, JSON, CSV, TSV, Parquet."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.text_files import kind_of_bytes, lines, read_text, short

Located = tuple[str, Any]  # (where it stands, for messages; the raw row)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class RepeatedKeys(dict):
    """A JSON object with a repeated key, of which ``json`` silently keeps the last value."""

    key: str = ""


def located_rows(path: Path) -> Iterator[Located]:
    """Yield each raw row of a table file with where it stands ("mine.jsonl, line 3").

    Parameters
    ----------
    path
        ``.jsonl``, ``.ndjson``, ``.json`` (an array of objects), ``.csv``, ``.tsv`` or ``.parquet``; text files may be
        gzipped.

    Raises
    ------
    UserError
        For a file that is missing, of another kind, or malformed.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if path.is_dir():
        raise UserError(f"{path}: expected a data file here, found a folder; name a file in it")
    if suffix not in _READERS:
        raise UserError(
            f"{path}: expected a file that ends in {', '.join(_READERS)} (text files may be gzipped), found "
            f"{path.name!r}"
        )
    if not path.is_file():
        raise UserError(f"{path}: expected a data file here and found none; check the path in the data registry")
    yield from _READERS[suffix](path)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    doubled = RepeatedKeys(found)
    doubled.key = Counter(key for key, _ in pairs).most_common(1)[0][0]
    return doubled


def _parse_json(text: str, where: str) -> Any:
    """Return a JSON value; the caller reports a syntax error."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise UserError(f"{where}: expected a row, found JSON nested too deep to read; leave that column out") from None
    except ValueError:  # Python's limit on the digits of a whole number
        raise UserError(
            f"{where}: expected numbers that can be read, found one of more than {sys.get_int_max_str_digits():,} "
            "digits; write it as text, or leave that column out"
        ) from None


def check_keys(found: Any, where: str) -> None:
    """Refuse an object in which a key stands twice.

    Raises
    ------
    UserError
        With the key.
    """
    if isinstance(found, RepeatedKeys):
        raise UserError(f"{where}: expected each key once, found {short(repr(found.key))} twice; take one out")


def _jsonl(path: Path) -> Iterator[Located]:
    first = True
    for number, whole in enumerate(lines(read_text(path)), start=1):
        line = whole.strip("\ufeff \t\r")  # files that were joined have a byte order mark inside
        if not line:
            continue
        where = f"{path}, line {number}"
        if first and line.startswith("["):
            raise UserError(
                f"{where}: expected one JSON object a line, found an array; a file that is one must be named .json"
            )
        first = False
        try:
            row = _parse_json(line, where)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{where}: expected one JSON object, found a malformed one ({error.msg.removesuffix(' at')} at column "
                f"{error.colno}){_alone(error)}"
            ) from None
        check_keys(row, where)
        yield where, row


def _alone(error: json.JSONDecodeError) -> str:
    """Return advice on rows of one line, where an object goes on in the next line or something follows it."""
    unended = error.pos >= len(error.doc) or error.msg.startswith("Unterminated")
    return "; a row stands on one line, whole and alone" if unended or error.msg == "Extra data" else ""


def _json(path: Path) -> Iterator[Located]:
    text = read_text(path)
    try:
        rows = _parse_json(text, str(path)) if text.strip() else []
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: expected a JSON array of objects, found malformed JSON "
            f"({error.msg}); a file with one object a line must be named .jsonl"
        ) from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a JSON array of objects, found {kind_of(rows)}{_array_inside(rows)}")
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        check_keys(row, where)
        yield where, row


def _array_inside(found: Any) -> str:
    """Return advice on how to write the array, where an object holds it or its columns."""
    if not isinstance(found, dict):
        return ""
    key = next((key for key, value in found.items() if isinstance(value, list) and value), None)
    if key is not None:
        return f"; write the list under {short(repr(key))} alone"
    if found and all(isinstance(value, dict) for value in found.values()):
        return '; pandas writes rows with to_json(path, orient="records")'
    return "; a file with one object a line must be named .jsonl"


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lift Python's limit of 131,072 characters a cell: long texts are rows like others."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def delimited_cells(path: Path, delimiter: str = ",") -> list[tuple[str, list[str]]]:
    """Return the cells of each row of a CSV file, the header too, with where the row begins; blank lines are none.

    Parameters
    ----------
    path
        The file; cells may hold line breaks and have any length.
    delimiter
        What stands between cells.

    Raises
    ------
    UserError
        For quotes that do not close, or a cell with text behind its closing quote.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    rows, line = [], 1  # where a row begins
    try:
        with _cells_of_any_length():
            for cells in reader:
                if cells:
                    rows.append((f"{path}, line {line}", cells))
                line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}: expected well-formed CSV ({error}); a cell with a quote, comma or line break stands "
            'in quotes, each quote in it written twice ("")'
        ) from None
    return rows


def _delimited_reader(delimiter: str) -> Callable[[Path], Iterator[Located]]:
    def read(path: Path) -> Iterator[Located]:
        (top, columns), *rows = delimited_cells(path, delimiter) or [("", [])]
        _check_header(columns, top, delimiter)
        for where, cells in rows:
            if len(cells) != len(columns):
                quotes = "; a cell with a comma stands in quotes" if len(cells) > len(columns) else ""
                raise UserError(f"{where}: expected {len(columns)} cells as in the header, found {len(cells)}{quotes}")
            if cells == columns:
                raise UserError(f"{where}: expected a row, found the header again; take that line out")
            yield where, dict(zip(columns, cells, strict=True))
        if columns and not rows:
            raise UserError(f"{path}: expected rows below the header and found none")

    return read


def _check_columns(columns: Sequence[str], where: str) -> None:
    """Refuse two columns of one name, the second of which would take the place of the first."""
    twice = next((name for name, times in Counter(columns).items() if times > 1 and name), None)
    if twice is not None:
        raise UserError(f"{where}: expected each column once, found {short(repr(twice))} twice; rename or remove one")


def _check_header(columns: Sequence[str], where: str, delimiter: str) -> None:
    _check_columns(columns, where)
    other = next((s for s in SEPARATORS if s != delimiter and s in columns[0]), None) if len(columns) == 1 else None
    if other is not None:
        named = "let the name end in .tsv" if other == "\t" else f"save the file with {SEPARATORS[delimiter]}"
        raise UserError(
            f"{where}: expected {SEPARATORS[delimiter]} between cells, found {SEPARATORS[other]} "
            f"({short(columns[0])}); {named}"
        )


def _parquet(path: Path) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    try:
        # Of this file alone: read_table would add columns from folders that are named like lang=en.
        table = pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        with path.open("rb") as handle:
            kind = kind_of_bytes(handle.read(512))
        found = f", found {kind}" if kind and kind != "a Parquet file" else f" ({short(str(error).splitlines()[0])})"
        raise UserError(f"{path}: expected a whole Parquet file{found}") from None
    _check_columns(table.column_names, str(path))
    try:
        rows = table.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        # Text that is no UTF-8, a time that no calendar has.
        raise UserError(
            f"{path}: expected cells that can be read ({short(str(error).splitlines()[0])}); write the needed "
            "columns anew, as text"
        ) from None
    for number, row in enumerate(rows, start=1):
        yield f"{path}, row {number}", row


_READERS: dict[str, Callable[[Path], Iterator[Located]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _delimited_reader(","),
    ".tsv": _delimited_reader("\t"),
    ".parquet": _parquet,
}


def kind_of(value: Any) -> str:
    """Return the type of a JSON or Parquet value in plain words."""
    if isinstance(value, (list, dict, str)) and not value:
        return {list: "an empty list", str: "empty text"}.get(type(value), "an empty object")
    names = {
        list: "a list",
        str: "text",
        bool: "a truth value",
        bytes: "bytes",
        type(None): "nothing (null)",
    }
    if isinstance(value, dict):
        return "an object"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"the number {short(value)}" if number else names.get(type(value), type(value).__name__)
