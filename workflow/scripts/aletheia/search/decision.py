"""The decision: the cheapest recipe that is not worse than the best by δ, or no winner."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from aletheia.inference.equivalence import tost
from aletheia.inference.multiplicity import holm
from aletheia.search.confirmation import BOTH, CELLS, LEVEL, PLAIN, Effect, Losses, paired_effect

SAME_SECONDS = 0.02  # runs whose seconds differ by less than this share cost the same: steps are whole numbers


@dataclass(frozen=True)
class Candidate:
    """A cell of the confirmation as what could be recommended.

    Attributes
    ----------
    losses
        ``{seed: loss}`` on the rows that judge; None for a run that failed.
    seconds
        What a run takes, with its probe.
    retention
        ``{seed: nats over the base model's}``; None where not measured.
    log2_se, df
        Standard error of log2(seconds / std's seconds), and its degrees of freedom; 0 for std itself.
    """

    losses: Losses
    seconds: float
    retention: Losses | None = None
    log2_se: float = 0.0
    df: float = math.inf


@dataclass(frozen=True)
class Comparison:
    """One candidate against std and against the best.

    Attributes
    ----------
    name, seconds, loss
        Its own; the loss is a mean over seeds.
    against_std
        Its loss less that of tuned std, at equal seconds.
    p_better
        Of its being better than std, two-sided; None for std, for a recipe with a higher loss, and without scatter.
        Those beside the winner are tested only once the winner is better than std, by Holm among each other.
    p_not_worse
        Of its being worse than the best by δ or more: the one of two one-sided tests that asks this. None for the best.
    eligible
        Whether it may be recommended.
    reason
        In words.
    """

    name: str
    seconds: float
    loss: float | None
    against_std: Effect
    p_better: float | None
    p_not_worse: float | None
    eligible: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """What the search ends with.

    Attributes
    ----------
    winner
        Name of the cell that is recommended; None for no winner.
    better_than_std
        Whether the recipe that the search chose is claimed to be better than tuned std.
    best
        Name of the cell with the lowest mean loss; None where nothing can be compared.
    delta
        The indifference zone, nats.
    comparisons
        Of each candidate.
    reason
        The verdict in words.
    """

    winner: str | None
    better_than_std: bool
    best: str | None
    delta: float
    comparisons: list[Comparison]
    reason: str


def no_winner(reason: str, *, delta: float) -> Decision:
    """Return the decision of a search that had nothing to confirm."""
    return Decision(None, False, None, delta, [], f"No winner: {reason}.")


def decide(
    candidates: Mapping[str, Candidate],
    *,
    delta: float,
    slope: float = 0.0,
    level: float = 0.05,
    retention_bound: float | None = None,
) -> Decision:
    """Return the winner, or that there is none.

    Two recipes are compared at equal seconds: the difference of their losses is moved by ``slope`` times the doublings
    that one took longer, and the error of that number is part of its own. A search prefers recipes whose steps were
    measured as cheaper than they are: without this their additional steps would be taken for a better recipe.

    1. The recipe that the search chose is tested against tuned std, two-sided, over paired seeds. It was named before
       these seeds were run, so that this one test needs no correction; if it does not show a lower loss, there is no
       winner. The other cells are then tested too, by Holm among each other, which keeps the family's error at
       ``level`` (a gatekeeper: Westfall and Krishen 2001, Journal of Statistical Planning and Inference 99:25).
    2. If std is shown not to be worse than the best by δ, there is no winner either: what was gained does not matter.
       "Not worse by δ" is one of two one-sided t-tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657).
    3. Of the cells that are better than std and not worse than the best by δ the cheapest is recommended; of those
       that cost the same (2 %) the one that changes least.

    Of a recipe of which a run failed nothing is claimed: the runs that are left would be the lucky ones.

    Parameters
    ----------
    candidates
        By name of the cell; ``std`` and ``winner`` are among them, the others may be missing.
    delta
        The indifference zone, nats.
    slope
        By how much the loss falls for each doubling of the seconds
        (:func:`aletheia.search.time_to_loss.fall_of_a_doubling`); 0 leaves losses as they are.
    level
        Of the family of tests against std, and of each test against δ.
    retention_bound
        Below which the loss on general text over the base model's is to be shown, one-sided; None asks nothing.
    """
    names = [name for name in CELLS if name in candidates]
    pairs = {(one, other): _behind(candidates, one, other, slope) for one in names for other in names}
    against = {name: pairs[name, PLAIN].effect for name in names}
    if against[BOTH].se is None:
        return no_winner(f"{against[BOTH].n} of its seeds have a run of std and of the winner", delta=delta)
    best = min((name for name in names if against[name].value is not None), key=lambda name: against[name].value)
    whole = [name for name in names if None not in candidates[name].losses.values()]
    p_better = _better(against, whole, level)
    comparisons = []
    for name in names:
        worse = None if name == best else _p_worse(pairs[name, best], delta)
        objection = _objection(candidates[name], p_better[name], worse, level=level, retention_bound=retention_bound)
        mean = _mean(candidates[name].losses)
        told = ("std itself" if name == PLAIN else objection) or "better than std, and not worse than the best by δ"
        numbers = (candidates[name].seconds, mean, against[name], p_better[name], worse)
        comparisons.append(Comparison(name, *numbers, objection is None and name != PLAIN, told))
    return _verdict(comparisons, best, delta, level)


def _better(against: Mapping[str, Effect], whole: Collection[str], level: float) -> dict[str, float | None]:
    """Return p of each cell's being better than std; the others' are adjusted, and None before the winner's gate.

    None too for a cell of which a run failed (``whole`` names the others).
    """
    lower = {name: name in whole and each.value is not None and each.value < 0 for name, each in against.items()}
    plain = {name: each.p if lower[name] else None for name, each in against.items()}
    others = [name for name in against if name not in (PLAIN, BOTH)]
    passed = plain[BOTH] is not None and plain[BOTH] < level
    # A cell with a higher loss is a test of the family all the same.
    adjusted = holm([1.0 if plain[name] is None else plain[name] for name in others]) if passed else []
    found: dict[str, float | None] = {**dict.fromkeys(against), BOTH: plain[BOTH]}
    return {**found, **{name: p for name, p in zip(others, adjusted, strict=False) if plain[name] is not None}}


@dataclass(frozen=True)
class _Behind:
    effect: Effect
    df: float


def _behind(candidates: Mapping[str, Candidate], one: str, other: str, slope: float) -> _Behind:
    """Return the loss of one cell less that of another at equal seconds, over the seeds that have both.

    The degrees of freedom are Satterthwaite's, of the seeds' and of the costs' variances.
    """
    a, b = candidates[one], candidates[other]
    both = {seed: (loss, b.losses.get(seed)) for seed, loss in a.losses.items()}
    differences = {seed: x - y for seed, (x, y) in both.items() if None not in (x, y)}
    effect = paired_effect(f"{one} against {other}", differences)
    if effect.se is None or not slope or one == other or a.losses == b.losses:
        return _Behind(effect, effect.n - 1)
    value = effect.value + slope * math.log2(a.seconds / b.seconds)
    parts = [(effect.se, effect.n - 1), (slope * a.log2_se, a.df), (slope * b.log2_se, b.df)]
    variance = sum(se**2 for se, _ in parts)
    spread = sum(se**4 / df for se, df in parts)
    df, se = variance**2 / spread if spread else math.inf, math.sqrt(variance)
    half = float(special.stdtrit(df, (1 + LEVEL) / 2)) * se
    p = 2 * float(special.stdtr(df, -abs(value) / se)) if se else None
    return _Behind(replace(effect, value=value, se=se, low=value - half, high=value + half, p=p), df)


def _p_worse(behind: _Behind, delta: float) -> float | None:
    """Return the p of being behind the best by δ or more, from what a recipe is behind by."""
    effect = behind.effect
    if effect.se == 0:  # one and the same arm, or none of both learnt anything
        return 0.0 if effect.value < delta else 1.0
    return tost(effect.value, effect.se, behind.df, delta).p_upper


def _objection(
    candidate: Candidate, p_better: float | None, p_worse: float | None, *, level: float, retention_bound: float | None
) -> str | None:
    """Return why a recipe may not be recommended; None where it may."""
    lost = sum(loss is None for loss in candidate.losses.values())
    if lost:
        return f"{lost} of its {len(candidate.losses)} runs failed"
    if p_better is None or not p_better < level:
        return "not shown to be better than std"
    if p_worse is not None and not p_worse < level:
        return "not shown to be within δ of the best"
    if retention_bound is None:
        return None
    kept = {seed: value for seed, value in (candidate.retention or {}).items() if value is not None}
    effect = paired_effect("retention", kept)
    if effect.se is None:
        return "its loss on general text is not measured"
    highest = effect.value + float(special.stdtrit(effect.n - 1, 1 - level)) * effect.se
    return None if highest <= retention_bound else f"its loss on general text may rise by {highest:.4f}, over the bound"


def _mean(losses: Losses) -> float | None:
    found = [loss for loss in losses.values() if loss is not None]
    return float(np.mean(found)) if found else None


def _verdict(comparisons: list[Comparison], best: str, delta: float, level: float) -> Decision:
    by_name = {each.name: each for each in comparisons}
    effect = by_name[BOTH].against_std
    numbers = f"{effect.value:+.4f} nats [{effect.low:+.4f}, {effect.high:+.4f}], n = {effect.n} seeds"
    p, std = by_name[BOTH].p_better, by_name[PLAIN]
    better = p is not None and p < level

    def said(winner: str | None, words: str) -> Decision:
        return Decision(winner, better, best, delta, comparisons, words)

    if not better:
        why = by_name[BOTH].reason
        return said(None, f"No winner: what the search chose against tuned std: {numbers}; {why}.")
    if std.p_not_worse is not None and std.p_not_worse < level:
        return said(None, f"No winner: better than tuned std ({numbers}), and by less than δ = {delta:.4f}.")
    eligible = [each for each in comparisons if each.eligible]
    if not eligible:
        why = "; ".join(f"{each.name}: {each.reason}" for each in comparisons if each.name != PLAIN)
        return said(None, f"No winner: better than tuned std ({numbers}), and none may be recommended ({why}).")
    least = min(each.seconds for each in eligible)
    winner = next(each.name for each in eligible if each.seconds <= least * (1 + SAME_SECONDS))
    return said(winner, f"Winner: {winner}; what the search chose against tuned std: {numbers}; δ = {delta:.4f}.")
