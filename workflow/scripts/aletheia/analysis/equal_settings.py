"""The settings in which each arm of the ledger differs from the standard one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from aletheia.study.arms import STD
from aletheia.study.recipes import RATE, SECTIONS, trials_of
from aletheia.study.run_length import EPOCHS

COLUMN = "differs_from_std"
# Settings of measuring, which change no result of the training.
MEASURING = {"eval_rows", "curve_every", "timing_warmup_steps", "time_limit_seconds"}


def add_differences(ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the ledger with column :data:`COLUMN`, where its runs record their settings.

    Parameters
    ----------
    ledger
        With one std at most for each campaign, model and seed.
    runs
        Envelopes of kind ``run`` by (model, arm, seed).

    Returns
    -------
    pandas.DataFrame
        The column names the differences from the standard run of the same model and seed: ``layers``, ``steps``, and
        keys of the sections ``adapter`` and ``training`` that affect the result. All others are equal: where it names
        neither ``batch_size`` nor ``accumulation``, both trained on the same micro-batches, up to the steps of the
        shorter run. Empty for std itself, and where there is none.
    """
    if not any(envelope.get("lineage", {}).get("config") for envelope in runs.values()):
        return ledger
    standard = set(ledger.loc[ledger["arm"] == STD, ["campaign", "model", "seed"]].itertuples(index=False, name=None))
    cells = [
        " ".join(differences(runs[row.model, STD, row.seed], runs[row.model, row.arm, row.seed])) or None
        if (row.campaign, row.model, row.seed) in standard
        else None
        for row in ledger.itertuples()
    ]
    return ledger.assign(**{COLUMN: pd.Series(cells, index=ledger.index, dtype="str")})


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings in which two runs differ (see :func:`add_differences`), from their envelopes."""
    left, right = _settings(first), _settings(second)
    return [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]


def _settings(envelope: Mapping[str, Any]) -> dict[str, Any]:
    payload, config = envelope["payload"], envelope.get("lineage", {}).get("config", {})
    arm = config.get("arm", {})
    layers = (payload.get("placement") or {}).get("layers")
    sections = [config.get(section, {}) for section in SECTIONS]
    # How many steps epochs are, the payload says.
    left_out = {*MEASURING, EPOCHS}
    stated = {key: value for section in sections for key, value in section.items() if key not in left_out}
    by_hand = {key: arm[key] for key in ("rank", "alpha") if key in arm}
    if trials_of(arm):
        # A chosen rate is the arm's own, never the campaign's; two that were chosen are equal where the rates are.
        stated[RATE] = ("chosen", payload.get(RATE))
    # A run that failed early has no layers in its payload; then the arm's rule for them is compared.
    return {"layers": layers or arm.get("layers"), **stated, **by_hand, "steps": payload.get("steps")}
