"""From rung to rung: each recipe's best rate, which recipes go on, and why each of the others does not.

Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) over few recipes: complete schedules of a short
length, then of the full one, for those that lead. What differs from it: recipes within δ of the last one kept are kept
too, since one run a recipe cannot tell them apart; each recipe comes at its own best rate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from aletheia.search.results import Result
from aletheia.search.space import Space

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
    rate, loss, seconds
        Of its best run; None where all failed.
    behind
        Its loss less the best candidate's.
    at_edge
        Whether its best rate is the lowest or highest that it was tried at.
    arm
        Its best run's.
    """

    recipe: str
    outcome: str
    reason: str
    rate: float | None = None
    loss: float | None = None
    seconds: float | None = None
    behind: float | None = None
    at_edge: bool = False
    arm: str | None = None


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
        Candidates, the best first.
    stds
        Standard recipes, which always go on where a run of theirs ended well.
    asked
        ``(recipe, rate)`` of the next rung's runs, those that matter most first; a budget takes from the end.
    """

    rung: str
    delta: float
    kept: list[Verdict]
    dropped: list[Verdict]
    stds: list[Verdict]
    asked: list[tuple[str, float]]

    @property
    def leader(self) -> Verdict | None:
        """The best candidate; None where none is left."""
        return self.kept[0] if self.kept else None


def best_rate(results: Sequence[Result]) -> Result | None:
    """Return the run with the lowest loss among one recipe's; of equal losses the lower rate; None where all failed."""
    raise NotImplementedError


def scan_decision(
    results: Sequence[Result],
    *,
    rates: Sequence[float],
    stds: Collection[str],
    delta: float,
    keep: int,
    base_loss: float | None = None,
) -> Promotion:
    """Return which recipes go from the scan to full runs, and at which rates.

    Parameters
    ----------
    results
        Every trial of the scan, failed ones too.
    rates
        All that were tried; full runs are asked at the best one and its neighbours.
    stds
        Names of the standard recipes.
    delta
        :attr:`aletheia.search.noise_floor.Floor.delta`.
    keep
        How many candidates go on; those within ``delta`` of the last of them too.
    base_loss
        The base model's; a recipe that is not below it by more than ``delta`` has learnt nothing and is dropped.
    """
    raise NotImplementedError


def full_decision(
    results: Sequence[Result],
    *,
    stds: Collection[str],
    delta: float,
    base_loss: float | None = None,
    retention_bound: float | None = None,
) -> Promotion:
    """Return the leader of the full runs; those within ``delta`` of it are ties, the others are dropped.

    Parameters
    ----------
    retention_bound
        A run whose retention is above it cannot lead; None asks nothing.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Move:
    """A neighbour of the leader.

    Attributes
    ----------
    move
        As the section names it.
    recipe, rate
        What it asks to run; None where it cannot be made.
    reason
        Why it cannot be made, or need not: None where it is asked.
    """

    move: str
    recipe: str | None
    rate: float | None
    reason: str | None


def push_moves(leader: Verdict, space: Space, ran: Mapping[str, Collection[float]]) -> list[Move]:
    """Return the moves from the leader of the full runs.

    Parameters
    ----------
    leader
        Of :func:`full_decision`.
    space
        With the recipes that moves lead to.
    ran
        Rates at which each recipe has a full run; a move to one of them is not made again.
    """
    raise NotImplementedError


def push_decision(
    results: Sequence[Result], leader: Verdict, *, delta: float, retention_bound: float | None = None
) -> Promotion:
    """Return what is confirmed: the leader, unless a move is better than it by more than ``delta``."""
    raise NotImplementedError
