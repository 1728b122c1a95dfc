"""The ledger: one tidy table between measuring and analysing, one row for each run of each campaign.

A run that two campaigns share gives a row in each. A run that failed is a row with its status, its reason and
empty cells; nothing is filled in for it. What analyses read from it stands in :mod:`aletheia.analysis.pairs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.analysis import turns as turns_columns
from aletheia.analysis.benchmarks import IN_EVERY_LEDGER, answer_columns, ledger_columns, measured_by
from aletheia.analysis.degenerate_answers import degenerate_cell
from aletheia.analysis.equal_settings import COLUMN, add_differences
from aletheia.analysis.time_to_loss import RATIO, SECONDS, add_times_to_loss
from aletheia.errors import UserError
from aletheia.provenance.lineage import compact_json
from aletheia.provenance.machine_load import busy_reason
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.planned_runs import planned_runs

STD, BASE = "std", "base"
# What must be equal in base and run for a delta to mean anything.
ASKED_BY = (
    "questions_sha256",
    "task_version",
    "num_fewshot",
    "fewshot_sha256",
    "prompt",
    "batch_size",
    "padding",
    "dtype",
    "generation",
    "sandbox",
    "n",
)

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
_END_COLUMNS = {"code_digest": _TEXT, "mixed": _TEXT, "run_payload_sha256": _TEXT}
_FIXED = {name: kind for benchmark in IN_EVERY_LEDGER for name, kind in ledger_columns(benchmark).items()}
# Those of every ledger; and all that a ledger may have, with what only some campaigns ask besides.
COLUMNS = {**_RUN_COLUMNS, **_FIXED, **_END_COLUMNS}
ALL_COLUMNS = (
    COLUMNS
    | {n: kind for one in BENCHMARKS for n, kind in {**ledger_columns(one), **answer_columns(one)}.items()}
    | dict.fromkeys((SECONDS, RATIO), _REAL)
    | {COLUMN: _TEXT}
    | turns_columns.COLUMNS
)
KEY = ["campaign", "model", "arm", "seed"]


def build_ledger(
    campaigns: Sequence[Mapping[str, Any]],
    runs: Mapping[Hashable, Mapping[str, Any]],
    evaluations: Mapping[Hashable, Mapping[str, Any]],
    mixed: Mapping[Hashable, str] | None = None,
    turns: Mapping[Hashable, Mapping[str, Any]] | None = None,
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
        What sets a row apart from the others of its campaign, by (campaign, model, arm, seed).
    turns
        Envelopes of kind ``paired`` by (model, arm, seed), of campaigns with ``speed: turns``.

    Returns
    -------
    pandas.DataFrame
        One row a campaign and run, in the order of the campaigns and their runs; columns :data:`COLUMNS`, then those
        of further benchmarks that some campaign asks, of what evaluations note of answers, of held-out losses on the
        way and of arms timed in turns where there are some, and what differs from std.

    Raises
    ------
    UserError
        When a campaign names a run, or an evaluation, that is not among those given.
    """
    rows = [_row(campaign, planned, runs, evaluations) for campaign in campaigns for planned in planned_runs(campaign)]
    further = [name for name in ALL_COLUMNS if name not in COLUMNS and any(name in row for row in rows)]
    ledger = typed(pd.DataFrame(rows, columns=[*COLUMNS, *further]))
    twice = ledger[ledger.duplicated(KEY)]
    if len(twice):
        name = "/".join(str(part) for part in twice[KEY].iloc[0])
        raise UserError(f"campaigns: expected each run once a campaign, found {name} twice; take one out")
    ledger["paired"] = _paired(ledger, runs)
    ledger["order"] = _order(ledger, runs)
    keys = ledger[KEY].itertuples(index=False, name=None)
    ledger["mixed"] = pd.Series([(mixed or {}).get(key) for key in keys], index=ledger.index, dtype="str")
    ledger = add_times_to_loss(ledger, runs, KEY)
    ledger = turns_columns.add_turns(ledger, campaigns, runs, turns or {}, KEY)
    return add_differences(ledger, runs)


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the ledger's column types (whole numbers that may be missing stay whole)."""
    return frame.astype({name: ALL_COLUMNS[name] for name in frame.columns if name in ALL_COLUMNS})


def _pick(table: Mapping[Hashable, Any], key: tuple[Any, ...], campaign: str, what: str) -> Mapping[str, Any]:
    if key not in table:
        name = "/".join(str(part) for part in key if part is not None)
        raise UserError(
            f"campaign {campaign}: expected {what} {name} among the files given, found none; "
            "run that step first, or take the run out of the campaign"
        )
    return table[key]


