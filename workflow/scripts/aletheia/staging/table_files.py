"""Read the tables of users and benchmarks, row by row with its place: JSONL, JSON, CSV, TSV, Parquet."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.delimited_files import delimited_rows
from aletheia.staging.text_files import check_columns, kind_of, kind_of_bytes, lines, read_text, short

Located = tuple[str, Any]  # (where it stands, for messages; the raw row)
BLANK = re.compile(r"[ \t\r\n]*")  # between the values of a JSON array


class RepeatedKeys(dict):
    """A JSON object with a repeated key, of which ``json`` silently keeps the last value."""

    key: str = ""


def located_rows(path: Path) -> Iterator[Located]:
    """Yield each raw row of a table file with where it stands ("mine.jsonl, line 3").

    Parameters
    ----------
    path
        ``.jsonl``, ``.ndjson`` or ``.json`` (an array of objects, in a ``.jsonl`` too), ``.csv``, ``.tsv`` (with
        commas, semicolons, tabs or bars between cells) or ``.parquet``; text files may be gzipped.

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


def parse_json(text: str, where: str) -> Any:
    """Return a JSON value; the caller reports a syntax error (``json.JSONDecodeError``).

    Raises
    ------
    UserError
        For JSON that is nested too deep, or a number of too many digits.
    """
    with _readable(where):
        return json.loads(text, object_pairs_hook=_object)


@contextlib.contextmanager
def _readable(where: str) -> Iterator[None]:
    """Refuse JSON that is well-formed and that Python does not read."""
    try:
        yield
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
    text = read_text(path)
    if text.lstrip("\ufeff \t\r\n").startswith("["):
        yield from _array(path, text)
        return
    for number, whole in enumerate(lines(text), start=1):
        line = whole.strip("\ufeff \t\r")  # files that were joined have a byte order mark inside
        if not line:
            continue
        where = f"{path}, line {number}"
        try:
            row = parse_json(line, where)
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
    if text.lstrip("\ufeff \t\r\n").startswith("["):
        yield from _array(path, text)
    elif text.strip():
        try:
            found = parse_json(text, str(path))
        except json.JSONDecodeError as error:
            raise _malformed(path, error) from None
        raise UserError(f"{path}: expected a JSON array of objects, found {kind_of(found)}{_array_inside(found)}")


def _array(path: Path, text: str) -> Iterator[Located]:
    """Yield each value of a JSON array, with its line too where the array is spread over several."""
    decoder, line, counted = json.JSONDecoder(object_pairs_hook=_object), 1, 0
    at = _skip(text, text.index("[") + 1)
    more, number = text[at : at + 1] != "]", 1
    try:
        while more:
            line, counted = line + text.count("\n", counted, at), at
            where = f"{path}, row {number}" if line == 1 else f"{path}, line {line} (row {number})"
            with _readable(where):
                row, at = decoder.raw_decode(text, at)
            check_keys(row, where)
            yield where, row
            at, number = _skip(text, at), number + 1
            more = text[at : at + 1] == ","
            if more:
                at = _skip(text, at + 1)
            elif text[at : at + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        if _skip(text, at + 1) < len(text):
            raise json.JSONDecodeError("Extra data", text, _skip(text, at + 1))
    except json.JSONDecodeError as error:
        raise _malformed(path, error) from None


def _skip(text: str, at: int) -> int:
    """Return where the blanks that begin at a place of a JSON text end."""
    return BLANK.match(text, at).end()


def _malformed(path: Path, error: json.JSONDecodeError) -> UserError:
    named = "" if error.doc.lstrip().startswith("[") else "; a file with one object a line must be named .jsonl"
    return UserError(
        f"{path}, line {error.lineno}: expected a JSON array of objects, found malformed JSON ({error.msg}){named}"
    )


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
    check_columns(table.column_names, str(path))
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
    ".csv": delimited_rows,
    ".tsv": delimited_rows,
    ".parquet": _parquet,
}
