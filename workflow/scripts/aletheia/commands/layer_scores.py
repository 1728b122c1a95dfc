"""Layer scores as lines for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

WIDTH = 40


def score_lines(scores: Sequence[float], chosen: Collection[int] = ()) -> list[str]:
    """Return a line a layer: its number, its score (the norm of its gradient), a bar; chosen ones have a star."""
    most = max(scores, default=0) or 1
    return [
        f"{'*' if layer in chosen else ' '} {layer:3}  {score:<9.3g} {'█' * round(WIDTH * score / most)}"
        for layer, score in enumerate(scores)
    ]
