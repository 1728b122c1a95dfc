"""From rung to rung: each recipe's best rate, which recipes go on, and why each of the others does not.

Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) over few recipes: complete schedules of a short
length, then of the full one for those that lead. What differs from it: recipes within δ of the last one kept are kept
too, since one run a recipe cannot tell them apart; each recipe comes at its own best rate; standard recipes always go
on, so that what the winner is held against is tuned as the winner is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from aletheia.search.objective import run_at, seconds_as_loss, slope
from aletheia.search.results import Result
from aletheia.search.space import SECONDS, STD, Space
from aletheia.search.trials import FULL, PUSH, SCAN

KEPT, TIED, DROPPED, FAILED, LEARNT_NOTHING, OVER_BOUND = (
    *("kept", "tied", "dropped", "failed", "learnt nothing", "over the bound"),
)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a recipe at a rung.

    Attributes
    ----------
    recipe
        Its name.
    outcome
        :data:`KEPT`, :data:`TIED` (kept beyond the number, within δ), :data:`DROPPED`, :data:`FAILED`,
        :data:`LEARNT_NOTHING` or :data:`OVER_BOUND`.
    reason
        In words.
    rate, loss, arm
        Of its best run; None where all failed.
    score
        What it is ranked by, nats: the loss, or :func:`aletheia.search.objective.seconds_as_loss`.
    behind
        Its score less the best candidate's; None where it has none, or none is left.
    at_edge
        Whether its best rate is the lowest or highest that it was tried at, of several.
    """

    recipe: str
    outcome: str
    reason: str
    rate: float | None = None
    loss: float | None = None
    arm: str | None = None
    score: float | None = None
    behind: float | None = None
    at_edge: bool = False


@dataclass(frozen=True)
class Promotion:
    """The decision after a rung.

    Attributes
    ----------
    rung
        Whose results it rests on.
    delta
        The indifference zone, nats.
    kept, dropped
        Every recipe that may win, the best first.
    std
        What tuned ``std`` came to.
    asked
        ``(recipe, rate)`` of the next rung's runs, those that matter most first; a budget takes from the end.
    """

    rung: str
    delta: float
    kept: list[Verdict]
    dropped: list[Verdict]
    std: Verdict
    asked: list[tuple[str, float]]

    @property
    def leader(self) -> Verdict | None:
        """The best recipe; None where none is left."""
        return self.kept[0] if self.kept else None


def best_rate(results: Sequence[Result]) -> Result | None:
    """Return the run with the lowest loss among one recipe's; of equal losses the lower rate; None where all failed."""
    return min((each for each in results if each.usable), key=lambda each: (each.loss, each.rate), default=None)


def tuned_rates(full: Sequence[Result], scan: Sequence[Result], space: Space) -> dict[str, float]:
    """Return the best rate of each recipe that chooses nothing: of its full runs, else of its scan, else none."""
    found = {}
    for name in [name for name, recipe in space.scanned.items() if not recipe.chooses]:
        own = ([each for each in runs if each.recipe == name] for runs in (full, scan))
        best = next((best for best in map(best_rate, own) if best), None)
        found |= {name: best.rate} if best else {}
    return found


def scan_decision(
    results: Sequence[Result], space: Space, *, delta: float, base_loss: float | None = None
) -> Promotion:
    """Return which recipes go from the scan to full runs, and at which rates.

    Asked are the best rate of each standard recipe and of each one kept, then the rates beside these.

    Parameters
    ----------
    results
        Every trial of the scan, failed ones too.
    delta
        :attr:`aletheia.search.noise_floor.Floor.delta`.
    base_loss
        The base model's on the same rows; a recipe that is not below it by more than ``delta`` has learnt nothing and
        is dropped, whatever else there is.
    """
    verdicts = _verdicts(results, space, base_loss=base_loss, delta=delta)
    kept, dropped = _cut(verdicts, delta=delta, keep=space.keep, always=space.stds)
    going = [*space.stds, *(each.recipe for each in kept)]
    rates = {each.recipe: each.rate for each in verdicts.values() if each.rate is not None}
    best = [(name, rates[name]) for name in dict.fromkeys(going) if name in rates]
    beside = [(name, rate) for name, middle in best for rate in _neighbours(middle, space.rates)]
    return Promotion(SCAN, delta, kept, dropped, verdicts[STD], best + beside)


