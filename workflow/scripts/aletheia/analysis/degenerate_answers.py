"""Degenerate answers as a cell of the ledger.

What is counted stands in :mod:`aletheia.evaluation.degenerate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def degenerate_cell(degenerate: Sequence[Mapping[str, Any]] | None) -> str | None:
    """Return an evaluation's ``degenerate`` as a cell of the ledger: ``one_choice A: 24``; None where nothing is.

    Several kinds are parted by ``"; "``.
    """
    parts = [" ".join(filter(None, (one["kind"], one.get("answer")))) + f": {one['n']}" for one in degenerate or ()]
    return "; ".join(parts) or None


def degenerate_counts(degenerate: Any) -> dict[str, int]:
    """Return how many answers are degenerate, by kind, of a cell of the ledger."""
    if not isinstance(degenerate, str):
        return {}
    parts = (part.rsplit(": ", 1) for part in degenerate.split("; "))
    return {kind.split()[0]: int(n) for kind, n in parts}
