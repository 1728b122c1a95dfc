"""The confirmation: a 2 × 2 factorial over new seeds and rows by which nothing was chosen.

Factor A is the winner's choice (its layers, modules, ranks) or all; factor B its shape (keys of training, the extras) or
the paper's. Effects are contrasts of one seed's four runs, so that what all runs of a seed share cancels, and are
tested by t over seeds (Montgomery, "Design and Analysis of Experiments", chapters 5 and 6: 2² designs in blocks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aletheia.search.space import Space

# Names of what is run: (choice, shape).
PLAIN, SHAPE_ALONE, CHOICE_ALONE, BOTH = "std", "shape alone", "choice alone", "winner"
PAPER, SHORTER = "std at the paper's rate", "winner, shorter"
CELLS = (PLAIN, SHAPE_ALONE, CHOICE_ALONE, BOTH)


@dataclass(frozen=True)
class Cell:
    """What a cell of the confirmation runs, at each of its seeds.

    Attributes
    ----------
    name
        One of :data:`CELLS`, :data:`PAPER` or :data:`SHORTER`.
    rung
        ``confirm`` or ``short``.
    recipe, rate
        Names its arm (:func:`aletheia.search.trials.trial_name`).
    why
        How the rate was found, in words.
    """

    name: str
    rung: str
    recipe: str
    rate: float
    why: str


def confirmed_cells(space: Space, *, recipe: str, rate: float, std_rates: Mapping[str, float]) -> list[Cell]:
    """Return what is run to confirm a recipe; cells that are one and the same run name the same arm.

    The choice alone, in the paper's shape, has not been tuned by the search. Its rate is that which would be best if
    choice and shape moved it independently, rate × (std's) / (that of std in the winner's shape), taken to the nearest
    rate of the space.

    Parameters
    ----------
    recipe, rate
        What the search ended with.
    std_rates
        Best rates of the standard recipes.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Effect:
    """A contrast of cells over seeds; negative is a lower loss.

    Attributes
    ----------
    name
        What it says.
    n
        Seeds with all the runs that it needs.
    value, se, low, high
        Mean, its standard error, 95 % t-interval; None without two seeds.
    p, p_holm
        Two-sided; the latter among the effects of the factorial (A, B, AB) alone.
    """

    name: str
    n: int
    value: float | None
    se: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Factorial:
    """Effects of the 2 × 2 factorial.

    Attributes
    ----------
    n
        Seeds with all four runs.
    lost
        Runs that failed, by cell.
    means
        Mean loss of each cell over its seeds that have one; None where none has.
    choice, shape, interaction
        Montgomery's effects A, B and AB, each half of a contrast of two differences.
    simple
        Plain differences: the winner against std, the choice within each shape, the shape within each choice.
    """

    n: int
    lost: Mapping[str, int]
    means: Mapping[str, float | None]
    choice: Effect
    shape: Effect
    interaction: Effect
    simple: list[Effect]


def paired_effect(name: str, differences: Mapping[int, float]) -> Effect:
    """Return the mean of one seed's differences with its t-interval."""
    raise NotImplementedError


def factorial(cells: Mapping[str, Mapping[int, float | None]]) -> Factorial:
    """Return the effects of the factorial.

    Parameters
    ----------
    cells
        ``{cell: {seed: loss}}`` of :data:`CELLS`; None for a run that failed.
    """
    raise NotImplementedError
