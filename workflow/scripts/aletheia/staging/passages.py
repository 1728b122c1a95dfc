"""Passages of text, whose loss tells what a model has unlearnt: a column of a table that a benchmark or a user has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.table_files import located_rows
from aletheia.staging.text_files import check_text, kind_of

COLUMNS = ("text", "passage")  # the second is BoolQ's; where a row has both, the first


def read_passages(path: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return a file's passages, and the numbers of source rows that were dropped, by reason.

    Several questions may be about one passage, so repeated ones are no mistake; each is read once.

    Parameters
    ----------
    path
        A table file with a column ``text``, or ``passage``.

    Returns
    -------
    tuple
        Rows ``id``, ``text`` (without white space around it) and ``source_row``; ``{"reason": count}``, the reasons
        ``empty`` and ``duplicate``.

    Raises
    ------
    UserError
        When a row is of another shape, its text is damaged, or no passage is left.
    """
    kept: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for number, (where, row) in enumerate(located_rows(path)):
        text = _text(where, row).strip()
        if not text or text in seen:
            dropped["duplicate" if text else "empty"] += 1
            continue
        seen.add(text)
        kept.append({"id": f"passage/{number}", "text": text, "source_row": number})
    if not kept:
        raise UserError(f"{path}: expected passages of text, found none that is not empty")
    return kept, dict(dropped)


def _text(where: str, row: Any) -> str:
    """Return a row's passage, or refuse a row without one."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected one passage as an object, found {kind_of(row)}")
    name = next((name for name in COLUMNS if name in row), None)
    if name is None:
        raise UserError(
            f"{where}: expected a passage in the column {' or '.join(COLUMNS)}, found the columns "
            f"{', '.join(map(str, row)) or 'none'}"
        )
    if not isinstance(row[name], str):
        raise UserError(f"{where}: expected text in the column {name}, found {kind_of(row[name])}")
    check_text(row[name], f"{where}: the {name}")
    return row[name]
