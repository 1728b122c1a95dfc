"""Every arm against the standard one of its model and seed, measure by measure, from the ledger alone.

An arm may have any name; the standard one is :data:`aletheia.study.arms.STD`. A comparison is an estimate with
``unit`` (what n counts), ``planned`` (pairs that the campaign plans) and ``lost`` (those without a value: a run of the
pair failed or was resumed, or never reached the loss).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aletheia.analysis.benchmarks import questions_in, stem_of
from aletheia.analysis.stats import estimate, paired_test
from aletheia.analysis.time_to_loss import RATIO
from aletheia.analysis.validity import implausible
from aletheia.study.arms import STD
from aletheia.study.benchmarks import HELDOUT, RETENTION

Comparison = dict[str, Any]
Comparisons = dict[str, dict[str, Comparison]]  # by arm, then by measure
LOSS = "heldout_loss_difference"
# Loss on general text: an arm's minus std's, and std's minus the base model's.
RETENTION_LOSS, RETENTION_FROM_BASE = "retention_loss_difference", "retention_loss_from_base"
# Speedups, 100·(1 − t_arm / t_std): measured in turns, and from the wall clock of the runs.
TURNS, TURNS_WITH_PROBE = "speedup_percent", "speedup_with_probe_percent"
WALL_CLOCK, WALL_CLOCK_WITH_PROBE = "wall_clock_speedup_percent", "wall_clock_speedup_with_probe_percent"
SAME_ARM = "aa_speedup_percent"  # std against itself, in turns: the noise of the measurement
_TURNS = {TURNS: "turns_ratio", TURNS_WITH_PROBE: "turns_ratio_with_probe"}
COLUMNS = (
    *("campaign", "model", "arm", "measure", "unit", "n", "mean", "low", "high"),
    *("sd", "lost", "planned", "p", "p_holm"),
)
ALL_MODELS = "all"  # in the column model


def pair_by_seed(rows: pd.DataFrame, arm: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of std and of an arm, each indexed by the seeds that have both.

    Parameters
    ----------
    rows
        Of one campaign and model.
    arm
        Its name.
    """
    std, own = (rows[rows["arm"] == name].set_index("seed") for name in (STD, arm))
    seeds = own.index.intersection(std.index)
    return std.loc[seeds], own.loc[seeds]


def has_pairs(ledger: pd.DataFrame) -> bool:
    """Tell whether some campaign has a model with the standard arm and another one."""
    arms = ledger.groupby(["campaign", "model"])["arm"].agg(set)
    return any(STD in own and len(own) > 1 for own in arms)


def against_std(rows: pd.DataFrame) -> Comparisons:
    """Return ``{arm: {measure: comparison}}`` of one campaign and model; nothing where it has no standard arm.

    Differences are arm − std and ratios arm / std, paired by seed. Of std itself: its change from the base model
    (``…_from_base``), and where arms were timed in turns, its speed against itself.

    Parameters
    ----------
    rows
        The ledger's, of one campaign and model.
    """
    comparisons: Comparisons = {}
    for arm in dict.fromkeys(rows["arm"]):
        std, own = pair_by_seed(rows, arm)
        if len(own):
            comparisons[arm] = _from_base(own) if arm == STD else _differences(std, own)
    return comparisons


def geometric(values: Iterable[float]) -> dict[str, Any]:
    """Return the geometric mean of positive values, and the t-interval of the mean of their logarithms, as ratios.

    On this scale twice and half are equally far from 1. ``sd`` is None, since it would be no difference.
    """
    logs = estimate(np.log(pd.Series(list(values), dtype="float64")))
    ratios = {key: None if logs[key] is None else float(np.exp(logs[key])) for key in ("mean", "low", "high")}
    return {"n": logs["n"], "sd": None, **ratios}


# Measures with an estimate of their own; all others have the arithmetic mean.
_ESTIMATES: dict[str, Callable[[Iterable[float]], dict[str, Any]]] = {RATIO: geometric}


