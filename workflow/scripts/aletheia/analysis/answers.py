"""One table of every answer: each question, row and passage of each evaluated run, base models too.

The statistics take questions and rows as samples; with this table they read one file in place of one an evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from aletheia.errors import UserError
from aletheia.study.benchmarks import BENCHMARKS, CODE, LOSSES

if TYPE_CHECKING:
    import pyarrow

AnswerKey = tuple[str, str, int | None, str]  # model, arm, seed, benchmark; a base model's seed is None

# Each column's type; "text" is strings, dictionary-encoded.
COLUMNS = {
    "model": "text",
    "arm": "text",
    "seed": "int64",
    "benchmark": "text",
    "item": "text",
    "cluster": "text",
    "correct": "bool",
    "probability": "double",
    "tokens": "int64",
    "loss": "double",
    "status": "text",
}
# What a judged program has as its verdict where it was not run; any other verdict is that of a whole answer.
NOT_RUN = ("nan", "empty", "prompt_cut")
SUBJECT_AND_NUMBER = "^(.+)/[^/]*$"


def answer_table(answers: Mapping[AnswerKey, Path]) -> pd.DataFrame:
    """Return one row a question, held-out row or passage of each evaluation.

    Parameters
    ----------
    answers
        The table that an evaluation wrote, of programs the judged one, by (model, arm, seed, benchmark); those of
        evaluations that failed are to be left out.

    Returns
    -------
    pandas.DataFrame
        In the order given, with the columns :data:`COLUMNS`; text is categorical, other types are those with missing
        values, and what does not apply is missing.

        ``seed``: missing for a base model, whose ``arm`` is ``base``. ``item``: the question's id, the passage's id, or
        the number of the held-out row. ``cluster``: the subject of a benchmark with several (MMLU); missing where
        each item stands for itself. ``correct``: of questions. ``probability``: of the right choice, where it is
        recorded. ``tokens`` and ``loss``: of rows and passages, the number of target tokens and their mean
        cross-entropy in nats. ``status``: ``ok``; ``nan`` or ``empty`` where there is no answer; ``prompt_cut`` where
        the prompt lost its beginning.

    Raises
    ------
    UserError
        When a table is missing, no Parquet, or lacks a column.
    """
    import pyarrow

    parts = [_part(key, Path(path)) for key, path in answers.items()]
    return _as_frame(pyarrow.concat_tables([_schema().empty_table(), *parts]))


def write_answers(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame of :func:`answer_table` as Parquet, compressed with Zstandard."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pandas(frame, schema=_schema(), preserve_index=False)
    # Without pandas' own notes, which name its version.
    parquet.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def read_answers(path: Path) -> pd.DataFrame:
    """Read a table that :func:`write_answers` wrote, with the types of :func:`answer_table`.

    Raises
    ------
    UserError
        When the file is missing, no Parquet, or lacks a column.
    """
    import pyarrow

    table = _read(Path(path), list(COLUMNS), remedy="run aggregate again")
    try:
        return _as_frame(table.select(list(COLUMNS)).cast(_schema()))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UserError(f"{path}: expected the table of answers, found other types ({error})") from None


def _schema() -> pyarrow.Schema:
    import pyarrow

    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    return pyarrow.schema([(name, text if kind == "text" else kind) for name, kind in COLUMNS.items()])


def _as_frame(table: pyarrow.Table) -> pd.DataFrame:
    import pyarrow

    types = {pyarrow.int64(): pd.Int64Dtype(), pyarrow.bool_(): pd.BooleanDtype()}
    return table.unify_dictionaries().to_pandas(types_mapper=types.get)


def _read(path: Path, columns: list[str], *, remedy: str) -> pyarrow.Table:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            missing = next((name for name in columns if name not in file.schema_arrow.names), None)
            if missing is not None:
                raise UserError(f"{path}: expected a table with the column {missing}, found none; {remedy}")
            return file.read(columns)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a table of answers here and found none; {remedy}") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: expected a whole Parquet file, found something else ({error}); {remedy}") from None


def _part(key: AnswerKey, path: Path) -> pyarrow.Table:
    """Return the rows of one evaluation, with the columns and types of the whole table."""
    import pyarrow

    model, arm, seed, benchmark = key
    named = _named_columns(benchmark)
    found = _read(path, list(named.values()), remedy="evaluate the run again")
    cells: dict[str, Any] = {"model": model, "arm": arm, "seed": seed, "benchmark": benchmark}
    cells |= {name: found[column] for name, column in named.items()}
    cells["item"] = found[named["item"]].cast(pyarrow.string())
    cells["cluster"] = _subjects(cells["item"]) if BENCHMARKS[benchmark].by_subject else None
    if BENCHMARKS[benchmark].kind == CODE:
        cells["status"] = _status_of_programs(cells["status"])
    arrays = [_array(cells.get(field.name), field.type, found.num_rows) for field in _schema()]
    return pyarrow.table(arrays, schema=_schema())


def _named_columns(benchmark: str) -> dict[str, str]:
    """Return ``{column here: column of the evaluation's table}``."""
    columns = BENCHMARKS[benchmark].columns
    if BENCHMARKS[benchmark].kind == CODE:
        # As score_code.py writes them.
        return {"item": "question_id", "correct": "passed", "status": "verdict"}
    if benchmark in LOSSES:
        return {"item": "id" if "id" in columns else "row", "tokens": "tokens", "loss": "loss", "status": "status"}
    likely = {"probability": "probability"} if "probability" in columns else {}
    return {"item": "question_id", "correct": "correct", **likely, "status": "status"}


def _subjects(items: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray | None:
    """Return the subjects that ids begin with ("law/12"); None where they name one, or not all name one."""
    from pyarrow import compute

    named = compute.match_substring_regex(items, SUBJECT_AND_NUMBER)
    subjects = compute.replace_substring_regex(items, SUBJECT_AND_NUMBER, r"\1")
    several = compute.all(named).as_py() and compute.count_distinct(subjects).as_py() > 1
    return subjects if several else None


def _status_of_programs(verdicts: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    import pyarrow
    from pyarrow import compute

    return compute.if_else(compute.is_in(verdicts, value_set=pyarrow.array(NOT_RUN)), verdicts, "ok")


def _array(cell: Any, kind: pyarrow.DataType, rows: int) -> Any:
    """Return a column's array; of a single value (None: missing) that value in each row."""
    import pyarrow

    if cell is None or isinstance(cell, str | int):
        plain = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
        cell = pyarrow.repeat(pyarrow.scalar(cell, plain), rows)
    return cell.dictionary_encode() if pyarrow.types.is_dictionary(kind) else cell
