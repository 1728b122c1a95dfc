"""The space of a recipe search: recipes, rates, seeds and bounds, as a campaign's section ``search`` states them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError

STD = "std"  # all layers and modules in the paper's shape: the campaign's own settings
STD_EXTRAS = "std_extras"  # the same with the section's extras
# Set apart within a recipe's name: what follows was made from the recipe before it.
MADE = "__"
IN_PAPERS_SHAPE = f"{MADE}paper"
# say(*keys, sentence) returns the error about a mistake; the keys lead to its place below `search`.
MakeError = Callable[..., UserError]


@dataclass(frozen=True)
class Recipe:
    """What a candidate states over its campaign.

    Attributes
    ----------
    name
        Its own; that of a moved one is its recipe's with the move, that of a recipe in the paper's shape ends in
        :data:`IN_PAPERS_SHAPE`.
    choice
        Keys of its layers and adapters; ``layers`` is always among them.
    shape
        Keys of training that it states, the section's extras among them; empty in the paper's shape.
    std
        Name of the standard recipe of the same shape: what is left when the choice is taken back.
    """

    name: str
    choice: Mapping[str, Any]
    shape: Mapping[str, Any]
    std: str

    @property
    def keys(self) -> dict[str, Any]:
        """All keys, as of an arm."""
        return {**self.choice, **self.shape}


@dataclass(frozen=True)
class Space:
    """A checked section ``search``.

    Attributes
    ----------
    recipes
        Candidates by name, as declared.
    stds
        Standard recipes by name: ``std``, ``std_extras`` where there are extras, and one for each other shape that a
        recipe states; all are tuned as candidates are.
    moves
        Recipes that a push can lead to, by the recipe's name and the move: the moved recipe, or why there is none.
        Moves of the rate are not among them.
    rates
        Rising.
    paper_rate
        The campaign's own rate.
    steps_scan, steps_full
        Of ``std``; other recipes have as many as take the same seconds.
    floor_seeds, search_seed, confirm_seeds
        Their runs.
    keep, margin, objective, retention_bound, budget_runs, budget_seconds
        As the section states them; of the two budgets one is None.
    asked_moves
        The moves that the section allows.
    """

    recipes: Mapping[str, Recipe]
    stds: Mapping[str, Recipe]
    moves: Mapping[tuple[str, str], Recipe | str]
    rates: tuple[float, ...]
    paper_rate: float
    steps_scan: int
    steps_full: int
    floor_seeds: tuple[int, ...]
    search_seed: int
    confirm_seeds: tuple[int, ...]
    keep: int
    margin: float
    objective: str
    retention_bound: float | None
    budget_runs: int | None
    budget_seconds: float | None
    asked_moves: tuple[str, ...]


def read_space(
    section: Mapping[str, Any],
    *,
    settings: Mapping[str, Mapping[str, Any]],
    legal_keys: Collection[str],
    say: MakeError,
) -> Space:
    """Return the space that a section ``search`` declares.

    A recipe has the section's extras under its own keys, unless it states ``extras: false``; the presets
    ``accumulation_1`` and ``linear`` are std in the paper's shape with that one extra.

    Parameters
    ----------
    section
        With its defaults.
    settings
        ``{"adapter": …, "training": …}`` of the campaign, with defaults.
    legal_keys
        What an arm may state (``$defs/recipe`` of the campaign's schema).
    say
        Makes the error: ``say(*keys, sentence)``.

    Raises
    ------
    UserError
        For fewer than two recipes, an unknown preset or move, a key that no arm may state, a recipe that states a rate
        or steps, two recipes that are equal or equal to a standard one, fewer than two rates, rates that do not rise,
        a scan as long as full runs, seeds that overlap, fewer than three seeds of the floor or of the confirmation,
        and a budget that is used up before the first full runs.
    """
    raise NotImplementedError
