"""What a step of a recipe takes and what one of std takes, round by round, as a measurement in turns has them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any


def step_seconds_by_round(pair: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return the mean seconds of a step in each round: of the recipe, and of both arms of std together.

    Parameters
    ----------
    pair
        Payload of a ``paired`` artifact that ended well.
    """
    rounds = {arm: [statistics.fmean(steps) for steps in own["step_seconds"]] for arm, own in pair["arms"].items()}
    own = rounds.pop(pair["arm"])
    return own, [statistics.fmean(both) for both in zip(*rounds.values(), strict=True)]
