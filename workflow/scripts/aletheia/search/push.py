"""The push: neighbours of the leader in a declared set of moves."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aletheia.search.presets import RATE_MOVES
from aletheia.search.promotion import Verdict
from aletheia.search.space import Recipe, Space
from aletheia.search.trials import LARGEST_RATE


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
        Why it cannot be made, or need not; None where it is asked.
    """

    move: str
    recipe: str | None
    rate: float | None
    reason: str | None


def push_moves(leader: Verdict, space: Space, ran: Mapping[str, Collection[float]]) -> list[Move]:
    """Return the moves from the leader of the full runs, one for each that the section allows.

    Parameters
    ----------
    leader
        Of :func:`aletheia.search.promotion.full_decision`.
    space
        With the recipes that moves lead to.
    ran
        Rates at which each recipe has a full run, failed ones too; a move to one of them is not made again.
    """
    return [_move(move, leader, space, ran.get(leader.recipe, ())) for move in space.asked_moves]


def _move(move: str, leader: Verdict, space: Space, ran: Collection[float]) -> Move:
    if move not in RATE_MOVES:
        led = space.moves[leader.recipe, move]
        return Move(move, led.name, leader.rate, None) if isinstance(led, Recipe) else Move(move, None, None, led)
    rate = leader.rate * RATE_MOVES[move]
    if rate > LARGEST_RATE:
        return Move(move, None, None, f"the rate would be {rate:g}")
    if any(math.isclose(rate, other, rel_tol=1e-6) for other in ran):
        return Move(move, leader.recipe, rate, "it has a full run at this rate")
    return Move(move, leader.recipe, rate, None)
