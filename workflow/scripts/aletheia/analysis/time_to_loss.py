"""The time in which an arm reaches the standard arm's final held-out loss: at equal loss, not at equal steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from aletheia.study.arms import STD

SECONDS, RATIO = "seconds_to_std_loss", "seconds_to_std_loss_ratio"


def seconds_to_loss(losses: Sequence[float | None], seconds: Sequence[float], target: float) -> float | None:
    """Return the seconds after which a curve first reaches a loss.

    Parameters
    ----------
    losses
        Held-out losses on the way, in nats, in order; None where one was not finite.
    seconds
        Training seconds at these points, as many.
    target
        The loss to reach.

    Returns
    -------
    float or None
        Interpolated linearly between the first point at or below the target and the one before it; None where no point
        is.
    """
    previous: tuple[float, float] | None = None
    for loss, now in zip(losses, seconds, strict=True):
        if loss is None:
            previous = None
            continue
        if loss <= target:
            if previous is None:
                return now
            higher, earlier = previous
            return earlier + (now - earlier) * (higher - target) / (higher - loss)
        previous = loss, now
    return None


def add_times_to_loss(
    ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]], key: Sequence[str]
) -> pd.DataFrame:
    """Return a ledger with the seconds to the standard arm's loss, and their ratio to its own, where runs have curves.

    The probe's seconds count, as they do in ``total_seconds``. The standard arm's time is that until it first reaches
    its own final loss. Empty where a run failed or was resumed, where the loss is never reached, or where no standard
    run ended well.

    Parameters
    ----------
    ledger
        With ``status``, ``eval_loss``, ``comparable`` and ``probe_seconds``.
    runs
        Envelopes of kind ``run`` by (model, arm, seed).
    key
        Its columns campaign, model, arm, seed.
    """
    if not any(run["payload"].get("curve") for run in runs.values()):
        return ledger
    final_losses = {
        (row.campaign, row.model, row.seed): row.eval_loss
        for row in ledger.itertuples()
        if row.arm == STD and row.status == "ok"
    }
    times: dict[tuple[Any, ...], float | None] = {}
    for row in ledger.itertuples():
        run, target = runs[row.model, row.arm, row.seed], final_losses.get((row.campaign, row.model, row.seed))
        curve = run["payload"].get("curve")
        if row.status != "ok" or not row.comparable or not curve or target is None:
            continue
        losses = [point["heldout_loss"] for point in curve]
        training = seconds_to_loss(losses, run["observed"]["curve_seconds"], target)
        if training is not None:
            times[row.campaign, row.model, row.arm, row.seed] = training + (row.probe_seconds or 0)
    keys = list(ledger[list(key)].itertuples(index=False, name=None))
    own = pd.Series([times.get(each) for each in keys], index=ledger.index, dtype="float64")
    std = pd.Series([times.get((*each[:2], STD, each[3])) for each in keys], index=ledger.index, dtype="float64")
    return ledger.assign(**{SECONDS: own, RATIO: own / std})
