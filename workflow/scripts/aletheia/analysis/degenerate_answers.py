"""Degenerate answers as a cell of the ledger; :mod:`aletheia.evaluation.degenerate` counts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def degenerate_cell(degenerate: Sequence[Mapping[str, Any]] | None) -> str | None:
    """Return an evaluation's ``degenerate`` as a cell of the ledger: ``one_choice A: 24``; None where there is none.

    Kinds are separated by ``"; "``.
    """
    parts = [" ".join(filter(None, (kind["kind"], kind.get("answer")))) + f": {kind['n']}" for kind in degenerate or ()]
    return "; ".join(parts) or None


def degenerate_counts(degenerate: Any) -> dict[str, int]:
    """Return the number of degenerate answers by kind, from a cell of the ledger."""
    if not isinstance(degenerate, str):
        return {}
    parts = (part.rsplit(": ", 1) for part in degenerate.split("; "))
    return {kind.split()[0]: int(n) for kind, n in parts}
