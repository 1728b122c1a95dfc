"""What a row of the ledger has of a benchmark, from the evaluations of its run and of the base model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aletheia.analysis.benchmarks import ledger_columns, measured_by
from aletheia.analysis.degenerate_answers import degenerate_cell
from aletheia.errors import UserError
from aletheia.study.benchmarks import BENCHMARKS

# Conditions of an evaluation that must be equal in base model and run, or their difference means nothing.
CONDITIONS = (
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


def check_comparable(run: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> None:
    """Refuse to compare a base model and a run that were evaluated under different conditions.

    Parameters
    ----------
    run
        Campaign and run, for the sentence.
    base, tuned
        Payloads of both evaluations.

    Raises
    ------
    UserError
        Where one of :data:`CONDITIONS` differs.
    """
    if base["status"] == tuned["status"] == "ok":
        for name in CONDITIONS:
            if base.get(name) != tuned.get(name):
                # The sandbox is the strongest on the machine that judged, so evaluating again would not change it.
                remedy = "delete both humaneval.json and judge them on machines alike"
                raise UserError(
                    f"campaign {run}: expected {base['benchmark']} with the base model's {name} "
                    f"({base.get(name)}), found {tuned.get(name)}; "
                    f"{remedy if name == 'sandbox' else 'evaluate both again'}"
                )


def benchmark_cells(benchmark: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a benchmark: of the base model, of the run, n and status, and what else both record.

    Parameters
    ----------
    benchmark
        Its name.
    base, tuned
        Payloads of both evaluations.

    Raises
    ------
    UserError
        For a benchmark that no ledger has columns of.
    """
    if benchmark not in BENCHMARKS:
        names = ", ".join(BENCHMARKS)
        raise UserError(f"benchmark {benchmark}: the ledger has columns for {names}; use one of these names")
    measure, _, _ = measured_by(benchmark)
    cells = (
        base[measure] if base["status"] == "ok" else None,
        tuned[measure] if tuned["status"] == "ok" else None,
        tuned["n"] if tuned["status"] == "ok" else None,
        tuned["status"] if base["status"] == "ok" else f"base {base['status']}",
    )
    return dict(zip(ledger_columns(benchmark), cells, strict=True)) | _answer_cells(benchmark, base, tuned)


def _answer_cells(benchmark: str, base: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of :func:`answer_columns` that either evaluation records."""
    cells: dict[str, Any] = {}
    if "probability" in base or "probability" in tuned:
        cells |= {f"{benchmark}_probability_base": base.get("probability")}
        cells |= {f"{benchmark}_probability": tuned.get("probability")}
    if "degenerate" in base or "degenerate" in tuned:
        cells |= {f"{benchmark}_degenerate": degenerate_cell(tuned.get("degenerate"))}
        cells |= {f"{benchmark}_base_degenerate": degenerate_cell(base.get("degenerate"))}
    return cells
