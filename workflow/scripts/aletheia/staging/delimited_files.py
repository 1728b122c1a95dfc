"""Read CSV and TSV files row by row with their lines, whatever stands between their cells."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.text_files import check_columns, read_text

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ONE = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
EXCEL_SEPARATOR = re.compile(r"sep=([,;|\t])")  # a first line by which Excel is told


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
            f"{path}, line {line}: expected well-formed CSV ({error}); a cell with a quote, {ONE[delimiter][2:]} or "
            'line break stands in quotes, each quote in it written twice ("")'
        ) from None
    return rows


def delimited_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row of a CSV or TSV file below its header, by column, with where it begins.

    Raises
    ------
    UserError
        For a malformed file, columns of one name, a row with more or fewer cells than the header, or none.
    """
    delimiter = separator(path)
    cells = delimited_cells(path, delimiter)
    if cells and EXCEL_SEPARATOR.fullmatch(delimiter.join(cells[0][1])):
        cells = cells[1:]
    (top, columns), *rows = cells or [("", [])]
    check_columns(columns, top)
    for where, row in rows:
        if len(row) != len(columns):
            quotes = f"; a cell with {ONE[delimiter]} stands in quotes" if len(row) > len(columns) else ""
            raise UserError(f"{where}: expected {len(columns)} cells as in the header, found {len(row)}{quotes}")
        if row == columns:
            raise UserError(f"{where}: expected a row, found the header again; take that line out")
        yield where, dict(zip(columns, row, strict=True))
    if columns and not rows:
        raise UserError(f"{path}: expected rows below the header and found none")


def separator(path: Path) -> str:
    """Return what stands between the cells of a CSV or TSV file.

    It is a comma, or a tab in a TSV, unless the header is one cell by it and several by another separator, or Excel's
    first line (``sep=;``) names another.

    Raises
    ------
    UserError
        For a file that is no text.
    """
    usual, text = usual_separator(path), read_text(path)
    header = _header(text, usual)
    declared = EXCEL_SEPARATOR.fullmatch(usual.join(header))
    if declared:
        return declared[1]
    if len(header) > 1:
        return usual
    cells = {other: len(_header(text, other)) for other in SEPARATORS if header and other in header[0]}
    return max(cells, key=lambda other: cells[other]) if max(cells.values(), default=1) > 1 else usual


def usual_separator(path: Path) -> str:
    """Return what stands between cells by a file's name."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def _header(text: str, delimiter: str) -> Sequence[str]:
    """Return the first row that is not blank; none where it is malformed, which reading the file then says."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        with _cells_of_any_length():
            return next((cells for cells in reader if cells), [])
    except csv.Error:
        return []


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lift Python's limit of 131,072 characters a cell: long texts are rows like others."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
