"""Recipes that are known by name, and the moves that lead from a recipe to its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATE_MOVES = {"rate x2": 2.0, "rate /2": 0.5}
RANK_MOVES = {"rank x2": 2.0, "rank /2": 0.5}
LAYER_MOVES = {"more layers": 1.5, "fewer layers": 1 / 1.5}
MOVES = (*RATE_MOVES, *RANK_MOVES, *LAYER_MOVES)
LARGEST_RANK = 1024

PRESETS: dict[str, dict[str, Any]] = {}


def preset(name: str, adapter: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the arm that a preset stands for.

    Parameters
    ----------
    name
        One of :data:`PRESETS`.
    adapter
        The campaign's section ``adapter``, whose rank ``std_half_rank`` halves.
    """
    raise NotImplementedError


def moved(keys: Mapping[str, Any], move: str, adapter: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the keys of a recipe after a move of its rank or layers; words why it cannot make this move.

    Ranks and alphas change together, so that alpha / rank, and with it the step that a rate stands for, stays.
    """
    raise NotImplementedError