def full_decision(
    results: Sequence[Result],
    space: Space,
    *,
    delta: float,
    base_loss: float | None = None,
    scan: Sequence[Result] = (),
) -> Promotion:
    """Return the leader of the full runs; those within ``delta`` of it are ties, the others are dropped.

    Parameters
    ----------
    results, delta, base_loss
        As of :func:`scan_decision`; of full runs.
    scan
        The scan's, for the slopes that the objective ``seconds_to_std_loss`` needs; another one reads none.

    Notes
    -----
    A recipe whose best run has a retention above the section's bound, or none where there is a bound, cannot lead.
    """
    verdicts = _verdicts(results, space, base_loss=base_loss, delta=delta)
    verdicts = _bounded(verdicts, results, space.retention_bound)
    if space.objective == SECONDS:
        verdicts = _in_seconds(verdicts, results, scan, space)
    kept, dropped = _cut(verdicts, delta=delta, keep=1)
    return Promotion(FULL, delta, kept, dropped, verdicts[STD], [])


def push_decision(
    results: Sequence[Result], before: Promotion, space: Space, *, base_loss: float | None = None
) -> Promotion:
    """Return what is confirmed: the leader of the full runs, unless a move is better than it by more than δ.

    A move is one run among several; less than δ is the luck of the best of them. Moves have no run of the scan, hence
    no slope of their own, and are held against the leader by their losses, whatever the objective.

    Parameters
    ----------
    results
        Of the moves, failed ones too.
    before
        Of :func:`full_decision`, with a leader.
    """
    leader, delta = before.leader, before.delta
    verdicts = []
    for run in results:
        verdict = _verdict([run], base_loss=base_loss, delta=delta)
        bounded = _bounded({run.recipe: verdict}, [run], space.retention_bound)[run.recipe]
        verdicts.append(bounded if bounded.score is None else replace(bounded, behind=bounded.score - leader.loss))
    better = sorted(
        (each for each in verdicts if each.outcome == KEPT and each.behind < -delta), key=lambda each: each.behind
    )
    words = f"better than {leader.recipe} by more than δ = {delta:.4f}"
    kept = [replace(each, reason=words) for each in better] + [leader]
    dropped = [
        replace(each, outcome=DROPPED, reason=f"not {words}") if each.outcome == KEPT else each
        for each in verdicts
        if each not in better
    ]
    return Promotion(PUSH, delta, kept, dropped, before.std, [])


def _verdicts(results: Sequence[Result], space: Space, *, base_loss: float | None, delta: float) -> dict[str, Verdict]:
    """Return each recipe's best run by name, kept for now; failed ones, and those that learnt nothing, are not."""
    by_recipe: dict[str, list[Result]] = {name: [] for name in space.scanned}
    for each in results:
        by_recipe[each.recipe].append(each)
    ran = {name: runs for name, runs in by_recipe.items() if runs or name == STD}
    return {name: replace(_verdict(runs, base_loss=base_loss, delta=delta), recipe=name) for name, runs in ran.items()}


def _verdict(runs: Sequence[Result], *, base_loss: float | None, delta: float) -> Verdict:
    name = runs[0].recipe if runs else ""
    best = best_rate(runs)
    if best is None:
        ends = ", ".join(f"{each.rate:g}: {each.status}" for each in runs)
        return Verdict(name, FAILED, f"no run of it ended with a loss ({ends or 'none was made'})")
    tried = {each.rate for each in runs}
    edge = len(tried) > 1 and best.rate in (min(tried), max(tried))
    found = Verdict(name, KEPT, "", best.rate, best.loss, best.arm, best.loss, None, edge)
    if base_loss is not None and not best.loss < base_loss - delta:
        words = (
            f"its loss of {best.loss:.4f} is not below the base model's {base_loss:.4f} by more than δ = {delta:.4f}"
        )
        return replace(found, outcome=LEARNT_NOTHING, reason=words)
    return found


