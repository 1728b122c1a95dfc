"""Tables of questions, rows and passages as evaluations write them, without any evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aletheia.evaluation.outcomes import COLUMNS, PASSED, write_table
from aletheia.provenance.artifacts import sha256_file, sidecar
from ledgers import sealed

PLAIN = {"string": "x", "int64": 7, "bool": True, "double": 0.5, "list<double>": [-1.0, -2.0]}


def columns_of(benchmark: str) -> Mapping[str, str]:
    """Return the columns of a benchmark's table; of HumanEval, those of the judged one."""
    return COLUMNS[PASSED if benchmark == "humaneval" else benchmark]


def answer_rows(benchmark: str, items: Iterable[Any], **cells: Iterable[Any]) -> list[dict[str, Any]]:
    """Return one row an item, with the given cells by column, and otherwise the same value of a column's type."""
    columns, items = columns_of(benchmark), list(items)
    key = next(name for name in ("question_id", "id", "row") if name in columns)
    plain = {name: PLAIN[kind] for name, kind in columns.items()} | {"status": "ok"}
    given = {name: list(values) for name, values in {key: items, **cells}.items()}
    rows = [{**plain, **{name: values[i] for name, values in given.items()}} for i in range(len(items))]
    return [{name: row[name] for name in columns} for row in rows]


def write_answer_table(path: Path, benchmark: str, rows: list[dict[str, Any]]) -> Path:
    """Write an evaluation's table and its sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, rows, columns_of(benchmark))
    files = {path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}}
    sealed(sidecar(path), "file", {"name": path.name, "files": files, "about": {}})
    return path
