"""The decision: the cheapest recipe that is not worse than the best by δ, or no winner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aletheia.search.confirmation import Effect


@dataclass(frozen=True)
class Candidate:
    """A cell of the confirmation as what could be recommended.

    Attributes
    ----------
    name
        Of the cell (:data:`aletheia.search.confirmation.CELLS`).
    losses
        ``{seed: loss}`` on the rows that judge; None for a run that failed.
    seconds
        What a run takes, with its probe.
    retention
        ``{seed: nats over the base}``; None where not measured.
    """

    name: str
    losses: Mapping[int, float | None]
    seconds: float
    retention: Mapping[int, float | None] | None = None


@dataclass(frozen=True)
class Comparison:
    """One candidate against std and against the best.

    Attributes
    ----------
    name, seconds, loss
        Its own; the loss is a mean over seeds.
    against_std
        Its loss less that of tuned std.
    p_better
        That it is better than std, one-sided, for the recipes beside the winner by Holm.
    p_not_worse
        That it is not worse than the best by δ: the one of the two one-sided tests that asks this.
    eligible
        Whether it may be chosen.
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
        Name of the cell with the lowest mean loss.
    delta
        The indifference zone.
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


def decide(
    candidates: Mapping[str, Candidate], *, delta: float, level: float = 0.05, retention_bound: float | None = None
) -> Decision:
    """Return the winner, or that there is none.

    Parameters
    ----------
    candidates
        By name; ``std`` and the winner of the search are among them, the others may be missing.
    delta
        The indifference zone, nats.
    level
        Of each one-sided test.
    retention_bound
        What a recommended recipe must be shown to hold; None asks nothing.
    """
    raise NotImplementedError
