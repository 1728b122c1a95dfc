"""How long an arm takes to the held-out loss that the standard arm ends at: at equal loss, not at equal steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from aletheia.study.arms import STD

SECONDS, RATIO = "seconds_to_std_loss", "seconds_to_std_loss_ratio"


def seconds_to_loss(losses: Sequence[float | None], seconds: Sequence[float], target: float) -> float | None:
    """Return when a curve first reaches a loss.

    Parameters
    ----------
    losses
        Held-out losses of a training's points, in order; None where one was not finite.
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
    before: tuple[float, float] | None = None
    for loss, at in zip(losses, seconds, strict=True):
        if loss is None:
            before = None
            continue
        if loss <= target:
            if before is None:
                return at
            higher, earlier = before
            return earlier + (at - earlier) * (higher - target) / (higher - loss)
        before = loss, at
    return None


def add_times_to_loss(
    ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]], key: Sequence[str]
) -> pd.DataFrame:
    """Return a ledger with the seconds to the standard arm's loss, and their ratio to its own, where runs have curves.

    The probe's seconds count, as they do in ``total_seconds``. The standard arm's own time is when it first reaches its
    last loss. Empty where a run failed or was resumed, where the loss is never reached, or no standard arm ended well.

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
    ended = {
        (row.campaign, row.model, row.seed): row.eval_loss
        for row in ledger.itertuples()
        if row.arm == STD and row.status == "ok"
    }
    times: dict[tuple[Any, ...], float | None] = {}
    for row in ledger.itertuples():
        run, target = runs[row.model, row.arm, row.seed], ended.get((row.campaign, row.model, row.seed))
        curve = run["payload"].get("curve")
        if row.status != "ok" or not row.comparable or not curve or target is None:
            continue
        losses = [point["heldout_loss"] for point in curve]
        trained = seconds_to_loss(losses, run["observed"]["curve_seconds"], target)
        if trained is not None:
            times[row.campaign, row.model, row.arm, row.seed] = trained + (row.probe_seconds or 0)
    keys = list(ledger[list(key)].itertuples(index=False, name=None))
    own = pd.Series([times.get(each) for each in keys], index=ledger.index, dtype="float64")
    std = pd.Series([times.get((*each[:2], STD, each[3])) for each in keys], index=ledger.index, dtype="float64")
    return ledger.assign(**{SECONDS: own, RATIO: own / std})
