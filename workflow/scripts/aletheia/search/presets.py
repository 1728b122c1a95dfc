"""Recipes that are known by name, and the moves that lead from a recipe to its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATE_MOVES = {"rate x2": 2.0, "rate /2": 0.5}
RANK_MOVES = {"rank x2": 2.0, "rank /2": 0.5}
LAYER_MOVES = {"more layers": 1.5, "fewer layers": 1 / 1.5}
MOVES = (*RATE_MOVES, *RANK_MOVES, *LAYER_MOVES)
LARGEST_RANK = 1024  # as the schema of campaigns has it
SHARES = ("budget_percent", "time_percent")  # keys of an arm that say how many layers it adapts
USUAL_SHARE = 50.0  # an arm's where it states none

ALL = {"layers": "all"}
# A third is 33.4 percent, since an arm rounds down.
PRESETS: dict[str, dict[str, Any]] = {
    "last_half": {"layers": "last", "budget_percent": 50},
    "last_third": {"layers": "last", "budget_percent": 33.4},
    "last_quarter": {"layers": "last", "budget_percent": 25},
    "gradient_half": {"layers": "gradient", "budget_percent": 50},
    "gradient_third": {"layers": "gradient", "budget_percent": 33.4},
    "v_o_down": {**ALL, "modules": ["v_proj", "o_proj", "down_proj"]},
    "attention": {**ALL, "modules": "attention"},
    "mlp": {**ALL, "modules": "mlp"},
    "std_half_rank": ALL,
    "accumulation_1": {**ALL, "accumulation": 1, "extras": False},
    "linear": {**ALL, "schedule": "linear", "extras": False},
}


def preset(name: str, adapter: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the keys of the recipe that a preset stands for; words where the campaign has no such recipe.

    Parameters
    ----------
    name
        One of :data:`PRESETS`.
    adapter
        The campaign's section ``adapter``, whose rank ``std_half_rank`` halves.
    """
    keys = dict(PRESETS[name])
    return moved(keys, "rank /2", adapter) if name == "std_half_rank" else keys


def moved(keys: Mapping[str, Any], move: str, adapter: Mapping[str, Any]) -> dict[str, Any] | str:
    """Return the keys of a recipe after a move of its rank or layers; words why it cannot make this move.

    Ranks and alphas change together, so that alpha / rank, and with it the step that a rate stands for, stays.

    Parameters
    ----------
    keys
        Of the recipe.
    move
        One of :data:`RANK_MOVES` and :data:`LAYER_MOVES`.
    adapter
        The campaign's section ``adapter``, where the recipe states no rank or alpha of its own.
    """
    if move in LAYER_MOVES:
        return _more_layers(keys, LAYER_MOVES[move])
    changed = {}
    for key in ("rank", "alpha"):
        value = _times(keys.get(key, adapter[key]), RANK_MOVES[move])
        if value is None:
            return f"{key} {keys.get(key, adapter[key])} has no whole number from 1 to {LARGEST_RANK} there"
        changed[key] = value
    return {**keys, **changed}


def _times(value: Mapping[str, int] | int, factor: float) -> dict[str, int] | int | None:
    """Return a rank or alpha, or those by kind of module, times a factor; None where one of them is then none."""
    numbers = dict(value) if isinstance(value, Mapping) else {"": value}
    changed = {kind: number * factor for kind, number in numbers.items()}
    if any(number != int(number) or not 1 <= number <= LARGEST_RANK for number in changed.values()):
        return None
    whole = {kind: int(number) for kind, number in changed.items()}
    return whole if isinstance(value, Mapping) else whole[""]


def _more_layers(keys: Mapping[str, Any], factor: float) -> dict[str, Any] | str:
    layers = keys["layers"]
    if layers == "all":
        return "all layers are adapted: none can be added, and which to leave out no rule says"
    if not isinstance(layers, str):
        return "its layers are a list, which has no share to change"
    key = next((key for key in SHARES if key in keys), SHARES[0])
    share = round(keys.get(key, USUAL_SHARE) * factor, 1)
    if not 1 <= share < 100:
        return f"{key} would be {share:g}"
    return {**keys, key: share}