def _cut(
    verdicts: Mapping[str, Verdict], *, delta: float, keep: int, always: Collection[str] = ()
) -> tuple[list[Verdict], list[Verdict]]:
    """Return those that go on and those that do not, of all that may win; the best first in both.

    The best ``keep`` are kept, and all within ``delta`` of the last of these; ``always`` go on whatever comes, and take
    no other's place.
    """
    running = [each for each in verdicts.values() if each.outcome == KEPT and each.recipe != STD]
    running.sort(key=lambda each: (each.score, each.recipe))
    ended = [each for each in verdicts.values() if each.outcome != KEPT and each.recipe != STD]
    ranked = [each.recipe for each in running if each.recipe not in always]
    last = verdicts[ranked[:keep][-1]].score if ranked else None
    kept, dropped = [], []
    for each in running:
        told = replace(each, behind=each.score - running[0].score)
        if each.recipe in always:
            kept.append(replace(told, reason=f"standard, goes on whatever comes; {told.behind:.4f} behind the best"))
        elif each.recipe in ranked[:keep]:
            kept.append(replace(told, reason=f"among the best {keep}, {told.behind:.4f} behind the best"))
        elif each.score - last <= delta:
            words = f"{each.score - last:.4f} behind the last one kept, within δ = {delta:.4f}"
            kept.append(replace(told, outcome=TIED, reason=words))
        else:
            words = f"{each.score - last:.4f} behind the last one kept, by more than δ = {delta:.4f}"
            dropped.append(replace(told, outcome=DROPPED, reason=words))
    return kept, dropped + ended


def _neighbours(rate: float, rates: Sequence[float]) -> list[float]:
    place = min(range(len(rates)), key=lambda i: abs(math.log(rates[i] / rate)))
    return [rates[i] for i in (place - 1, place + 1) if 0 <= i < len(rates)]


def _bounded(verdicts: Mapping[str, Verdict], results: Sequence[Result], bound: float | None) -> dict[str, Verdict]:
    """Return verdicts with those over the bound of retention told so."""
    if bound is None:
        return dict(verdicts)
    retention = {each.arm: each.retention for each in results}
    found = {}
    for name, verdict in verdicts.items():
        value = retention.get(verdict.arm)
        over = verdict.outcome == KEPT and name != STD and not (value is not None and value <= bound)
        told = "is not measured" if value is None else f"is {value:.4f} over the base model's"
        words = f"its loss on general text {told}, the bound is {bound:g}"
        found[name] = replace(verdict, outcome=OVER_BOUND, reason=words) if over else verdict
    return found


def _in_seconds(
    verdicts: Mapping[str, Verdict], results: Sequence[Result], scan: Sequence[Result], space: Space
) -> dict[str, Verdict]:
    """Return verdicts that are scored by the time to tuned std's loss; without a run of std their losses stay."""
    doublings = math.log2(space.steps_full / space.steps_scan)

    def slope_of(verdict: Verdict) -> float | None:
        longer = run_at(results, verdict.recipe, verdict.rate)
        return slope(run_at(scan, verdict.recipe, verdict.rate), longer, doublings=doublings)

    std = verdicts[STD]
    std_slope = slope_of(std) if std.rate is not None else None
    if std_slope is None:
        return dict(verdicts)
    found = dict(verdicts)
    for name, verdict in verdicts.items():
        if verdict.rate is not None:
            run = run_at(results, name, verdict.rate)
            score = seconds_as_loss(run, slope_of(verdict), target=std.loss, std_slope=std_slope)
            found[name] = replace(verdict, score=score)
    return found
