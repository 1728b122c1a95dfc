"""In what each arm of the ledger differs from the standard one: what a comparison of the two can be about."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from aletheia.study.arms import STD
from aletheia.study.recipes import SECTIONS

COLUMN = "differs_from_std"
# What a run is measured with, which changes none of its numbers.
MEASURED_WITH = {"eval_rows", "curve_every", "timing_warmup_steps", "time_limit_seconds"}


def add_differences(ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the ledger with column :data:`COLUMN`, where its runs say what settings they had.

    Parameters
    ----------
    ledger
        With one std at most for each campaign, model and seed.
    runs
        Envelopes of kind ``run`` by (model, arm, seed).

    Returns
    -------
    pandas.DataFrame
        The column names what differs from the standard run of the same model and seed: ``layers``, ``steps``, and those
        keys of the sections ``adapter`` and ``training`` that decide a result. What it does not name is equal: without
        ``batch_size`` and ``accumulation``, both trained on the same micro-batches, for as many steps as the shorter
        one has. Empty for std itself, and where there is none.
    """
    if not any(envelope.get("lineage", {}).get("config") for envelope in runs.values()):
        return ledger
    standard = set(ledger.loc[ledger["arm"] == STD, ["campaign", "model", "seed"]].itertuples(index=False, name=None))
    said = [
        " ".join(differences(runs[row.model, STD, row.seed], runs[row.model, row.arm, row.seed])) or None
        if (row.campaign, row.model, row.seed) in standard
        else None
        for row in ledger.itertuples()
    ]
    return ledger.assign(**{COLUMN: pd.Series(said, index=ledger.index, dtype="str")})


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the names of what two runs differ in (see :func:`add_differences`), from their envelopes."""
    one, other = _settings(first), _settings(second)
    return [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]


def _settings(envelope: Mapping[str, Any]) -> dict[str, Any]:
    payload, config = envelope["payload"], envelope.get("lineage", {}).get("config", {})
    arm = config.get("arm", {})
    layers = (payload.get("placement") or {}).get("layers")
    sections = [config.get(section, {}) for section in SECTIONS]
    stated = {key: value for own in sections for key, value in own.items() if key not in MEASURED_WITH}
    by_hand = {key: arm[key] for key in ("rank", "alpha") if key in arm}
    # Of a run that failed early nobody knows the layers, but how they are chosen.
    return {"layers": layers or arm.get("layers"), **stated, **by_hand, "steps": payload.get("steps")}
