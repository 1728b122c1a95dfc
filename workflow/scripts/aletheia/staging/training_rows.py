"""Training rows that users bring, checked where they enter (:mod:`aletheia.staging.table_files` reads their files)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging import other_formats
from aletheia.staging.delimited_files import SEPARATORS, separator, usual_separator
from aletheia.staging.row_formats import ALPACA, FORMATS, RowFormat, format_of
from aletheia.staging.table_files import located_rows
from aletheia.staging.text_files import kind_of

# In CSV a missing value has no form of its own. These are what pandas writes for one: NaN, and <NA> in its newer types.
CSV_MISSING = frozenset({"NaN", "nan", "<NA>"})
# Words that may be meant as such (None answers a question, NA is Namibia's code): they are kept, with a note.
DOUBTFUL = frozenset({"none", "null", "na", "n/a", "nan", "<na>", "undefined"})
PARQUET = ".parquet"


def read_training_rows(
    *paths: Path, columns: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of training files, all of one format, and notes for their owner.

    A cell is missing where it is null or a NaN (Parquet, JSON), or where a CSV or TSV has nothing in it or ``NaN``,
    ``nan`` or ``<NA>``, which is how pandas writes a missing value. A missing input means that there is none; any other
    missing text is refused. Other words for nothing (``None``, ``null``, ``NA``, ``N/A``) may well be answers: they are
    learnt as they stand and counted in a note.

    Parameters
    ----------
    paths
        The files, one after another: see :func:`aletheia.staging.table_files.located_rows`.
    columns
        The files' own names of columns, by ours: ``{"instruction": "question", "output": "answer"}``.

    Returns
    -------
    tuple
        Rows: ``{"instruction", "input", "output"}``, ``{"messages": [{"role", "content", …}, …]}`` (with ``tools``
        where the model may call any), or ``{"text"}``, with ``source_row``, the row's number from 0; other columns are
        dropped. Notes: a sentence each.

    Raises
    ------
    UserError
        With file and line: an empty file, a malformed line, a missing column, a wrong type, an empty output, rows of
        two formats.
    """
    rows: list[dict[str, Any]] = []
    notes = [note for path in paths if (note := _separator_note(path))]
    unread: dict[str, None] = {}
    first: tuple[RowFormat, str] | None = None
    for path in paths:
        name = path.name.lower().removesuffix(".gz")
        missing = CSV_MISSING if name.endswith((".csv", ".tsv")) else frozenset[str]()
        for where, raw in located_rows(path):
            row = _named(raw, where, columns or {})
            if name.endswith(PARQUET):
                row = {column: _without_nulls(cell) for column, cell in row.items()}
            found = _format(row, where, missing)
            first = first or (found, where)
            _expect_same(first, found, where)
            rows.append({**found.read(row, where, missing), "source_row": len(rows)})
            unread |= dict.fromkeys(other_formats.unread_columns(row, found.reads))
    if first is None:
        raise UserError(f"{paths[0]}: expected at least one training row and found an empty file")
    return rows, notes + _notes(paths[0], first[0], rows, list(unread))


def _separator_note(path: Path) -> str | None:
    """Return the sentence on cells that another character separates than the file's name says."""
    if not path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")) or not path.is_file():
        return None
    found = separator(path)
    return f"{path}: read with {SEPARATORS[found]} between cells" if found != usual_separator(path) else None


def _notes(path: Path, found: RowFormat, rows: Sequence[Mapping[str, Any]], unread: Sequence[str]) -> list[str]:
    """Return a sentence for each thing that is read otherwise than a user may think."""
    notes = []
    if unread:
        read = f"{', '.join(found.reads[:-1])} and {found.reads[-1]}" if len(found.reads) > 1 else found.reads[0]
        notes.append(f"{path}: not read, so not learnt: {', '.join(map(repr, unread))} (read are {read})")
    if found.needs == ("prompt", "completion") and "output" in rows[0]:
        notes.append(f"{path}: prompt and completion are learnt as instruction and output, worded by encoding.prompt")
    doubtful = Counter(
        (name, row[name].strip())
        for row in rows
        for name in (*ALPACA, "text")
        if name in row and row[name].strip().casefold() in DOUBTFUL
    )
    if doubtful:
        cells = ", ".join(f"{times} × {word!r} in {name}" for (name, word), times in doubtful.most_common())
        notes.append(f"{path}: learnt as text: {cells}; where nothing is meant, leave the cell empty")
    return notes


def _named(row: Any, where: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row whose columns have our names."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected one JSON object with named columns, found {kind_of(row)}")
    absent = [name for name in columns.values() if name not in row]
    if absent:
        raise UserError(
            f"{where}: expected the column {absent[0]!r}, which source.columns in the registry (or --columns) names, "
            f"found {other_formats.column_names(row)}"
        )
    rest = {name: value for name, value in row.items() if name not in columns and name not in columns.values()}
    return {**rest, **{ours: row[theirs] for ours, theirs in columns.items()}} if columns else row


def _format(row: Mapping[str, Any], where: str, missing: frozenset[str]) -> RowFormat:
    found = format_of(row, missing)
    if found is not None:
        return found
    absent = [name for name in ("instruction", "output") if name not in row]
    others = ", or ".join(" and ".join(each.needs) for each in FORMATS if each.reads != ALPACA)
    raise UserError(
        f"{where}: expected the columns instruction, output and, if you like, input (or {others}); "
        f"{' and '.join(absent)} missing, found {other_formats.column_names(row)}{other_formats.conversion(row)}"
    )


def _expect_same(first: tuple[RowFormat, str], found: RowFormat, where: str) -> None:
    """Refuse a row of another format than the first."""
    if found is not first[0]:
        raise UserError(
            f"{where}: expected {first[0].title}, which {first[1]} has, found {found.title}; rows of two formats are "
            "two files, or all become messages"
        )


def _without_nulls(value: Any) -> Any:
    """Return a Parquet cell without the keys that hold nothing: all objects of a column have the keys of each."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