def _comparison(measure: str, values: pd.Series, *, unit: str = "seed") -> Comparison:
    valid = values.where(np.isfinite(values) & ((values > 0) | (measure not in _ESTIMATES)))
    result = _ESTIMATES.get(measure, estimate)(valid)
    return {"unit": unit, **result, "lost": len(values) - result["n"], "planned": len(values)}


def _from_base(std: pd.DataFrame) -> dict[str, Comparison]:
    """Return the standard arm's changes from the base model and, where timed in turns, its speed against itself."""
    changes = {}
    for name in (HELDOUT, RETENTION):
        stem = stem_of(name)
        if _was_evaluated(std, name):
            changes[f"{stem}_from_base"] = std[stem] - std[f"{stem}_base"]
    for name in questions_in(std.columns):
        if _was_evaluated(std, name):
            changes[f"{name}_pp_from_base"] = 100 * (std[name] - std[f"{name}_base"])
        if _has_probability(std, name):
            change = std[f"{name}_probability"] - std[f"{name}_probability_base"]
            changes[f"{name}_probability_pp_from_base"] = 100 * change
    comparisons = {measure: _comparison(measure, values) for measure, values in changes.items()}
    if _timed_in_turns(std):
        comparisons[SAME_ARM] = _in_turns(std, "turns_ratio", std["status"] == "ok")
    return comparisons


def _differences(std: pd.DataFrame, own: pd.DataFrame) -> dict[str, Comparison]:
    """Return an arm's comparisons with std; only pairs of runs that both ended well have values."""
    both_ok = (std["status"] == "ok") & (own["status"] == "ok")
    timed = both_ok & std["comparable"].fillna(False).astype(bool) & own["comparable"].fillna(False).astype(bool)
    std, own = (side.assign(**_numbers(side)) for side in (std, own))

    def ratio(name: str, where: pd.Series = both_ok) -> pd.Series:
        return own[name].where(where) / std[name]

    own_loss, std_loss = (side.where(both_ok) for side in heldout_losses(own, std))
    values = {LOSS: own_loss - std_loss}
    if _was_evaluated(own, RETENTION):
        stem = stem_of(RETENTION)
        values[RETENTION_LOSS] = (own[stem] - std[stem]).where(both_ok)
    for name in questions_in(own.columns):
        if _was_evaluated(own, name):
            base = std[f"{name}_base"]
            values[f"{name}_extra_pp"] = (100 * (own[name] - base) - 100 * (std[name] - base)).where(both_ok)
        if _has_probability(own, name):
            column = f"{name}_probability"
            values[f"{column}_extra_pp"] = (100 * (own[column] - std[column])).where(both_ok)
    values[WALL_CLOCK] = 100 * (1 - ratio("training_seconds", timed))
    values[WALL_CLOCK_WITH_PROBE] = 100 * (1 - ratio("total_seconds", timed))
    if RATIO in own and std[RATIO].notna().any():
        values[RATIO] = own[RATIO].where(timed)
    values["steps_ratio"] = ratio("steps")
    values["trainable_parameters_ratio"] = ratio("trainable_parameters")
    values["peak_memory_ratio"] = ratio("peak_memory_bytes")
    values["probe_share_percent"] = 100 * (own["probe_seconds"] / own["total_seconds"]).where(timed)
    comparisons = {measure: _comparison(measure, of_seeds) for measure, of_seeds in values.items()}
    comparisons[LOSS]["p"] = paired_test(own_loss, std_loss)["p"]
    if _timed_in_turns(own):
        comparisons |= {measure: _in_turns(own, column, both_ok) for measure, column in _TURNS.items() if column in own}
    return comparisons


