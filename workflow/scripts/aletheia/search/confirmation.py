"""The confirmation: a 2 × 2 factorial over new seeds and rows by which nothing was chosen.

Factor A is the winner's choice (its layers, modules, ranks) or all; factor B its shape (keys of training, the extras)
or the paper's. Effects are contrasts of one seed's four runs, so that what all runs of a seed share cancels, and are
tested by t over seeds (Montgomery, "Design and Analysis of Experiments", chapters 5 and 6: 2² designs, in blocks). Each
contrast has a t of its own, since its variance over seeds need not be that of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from aletheia.inference.multiplicity import holm
from aletheia.search.space import IN_PAPERS_SHAPE, STD, Space
from aletheia.search.trials import CONFIRM, SHORT

LEVEL = 0.95
# Cells by what they have of the winner.
PLAIN, SHAPE_ALONE, CHOICE_ALONE, BOTH = "std", "shape alone", "choice alone", "winner"
CELLS = (PLAIN, SHAPE_ALONE, CHOICE_ALONE, BOTH)
# What is run beside them, for the ratios of seconds.
PAPER, SHORTER = "std at the paper's rate", "winner, shorter"
Losses = Mapping[int, float | None]


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
    """Return what is run to confirm a recipe. Two cells may name one arm, whose runs then count in both.

    A recipe that chooses nothing, or has the paper's shape, leaves no factorial: its choice alone is not run. Elsewhere
    that has not been tuned by the search. Its rate is the one that is best where choice and shape move the best rate
    independently, rate × (std's) / (that of std in the winner's shape), at the nearest rate of the space.

    Parameters
    ----------
    recipe, rate
        What the search ended with.
    std_rates
        Best rates of the recipes that choose nothing, by name (:func:`aletheia.search.promotion.tuned_rates`).

    Raises
    ------
    ValueError
        Where the rate of a standard recipe that is needed is missing.
    """
    chosen = space.recipe(recipe)
    rates = {**std_rates, recipe: rate} if chosen.std == recipe else std_rates
    missing = sorted({STD, chosen.std} - set(rates))
    if missing:
        raise ValueError(f"expected the best rate of {', '.join(missing)}, found none")
    cells = [
        Cell(PLAIN, CONFIRM, STD, rates[STD], "its own best one"),
        Cell(SHAPE_ALONE, CONFIRM, chosen.std, rates[chosen.std], "its own best one"),
        Cell(BOTH, CONFIRM, recipe, rate, "its own best one"),
        Cell(PAPER, CONFIRM, STD, space.paper_rate, "the campaign's"),
        Cell(SHORTER, SHORT, recipe, rate, "as of its full runs"),
    ]
    if chosen.chooses and chosen.shape:
        wanted = rate * rates[STD] / rates[chosen.std]
        near = min(space.rates, key=lambda each: (abs(math.log(each / wanted)), each))
        why = f"the winner's × std's / that of {chosen.std} is {wanted:g}; the nearest one of the space"
        cells.append(Cell(CHOICE_ALONE, CONFIRM, recipe + IN_PAPERS_SHAPE, near, why))
    return cells


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
        Mean, its standard error, 95 % t-interval; None where there are too few seeds for them.
    p, p_holm
        Two-sided, None without scatter; the latter among A, B and AB alone.
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
        Seeds with a run of every cell.
    lost
        Runs that failed, by cell.
    means
        Mean loss of each cell over its seeds that have one; None where none has.
    choice, shape, interaction
        Montgomery's effects A, B and AB, each half of a contrast of two differences; None where a cell was not run.
    simple
        Plain differences: the winner against std, then the choice within each shape and the shape within each choice.
    """

    n: int
    lost: Mapping[str, int]
    means: Mapping[str, float | None]
    choice: Effect | None
    shape: Effect | None
    interaction: Effect | None
    simple: list[Effect]


def paired_effect(name: str, differences: Mapping[int, float]) -> Effect:
    """Return the mean over seeds of each seed's own difference, with its t-interval and test.

    Parameters
    ----------
    differences
        ``{seed: difference}`` of the seeds that have one.
    """
    d = np.fromiter(differences.values(), dtype=float)
    n = len(d)
    if n < 2:
        return Effect(name, n, float(d[0]) if n else None, None, None, None, None)
    value, se = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2)) * se
    p = 2 * float(special.stdtr(n - 1, -abs(value) / se)) if se else None
    return Effect(name, n, value, se, value - half, value + half, p)


def contrast(name: str, cells: Mapping[str, Losses], weights: Mapping[str, float]) -> Effect:
    """Return a weighted sum of cells, seed by seed, over the seeds that have a loss in each of them."""
    first = next(iter(weights))
    whole = [seed for seed in cells[first] if all(cells[cell].get(seed) is not None for cell in weights)]
    return paired_effect(name, {s: sum(weight * cells[cell][s] for cell, weight in weights.items()) for s in whole})


def factorial(cells: Mapping[str, Losses]) -> Factorial:
    """Return the effects of the factorial.

    Parameters
    ----------
    cells
        ``{cell: {seed: loss}}`` of :data:`CELLS`, ``std`` and ``winner`` at the least; None for a run that failed.
    """
    simple = [contrast("the winner against std", cells, {BOTH: 1, PLAIN: -1})]
    main: list[Effect] | list[None] = [None, None, None]
    if set(CELLS) <= set(cells):
        simple += [
            contrast("the choice in the paper's shape", cells, {CHOICE_ALONE: 1, PLAIN: -1}),
            contrast("the choice in the winner's shape", cells, {BOTH: 1, SHAPE_ALONE: -1}),
            contrast("the shape of all layers", cells, {SHAPE_ALONE: 1, PLAIN: -1}),
            contrast("the shape of the winner's choice", cells, {BOTH: 1, CHOICE_ALONE: -1}),
        ]
        signs = {"choice (A)": (-1, -1, 1, 1), "shape (B)": (-1, 1, -1, 1), "interaction (AB)": (1, -1, -1, 1)}
        plain = [
            contrast(name, cells, {cell: each / 2 for cell, each in zip(CELLS, sign, strict=True)})
            for name, sign in signs.items()
        ]
        adjusted = holm([each.p for each in plain])
        main = [replace(each, p_holm=p) for each, p in zip(plain, adjusted, strict=True)]
    run = [cell for cell in CELLS if cell in cells]
    found = {cell: [loss for loss in cells[cell].values() if loss is not None] for cell in run}
    return Factorial(
        n=sum(all(cells[cell].get(seed) is not None for cell in run) for seed in cells[PLAIN]),
        lost={cell: len(cells[cell]) - len(found[cell]) for cell in run},
        means={cell: float(np.mean(losses)) if losses else None for cell, losses in found.items()},
        choice=main[0],
        shape=main[1],
        interaction=main[2],
        simple=simple,
    )
