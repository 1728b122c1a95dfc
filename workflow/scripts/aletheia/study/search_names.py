"""Names of what a search has beside its trials: the arms by which its recipes are timed in turns with std."""

from __future__ import annotations

_TIMED = "t_"


def timed_name(recipe: str) -> str:
    """Return the name of the arm by which a recipe is timed; no trial's name begins so."""
    return _TIMED + recipe


def timed_recipe(arm: str) -> str:
    """Return the recipe that an arm of :func:`timed_name` times."""
    return arm.removeprefix(_TIMED)
