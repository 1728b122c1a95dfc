"""The top k % of a list of scores (the paper's section 3.3, Eq. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aletheia.errors import UserError


def budget_count(total: int, budget_percent: float) -> int:
    """Return how many of ``total`` layers a budget pays for: ⌊total·k/100⌋, at least one.

    Raises
    ------
    UserError
        When the budget is out of range.
    """
    if not 1 <= budget_percent <= 100:
        share = f"; write {100 * budget_percent:g} (one half is 50)" if 0 < budget_percent < 1 else ""
        raise UserError(f"budget_percent {budget_percent}: expected at least 1 and at most 100{share}")
    return max(1, math.floor(total * budget_percent / 100))


def top_share(scores: Sequence[float], budget_percent: float) -> list[int]:
    """Return the places of the highest scores, ascending, as many as :func:`budget_count`; of equal ones the first.

    Raises
    ------
    UserError
        When the budget is out of range, or a score is missing or not finite.
    """
    count = budget_count(len(scores), budget_percent)
    if not scores or not all(math.isfinite(s) for s in scores):
        raise UserError("selection needs one finite score a layer; the probe gave none or a non-finite one")
    return sorted(sorted(range(len(scores)), key=lambda place: (-scores[place], place))[:count])
