"""The space of a recipe search: recipes, rates, seeds and bounds, as a campaign's section ``search`` states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STD = "std"  # all layers and modules in the paper's shape: the campaign's own settings
STD_EXTRAS = "std_extras"  # the same with the section's extras
# Set apart within a recipe's name: what follows was made from the recipe before it.
MADE = "__"
IN_PAPERS_SHAPE = f"{MADE}paper"
LOSS, SECONDS = "loss_at_equal_time", "seconds_to_std_loss"  # objectives


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
        Name of the recipe of the same shape that chooses nothing: what is left when the choice is taken back.
    """

    name: str
    choice: Mapping[str, Any]
    shape: Mapping[str, Any]
    std: str

    @property
    def keys(self) -> dict[str, Any]:
        """All keys, as of an arm."""
        return {**self.choice, **self.shape}

    @property
    def chooses(self) -> bool:
        """Whether it is more than std in another shape."""
        return dict(self.choice) != {"layers": "all"}


@dataclass(frozen=True)
class Space:
    """A checked section ``search`` (:func:`aletheia.search.section.read_space`).

    Attributes
    ----------
    recipes
        Candidates by name, as declared.
    stds
        Standard recipes by name: ``std``, ``std_extras`` where there are extras, and what each candidate's choice is
        held against in its own shape. All are tuned as candidates are, and go on whatever comes.
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

    @property
    def scanned(self) -> dict[str, Recipe]:
        """Every recipe that is scanned: standard ones first, then candidates."""
        return {**self.stds, **self.recipes}

    @property
    def candidates(self) -> list[str]:
        """Names of all that may win: every scanned recipe but ``std``."""
        return [name for name in self.scanned if name != STD]

    def recipe(self, name: str) -> Recipe:
        """Return a recipe by name, be it scanned, moved, or one of these in the paper's shape."""
        if name.endswith(IN_PAPERS_SHAPE):
            with_shape = self.recipe(name.removesuffix(IN_PAPERS_SHAPE))
            return Recipe(name, with_shape.choice, {}, STD)
        known = self.scanned | {each.name: each for each in self.moves.values() if isinstance(each, Recipe)}
        return known[name]
