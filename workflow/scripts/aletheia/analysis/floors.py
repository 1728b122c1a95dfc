"""Scores without information: at the level of guessing, or of mostly degenerate answers.

A score is flagged where it is at the floor, or where most of its answers are degenerate, which
:mod:`aletheia.evaluation.degenerate` counts.
"""

from __future__ import annotations

import pandas as pd

from aletheia.analysis.benchmarks import FACTS
from aletheia.analysis.degenerate_answers import degenerate_counts
from aletheia.analysis.stats import above_floor

ONE_CHOICE = "one_choice"
# A score is flagged if more than this share of the answers is empty or no program; chosen by hand. A few such answers
# are wrong answers like others.
MAX_DEGENERATE_SHARE = 0.5


def at_floor(*, n: int, n_correct: int, chance: float, degenerate: str | None = None) -> bool:
    """Tell whether a score is no better than guessing; then there is nothing to forget.

    A model that gives the same choice for every question is at the floor at any score; otherwise
    :func:`aletheia.analysis.stats.above_floor` decides.

    Parameters
    ----------
    n, n_correct
        Questions, and how many were answered correctly.
    chance
        Expected score of guessing: 1/4 for four choices, 0 for generated answers.
    degenerate
        The ledger's cell; None, or the NaN of an empty cell, where no answer is degenerate or they were not counted.
    """
    return ONE_CHOICE in degenerate_counts(degenerate) or not above_floor(n_correct / n, n, chance)


def base_at_floor(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the base model of some runs is at the floor of a benchmark; False where it has no score.

    Parameters
    ----------
    rows
        The ledger's, of one model. A ledger of an earlier version has no counts of degenerate answers.
    benchmark
        One with questions.
    """
    return _is_at_floor(rows, benchmark, f"{benchmark}_base", f"{benchmark}_base_degenerate")


def is_base_flagged(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the base model's score is flagged; parameters as of :func:`base_at_floor`."""
    return base_at_floor(rows, benchmark) or _is_mostly_none(rows, benchmark, f"{benchmark}_base_degenerate")


def is_flagged(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the scores of some runs of an arm are flagged: by their mean, or by the answers of any of them.

    Parameters are as of :func:`base_at_floor`; the base model's own flag is :func:`is_base_flagged`.
    """
    cells = f"{benchmark}_degenerate"
    return _is_at_floor(rows, benchmark, benchmark, cells) or _is_mostly_none(rows, benchmark, cells)


def _is_at_floor(rows: pd.DataFrame, benchmark: str, score: str, cells: str) -> bool:
    share, n = rows[score].mean(), rows[f"{benchmark}_n"].max()
    if pd.isna(share) or pd.isna(n):
        return False
    counts = {"n": int(n), "n_correct": round(share * n), "chance": FACTS[benchmark].chance}
    one_choice = next((cell for cell in rows.get(cells, ()) if ONE_CHOICE in degenerate_counts(cell)), None)
    return at_floor(**counts, degenerate=one_choice)


def _is_mostly_none(rows: pd.DataFrame, benchmark: str, cells: str) -> bool:
    n = rows[f"{benchmark}_n"].max()
    degenerate = (sum(degenerate_counts(cell).values()) for cell in rows.get(cells, ()))
    return not pd.isna(n) and any(number > MAX_DEGENERATE_SHARE * n for number in degenerate)
