"""How many times as fast a recipe reaches the loss at which std ends: a ratio of seconds with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Seconds of std over seconds of the recipe to std's loss; above 1 the recipe is faster.

    Attributes
    ----------
    value, low, high
        The ratio and its 95 % interval; an end is None where the data do not bound it.
    n
        Seeds.
    reason
        Why something is None; else None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


def time_ratio(
    target: Mapping[int, float | None],
    own: Mapping[int, float | None],
    shorter: Mapping[int, float | None],
    *,
    doublings: float,
    seconds: float = 1.0,
    own_seconds: float = 1.0,
    fixed_seconds: float = 0.0,
    log2_cost_se: float = 0.0,
    cost_df: float = float("inf"),
) -> Ratio:
    """Return how many times as fast a recipe reaches the loss of another.

    Parameters
    ----------
    target
        ``{seed: loss}`` of the other, at the end of its runs.
    own, shorter
        The same of the recipe, at the end of its runs, and of its shorter runs (complete schedules).
    doublings
        log2(steps of the runs / steps of the shorter ones).
    seconds, own_seconds
        Of a run of the other, and of the recipe.
    fixed_seconds
        What the recipe takes whatever its length (its probe), not in ``own_seconds``.
    log2_cost_se, cost_df
        Standard error of log2(own_seconds / seconds), and its degrees of freedom.
    """
    raise NotImplementedError
