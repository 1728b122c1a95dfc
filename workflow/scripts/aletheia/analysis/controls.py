"""The arm that selects layers by gradient against arms that choose them otherwise, paired by seed.

Only such a comparison measures the selection itself: against the standard arm its effect is mixed with that of training
fewer layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aletheia.analysis import arms, turns
from aletheia.analysis.equal_settings import COLUMN
from aletheia.analysis.pairs import ALE, CM, speedup_percent
from aletheia.analysis.stats import estimate
from aletheia.study.arms import STD


def selecting_arm(rows: pd.DataFrame) -> str | None:
    """Return the arm whose selection a campaign tests: ``ale``, else the first probed arm; None where there is none.

    Parameters
    ----------
    rows
        The ledger's, of one campaign. Probed arms with as many steps as std come first.
    """
    names = [arm for arm in dict.fromkeys(rows["arm"]) if arm != STD]
    if ALE in names:
        return ALE
    probed = [arm for arm in names if _is_probed(rows[rows["arm"] == arm])]
    # A campaign need not have std; what is then missing, as a float, is equal to nothing.
    most = {arm: rows.loc[rows["arm"] == arm, "steps"].astype("float64").max() for arm in (STD, *probed)}
    equal = [arm for arm in probed if most[arm] == most[STD]]
    return next(iter([*equal, *probed]), None)


def _is_probed(rows: pd.DataFrame) -> bool:
    return bool((rows["probe_seconds"].fillna(0) > 0).any())


def against_controls(rows: pd.DataFrame, arm: str | None) -> arms.Comparisons:
    """Return ``{control: {measure: comparison}}`` of an arm − each control, of one campaign and model.

    A control is another arm with as many steps that adapts fewer layers than std and, where the ledger has settings,
    differs from std in the same ones as the arm. ``cm`` is never a control, even if its time allows no further step.
    Measures are the difference of held-out losses, and the arm's speedup over the control, 100·(1 − t_arm / t_control),
    probes included; in turns where both were timed in turns (each with std, so t_arm / t_control = ratio_control /
    ratio_arm).

    Parameters
    ----------
    rows
        The ledger's, of one campaign and model.
    arm
        As of :func:`selecting_arm`.
    """
    own, std = (rows[rows["arm"] == name].set_index("seed") for name in (arm, STD))
    if own.empty or std.empty:
        return {}
    comparisons = {}
    for name in dict.fromkeys(rows["arm"]):
        other = rows[rows["arm"] == name].set_index("seed")
        seeds = own.index.intersection(other.index)
        if name not in (arm, STD, CM) and len(seeds) and _is_control(other, own, std):
            comparisons[name] = _differences(own.loc[seeds], other.loc[seeds])
    return comparisons


def _is_control(other: pd.DataFrame, own: pd.DataFrame, std: pd.DataFrame) -> bool:
    # The ledger has neither for a run that failed early; comparisons with a missing value are false.
    steps, layers = (other[name].astype("float64").max() for name in ("steps", "layers_adapted"))
    fewer = layers < std["layers_adapted"].astype("float64").max()
    same_steps = steps == own["steps"].astype("float64").max()
    return bool(fewer and same_steps) and _differing_settings(other) == _differing_settings(own)


def _differing_settings(rows: pd.DataFrame) -> set[str]:
    """Return the settings in which an arm differs from std, as its ledger rows name them."""
    if COLUMN not in rows:
        return set()
    cells = rows.loc[rows["status"] == "ok", COLUMN].dropna()
    return {name for names in cells for name in names.split()}


def _differences(own: pd.DataFrame, other: pd.DataFrame) -> dict[str, arms.Comparison]:
    both_ok = (own["status"] == "ok") & (other["status"] == "ok")
    timed = both_ok & own["comparable"].fillna(False).astype(bool) & other["comparable"].fillna(False).astype(bool)
    own_loss, other_loss = arms.heldout_losses(own, other)
    values = {arms.LOSS: (own_loss - other_loss).where(both_ok)}
    if turns.STATUS in own and all(side[turns.WITH_PROBE].notna().any() for side in (own, other)):
        ratio = (own[turns.WITH_PROBE] / other[turns.WITH_PROBE]).where(both_ok)
        # Seeds that the campaign does not time in turns are not planned here, so they are not lost either.
        timed_in_turns = own[turns.STATUS].notna() & other[turns.STATUS].notna()
        values[arms.TURNS_WITH_PROBE] = speedup_percent(ratio[timed_in_turns])
    else:
        ratio = other["total_seconds"] / own["total_seconds"]
        values[arms.WALL_CLOCK_WITH_PROBE] = speedup_percent(ratio.where(timed))
    return {measure: _comparison(of_seeds) for measure, of_seeds in values.items()}


def _comparison(values: pd.Series) -> arms.Comparison:
    result = estimate(values.astype("float64"))
    return {"unit": "seed", **result, "lost": len(values) - result["n"], "planned": len(values)}


def over_models(models: Sequence[Mapping[str, Any]]) -> arms.Comparisons:
    """Return the comparisons with controls over a campaign's headline models: each one's mean is one value."""
    return arms.over_models([{**model, "against_std": model["against_controls"]} for model in models])
