"""Views of the ledger: pairs of runs of one model and seed, and the two result tables of the paper."""

from __future__ import annotations

import pandas as pd

from aletheia.analysis import turns
from aletheia.analysis.benchmarks import FACTS, ledger_columns, questions_in
from aletheia.analysis.ledger import STD
from aletheia.study.planned_runs import TURNS

ALE, CM = "ale", "cm"


def reporting(ledger: pd.DataFrame, report: str) -> pd.DataFrame:
    """Return the rows of the campaigns that make ``report`` ("speed", "downstream", "compute_matched")."""
    return ledger[[report in str(reports).split() for reports in ledger["reports"]]]


def pairs(ledger: pd.DataFrame, arm: str = ALE) -> pd.DataFrame:
    """Return one row for each campaign, model and seed that has both std and ``arm``, with paired measures.

    Returns
    -------
    pandas.DataFrame
        ``speedup_percent`` is 100·(1 − t_arm / t_std) and ``ratio`` t_std / t_arm over training seconds
        (warm-up and steps); the columns ``…_with_probe`` count the probe in t_arm. Deltas are fine-tuned −
        base and ``…_extra_pp`` is delta of ``arm`` − delta of std, in percentage points. Cells of a failed
        run are empty, and so are the times of a pair in which one run was killed and resumed. ``busy``: whether one
        of its times was taken on a busy machine (:data:`aletheia.provenance.machine_load.BUSY_RULE`).

        Where some campaign takes its speed from turns there are more columns (:func:`_with_turns`): in its rows
        ``speedup_percent``, ``ratio`` and those with the probe are then of whole runs from turns.
    """
    on = ["campaign", "model", "seed"]
    std = ledger[ledger["arm"] == STD]
    other = ledger[ledger["arm"] == arm]
    merged = std.merge(other, on=on, suffixes=("_std", f"_{arm}"), validate="one_to_one")
    frame = merged[[*on]].copy()
    frame.insert(2, "family", merged["family_std"])
    frame["headline"] = merged["headline_std"]
    for name in ("status_std", f"status_{arm}"):
        frame[name] = merged[name]
    frame["paired"] = merged[f"paired_{arm}"]
    frame["busy"] = merged["busy_std"].notna() | merged[f"busy_{arm}"].notna()
    comparable = merged["comparable_std"].fillna(False) & merged[f"comparable_{arm}"].fillna(False)
    std_time, arm_time = (merged[f"training_seconds_{side}"].where(comparable) for side in ("std", arm))
    frame["std_seconds"], frame[f"{arm}_seconds"] = std_time, arm_time
    frame["speedup_percent"], frame["ratio"] = 100 * (1 - arm_time / std_time), std_time / arm_time
    std_total, arm_total = (merged[f"total_seconds_{side}"].where(comparable) for side in ("std", arm))
    frame["std_total_seconds"], frame[f"{arm}_total_seconds"] = std_total, arm_total
    frame["probe_seconds"] = merged[f"probe_seconds_{arm}"]
    frame["speedup_with_probe_percent"] = 100 * (1 - arm_total / std_total)
    frame["ratio_with_probe"] = std_total / arm_total
    if turns.STATUS in ledger.columns:
        frame = _with_turns(frame, merged, arm)
    for side in ("std", arm):
        frame[f"eval_loss_{side}"] = merged[f"eval_loss_{side}"]
    frame["eval_loss_difference"] = frame[f"eval_loss_{arm}"] - frame["eval_loss_std"]
    return pd.concat([frame, _paired_scores(merged, arm, questions_in(ledger.columns))], axis=1)


