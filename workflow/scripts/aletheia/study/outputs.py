"""Where each step of a study leaves its files: what a finished study consists of, and by which rule.

The rules declare the same paths; a test holds the two against each other. Verify, audit and the evidence bundle read
this, so that a deleted file is missed even where nothing else names it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from aletheia.provenance.artifacts import SIDECAR
from aletheia.study.benchmarks import BENCHMARKS, CODE, table_name
from aletheia.study.study import Run, Study

BASE = "base"


def study_targets(study: Study, results: str = "results") -> list[str]:
    """Return what the study is for: ledgers, statistics, tables, analyses, figures."""
    return [
        *(f"{results}/aggregate/{name}" for name in ("ledger.csv", *study.result_tables())),
        f"{results}/stats/summary.json",
        *(f"{results}/stats/{name}" for name in study.analyses()),
        *(f"{results}/tables/table{n}.{suffix}" for n in study.tables() for suffix in ("csv", "md", "tex")),
        *(f"{results}/figures/{name}.{suffix}" for name in study.figure_names() for suffix in ("pdf", "png", "svg")),
    ]


def study_files(study: Study, results: str = "results", resources: str = "resources") -> dict[str, str]:
    """Return ``{path: rule}`` for every file and folder that the rules of a finished study have written.

    Parameters
    ----------
    study
        The study as loaded from its configuration.
    results, resources
        Its two trees, as Snakemake's path variables name them.
    """
    files = {f"{resources}/models/{name}.lock.json": "stage_model" for name in study.used_models()}
    files |= {f"{resources}/data/{name}.lock.json": "stage_data" for name in study.used_data()}
    for model in study.used_models():
        if study.models[model]["dtype"] == "auto":
            files[f"{results}/precision/{model}.json"] = "precision"
        files |= _evaluated(study, f"{results}/evaluate/{model}/{BASE}", model)
    for run in study.runs.values():
        files |= _trained(run, results)
        files |= _evaluated(study, f"{results}/evaluate/{run.model}/{run.arm}/seed{run.seed}", run.model)
    return files | _reported(study, results)


def stability_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake stability`` leaves, which is no target of the study."""
    draws = {model: study.shared[model]["stability"]["draws"] for model, _ in study.probed()}
    folder = f"{results}/stability"
    files = {f"{folder}/{model}/seed{draw}.json": "probe_draw" for model, n in draws.items() for draw in range(n)}
    plots = [path for suffix in ("pdf", "png", "svg") for path in _with_sidecar(f"{folder}/stability.{suffix}")]
    return files | dict.fromkeys([f"{folder}/summary.json", *plots], "stability_summary")


def paired_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake paired`` leaves, which is no target of the study."""
    folder = f"{results}/paired"
    files = {f"{folder}/{r.model}/{r.arm}/seed{r.seed}.json": "interleave" for r in study.paired()}
    return files | dict.fromkeys(_with_sidecar(f"{folder}/summary.csv"), "paired_summary")


def attribution_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake attribution`` leaves, which is no target of the study."""
    folder = f"{results}/attribution"
    files = {f"{folder}/{model}/seed{run.seed}.json": "attribute" for model, run in study.attributed().items()}
    plots = [path for suffix in ("pdf", "png", "svg") for path in _with_sidecar(f"{folder}/figS3.{suffix}")]
    return files | dict.fromkeys(plots, "draw_attribution")


def evidence_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake bundle`` leaves, whatever the study is."""
    return dict.fromkeys(_with_sidecar(f"{results}/evidence/evidence.zip"), "evidence")


# Made on demand, each by the target of its name: results beside the study's own, and the archive that holds all.
RESULTS_ON_DEMAND = {"stability": stability_files, "paired": paired_files, "attribution": attribution_files}
ON_DEMAND = {**RESULTS_ON_DEMAND, "bundle": evidence_files}


def demanded_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of the results on demand that are there, each target's only where none is missing."""
    asked = (on_demand(study, results) for on_demand in RESULTS_ON_DEMAND.values())
    return {path: rule for files in asked if all(map(os.path.exists, files)) for path, rule in files.items()}


def _trained(run: Run, results: str) -> dict[str, str]:
    """Return what one run's batches, probe, selection and training leave."""
    place = f"{run.model}/{run.arm}/seed{run.seed}"
    files = {f"{results}/batches/{run.model}/seed{run.seed}.json": "batches"}
    if run.kind != "train_std":
        files[f"{results}/probe/{run.model}/seed{run.seed}.json"] = "probe"
        files[f"{results}/select/{place}.json"] = "select"
    names = ("run.json", *_with_sidecar("adapter"))
    return files | {f"{results}/train/{place}/{name}": run.kind for name in names}


def _evaluated(study: Study, folder: str, model: str) -> dict[str, str]:
    """Return what the evaluations of one run, or of a base model, leave in ``folder``."""
    jobs = study.evaluation_jobs(model).items()
    rules = {benchmark: "_".join([step, *asked]) for step, asked in jobs for benchmark in asked}
    names: dict[str, str] = {}
    for benchmark, rule in rules.items():
        judge = "score_code" if BENCHMARKS[benchmark].kind == CODE else rule
        names |= dict.fromkeys(_with_sidecar(table_name(benchmark)), rule)
        names |= dict.fromkeys([f"{benchmark}.json", *_with_sidecar(f"{benchmark}.parquet")], judge)
    return {f"{folder}/{name}": rule for name, rule in names.items()}


def _reported(study: Study, results: str) -> dict[str, str]:
    """Return the study's targets with their sidecars; the summary is an artifact that needs none."""
    rules = {"aggregate": "aggregate", "stats": "stats", "tables": "stats", "figures": "figures"}
    targets = study_targets(study, results)
    paths = [p for target in targets for p in ([target] if target.endswith(".json") else _with_sidecar(target))]
    return {path: rules[path.removeprefix(f"{results}/").split("/")[0]] for path in paths}


def _with_sidecar(name: str) -> Iterable[str]:
    return name, name + SIDECAR
