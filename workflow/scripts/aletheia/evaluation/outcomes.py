"""One benchmark's outcome: its rows, one a question, and their score."""

from __future__ import annotations

import functools
import hashlib
import math
import statistics
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from aletheia.evaluation.degenerate import degenerate_answers
from aletheia.study.benchmarks import BENCHMARKS, CHOICES, CODE, HUMANEVAL, QUESTION_COLUMNS, TEXT

LETTERS = string.ascii_uppercase
PASSED = f"{HUMANEVAL}_passed"
# Columns of each benchmark's table; PASSED is what score_code.py makes of HumanEval's generations.
COLUMNS = {name: benchmark.columns for name, benchmark in BENCHMARKS.items()} | {
    PASSED: {**QUESTION_COLUMNS, "passed": "bool", "verdict": "string", "error": "string"}
}

# Omitted from a payload where they are None.
OPTIONAL = ("normalised_score", "probability", "probability_stderr", "probability_n", "degenerate")


@dataclass(frozen=True)
class Outcome:
    """One benchmark of one model.

    Attributes
    ----------
    status
        ``ok``, ``timeout``, ``no_adapter`` (the run behind it failed) or ``failed``.
    score
        Share of questions answered correctly, 0 to 1.
    normalised_score
        The same where the answer is the choice likeliest per character; only of benchmarks that record it.
    loss
        Mean cross-entropy a target token in nats (held-out rows and passages only).
    stderr
        Standard error of the score or the loss.
    probability, probability_stderr, probability_n
        Mean probability of the right choice among all choices, 0 to 1, its standard error, and the number of questions,
        which are those with finite log-likelihoods. Only of benchmarks of choices.
    degenerate
        Degenerate answers (:mod:`aletheia.evaluation.degenerate`); only of benchmarks with answers.
    rows
        One mapping a question, with the benchmark's columns.
    """

    status: str = "ok"
    reason: str | None = None
    score: float | None = None
    loss: float | None = None
    normalised_score: float | None = None
    stderr: float | None = None
    probability: float | None = None
    probability_stderr: float | None = None
    probability_n: int | None = None
    degenerate: Sequence[Mapping[str, Any]] | None = None
    n: int = 0
    n_correct: int | None = None
    truncated: int = 0
    task_version: str | None = None
    rows: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    def summary(self) -> dict[str, Any]:
        """Return all fields but the rows, without those of :data:`OPTIONAL` that are None."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        return {name: value for name, value in values.items() if value is not None or name not in OPTIONAL}


def proportion(correct: Sequence[bool]) -> tuple[float | None, float | None]:
    """Return the share p of correct answers and its standard error √(p(1−p)/(n−1)), as the harness has it."""
    n = len(correct)
    if not n:
        return None, None
    p = sum(correct) / n
    return p, math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else None


def mean_probability(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean, standard error SD/√n and n of the probabilities in a table of choices, as an outcome has them.

    Questions with log-likelihoods that are not finite are left out; without any other the result is empty.
    """
    values = [row["probability"] for row in table if row.get("probability") is not None]
    if not values:
        return {}
    n, mean = len(values), statistics.fmean(values)
    stderr = statistics.stdev(values, mean) / math.sqrt(n) if n > 1 else None
    return {"probability": mean, "probability_stderr": stderr, "probability_n": n}


def choice_probability(index: int, loglikelihoods: Sequence[float]) -> float:
    """Return the probability of one choice among all: exp(l_i) / Σ exp(l_j), the softmax of the log-likelihoods."""
    largest = max(loglikelihoods)
    weights = [math.exp(value - largest) for value in loglikelihoods]
    return weights[index] / math.fsum(weights)