def _row(
    campaign: Mapping[str, Any],
    planned: Mapping[str, Any],
    runs: Mapping[Hashable, Mapping[str, Any]],
    evaluations: Mapping[Hashable, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return one row as a dict; what does not apply is left out."""
    model, arm, seed, name = planned["model"], planned["arm"], planned["seed"], campaign["name"]
    envelope = _pick(runs, (model, arm, seed), name, "the run")
    row = {
        "campaign": name,
        "model": model,
        # A model whose family the registry doesn't name is a family of its own.
        "family": planned.get("family") or model,
        "arm": arm,
        "seed": seed,
        "headline": bool(planned.get("headline", True)),
        "reports": " ".join(campaign["reports"]),
        "parameters": planned.get("parameters"),
        **_run_cells(envelope),
    }
    for benchmark in planned["benchmarks"]:
        base = _pick(evaluations, (model, BASE, None, benchmark), name, "the evaluation")
        tuned = _pick(evaluations, (model, arm, seed, benchmark), name, "the evaluation")
        _check_comparable(f"{name}: {model}/{arm}/seed{seed}", base["payload"], tuned["payload"])
        row |= _benchmark_cells(benchmark, base["payload"], tuned["payload"])
    return row


def _run_cells(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run's envelope says; of a failed run no loss, time or rate, for they measure a part."""
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
    }
    if run["status"] == "ok":
        time = observed.get("time", {})
        names = ("total", "training", "probe", "median_step", "warmup")
        cells |= {f"{name}_seconds": time.get(f"{name}_seconds") for name in names}
        cells |= {"comparable": time.get("comparable", True), "busy": busy_reason(observed.get("load", {}))}
        cells |= {"eval_loss": run.get("eval_loss"), "tokens_per_second": observed.get("tokens_per_second")}
    return cells


def _code_digest(code: Any) -> str | None:
    """Return one short digest over a run's code digests: rows with equal digests ran equal code."""
    return None if not code else hashlib.sha256(compact_json(code).encode()).hexdigest()[:16]


def _check_comparable(run: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> None:
    """Refuse a delta between a base model and a run that were not asked the same in the same way."""
    if base["status"] == tuned["status"] == "ok":
        for name in ASKED_BY:
            if base.get(name) != tuned.get(name):
                # A sandbox is the strongest of the machine that judged: to evaluate again would change nothing.
                alike = "delete both humaneval.json and judge them on machines alike"
                raise UserError(
                    f"campaign {run}: expected {base['benchmark']} with the base model's {name} "
                    f"({base.get(name)}), found {tuned.get(name)}; "
                    f"{alike if name == 'sandbox' else 'evaluate both again'}"
                )


def _benchmark_cells(benchmark: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    if benchmark not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise UserError(f"benchmark {benchmark}: the ledger has columns for {known}; use one of these names")
    measure, _, _ = measured_by(benchmark)
    cells = (
        base[measure] if base["status"] == "ok" else None,
        tuned[measure] if tuned["status"] == "ok" else None,
        tuned["n"] if tuned["status"] == "ok" else None,
        tuned["status"] if base["status"] == "ok" else f"base {base['status']}",
    )
    return dict(zip(ledger_columns(benchmark), cells, strict=True)) | _answer_cells(benchmark, base, tuned)


def _answer_cells(benchmark: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Return what either evaluation notes of its answers beside their score, by :func:`answer_columns`."""
    cells: dict[str, Any] = {}
    if "probability" in base or "probability" in tuned:
        cells |= {f"{benchmark}_probability_base": base.get("probability")}
        cells |= {f"{benchmark}_probability": tuned.get("probability")}
    if "degenerate" in base or "degenerate" in tuned:
        cells |= {f"{benchmark}_degenerate": degenerate_cell(tuned.get("degenerate"))}
        cells |= {f"{benchmark}_base_degenerate": degenerate_cell(base.get("degenerate"))}
    return cells


def _paired(ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.Series:
    """Return how each row pairs with std of its model and seed: on one "device", or by "model" only.

    Nodes have several devices of one name. Of two SLURM jobs on a node nobody can tell whether they had the same, and
    they ran at different times; within one job all arms follow each other on its devices.
    """
    std = ledger[ledger["arm"] == STD]
    pairs = set(std[["campaign", "model", "seed"]].itertuples(index=False, name=None))
    kinds = []
    for row in ledger.itertuples():
        if (row.campaign, row.model, row.seed) not in pairs:
            kinds.append(None)
            continue
        own, other = (_place(runs[row.model, arm, row.seed]) for arm in (row.arm, STD))
        kinds.append("device" if own == other and None not in own[:2] else "model")
    return pd.Series(kinds, index=ledger.index, dtype="str")


def _place(envelope: Mapping[str, Any]) -> tuple[str | None, ...]:
    """Return where a run was: host, device, and its SLURM job where it had one."""
    return tuple(envelope.get("observed", {}).get(name) for name in ("host", "device", "slurm_job"))


def _order(ledger: pd.DataFrame, runs: Mapping[Hashable, Mapping[str, Any]]) -> pd.Series:
    """Return the position in time, from 1, of each run among the arms of its campaign, model and seed.

    As it happened, by when the jobs started (to the second; then by when they ended), not as it was planned. Runs that
    nothing tells apart share a position; one whose start is not known has none.
    """
    times = (runs[row.model, row.arm, row.seed].get("observed", {}) for row in ledger.itertuples())
    began = [f"{seen['started']} {seen.get('ended', '')}" if seen.get("started") else None for seen in times]
    among = [ledger[name] for name in ("campaign", "model", "seed")]
    return pd.Series(began, index=ledger.index, dtype="object").groupby(among).rank(method="min").astype(_WHOLE)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the frame with shortest round-trip floats; what is missing is an empty cell."""
    frame.to_csv(path, index=False, lineterminator="\n", na_rep="")


def read_ledger(path: Path) -> pd.DataFrame:
    """Read a ledger that :func:`write_csv` wrote.

    Raises
    ------
    UserError
        When the file lacks a column.
    """
    try:
        # Only the empty cell is missing: a model or a host may be called "NA".
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=str)
    except ValueError as error:  # pandas' own are ValueErrors too
        raise UserError(f"{path}: expected a ledger in CSV, found something else ({str(error).strip()})") from None
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise UserError(f"{path}: expected a ledger with column {missing[0]}, found none; run aggregate again")
    for name in ("headline", "comparable"):
        frame[name] = frame[name].map({"True": True, "False": False})
    numeric = [name for name in frame.columns if ALL_COLUMNS.get(name) in (_WHOLE, _REAL)]
    frame[numeric] = frame[numeric].apply(pd.to_numeric)
    return typed(frame)
