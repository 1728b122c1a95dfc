"""Dose and response: how loss, time and scores of a model move with the share of the layers that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from aletheia.analysis import turns
from aletheia.analysis.benchmarks import questions_in, stem_of
from aletheia.analysis.effects import HELDOUT_LOSS, NATS, RETENTION_LOSS, TIME
from aletheia.analysis.floors import base_at_floor
from aletheia.analysis.stats import estimate
from aletheia.analysis.validity import base_is_implausible
from aletheia.analysis.verdicts import IMPLAUSIBLE, LEVEL, ONLY_GUESSES
from aletheia.inference.multiplicity import holm
from aletheia.inference.trend import trend
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT

PERCENT, OF_STD = "percent", "of std"  # units of scores and times
RISES, FALLS, NO_TREND = "rises", "falls", "no trend shown"
TOO_FEW = "no trend can be shown"


def dose_response(rows: pd.DataFrame, sweeps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what each sweep of the budget shows.

    Parameters
    ----------
    rows
        The ledger's, of one campaign.
    sweeps
        Of :func:`aletheia.study.budget_sweeps.budget_sweeps`; those of other campaigns are left aside.

    Returns
    -------
    list of dict
        ``{model, budgets, measures}``; each measure ``{measure, unit, seeds, planned, levels, trend, p_holm,
        verdict, reason}``. ``levels`` has the estimate over all seeds of each budget, ``trend`` (of
        :func:`aletheia.inference.trend.trend`, a slope for each percent of the layers) is over the ``seeds`` that have
        every budget; Holm's correction is over the measures of a sweep.
    """
    names = set(rows["campaign"])
    return [_sweep(rows[rows["model"] == s["model"]], s) for s in sweeps if s["campaign"] in names]


def _sweep(rows: pd.DataFrame, sweep: Mapping[str, Any]) -> dict[str, Any]:
    budgets = sweep["budgets"]
    by_arm = {arm: rows[(rows["arm"] == arm)].set_index("seed") for arm in budgets}
    measures = [_measure(rows, budgets, *each) for each in _values(by_arm)]
    adjusted = holm([(found["trend"] or {}).get("p") if found["reason"] is None else None for found in measures])
    for found, p in zip(measures, adjusted, strict=True):
        found |= {"p_holm": p, **_verdict(found, p)}
    return {"model": sweep["model"], "budgets": dict(budgets), "measures": measures}


def _values(by_arm: Mapping[str, pd.DataFrame]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (measure, unit, values: one row a seed, one column an arm) of what some run has."""
    found = [(HELDOUT_LOSS, NATS, _table(by_arm, _loss_column(by_arm)))]
    found += [(TIME, OF_STD, _times(by_arm))]
    columns = next(iter(by_arm.values())).columns
    found += [(name, PERCENT, 100 * _table(by_arm, name)) for name in questions_in(columns)]
    found += [(RETENTION_LOSS, NATS, _table(by_arm, RETENTION_LOSS))] if RETENTION_LOSS in columns else []
    return [each for each in found if each[2].notna().any(axis=None)]


def _loss_column(by_arm: Mapping[str, pd.DataFrame]) -> str:
    """Return the evaluation's loss where every arm has it, else that which trainings end with."""
    column = stem_of(HELDOUT)
    return column if all(own[column].notna().any() for own in by_arm.values()) else "eval_loss"


def _table(by_arm: Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    ended = {arm: own[column].astype("float64").where(own["status"] == "ok") for arm, own in by_arm.items()}
    return pd.DataFrame(ended)


def _times(by_arm: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return each arm's time over std's of its seed: in turns where all others were timed so, else by the clock."""
    others = {arm: own for arm, own in by_arm.items() if arm != STD}
    if all(turns.RATIO in own and own[turns.RATIO].notna().any() for own in others.values()):
        table = 1 / _table(others, turns.RATIO)
        return table.assign(**{STD: 1.0})[list(by_arm)] if STD in by_arm else table
    comparable = {arm: own.where(own["comparable"].fillna(False).astype(bool)) for arm, own in by_arm.items()}
    seconds = _table(
        {arm: own.assign(status=by_arm[arm]["status"]) for arm, own in comparable.items()}, "training_seconds"
    )
    reference = seconds.get(STD, pd.Series(index=seconds.index, dtype="float64"))
    return seconds.div(reference, axis=0)


def _measure(
    rows: pd.DataFrame, budgets: Mapping[str, float], measure: str, unit: str, values: pd.DataFrame
) -> dict[str, Any]:
    levels = [{"arm": arm, "percent": percent, **estimate(values[arm])} for arm, percent in budgets.items()]
    found = trend(values[list(budgets)].to_numpy("float64"), levels=list(budgets.values()))
    reason = None
    if unit == PERCENT:
        reason = ONLY_GUESSES if base_at_floor(rows, measure) else None
        reason = IMPLAUSIBLE if base_is_implausible(rows, measure) else reason
    return {
        **{"measure": measure, "unit": unit, "levels": levels, "planned": len(values)},
        **{"seeds": found.n_blocks if found else 0, "trend": found and asdict(found), "reason": reason},
    }


def _verdict(found: Mapping[str, Any], p: float | None) -> dict[str, Any]:
    """Return the word on a trend, and why there is none."""
    if found["reason"] is not None:
        return {"verdict": None}
    if found["trend"] is None:
        return {"verdict": TOO_FEW, "reason": "no seed has every budget"}
    if p is None:
        return {"verdict": TOO_FEW, "reason": "one seed"}
    if found["trend"]["p_least"] >= LEVEL:
        return {"verdict": TOO_FEW, "reason": "so few seeds and budgets have no p below the level"}
    if p >= LEVEL:
        return {"verdict": NO_TREND}
    return {"verdict": RISES if found["trend"]["slope"] > 0 else FALLS}
