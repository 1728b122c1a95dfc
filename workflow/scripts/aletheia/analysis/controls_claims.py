"""What an arm claims to share with another one (its key ``equal``): layers, parameters or seconds; held or not."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aletheia.analysis.controls_arms import Arms
from aletheia.analysis.controls_losses import difference
from aletheia.analysis.controls_times import Times

SECONDS_TOLERANCE = 0.05  # relative; steps are whole, and times are measured or predicted
_COLUMNS = {"layers": "layers_adapted", "parameters": "trainable_parameters"}


def claims(arms: Arms, rows: pd.DataFrame, table: pd.DataFrame, times: Times) -> list[dict[str, Any]]:
    """Return each claim of each arm: both numbers, and whether it holds; those of equal seconds first.

    Layers and parameters are equal exactly, in every seed that both arms have; seconds, of training without the probe,
    within :data:`SECONDS_TOLERANCE`.

    Parameters
    ----------
    arms
        Entries of a campaign for one model; ``equal`` is ``{layers | parameters | seconds: ARM}``.
    rows
        The ledger's, of the same campaign and model.
    table
        Held-out losses (:func:`aletheia.analysis.controls_losses.losses`).
    times
        Of the same model.

    Returns
    -------
    list of dict
        ``arm``, ``of``, ``what``, ``own`` and ``other`` (counts of the first seed that differs, else of the first;
        seconds as shares of a standard run), ``holds`` (None: not known), and ``loss_difference``, arm − other.
    """
    found = []
    for arm, entry in arms.items():
        for what, other in (entry.get("equal") or {}).items():
            own, others, holds = _seconds(times, arm, other) if what == "seconds" else _counts(rows, arm, other, what)
            numbers = {"arm": arm, "of": other, "what": what, "own": own, "other": others, "holds": holds}
            found.append({**numbers, "loss_difference": difference(table, arm, other)})
    return sorted(found, key=lambda claim: claim["what"] != "seconds")


def _counts(rows: pd.DataFrame, arm: str, other: str, what: str) -> tuple[float | None, float | None, bool | None]:
    counts = rows.pivot(index="seed", columns="arm", values=_COLUMNS[what])
    if not {arm, other} <= set(counts):
        return None, None, None
    both = counts[[arm, other]].dropna().astype("int64")
    if both.empty:
        return None, None, None
    unequal = both[both[arm] != both[other]]
    shown = (both if unequal.empty else unequal).iloc[0]
    return int(shown[arm]), int(shown[other]), unequal.empty


def _seconds(times: Times, arm: str, other: str) -> tuple[float | None, float | None, bool | None]:
    own, others = (_training(times, name) for name in (arm, other))
    if own is None or others is None:
        return own, others, None
    return own, others, abs(own / others - 1) <= SECONDS_TOLERANCE


def _training(times: Times, arm: str) -> float | None:
    whole, charged = times.of_run(arm), times.probe.get(arm)
    return None if whole is None or charged is None else whole - charged