def heldout_losses(own: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return the held-out losses by which two arms compare, in nats.

    Those of the evaluation where both were evaluated: it may read more rows than the training does at its end, and it
    knows the loss of each. Else those that the trainings end with.

    Parameters
    ----------
    own, other
        Rows of the ledger, indexed by the same seeds.
    """
    column = stem_of(HELDOUT)
    evaluated = all(_was_evaluated(side, HELDOUT) and side[column].notna().any() for side in (own, other))
    name = column if evaluated else "eval_loss"
    return own[name].astype("float64"), other[name].astype("float64")


def _was_evaluated(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether these runs were evaluated on a benchmark; a ledger has the columns of its own benchmarks only."""
    status = f"{benchmark}_status"
    return status in rows and bool(rows[status].notna().any())


def _has_probability(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the ledger has the probability of the right choice, which earlier evaluations did not record."""
    column = f"{benchmark}_probability"
    return column in rows and bool(rows[column].notna().any())


def _numbers(side: pd.DataFrame) -> dict[str, pd.Series]:
    return {name: side[name].astype("float64") for name in ("steps", "trainable_parameters", "peak_memory_bytes")}


def _timed_in_turns(rows: pd.DataFrame) -> bool:
    """Tell whether a campaign has arms timed in turns: others have no such columns, or empty ones."""
    return any(name in rows and rows[name].notna().any() for name in ("turns_ratio", "turns_status"))


def _in_turns(rows: pd.DataFrame, column: str, both_ok: pd.Series) -> Comparison:
    """Return the speedup, 100·(1 − 1/ratio) with ratio = t_std / t_arm, of arms that took turns.

    Over several seeds with the t-interval of the seeds' speedups, which includes the variation over rounds; of one seed
    with the bootstrap interval over its rounds, whose number is n.
    """
    ratio = rows[column].astype("float64").where(both_ok)
    if "turns_status" in rows:
        # Seeds that the campaign does not time in turns are not planned here, so they are not lost either.
        ratio = ratio[rows["turns_status"].notna()]
    comparison = _comparison(TURNS, 100 * (1 - 1 / ratio))
    if comparison["n"] == 1:
        seed = ratio.first_valid_index()
        low, high, rounds = (rows.at[seed, name] for name in (f"{column}_low", f"{column}_high", "turns_rounds"))
        if pd.notna(low) and pd.notna(high) and pd.notna(rounds):
            bounds = {"low": 100 * (1 - 1 / float(low)), "high": 100 * (1 - 1 / float(high))}
            comparison |= {"unit": "round", "n": int(rounds), **bounds}
    return comparison


def over_models(models: Sequence[Mapping[str, Any]]) -> Comparisons:
    """Return the comparisons over a campaign's headline models: each one's mean is one value.

    Parameters
    ----------
    models
        With ``headline``, ``against_std`` and ``base_validity``; a benchmark with an implausible base has no value.
    """
    means: dict[str, dict[str, list[float | None]]] = {}
    for model in models:
        left_out = tuple(f"{benchmark}_" for benchmark in implausible(model["base_validity"]))
        for arm, measures in model["against_std"].items() if model["headline"] else ():
            for measure, comparison in measures.items():
                if measure.startswith(left_out):
                    continue
                means.setdefault(arm, {}).setdefault(measure, []).append(comparison["mean"])
    return {
        arm: {
            measure: _comparison(measure, pd.Series(values, dtype="float64"), unit="model")
            for measure, values in measures.items()
        }
        for arm, measures in means.items()
    }


def arm_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """Return ``arms.csv``: one row a campaign, model (or all headline models), arm and measure.

    Parameters
    ----------
    summary
        Of :func:`aletheia.analysis.summary.summarise`.
    """
    rows = [
        {"campaign": campaign["name"], "model": model, "arm": arm, "measure": measure, **comparison}
        for campaign in summary["campaigns"]
        for model, comparisons in (
            *((model["model"], model["against_std"]) for model in campaign["models"]),
            (ALL_MODELS, campaign["against_std"]),
        )
        for arm, measures in comparisons.items()
        for measure, comparison in measures.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
