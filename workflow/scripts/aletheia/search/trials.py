"""Trials of a search as arms: every run that it could ever ask for, named and with whole settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.search.presets import RATE_MOVES
from aletheia.search.space import IN_PAPERS_SHAPE, STD, Recipe, Space

FLOOR, SCAN, FULL, PUSH, CONFIRM, SHORT = "floor", "scan", "full", "push", "confirm", "short"
# First letters of the arms' names. `short`: the confirmed recipe over fewer steps, for the slope of its loss.
LETTERS = {FLOOR: "n", SCAN: "s", FULL: "f", PUSH: "p", CONFIRM: "c", SHORT: "h"}
LARGEST_RATE = 1.0


@dataclass(frozen=True)
class Trial:
    """One run that a search may ask for.

    Attributes
    ----------
    rung
        One of :data:`LETTERS`.
    recipe, rate, seed
        What runs.
    arm_name
        :func:`trial_name`; the same for all seeds.
    arm_settings
        Keys of the arm: the recipe's, and ``learning_rate``. Steps are not among them.
    std_steps
        Steps that std has at this rung; an arm has as many as take the same seconds.
    """

    rung: str
    recipe: str
    rate: float
    seed: int
    arm_name: str
    arm_settings: Mapping[str, Any]
    std_steps: int


def trial_name(rung: str, recipe: str, rate: float) -> str:
    """Return the name of a trial's arm, such as ``s_last_half_r2em3``: a scan of ``last_half`` at 2e-3.

    Rates are told apart by six digits; ``m`` stands for the exponent's minus, ``p`` for the decimal point.
    """
    digits, exponent = f"{rate:.5e}".split("e")
    return f"{LETTERS[rung]}_{recipe}_r{digits.rstrip('0').rstrip('.').replace('.', 'p')}e{_signed(int(exponent))}"


def _signed(exponent: int) -> str:
    return f"m{-exponent}" if exponent < 0 else str(exponent)


def moved_rates(rates: Iterable[float], moves: Iterable[str]) -> list[float]:
    """Return the rates that moves of the rate lead to from any of ``rates``, none above 1."""
    found = {rate * RATE_MOVES[move] for rate in rates for move in moves if move in RATE_MOVES}
    return sorted(rate for rate in found if rate <= LARGEST_RATE)


def declared(space: Space) -> list[Trial]:
    """Return every trial that a search can ask for, rung by rung, each arm and seed once.

    - floor: std in the paper's shape and at its rate, over the floor's seeds;
    - scan and full: every recipe, standard ones too, at every rate;
    - push: every recipe at the rates of its moves, and every moved recipe at every rate;
    - confirm, over its seeds: every recipe that may win, moved ones too, as it is and in the paper's shape, and each
      standard one, at every rate that it may come with; short: those that may win as they are, over the scan's steps.
    """
    return list({(trial.arm_name, trial.seed): trial for trial in _declared(space)}.values())


def _declared(space: Space) -> Iterator[Trial]:
    near = moved_rates(space.rates, space.asked_moves)
    candidates = [space.recipe(name) for name in space.candidates]
    made = [each for each in space.moves.values() if isinstance(each, Recipe)]
    once, fresh = (space.search_seed,), space.confirm_seeds
    yield from _trials(FLOOR, space.stds[STD], [space.paper_rate], space.floor_seeds, space.steps_full)
    for rung, steps in ((SCAN, space.steps_scan), (FULL, space.steps_full)):
        for recipe in space.scanned.values():
            yield from _trials(rung, recipe, space.rates, once, steps)
    for recipes, rates in ((candidates, near), (made, space.rates)):
        for recipe in recipes:
            yield from _trials(PUSH, recipe, rates, once, space.steps_full)
    for recipe in space.stds.values():
        rates = [*space.rates, space.paper_rate] if recipe.name == STD else space.rates
        yield from _trials(CONFIRM, recipe, rates, fresh, space.steps_full)
    for recipes, rates in ((candidates, [*space.rates, *near]), (made, space.rates)):
        for recipe in recipes:
            yield from _trials(CONFIRM, recipe, rates, fresh, space.steps_full)
            yield from _trials(SHORT, recipe, rates, fresh, space.steps_scan)
            if recipe.shape and recipe.chooses:
                plain = space.recipe(recipe.name + IN_PAPERS_SHAPE)
                yield from _trials(CONFIRM, plain, space.rates, fresh, space.steps_full)


def _trials(rung: str, recipe: Recipe, rates: Iterable[float], seeds: Sequence[int], steps: int) -> Iterator[Trial]:
    for rate in rates:
        name, settings = trial_name(rung, recipe.name, rate), {**recipe.keys, "learning_rate": rate}
        for seed in seeds:
            yield Trial(rung, recipe.name, rate, seed, name, settings, steps)
