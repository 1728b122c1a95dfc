"""Names of what a search has beside its trials: the arms by which its recipes are timed in turns with std."""

from __future__ import annotations

_TIMED, _TIMED_AGAIN = "t_", "ta_"


def timed_name(recipe: str, *, again: bool = False) -> str:
    """Return the name of the arm by which a recipe is timed; no trial's name begins so.

    Parameters
    ----------
    recipe
        Which one.
    again
        For its confirmation, which rests on a measurement of its own.
    """
    return (_TIMED_AGAIN if again else _TIMED) + recipe


def timed_recipe(arm: str) -> str:
    """Return the recipe that an arm of :func:`timed_name` times."""
    return arm.split("_", maxsplit=1)[1]
