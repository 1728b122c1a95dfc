"""Choices that follow from no score, of the same number of layers: what selections by score are held against."""

from __future__ import annotations

from collections.abc import Sequence

from aletheia.errors import UserError
from aletheia.seeded_order import seeded_order


def control_layers(
    name: str, depth: int, count: int, *, seed: int, draw: int = 0, lowest: int | None = None
) -> list[int]:
    """Return the layers of a control.

    Parameters
    ----------
    name
        ``first``, ``last``; ``random``, drawn by the seed and the draw; ``random_same_lowest``, the lowest layer given
        and a draw of the others from those above it; ``every_other``, layers ⌊i·L/n⌋ for i = 0 … n − 1.
    depth
        L.
    count
        n, the number of layers.
    seed
        The run's seed.
    draw
        Tells several random controls of a seed apart.
    lowest
        For ``random_same_lowest``.

    Raises
    ------
    UserError
        For another name; when fewer than n − 1 layers lie above the lowest.
    """
    if name == "first":
        return list(range(count))
    if name == "last":
        return list(range(depth - count, depth))
    if name == "every_other":
        return [i * depth // count for i in range(count)]
    if name == "random":
        return _drawn(range(depth), count, seed=f"{seed}:draw{draw}")
    if name != "random_same_lowest" or lowest is None:
        raise UserError(f"layers: expected a known way to choose, found {name}")
    above = range(lowest + 1, depth)
    if len(above) < count - 1:
        raise UserError(f"layers: {name}: expected {count - 1} layers above layer {lowest}, found {len(above)}")
    return [lowest, *_drawn(above, count - 1, seed=f"{seed}:lowest{draw}")]


def _drawn(layers: Sequence[int], count: int, *, seed: str) -> list[int]:
    return sorted(seeded_order(layers, seed=seed)[:count])
