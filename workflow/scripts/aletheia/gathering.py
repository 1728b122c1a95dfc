"""What aggregate reads: where a study keeps the artifacts of its campaigns, and the tables made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aletheia import artifacts, pairs
from aletheia.layer_table import layer_table
from aletheia.ledger import BASE, build_ledger, planned_runs
from aletheia.uniformity import check_uniform, mixed_rows

Campaigns = Sequence[Mapping[str, Any]]


def run_paths(campaigns: Campaigns, root: Path) -> list[Path]:
    """Return the run.json of every run, below the study's ``root``."""
    return sorted({root / "train" / _place(run) / "run.json" for run in _runs(campaigns)})


def evaluation_paths(campaigns: Campaigns, root: Path) -> list[Path]:
    """Return the evaluations of every run and of every base model, below the study's ``root``."""
    return sorted(
        {
            root / "evaluate" / place / f"{benchmark}.json"
            for run in _runs(campaigns)
            for place in (_place(run), f"{run['model']}/{BASE}")
            for benchmark in run["benchmarks"]
        }
    )


def probe_paths(campaigns: Campaigns, root: Path) -> dict[tuple[str, int], Path]:
    """Return the probe of each (model, seed) of the campaigns that probe, below the study's ``root``."""
    return {
        (run["model"], run["seed"]): root / "probe" / run["model"] / f"seed{run['seed']}.json"
        for run in _runs([campaign for campaign in campaigns if campaign.get("probed")])
    }


def tables(campaigns: Campaigns, probed: bool) -> list[str]:
    """Return the names of the tables that :func:`gathered` makes of these campaigns."""
    reports = {report for campaign in campaigns for report in campaign["reports"]}
    wanted = [name for name, (_, needs) in VIEWS.items() if not needs or reports & needs]
    return wanted + (["layers.csv"] if probed else [])


def gathered(
    campaigns: Campaigns, runs: Iterable[Path], evaluations: Iterable[Path], probes: Mapping[tuple[str, int], Path]
) -> dict[str, pd.DataFrame]:
    """Return the tables by file name: the ledger, its views, and the layers.

    Raises
    ------
    UserError
        When a file is missing or changed, or a row was made otherwise than its campaign's others.
    """
    trained = _read_by(runs, "run", "model", "arm", "seed")
    evaluated = _read_by(evaluations, "evaluation", "model", "arm", "seed", "benchmark")
    mixed = {}
    for campaign in campaigns:
        rows = mixed_rows(campaign, trained, evaluated)
        check_uniform(campaign, rows)
        mixed |= {(campaign["name"], *key): what for key, what in rows.items()}
    for key, what in mixed.items():
        print(f"note: {'/'.join(map(str, key))} was made by other {what}")
    ledger = build_ledger(campaigns, trained, evaluated, mixed)
    frames = {name: VIEWS[name][0](ledger) for name in tables(campaigns, probed=False)}
    if probes:
        frames["layers.csv"] = layer_table({key: artifacts.payload(path, "probe") for key, path in probes.items()})
    return frames


# What each table shows of the ledger, and the reports that ask for it.
VIEWS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], set[str]]] = {
    "ledger.csv": (lambda ledger: ledger, set()),
    "RESULTS_MASTER.csv": (pairs.results_master, {"speed"}),
    "RESULTS_CAMPAIGN2.csv": (pairs.results_runs, {"downstream", "compute_matched"}),
}


def _runs(campaigns: Campaigns) -> list[Mapping[str, Any]]:
    return [run for campaign in campaigns for run in planned_runs(campaign)]


def _place(run: Mapping[str, Any]) -> str:
    return f"{run['model']}/{run['arm']}/seed{run['seed']}"


def _read_by(paths: Iterable[Path], kind: str, *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the envelopes by the payload's values of ``key``."""
    envelopes = (artifacts.read(path, kind) for path in paths)
    return {tuple(envelope["payload"][name] for name in key): envelope for envelope in envelopes}