def _question(question: Mapping[str, Any], sample: Mapping[str, Any]) -> dict[str, str]:
    prompt = sample["arguments"][0][0]
    return {"question_id": str(question["id"]), "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest()}


def _generation(sample: Mapping[str, Any], notes: Mapping[str, Any]) -> dict[str, Any]:
    text, note = sample["resps"][0][0], notes[sample["arguments"][0][0]]
    status = "nan" if note["nan"] else "ok" if text.strip() else "empty"
    return {"generation": text, "tokens": note["tokens"], "truncated": note["truncated"], "status": status}


def _choices_table(questions: Any, samples: Any, notes: Any, *, normalised: bool) -> list[dict[str, Any]]:
    (answers,) = samples.values()
    table = []
    for question, sample in zip(questions, answers, strict=True):
        values = [float(response[0][0]) for response in sample["resps"]]
        finite = all(map(math.isfinite, values))
        # Where nothing is finite the harness takes the first choice, which is no answer.
        prediction = LETTERS[values.index(max(values))] if finite else None
        answer = LETTERS[question["answer"]]
        row = {
            **_question(question, sample),
            "loglikelihoods": [v if math.isfinite(v) else None for v in values],
            "probability": choice_probability(question["answer"], values) if finite else None,
            "prediction": prediction,
            "answer": answer,
            "correct": prediction == answer,
            "status": "ok" if finite else "nan",
        }
        if normalised:
            # As the harness's acc_norm: characters of the choice, without the space before it.
            rates = [value / len(choice) for value, choice in zip(values, question["choices"], strict=True)]
            row["correct_normalised"] = finite and rates.index(max(rates)) == question["answer"]
        table.append(row)
    return table


def _text_table(questions: Any, samples: Any, notes: Any) -> list[dict[str, Any]]:
    table = []
    pairs = zip(questions, samples["strict-match"], samples["flexible-extract"], strict=True)
    for question, strict, flexible in pairs:
        generation = _generation(strict, notes)
        table.append(
            {
                **_question(question, strict),
                **generation,
                "prediction": strict["filtered_resps"][0],
                "last_number": flexible["filtered_resps"][0],
                "correct": generation["status"] == "ok" and bool(strict["exact_match"] == 1.0),
            }
        )
    return table


def _code_table(questions: Any, samples: Any, notes: Any) -> list[dict[str, Any]]:
    (answers,) = samples.values()
    return [
        {**_question(question, sample), **_generation(sample, notes)}
        for question, sample in zip(questions, answers, strict=True)
    ]


def _tables() -> dict[str, Callable[[Any, Any, Any], list[dict[str, Any]]]]:
    """Return ``{benchmark: (questions, samples of each filter, notes by prompt) → rows}``."""
    kinds = {TEXT: _text_table, CODE: _code_table}
    return {
        name: functools.partial(_choices_table, normalised=benchmark.normalised)
        if benchmark.kind == CHOICES
        else kinds[benchmark.kind]
        for name, benchmark in BENCHMARKS.items()
        if benchmark.kind in (CHOICES, *kinds)
    }


TABLES = _tables()


def score_table(table: Sequence[Mapping[str, Any]], task_version: str | None = None) -> Outcome:
    """Return the outcome of a table.

    A question whose numbers are not finite counts as wrong, and the reason says how many; when all are so,
    the benchmark failed and has no score.
    """
    broken = sum(row["status"] == "nan" for row in table)
    reason = f"{broken} of {len(table)} questions gave numbers that are not finite" if broken else None
    common: dict[str, Any] = {
        "reason": reason,
        "n": len(table),
        "truncated": sum(row.get("truncated", False) for row in table),
        "task_version": task_version,
        "rows": table,
    }
    if broken and broken == len(table):
        return Outcome("failed", **common)
    common |= {"degenerate": degenerate_answers(table), **mean_probability(table)}
    if any("correct" not in row for row in table):
        return Outcome(**common)
    correct = [row["correct"] for row in table]
    score, stderr = proportion(correct)
    normalised, _ = proportion([row["correct_normalised"] for row in table if "correct_normalised" in row])
    return Outcome(score=score, normalised_score=normalised, stderr=stderr, n_correct=sum(correct), **common)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Write rows as Parquet with the given columns and types, also where there is no row."""
    import pyarrow
    from pyarrow import parquet

    types = {"list<double>": pyarrow.list_(pyarrow.float64())}
    schema = pyarrow.schema([(name, types.get(kind) or kind) for name, kind in columns.items()])
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), path)