def _with_turns(frame: pd.DataFrame, merged: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return the pairs with speedups from turns where their campaign has them, and with columns of the wall clock.

    ``speed`` is "turns" or "wall_clock"; ``wall_clock_speedup_percent`` and its like are from the runs' times in all
    rows. From turns, ``…_low`` and ``…_high`` are a pair's 95 % interval over its rounds, and ``same_ratio`` and
    ``same_speedup_percent`` are std against std (A/A), whose expected value is 0 %.
    """
    # All seeds of a model or none: a seed that is not timed in turns has no speedup beside others that are.
    status = merged[f"{turns.STATUS}_{arm}"].notna()
    in_turns = status.groupby([merged["campaign"], merged["model"]]).transform("any")
    both_ok = (merged["status_std"] == "ok") & (merged[f"status_{arm}"] == "ok")
    new = {"speed": in_turns.map({True: TURNS, False: "wall_clock"}), turns.ROUNDS: merged[f"{turns.ROUNDS}_{arm}"]}
    for suffix, column in (("", turns.RATIO), ("_with_probe", turns.WITH_PROBE)):
        ratio, speedup = f"ratio{suffix}", f"speedup{suffix}_percent"
        new |= {f"wall_clock_{name}": frame[name] for name in (speedup, ratio)}
        values = {end: merged[f"{column}{end}_{arm}"].where(both_ok) for end in turns.ENDS}
        frame[ratio] = frame[ratio].where(~in_turns, values[""])
        frame[speedup] = frame[speedup].where(~in_turns, speedup_percent(values[""]))
        for end in ("_low", "_high"):
            new |= {f"{ratio}{end}": values[end], f"{speedup}{end}": speedup_percent(values[end])}
    for end in turns.ENDS:
        new[f"same_ratio{end}"] = merged[f"{turns.RATIO}{end}_std"].where(in_turns)
        new[f"same_speedup_percent{end}"] = speedup_percent(new[f"same_ratio{end}"])
    return pd.concat([frame, pd.DataFrame(new)], axis=1)


def speedup_percent(ratio: pd.Series) -> pd.Series:
    """Return 100·(1 − 1 / ratio), of ratios t_std / t_arm."""
    return 100 * (1 - 1 / ratio)


def _paired_scores(merged: pd.DataFrame, arm: str, benchmarks: list[str]) -> pd.DataFrame:
    cells = {}
    for name in benchmarks:
        base = merged[f"{name}_base_std"]
        cells[f"{name}_base"] = base
        for side in ("std", arm):
            cells[f"{name}_{side}"] = merged[f"{name}_{side}"]
        for side in ("std", arm):
            cells[f"{name}_delta_{side}_pp"] = 100 * (merged[f"{name}_{side}"] - base)
        cells[f"{name}_extra_pp"] = cells[f"{name}_delta_{arm}_pp"] - cells[f"{name}_delta_std_pp"]
        cells[f"{name}_n"] = merged[f"{name}_n_std"]
    return pd.DataFrame(cells, index=merged.index)


def results_master(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of the campaigns that report speed (the paper's ``RESULTS_MASTER.csv``: 30 rows)."""
    frame = pairs(reporting(ledger, "speed"))
    left_out = tuple(f"{name}_" for name in questions_in(frame.columns) if not FACTS[name].in_master)
    return frame.drop(columns=[column for column in frame.columns if column.startswith(left_out)])


def results_runs(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return one row a run of the campaigns that report downstream or compute-matched results, with deltas.

    The paper's ``RESULTS_CAMPAIGN2.csv``: 51 rows, those of failed runs among them.
    """
    rows = reporting(ledger, "downstream").index.union(reporting(ledger, "compute_matched").index)
    first = ["campaign", "model", "family", "arm", "seed", "status", "reason", "steps", "steps_done"]
    measured = ["eval_loss", "training_seconds", "total_seconds", "comparable", "busy", "paired"]
    frame = ledger.loc[rows, [*first, *measured]].copy()
    frame["heldout_loss_base"] = ledger.loc[rows, "heldout_loss_base"]
    frame["heldout_loss"] = ledger.loc[rows, "heldout_loss"]
    for name in questions_in(ledger.columns):
        for column in ledger_columns(name):
            frame[column] = ledger.loc[rows, column]
        frame[f"{name}_delta_pp"] = 100 * (frame[name] - frame[f"{name}_base"])
    return frame
