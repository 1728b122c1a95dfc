"""Whole recipe searches over losses that are drawn, with gaps that are known, in place of training.

Every decision is the library's; what a run ends at is drawn: the recipe's own loss at its rate and length, what all
runs of a seed share, and the run's own noise. Losses are lines over the logarithm of the seconds, unless ``bend`` says
how they curve.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from aletheia.search.confirmation import CELLS, Cell, confirmed_cells
from aletheia.search.decision import Candidate, Decision, decide, no_winner
from aletheia.search.equal_time import Cost, equal_steps, step_cost
from aletheia.search.noise_floor import noise_floor
from aletheia.search.promotion import (
    Promotion,
    full_decision,
    push_decision,
    scan_decision,
    tuned_rates,
)
from aletheia.search.push import push_moves
from aletheia.search.results import Result, losses_by_seed
from aletheia.search.space import MADE, STD, Space
from aletheia.search.time_to_loss import Ratio, Times, fall_of_a_doubling, standard_ratios
from aletheia.search.trials import CONFIRM, FLOOR, FULL, PUSH, SCAN, SHORT, trial_name

ROUNDS = 8  # of step costs, in turns


def root(name: str) -> str:
    """Return the recipe that another was made from, by a move or as it is in the paper's shape."""
    return name.split(MADE, maxsplit=1)[0]


@dataclass(frozen=True)
class World:
    """What is true.

    Attributes
    ----------
    gaps
        Loss of a recipe's choice less that of all layers, at equal seconds, full length and each one's best rate.
    shape_gain
        By how much a shape other than the paper's lowers the loss.
    sd, shared_sd
        Of a run's own noise, and of what all runs of a seed share.
    slope
        Fall of the loss for each doubling of the seconds.
    bend
        By how much that fall shrinks from one doubling to the next; 0 is a line.
    best_rate, curvature
        Of every recipe: the rate that is best, and the loss at twice or half of it over that at it.
    costs
        Seconds of a step over std's; 1 where not named.
    cost_sd
        SD of log2 of one round's ratio of seconds.
    measured_again
        Whether the costs of what is confirmed are measured once more after it was chosen.
    learn_nothing, diverge
        Recipes that stay at the base model's loss, and those whose runs end without a loss.
    failures
        Share of all other recipes' runs that end without a loss.
    """

    gaps: Mapping[str, float] = field(default_factory=dict)
    shape_gain: float = 0.0
    sd: float = 0.004
    shared_sd: float = 0.003
    slope: float = 0.08
    bend: float = 0.0
    best_rate: float = 2e-3
    curvature: float = 0.02
    costs: Mapping[str, float] = field(default_factory=dict)
    cost_sd: float = 0.02
    measured_again: bool = True
    learn_nothing: Sequence[str] = ()
    diverge: Sequence[str] = ()
    failures: float = 0.0
    base_loss: float = 1.6
    std_loss: float = 1.2

    @property
    def delta(self) -> float:
        """The indifference zone that the true noise would give, without a margin."""
        return 2 * math.sqrt(2) * math.hypot(self.sd, self.shared_sd)

    def loss(self, name: str, rate: float, doublings: float, *, shaped: bool) -> float:
        """Return the true loss of a recipe ``doublings`` of seconds beyond std's full run."""
        if root(name) in self.learn_nothing:
            return self.base_loss
        fall = self.slope * doublings - self.bend * doublings**2 / 2
        away = self.curvature * math.log2(rate / self.best_rate) ** 2
        return self.std_loss + self.gaps.get(root(name), 0.0) - (self.shape_gain if shaped else 0.0) + away - fall


@dataclass(frozen=True)
class Outcome:
    """One search, with what is true of it.

    Attributes
    ----------
    decision
        Its end.
    lost
        True loss of what it recommends (std where nothing) less that of the best recipe, at their best rates.
    scan_error, confirmed_error
        Estimate less truth, of the winner of the scan by the scan, and of what is confirmed by the confirmation; None
        without one.
    ratios, true_ratios
        By ``a``, ``b``, ``c``.
    rungs
        The promotions, by rung.
    runs
        Of the cells of the confirmation, by cell.
    """

    decision: Decision
    lost: float
    scan_error: float | None
    confirmed_error: float | None
    ratios: Mapping[str, Ratio]
    true_ratios: Mapping[str, float]
    rungs: Mapping[str, Promotion]
    runs: Mapping[str, Sequence[Result]]


