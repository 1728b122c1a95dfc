"""The arm that selects layers by gradient against arms that choose them otherwise, paired by seed.

Only such a comparison says what the selection itself is worth: against the standard arm it is mixed with training fewer
layers.
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
    """Return the arm that a campaign is about: ``ale``, else the first one that was probed; None where there is none.

    Parameters
    ----------
    rows
        The ledger's, of one campaign. Of the arms that were probed, one with as many steps as std comes first.
    """
    names = [arm for arm in dict.fromkeys(rows["arm"]) if arm != STD]
    if ALE in names:
        return ALE
    probed = [arm for arm in names if _is_probed(rows[rows["arm"] == arm])]
    steps = rows.loc[rows["arm"] == STD, "steps"].max()
    equal = [arm for arm in probed if rows.loc[rows["arm"] == arm, "steps"].max() == steps]
    return next(iter([*equal, *probed]), None)


def _is_probed(rows: pd.DataFrame) -> bool:
    return bool((rows["probe_seconds"].fillna(0) > 0).any())


def against_controls(rows: pd.DataFrame, arm: str | None) -> arms.Comparisons:
    """Return ``{control: {measure: comparison}}`` of an arm − each control, of one campaign and model.

    A control is another arm that has as many steps, adapts fewer layers than std, and where the ledger says so differs
    from std in the same settings as the arm; ``cm`` is none, for its time may have bought it no step. Measures are the
    difference of held-out losses, and the arm's speedup over the control, 100·(1 − t_arm / t_control), probes counted:
    in turns where both were timed so (each against std, so that t_arm / t_control = ratio_control / ratio_arm).

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
    found = {}
    for name in dict.fromkeys(rows["arm"]):
        other = rows[rows["arm"] == name].set_index("seed")
        seeds = own.index.intersection(other.index)
        if name not in (arm, STD, CM) and len(seeds) and _is_control(other, own, std):
            found[name] = _differences(own.loc[seeds], other.loc[seeds])
    return found


def _is_control(other: pd.DataFrame, own: pd.DataFrame, std: pd.DataFrame) -> bool:
    # Of a run that failed early the ledger knows neither; what is missing is equal to nothing and below nothing.
    steps, layers = (other[name].astype("float64").max() for name in ("steps", "layers_adapted"))
    fewer = layers < std["layers_adapted"].astype("float64").max()
    return bool(fewer and steps == own["steps"].astype("float64").max()) and _said_to_differ(other) == _said_to_differ(
        own
    )


def _said_to_differ(rows: pd.DataFrame) -> set[str]:
    if COLUMN not in rows:
        return set()
    ended = rows.loc[rows["status"] == "ok", COLUMN].dropna()
    return {name for names in ended for name in names.split()}


def _differences(own: pd.DataFrame, other: pd.DataFrame) -> dict[str, arms.Comparison]:
    well = (own["status"] == "ok") & (other["status"] == "ok")
    timed = well & own["comparable"].fillna(False).astype(bool) & other["comparable"].fillna(False).astype(bool)
    values = {arms.LOSS: (own["eval_loss"] - other["eval_loss"]).where(well)}
    if turns.STATUS in own and all(side[turns.WITH_PROBE].notna().any() for side in (own, other)):
        ratio = (own[turns.WITH_PROBE] / other[turns.WITH_PROBE]).where(well)
        # A campaign may time its first seeds alone; of the others nothing is lost.
        timed_in_turns = own[turns.STATUS].notna() & other[turns.STATUS].notna()
        values[arms.TURNS_WITH_PROBE] = speedup_percent(ratio[timed_in_turns])
    else:
        ratio = other["total_seconds"] / own["total_seconds"]
        values[arms.WALL_CLOCK_WITH_PROBE] = speedup_percent(ratio.where(timed))
    return {measure: _comparison(of_seeds) for measure, of_seeds in values.items()}


def _comparison(values: pd.Series) -> arms.Comparison:
    found = estimate(values.astype("float64"))
    return {"unit": "seed", **found, "lost": len(values) - found["n"], "planned": len(values)}


def over_models(models: Sequence[Mapping[str, Any]]) -> arms.Comparisons:
    """Return the comparisons with controls over a campaign's headline models: each one's mean is one value."""
    return arms.over_models([{**model, "against_std": model["against_controls"]} for model in models])
