"""Which scores say nothing: those that guessing reaches too, and those of a model that answers without reading.

A score is flagged where it is at the floor, or where most of its answers are none.

How degenerate answers are counted stands in :mod:`aletheia.evaluation.degenerate`.
"""

from __future__ import annotations

import pandas as pd

from aletheia.analysis.benchmarks import SAID
from aletheia.analysis.degenerate_answers import degenerate_counts
from aletheia.analysis.stats import above_floor

ONE_CHOICE = "one_choice"
# More than this share of the answers must be empty, or no programs, before a score is flagged for it; chosen by hand. A
# few such answers are wrong ones like others.
MOSTLY = 0.5


def at_floor(*, n: int, n_correct: int, chance: float, degenerate: str | None = None) -> bool:
    """Tell whether a score is no better than guessing, or is none: then there is nothing to forget.

    A model that says one choice whatever is asked is at the floor whatever that choice scores; other answers are where
    :func:`aletheia.analysis.stats.above_floor` does not find them above it.

    Parameters
    ----------
    n, n_correct
        Questions, and how many were answered correctly.
    chance
        What guessing reaches: 1/4 for four choices, 0 for generated answers.
    degenerate
        The ledger's cell; None, or the NaN of an empty cell, where no answer is degenerate or none was looked for.
    """
    return ONE_CHOICE in degenerate_counts(degenerate) or not above_floor(n_correct / n, n, chance)


def base_at_floor(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the base model of some runs is at the floor of a benchmark; False where it has no score.

    Parameters
    ----------
    rows
        The ledger's, of one model. A ledger of an earlier version does not say which answers are degenerate.
    benchmark
        One with questions.
    """
    return _is_at_floor(rows, benchmark, f"{benchmark}_base", f"{benchmark}_base_degenerate")


def is_base_flagged(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the base model's score is flagged; parameters as of :func:`base_at_floor`."""
    return base_at_floor(rows, benchmark) or _is_mostly_none(rows, benchmark, f"{benchmark}_base_degenerate")


def is_flagged(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether what some runs of an arm score is flagged: by their mean, or by the answers of any of them.

    Parameters are as of :func:`base_at_floor`; the base model's own flag is :func:`is_base_flagged`.
    """
    cells = f"{benchmark}_degenerate"
    return _is_at_floor(rows, benchmark, benchmark, cells) or _is_mostly_none(rows, benchmark, cells)


def _is_at_floor(rows: pd.DataFrame, benchmark: str, score: str, cells: str) -> bool:
    share, n = rows[score].mean(), rows[f"{benchmark}_n"].max()
    if pd.isna(share) or pd.isna(n):
        return False
    asked = {"n": int(n), "n_correct": round(share * n), "chance": SAID[benchmark].chance}
    one_choice = next((cell for cell in rows.get(cells, ()) if ONE_CHOICE in degenerate_counts(cell)), None)
    return at_floor(**asked, degenerate=one_choice)


def _is_mostly_none(rows: pd.DataFrame, benchmark: str, cells: str) -> bool:
    n = rows[f"{benchmark}_n"].max()
    return not pd.isna(n) and any(sum(degenerate_counts(cell).values()) > MOSTLY * n for cell in rows.get(cells, ()))
