"""The ledger's columns on arms that were timed in turns with std in one process (``speed: turns``)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from aletheia.study.arms import STD
from aletheia.study.planned_runs import planned_runs, runs_in_turns
from aletheia.timing.paired import run_ratios

ENDS = {"": "value", "_low": "low", "_high": "high"}
RATIO, WITH_PROBE, ROUNDS, STATUS = "turns_ratio", "turns_ratio_with_probe", "turns_rounds", "turns_status"
RATIOS = {f"{name}{end}": "float64" for name in (RATIO, WITH_PROBE) for end in ENDS}
# Types of the columns, which only a ledger with such a campaign has.
COLUMNS = {**RATIOS, ROUNDS: "Int64", STATUS: "str"}


def add_turns(
    ledger: pd.DataFrame,
    campaigns: Sequence[Mapping[str, Any]],
    runs: Mapping[Hashable, Mapping[str, Any]],
    turns: Mapping[Hashable, Mapping[str, Any]],
    key: Sequence[str],
) -> pd.DataFrame:
    """Return a ledger with the ratios t_std / t_arm of whole runs, where some campaign takes its speed from turns.

    The ratio of a step is measured; that of a run follows from the steps of both runs in their ``run.json``
    (:func:`aletheia.timing.paired.run_ratios`). The row of ``std`` has std against std (A/A) from the campaign's first
    measured arm: from one measurement, since it shows the noise of one. A failed measurement has its status and no
    numbers.

    Parameters
    ----------
    ledger
        With the columns of ``key``.
    campaigns, runs
        As of :func:`aletheia.analysis.ledger.build_ledger`.
    turns
        Envelopes of kind ``paired`` by (model, arm, seed).
    key
        Its columns campaign, model, arm, seed.
    """
    if not any(runs_in_turns(campaign) for campaign in campaigns):
        return ledger
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for campaign in campaigns:
        for model, arm, seed in runs_in_turns(campaign):
            pair = turns[model, arm, seed]["payload"]
            steps = {name: runs[model, name, seed]["payload"].get("steps") for name in (STD, arm)}
            cells[campaign["name"], model, arm, seed] = _arm_cells(pair, steps[STD], steps[arm])
        for model, seed in dict.fromkeys((run["model"], run["seed"]) for run in planned_runs(campaign)):
            pairs = [turns[key]["payload"] for key in runs_in_turns(campaign) if (key[0], key[2]) == (model, seed)]
            if pairs:
                cells[campaign["name"], model, STD, seed] = _same_cells(pairs)
    keys = ledger[list(key)].itertuples(index=False, name=None)
    columns = pd.DataFrame([cells.get(each, {}) for each in keys], columns=list(COLUMNS), index=ledger.index)
    return pd.concat([ledger, columns.astype(COLUMNS)], axis=1)


def _arm_cells(pair: Mapping[str, Any], std_steps: int | None, arm_steps: int | None) -> dict[str, Any]:
    """Return the cells of an arm; without numbers where the measurement failed, or a run's steps are not known."""
    cells = {STATUS: pair["status"]}
    if pair["ratio"] is None or not std_steps or not arm_steps:
        return cells
    ratios = run_ratios(pair, std_steps=std_steps, arm_steps=arm_steps)
    cells |= _flat(RATIO, ratios["ratio"]) | _flat(WITH_PROBE, ratios["ratio_with_probe"])
    return cells | {ROUNDS: pair["rounds"]}


def _same_cells(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the cells of std, from the first measurement of its model and seed that ended well."""
    pair = next((pair for pair in pairs if pair["same_ratio"]), pairs[0])
    if pair["same_ratio"] is None:
        return {STATUS: pair["status"]}
    # Neither side has a probe.
    same = _flat(RATIO, pair["same_ratio"]) | _flat(WITH_PROBE, pair["same_ratio"])
    return {**same, STATUS: pair["status"], ROUNDS: pair["rounds"]}


def _flat(name: str, ratio: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}{suffix}": ratio[end] for suffix, end in ENDS.items()}