class Search:
    """One search in one world."""

    def __init__(self, world: World, space: Space, rng: np.random.Generator) -> None:
        self.world, self.space, self.rng = world, space, rng
        self.shared: dict[int, float] = {}
        self.costs: dict[str, Cost] = {}
        self.later_costs: dict[str, Cost] = {}
        self.shapes: dict[str, bool] = {}

    def shaped(self, name: str) -> bool:
        """Return whether a recipe has another shape than the paper's."""
        if name not in self.shapes:
            self.shapes[name] = bool(self.space.recipe(name).shape)
        return self.shapes[name]

    def true_cost(self, name: str) -> float:
        return self.world.costs.get(root(name), 1.0)

    def cost(self, name: str) -> Cost:
        """Return the cost of a step as measured before the scan; std's own is 1 by definition."""
        return self.measured(name, self.costs)

    def cost_at(self, rung: str, name: str) -> Cost:
        """Return the cost that says how many steps a run has."""
        return self.confirmed_cost(name) if rung in (CONFIRM, SHORT) else self.cost(name)

    def confirmed_cost(self, name: str) -> Cost:
        """Return the cost by which the confirmation is run and judged."""
        return self.measured(name, self.later_costs if self.world.measured_again else self.costs)

    def measured(self, name: str, costs: dict[str, Cost]) -> Cost:
        if name not in costs:
            noise = self.rng.normal(0, self.world.cost_sd, ROUNDS) * (name != STD)
            costs[name] = step_cost(self.true_cost(name) * 2**noise, np.ones(ROUNDS))
        return costs[name]

    def steps(self, rung: str, name: str) -> int:
        std_steps = self.space.steps_scan if rung in (SCAN, SHORT) else self.space.steps_full
        return equal_steps(std_steps, self.cost_at(rung, name).value)

    def truth(self, rung: str, name: str, rate: float) -> float:
        seconds = self.steps(rung, name) * self.true_cost(name)
        doublings = math.log2(seconds / self.space.steps_full)
        return self.world.loss(name, rate, doublings, shaped=self.shaped(name))

    def run(self, rung: str, name: str, rate: float, seed: int) -> Result:
        """Draw a run."""
        arm, steps = trial_name(rung, name, rate), self.steps(rung, name)
        unlucky = name != STD and self.rng.random() < self.world.failures
        if unlucky or root(name) in self.world.diverge:
            return Result(arm=arm, recipe=name, rate=rate, seed=seed, status="diverged", loss=math.nan, steps=steps)
        if seed not in self.shared:
            self.shared[seed] = self.rng.normal(0, self.world.shared_sd)
        learnt = root(name) not in self.world.learn_nothing
        noise = (self.shared[seed] + self.rng.normal(0, self.world.sd)) * learnt
        loss = self.truth(rung, name, rate) + noise
        seconds = steps * self.cost_at(rung, name).value
        return Result(arm=arm, recipe=name, rate=rate, seed=seed, loss=loss, seconds=seconds, steps=steps)

    def search(self) -> tuple[dict[str, Promotion], dict[str, float]]:
        """Return the promotions rung by rung, and the best rates of standard recipes."""
        space, once = self.space, self.space.search_seed
        floor = losses_by_seed([self.run(FLOOR, STD, space.paper_rate, seed) for seed in space.floor_seeds])
        delta = noise_floor(floor, margin=space.margin).delta
        base = self.world.base_loss
        scan = [self.run(SCAN, name, rate, once) for name in space.scanned for rate in space.rates]
        rungs = {SCAN: scan_decision(scan, space, delta=delta, base_loss=base)}
        full = [self.run(FULL, name, rate, once) for name, rate in rungs[SCAN].asked]
        rungs[FULL] = full_decision(full, space, delta=delta, base_loss=base, scan=scan)
        if rungs[FULL].leader:
            ran = {each.recipe: [other.rate for other in full if other.recipe == each.recipe] for each in full}
            moves = [each for each in push_moves(rungs[FULL].leader, space, ran) if each.reason is None]
            pushed = [self.run(PUSH, each.recipe, each.rate, once) for each in moves]
            rungs[PUSH] = push_decision(pushed, rungs[FULL], space, base_loss=base)
        return rungs, tuned_rates(full, scan, space)

    def whole(self) -> Outcome:
        """Return what one search comes to."""
        rungs, std_rates = self.search()
        first = rungs[SCAN].leader
        scan_error = first.loss - self.truth(SCAN, first.recipe, first.rate) if first else None
        chosen = rungs[PUSH].leader if PUSH in rungs else None
        if chosen is None:
            decision = no_winner("no recipe's run ended well", delta=rungs[SCAN].delta)
            return Outcome(decision, self.lost(None), scan_error, None, {}, {}, rungs, {})
        cells = confirmed_cells(self.space, recipe=chosen.recipe, rate=chosen.rate, std_rates=std_rates)
        ran: dict[tuple[str, str, float], list[Result]] = {}
        for cell in cells:
            key = (cell.rung, cell.recipe, cell.rate)
            if key not in ran:
                ran[key] = [self.run(*key, seed) for seed in self.space.confirm_seeds]
        runs = {cell.name: ran[cell.rung, cell.recipe, cell.rate] for cell in cells}
        losses = {name: losses_by_seed(each) for name, each in runs.items()}
        by_name = {cell.name: cell for cell in cells}
        candidates = {
            name: Candidate(
                losses[name],
                self.steps(CONFIRM, cell.recipe) * self.confirmed_cost(cell.recipe).value,
                log2_se=self.confirmed_cost(cell.recipe).log2_se * (cell.recipe != STD),
                df=ROUNDS - 1,
            )
            for name, cell in by_name.items()
            if name in CELLS
        }
        doublings = math.log2(self.steps(CONFIRM, chosen.recipe) / self.steps(SHORT, chosen.recipe))
        slope = fall_of_a_doubling(losses["winner"], losses["winner, shorter"], doublings=doublings)
        decision = decide(candidates, delta=rungs[SCAN].delta, slope=slope)
        found = [loss for loss in losses["winner"].values() if loss is not None]
        error = float(np.mean(found)) - self.truth(CONFIRM, chosen.recipe, chosen.rate) if found else None
        winner = by_name[decision.winner] if decision.winner else None
        return Outcome(decision, self.lost(winner), scan_error, error, *self.ratios(by_name, losses), rungs, runs)

    def lost(self, winner: Cell | None) -> float:
        """Return by how much what is recommended misses the best recipe, at the best rate of each."""

        def true(name: str) -> float:
            return self.world.loss(name, self.world.best_rate, 0.0, shaped=self.shaped(name))

        return true(winner.recipe if winner else STD) - min(map(true, [STD, *self.space.candidates]))

    def ratios(
        self, cells: Mapping[str, Cell], losses: Mapping[str, Mapping[int, float | None]]
    ) -> tuple[dict[str, Ratio], dict[str, float]]:
        own = cells["winner"]
        steps = {rung: self.steps(rung, own.recipe) for rung in (CONFIRM, SHORT)}
        doublings = math.log2(steps[CONFIRM] / steps[SHORT])
        targets = {"a": cells["std at the paper's rate"], "b": cells["std"], "c": cells["shape alone"]}
        times, true = {}, {}
        for name, cell in targets.items():
            same = cell.recipe == own.recipe
            errors = [
                self.confirmed_cost(each).log2_se for each in (own.recipe, cell.recipe) if each != STD and not same
            ]
            seconds = {each.recipe: self.steps(CONFIRM, each.recipe) for each in (own, cell)}
            times[name] = Times(
                std=seconds[cell.recipe] * self.confirmed_cost(cell.recipe).value,
                own=seconds[own.recipe] * self.confirmed_cost(own.recipe).value,
                log2_se=math.hypot(*errors) if errors else 0.0,
                df=ROUNDS - 1,
            )
            target, end = (self.truth(CONFIRM, each.recipe, each.rate) for each in (cell, own))
            took = {each: seconds[each] * self.true_cost(each) for each in seconds}
            true[name] = took[cell.recipe] / took[own.recipe] * 2 ** self.ahead(target, end, took[own.recipe])
        return standard_ratios(losses, doublings=doublings, times=times), true

    def ahead(self, target: float, end: float, seconds: float) -> float:
        """Return how many doublings before its end the recipe is truly at the target loss."""
        doublings = math.log2(seconds / self.space.steps_full)
        slope, bend = self.world.slope - self.world.bend * doublings, self.world.bend
        if not bend:
            return (target - end) / slope
        # target − end = slope·x + bend·x²/2
        return (-slope + math.sqrt(slope**2 + 2 * bend * (target - end))) / bend


def searches(world: World, space: Space, *, n: int, seed: int) -> list[Outcome]:
    """Return ``n`` independent searches."""
    found = []
    try:
        for rng in np.random.default_rng(seed).spawn(n):
            # statsmodels collects garbage at each correction of p-values; what is frozen it does not walk through.
            gc.freeze()
            found.append(Search(world, space, rng).whole())
        return found
    finally:
        gc.unfreeze()
