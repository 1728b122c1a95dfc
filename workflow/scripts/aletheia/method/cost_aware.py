"""The layers with the most score that a limit on the time of a step pays for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aletheia.errors import UserError


@dataclass(frozen=True)
class StepCosts:
    """What a step costs, by a model calibrated on measured steps.

    Attributes
    ----------
    status, reason
        ``ok``, or how the measurement ended, and why.
    layers_total
        L, of the model that was measured.
    seconds
        ``seconds(lowest, adapted, rank)``: seconds of a step whose lowest adapted layer is ``lowest``, with adapters of
        so many layers and of a rank (mean over a layer's modules); None where the measurement failed.
    """

    status: str
    reason: str | None
    layers_total: int
    seconds: Callable[[int, float, float], float] | None

    def percent_of_all(self, *, lowest: int, adapted: float, rank: float) -> float:
        """Return a step's predicted seconds in percent of those with adapters of the same rank in all layers."""
        return 100 * self.seconds(lowest, adapted, rank) / self.seconds(0, self.layers_total, rank)


def cost_aware_layers(scores: Sequence[float], seconds: Callable[[int, int], float], limit: float) -> list[int]:
    """Return the set S of layers that maximises Σ_{ℓ∈S} score_ℓ where seconds(min S, |S|) ≤ limit.

    Exact: cost depends on the lowest layer and the number alone, so for each lowest layer ℓ and number n the best set
    is ℓ with the n − 1 highest scores above it. All ℓ and n are tried, so that seconds need not grow with n.

    Parameters
    ----------
    scores
        One finite number a layer.
    seconds
        ``seconds(lowest, count)``: the cost of a step.
    limit
        The most that a step may cost, in the same unit.

    Returns
    -------
    list of int
        Ascending. Of sets with equal scores, the smallest with the highest lowest layer.

    Raises
    ------
    UserError
        When not even the cheapest single layer fits, or a score is not finite.
    """
    if not scores or not all(map(math.isfinite, scores)):
        raise UserError("selection needs one finite score a layer; the probe gave none or a non-finite one")
    depth = len(scores)
    best: tuple[float, int, int] | None = None
    chosen: list[int] = []
    for lowest in range(depth):
        above = sorted(range(lowest + 1, depth), key=lambda layer: (-scores[layer], layer))
        for count in range(1, depth - lowest + 1):
            if seconds(lowest, count) > limit:
                continue
            layers = [lowest, *above[: count - 1]]
            value = (math.fsum(scores[layer] for layer in layers), -count, lowest)
            if best is None or value > best:
                best, chosen = value, layers
    if best is None:
        cheapest = min(seconds(lowest, 1) for lowest in range(depth))
        raise UserError(
            f"time_percent: expected room for one layer, whose step takes at least {cheapest:.3g} s, found a limit of "
            f"{limit:.3g} s; allow more"
        )
    return sorted(chosen)
