"""What a run of full length is ranked by, in nats: its loss, or its loss as the time that it stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aletheia.search.results import Result

# A slope of two single runs is noisy; beyond a factor of two of std's it is taken as that.
LARGEST_SLOPE_RATIO = 2.0


def slope(shorter: Result | None, longer: Result, *, doublings: float) -> float | None:
    """Return by how much a recipe's loss falls for each doubling of its steps; None where two runs do not say.

    Parameters
    ----------
    shorter, longer
        Runs of one recipe and rate, both complete schedules.
    doublings
        log2(longer / shorter).
    """
    if shorter is None or not (shorter.usable and longer.usable):
        return None
    return (shorter.loss - longer.loss) / doublings


def seconds_as_loss(run: Result, own_slope: float | None, *, target: float, std_slope: float) -> float:
    """Return a run's distance in time to std's loss, as nats at which std would be as far.

    A run that ends at a loss l at the slope b is (target − l)/b doublings of time ahead of std. Times std's slope this
    is nats again, so that one indifference zone serves both objectives.

    Parameters
    ----------
    run
        A usable one of full length.
    own_slope
        Of its recipe (:func:`slope`); None, or one that does not fall, takes std's.
    target, std_slope
        Loss and slope of tuned std.

    Returns
    -------
    float
        Lower is better; std itself is at ``target``.
    """
    if own_slope is None or not own_slope > 0 or not std_slope > 0:
        return run.loss
    ratio = min(max(own_slope / std_slope, 1 / LARGEST_SLOPE_RATIO), LARGEST_SLOPE_RATIO)
    return target - (target - run.loss) / ratio


def run_at(results: Sequence[Result], recipe: str, rate: float) -> Result | None:
    """Return a recipe's run at a rate; None where there is none."""
    found = [each for each in results if each.recipe == recipe and math.isclose(each.rate, rate, rel_tol=1e-6)]
    return found[0] if found else None
