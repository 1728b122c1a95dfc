"""The ledger: one tidy table between measuring and analysing, one row for each run of each campaign.

A run that two campaigns share has a row in each. A run that failed has a row with its status, its reason and empty
cells. Its views are in :mod:`aletheia.analysis.pairs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.analysis import turns as turns_columns
from aletheia.analysis.benchmarks import IN_EVERY_LEDGER, answer_columns, ledger_columns
from aletheia.analysis.equal_settings import COLUMN, add_differences
from aletheia.analysis.evaluation_cells import benchmark_cells, check_comparable
from aletheia.analysis.time_to_loss import RATIO, SECONDS, add_times_to_loss
from aletheia.analysis.validity import validity_cells, validity_columns
from aletheia.errors import UserError
from aletheia.provenance.lineage import compact_json
from aletheia.provenance.machine_load import busy_reason
from aletheia.study.benchmarks import BENCHMARKS, QUESTION_BENCHMARKS
from aletheia.study.planned_runs import planned_runs
from aletheia.study.run_length import EPOCHS

OFF = "off"  # of a prefix that was not kept
STD, BASE = "std", "base"
_TEXT, _WHOLE, _REAL, _FLAG = "str", "Int64", "float64", "boolean"
_RUN_COLUMNS = {
    "campaign": _TEXT,
    "model": _TEXT,
    "family": _TEXT,
    "arm": _TEXT,
    "seed": _WHOLE,
    "status": _TEXT,
    "reason": _TEXT,
    "headline": _FLAG,
    "reports": _TEXT,
    "parameters": _WHOLE,
    "steps": _WHOLE,
    "steps_done": _WHOLE,
    "layers_adapted": _WHOLE,
    "layers_total": _WHOLE,
    "lowest_layer": _WHOLE,
    "trainable_parameters": _WHOLE,
    "dtype": _TEXT,
    "quantization": _TEXT,
    "eval_loss": _REAL,
    "total_seconds": _REAL,
    "training_seconds": _REAL,
    "probe_seconds": _REAL,
    "median_step_seconds": _REAL,
    "warmup_seconds": _REAL,
    "comparable": _FLAG,
    "busy": _TEXT,
    "tokens_per_second": _REAL,
    "peak_memory_bytes": _WHOLE,
    "host": _TEXT,
    "device": _TEXT,
    "threads": _WHOLE,
    "paired": _TEXT,
    "order": _WHOLE,
}
# Where a run kept the states of its frozen prefix, and what it was charged for those that others had kept.
PREFIX, PREFIX_SECONDS = "prefix_cache", "prefix_seconds"
ENDED = "ended"  # when the run was measured: its end, in UTC, ISO 8601
_END_COLUMNS = {"code_digest": _TEXT, "mixed": _TEXT, "run_payload_sha256": _TEXT, ENDED: _TEXT}
_FIXED = {name: kind for benchmark in IN_EVERY_LEDGER for name, kind in ledger_columns(benchmark).items()}
# The columns of every ledger, and all that a ledger may have, with those of some campaigns only.
COLUMNS = {**_RUN_COLUMNS, **_FIXED, **_END_COLUMNS}
ALL_COLUMNS = (
    COLUMNS
    | {n: kind for name in BENCHMARKS for n, kind in {**ledger_columns(name), **answer_columns(name)}.items()}
    | {n: kind for name in QUESTION_BENCHMARKS for n, kind in validity_columns(name).items()}
    | dict.fromkeys((SECONDS, RATIO), _REAL)
    | {PREFIX: _TEXT, PREFIX_SECONDS: _REAL}
    | {COLUMN: _TEXT, EPOCHS: _REAL}
    | turns_columns.COLUMNS
)
KEY = ["campaign", "model", "arm", "seed"]


def build_ledger(
    campaigns: Sequence[Mapping[str, Any]],
    runs: Mapping[Hashable, Mapping[str, Any]],
    evaluations: Mapping[Hashable, Mapping[str, Any]],
    mixed: Mapping[Hashable, str] | None = None,
    turns: Mapping[Hashable, Mapping[str, Any]] | None = None,
    *,
    published: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Return the ledger.

    Parameters
    ----------
    campaigns
        Each ``{name, reports, …}`` and its runs (see :func:`aletheia.study.planned_runs.planned_runs`).
    runs
        Envelopes of kind ``run`` by (model, arm, seed).
    evaluations
        Envelopes of kind ``evaluation`` by (model, arm, seed, benchmark); base: arm "base", seed None.
    mixed
        The differences of a row from the others of its campaign, by (campaign, model, arm, seed).
    turns
        Envelopes of kind ``paired`` by (model, arm, seed), of campaigns with ``speed: turns``.
    published
        The registry's published scores, ``{model: {benchmark: {score, tolerance, source}}}``.

    Returns
    -------
    pandas.DataFrame
        One row a campaign and run, in the order of the campaigns and their runs; columns :data:`COLUMNS`, then, where
        there are such, those of further benchmarks, of probabilities and degenerate answers, of published scores, of
        epochs, of held-out losses on the way, of frozen prefixes, of arms timed in turns, and of the differences from
        std.

    Raises
    ------
    UserError
        When a campaign names a run, or an evaluation, that is not among those given.
    """
    tables = (runs, evaluations, published or {})
    rows = [_row(campaign, planned, *tables) for campaign in campaigns for planned in planned_runs(campaign)]
    further = [name for name in ALL_COLUMNS if name not in COLUMNS and any(name in row for row in rows)]
    ledger = set_column_types(pd.DataFrame(rows, columns=[*COLUMNS, *further]))
    duplicates = ledger[ledger.duplicated(KEY)]
    if len(duplicates):
        name = "/".join(str(part) for part in duplicates[KEY].iloc[0])
        raise UserError(f"campaigns: expected each run once a campaign, found {name} twice; take one out")
    ledger["paired"] = _pairing(ledger, runs)
    ledger["order"] = _order(ledger, runs)
    keys = ledger[KEY].itertuples(index=False, name=None)
    ledger["mixed"] = pd.Series([(mixed or {}).get(key) for key in keys], index=ledger.index, dtype="str")
    ledger = add_times_to_loss(ledger, runs, KEY)
    ledger = turns_columns.add_turns(ledger, campaigns, runs, turns or {}, KEY)
    return add_differences(ledger, runs)


