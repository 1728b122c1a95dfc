"""Degenerate answers: the same choice for every question, empty texts, programs that do not parse.

A score does not show them. A model that always says "B" scores the share of B among the right answers, which can lie
well above guessing; one whose programs do not parse scores the 0 of a model whose programs are wrong.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# A model with at least this share of one choice among its answers ignores the questions; chosen by hand. Right answers
# are spread over the choices, so a model that reads the questions stays far below.
ONE_CHOICE_SHARE = 0.95


def degenerate_answers(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return counts of a benchmark's degenerate answers, by kind.

    Parameters
    ----------
    table
        Its rows, one a question.

    Returns
    -------
    list of dict
        Of choices ``{"kind": "one_choice", "answer": "A", "n": 24}`` where at least 95 % of the answers are that one
        (questions whose numbers are not finite have none, and at least two must be answered); of generations
        ``{"kind": "empty", "n": 3}`` where there are any.
    """
    kinds: list[dict[str, Any]] = []
    choices = Counter(row["prediction"] for row in table if "loglikelihoods" in row and row["prediction"] is not None)
    if choices.total() > 1:
        answer, count = choices.most_common(1)[0]
        if count >= ONE_CHOICE_SHARE * choices.total():
            kinds.append({"kind": "one_choice", "answer": answer, "n": count})
    empty = sum(row["status"] == "empty" for row in table)
    return [*kinds, {"kind": "empty", "n": empty}] if empty else kinds


def unparsed_programs(programs: Iterable[str]) -> list[dict[str, Any]]:
    """Return ``[{"kind": "syntax_error", "n": 5}]`` for programs that do not parse; empty where all do.

    They are only parsed, not run.
    """
    broken = sum(not _parses(program) for program in programs)
    return [{"kind": "syntax_error", "n": broken}] if broken else []


def _parses(program: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            ast.parse(program)
    # The last three: a NUL, and brackets or operators nested deeper than the parser goes.
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True
