"""Answers that are none: one choice whatever is asked, empty texts, programs that no Python reads.

A score does not show them. A model that always says "B" scores the share of B among the right answers, which can lie
well above guessing; one whose programs do not parse scores the 0 of a model whose programs are wrong.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# The share of its answers with which a model says one choice whatever is asked; chosen by hand. Right answers are
# spread over the choices, so that a model that reads the questions stays far below.
ONE_CHOICE = 0.95


def degenerate_answers(table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what of a benchmark's answers is degenerate, by kind.

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
    found: list[dict[str, Any]] = []
    said = Counter(row["prediction"] for row in table if "loglikelihoods" in row and row["prediction"] is not None)
    if said.total() > 1:
        answer, count = said.most_common(1)[0]
        if count >= ONE_CHOICE * said.total():
            found.append({"kind": "one_choice", "answer": answer, "n": count})
    empty = sum(row["status"] == "empty" for row in table)
    return [*found, {"kind": "empty", "n": empty}] if empty else found


def unparsed_programs(programs: Iterable[str]) -> list[dict[str, Any]]:
    """Return ``[{"kind": "syntax_error", "n": 5}]`` for programs that do not parse; empty where all do.

    None is run for that.
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
