"""Which scores say nothing: those that guessing reaches too, and those of a model that answers without reading.

How degenerate answers are counted stands in :mod:`aletheia.evaluation.degenerate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.analysis.stats import above_floor

ONE_CHOICE = "one_choice"


def degenerate_cell(degenerate: Sequence[Mapping[str, Any]] | None) -> str | None:
    """Return an evaluation's ``degenerate`` as a cell of the ledger: ``one_choice A: 24``; None where nothing is.

    Several kinds are parted by ``"; "``.
    """
    parts = [" ".join(filter(None, (one["kind"], one.get("answer")))) + f": {one['n']}" for one in degenerate or ()]
    return "; ".join(parts) or None


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
    if isinstance(degenerate, str) and any(part.startswith(ONE_CHOICE) for part in degenerate.split("; ")):
        return True
    return not above_floor(n_correct / n, n, chance)