def set_column_types(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the ledger's column types (whole numbers that may be missing stay whole)."""
    return frame.astype({name: ALL_COLUMNS[name] for name in frame.columns if name in ALL_COLUMNS})


def _require(table: Mapping[Hashable, Any], key: tuple[Any, ...], campaign: str, noun: str) -> Mapping[str, Any]:
    if key not in table:
        name = "/".join(str(part) for part in key if part is not None)
        raise UserError(
            f"campaign {campaign}: expected {noun} {name} among the files given, found none; "
            "run that step first, or take the run out of the campaign"
        )
    return table[key]


def _row(
    campaign: Mapping[str, Any],
    planned: Mapping[str, Any],
    runs: Mapping[Hashable, Mapping[str, Any]],
    evaluations: Mapping[Hashable, Mapping[str, Any]],
    published: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return one row as a dict, without the columns that do not apply."""
    model, arm, seed, name = planned["model"], planned["arm"], planned["seed"], campaign["name"]
    envelope = _require(runs, (model, arm, seed), name, "the run")
    row = {
        "campaign": name,
        "model": model,
        # Without a family in the registry, a model forms its own.
        "family": planned.get("family") or model,
        "arm": arm,
        "seed": seed,
        "headline": bool(planned.get("headline", True)),
        "reports": " ".join(campaign["reports"]),
        "parameters": planned.get("parameters"),
        **_run_cells(envelope),
    }
    for benchmark in planned["benchmarks"]:
        base = _require(evaluations, (model, BASE, None, benchmark), name, "the evaluation")
        tuned = _require(evaluations, (model, arm, seed, benchmark), name, "the evaluation")
        check_comparable(f"{name}: {model}/{arm}/seed{seed}", base["payload"], tuned["payload"])
        row |= benchmark_cells(benchmark, base["payload"], tuned["payload"])
        row |= validity_cells(benchmark, base["payload"], published.get(model, {}).get(benchmark))
    return row


def _run_cells(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells from a run's envelope; of a failed run without loss, time and rate, which cover only a part."""
    run, observed = envelope["payload"], envelope.get("observed", {})
    placement = run.get("placement") or {}
    layers = placement.get("layers")
    cells = {
        "status": run["status"],
        "reason": run.get("reason"),
        "steps": run.get("steps"),
        "steps_done": run.get("step"),
        "layers_adapted": None if layers is None else len(layers),
        "layers_total": placement.get("layers_total"),
        "lowest_layer": placement.get("lowest_layer"),
        "trainable_parameters": run.get("trainable_parameters"),
        "dtype": run.get("dtype"),
        "quantization": run.get("quantization"),
        **{name: observed.get(name) for name in ("peak_memory_bytes", "host", "device", "threads")},
        "code_digest": _code_digest(envelope.get("lineage", {}).get("code")),
        "run_payload_sha256": envelope.get("payload_sha256"),
        ENDED: observed.get("ended"),
    }
    if run.get(EPOCHS) is not None:
        cells[EPOCHS] = run[EPOCHS]
    if run["status"] == "ok":
        time = observed.get("time", {})
        names = ("total", "training", "probe", "median_step", "warmup")
        cells |= {f"{name}_seconds": time.get(f"{name}_seconds") for name in names}
        cells |= {"comparable": time.get("comparable", True), "busy": busy_reason(observed.get("load", {}))}
        cells |= {"eval_loss": run.get("eval_loss"), "tokens_per_second": observed.get("tokens_per_second")}
        kept = (observed.get("prefix_cache") or {}).get("store", OFF)
        cells |= {} if kept == OFF else {PREFIX: kept, PREFIX_SECONDS: time.get("prefix_seconds")}
    return cells


def _code_digest(code: Any) -> str | None:
    """Return one short digest over a run's code digests: rows with equal digests ran equal code."""
    return None if not code else hashlib.sha256(compact_json(code).encode()).hexdigest()[:16]


def _pairing(ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.Series:
    """Return how each row pairs with std of its model and seed: on one "device", or by "model" only.

    A node may have several devices of one name, so two SLURM jobs on it may have had different ones, and they ran at
    different times; within one job all arms run one after another on its devices.
    """
    std = ledger[ledger["arm"] == STD]
    pairs = set(std[["campaign", "model", "seed"]].itertuples(index=False, name=None))
    kinds = []
    for row in ledger.itertuples():
        if (row.campaign, row.model, row.seed) not in pairs:
            kinds.append(None)
            continue
        arm_machine, std_machine = (_machine(runs[row.model, arm, row.seed]) for arm in (row.arm, STD))
        kinds.append("device" if arm_machine == std_machine and None not in arm_machine[:2] else "model")
    return pd.Series(kinds, index=ledger.index, dtype="str")


def _machine(envelope: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return the host and device of a run, and its SLURM job where it had one."""
    return tuple(envelope.get("observed", {}).get(name) for name in ("host", "device", "slurm_job"))


def _order(ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.Series:
    """Return the position in time, from 1, of each run among the arms of its campaign, model and seed.

    The actual order, by the jobs' start (to the second, then by their end), not the planned one. Runs with equal times
    share a position; one without a known start has none.
    """
    times = (runs[row.model, row.arm, row.seed].get("observed", {}) for row in ledger.itertuples())
    starts = [f"{each['started']} {each.get('ended', '')}" if each.get("started") else None for each in times]
    groups = [ledger[name] for name in ("campaign", "model", "seed")]
    return pd.Series(starts, index=ledger.index, dtype="object").groupby(groups).rank(method="min").astype(_WHOLE)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the frame with shortest round-trip floats; missing values are empty cells."""
    frame.to_csv(path, index=False, lineterminator="\n", na_rep="")


def read_ledger(path: Path) -> pd.DataFrame:
    """Read a ledger that :func:`write_csv` wrote; one of an earlier version, without :data:`ENDED`, has it empty.

    Raises
    ------
    UserError
        When the file lacks a column.
    """
    try:
        # Only an empty cell is a missing value: a model or a host may be called "NA".
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=str)
    except ValueError as error:  # pandas' own are ValueErrors too
        raise UserError(f"{path}: expected a ledger in CSV, found something else ({str(error).strip()})") from None
    frame[ENDED] = frame.get(ENDED)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: expected a ledger with column {missing[0]}, found none; run aggregate again")
    for name in ("headline", "comparable"):
        frame[name] = frame[name].map({"True": True, "False": False})
    numeric = [name for name in frame.columns if ALL_COLUMNS.get(name) in (_WHOLE, _REAL)]
    frame[numeric] = frame[numeric].apply(pd.to_numeric)
    return set_column_types(frame)
