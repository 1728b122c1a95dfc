"""The files of a finished study, each with the rule that writes it.

The rules declare the same paths; a test compares both. Verify, audit and the evidence bundle read this, so that a
deleted file is missed even where nothing else names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from aletheia.provenance.artifacts import SIDECAR
from aletheia.study import sections
from aletheia.study.benchmarks import BENCHMARKS, CODE, table_name
from aletheia.study.equal_time import models_with_costs
from aletheia.study.paths import Paths, run_name
from aletheia.study.published import published_models
from aletheia.study.report_contents import (
    COMPARISONS,
    CONTROLS_FIGURE,
    CONTROLS_TABLE,
    FIT_FIGURE,
    FIT_REPORT,
    RECIPE,
    REPLICATION,
    REPLICATION_CELLS,
    REPLICATION_CLAIMS,
    REPLICATION_FIGURE,
    SEARCH,
    SEARCH_FIGURE,
    SEARCH_TABLE,
)
from aletheia.study.search_rungs import FACTORIAL, RUNGS, asked_trials, timings
from aletheia.study.searches import Search
from aletheia.study.selectors import UPDATES
from aletheia.study.study import Run, Study

FIGURE_SUFFIXES, TABLE_SUFFIXES = ("pdf", "png", "svg"), ("csv", "md", "tex")


def study_targets(study: Study, results: str = "results") -> list[str]:
    """Return the targets of the study: ledgers, statistics, tables, analyses, figures."""
    return list(_targets(study, Paths(results)))


def study_files(study: Study, results: str = "results", resources: str = "resources") -> dict[str, str]:
    """Return ``{path: rule}`` for every file and folder that the rules of a finished study have written.

    Parameters
    ----------
    study
        The study as loaded from its configuration.
    results, resources
        Its two trees, as Snakemake's path variables name them.
    """
    paths = Paths(results, resources)
    files = {paths.model_lock(name): "stage_model" for name in study.used_models()}
    files |= {paths.data_lock(name): "stage_data" for name in study.used_data()}
    files |= {paths.precision(model): "precision" for model in study.measured_precisions()}
    for run in study.runs.values():
        files |= _training_files(run, paths)
    files |= {paths.pair(run.model, run.arm, run.seed): "interleave" for run in study.runs_timed_in_turns()}
    files |= _cost_files(study, paths, models_with_costs(study))
    for model, run in study.evaluated_runs():
        of_run = _evaluation_files(study, model, run.partition("/")[0])
        files |= {paths.evaluation(model, run, file): rule for file, rule in of_run.items()}
    for target, rule in _targets(study, paths).items():
        files |= dict.fromkeys(_whole(target), rule)
    return files


def stability_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake stability`` writes, which is not among the study's targets."""
    paths = Paths(results)
    draws = {model: study.shared[model]["stability"]["draws"] for model, _ in study.probe_keys()}
    files = {paths.stability_draw(model, draw): "probe_draw" for model, n in draws.items() for draw in range(n)}
    plots = [path for suffix in FIGURE_SUFFIXES for path in with_sidecar(paths.stability(f"stability.{suffix}"))]
    return files | dict.fromkeys([paths.stability("summary.json"), *plots], "stability_summary")


def paired_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake paired`` writes beyond the study's own measurements in turns."""
    paths = Paths(results)
    in_study = {(run.model, run.arm, run.seed) for run in study.runs_timed_in_turns()}
    others = [key for run in study.paired_runs() if (key := (run.model, run.arm, run.seed)) not in in_study]
    files = {paths.pair(*key): "interleave" for key in others}
    return files | dict.fromkeys(with_sidecar(paths.paired_summary()), "paired_summary")


def attribution_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake attribution`` writes beyond the costs that the study's steps need."""
    paths, in_study = Paths(results), models_with_costs(study)
    files = _cost_files(study, paths, [model for model in study.attributed_runs() if model not in in_study])
    plots = [path for suffix in FIGURE_SUFFIXES for path in with_sidecar(paths.attribution_figure(suffix))]
    return files | dict.fromkeys(plots, "draw_attribution")


def controls_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake controls`` writes, beside measurements that others ask for too."""
    paths = Paths(results)
    if not sections.controls(study):
        return {}
    names = ["CONTROLS.md", *(f"table{CONTROLS_TABLE}.{suffix}" for suffix in TABLE_SUFFIXES)]
    names += [f"{CONTROLS_FIGURE}.{suffix}" for suffix in FIGURE_SUFFIXES]
    files = [path for name in ("summary.json", *names) for path in _whole(paths.controls(name))]
    return dict.fromkeys(files, "controls_summary")


def search_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake search`` writes: its trials are those that are asked for so far."""
    if not study.searches:
        return {}
    paths = Paths(results)
    names = [SEARCH, *(f"table{SEARCH_TABLE}.{suffix}" for suffix in TABLE_SUFFIXES)]
    names += [f"{SEARCH_FIGURE}.{suffix}" for suffix in FIGURE_SUFFIXES]
    report = (path for name in ("summary.json", *names) for path in _whole(paths.search_report(name)))
    files = dict.fromkeys(report, "search_report")
    for model, search in study.searches.items():
        files |= {paths.search(model, f"{rung}.json"): f"search_{rung}" for rung in RUNGS}
        files |= dict.fromkeys(with_sidecar(paths.search(model, RECIPE)), "search_recipe")
        for rung in RUNGS:
            files |= _files_of_rung(study, search, rung, paths)
    of_study = study_files(study, results)
    return {path: rule for path, rule in files.items() if path not in of_study}


def fit_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake fit`` writes, for a study of one campaign and model."""
    if not sections.fit(study):
        return {}
    paths = Paths(results)
    names = ["summary.json", FIT_REPORT, *(f"{FIT_FIGURE}.{suffix}" for suffix in FIGURE_SUFFIXES)]
    return dict.fromkeys([path for name in names for path in _whole(paths.fit(name))], "fit_report")


def _files_of_rung(study: Study, search: Search, rung: str, paths: Paths) -> dict[str, str]:
    """Return ``{path: rule}`` of the trials that a rung reads, and of its measurements in turns."""
    files: dict[str, str] = {}
    asked = asked_trials(search, rung, paths)
    for arm, seed in timings(search, rung, paths):
        run = study.run(search.model, arm, seed)
        trained = _training_files(run, paths).items()
        files |= {path: rule for path, rule in trained if rule not in (run.kind, "batches")}
        files[paths.pair(run.model, run.arm, run.seed)] = (
            "interleave_again" if rung == FACTORIAL else "interleave_recipe"
        )
    for trial in asked:
        files |= _training_files(study.run(search.model, trial.arm_name, trial.seed), paths)
        if search.judged(trial.rung):
            name = run_name(trial.arm_name, trial.seed)
            of_run = _evaluation_files(study, search.model, trial.arm_name)
            files |= {paths.evaluation(search.model, name, file): rule for file, rule in of_run.items()}
    return files


def replication_targets(study: Study, paths: Paths) -> list[str]:
    """Return the files of the replication report; none for a study without a model of the paper's tables."""
    if not published_models(study):
        return []
    figures = [f"{REPLICATION_FIGURE}.{suffix}" for suffix in FIGURE_SUFFIXES]
    return [
        paths.replication(name)
        for name in ("summary.json", REPLICATION_CELLS, REPLICATION_CLAIMS, REPLICATION, *figures)
    ]


def evidence_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake bundle`` writes, whatever the study is."""
    return dict.fromkeys(with_sidecar(Paths(results).evidence()), "evidence")


# Made on demand, each by the target of its name: results beside the study's own, and the archive that holds all.
RESULTS_ON_DEMAND: dict[str, Callable[..., dict[str, str]]] = {
    "stability": stability_files,
    "paired": paired_files,
    "attribution": attribution_files,
    "controls": controls_files,
    "search": search_files,
    "fit": fit_files,
}
ON_DEMAND = {**RESULTS_ON_DEMAND, "bundle": evidence_files}


def made_on_demand(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of the results on demand that were made; none of a target that lacks a file."""
    targets = (on_demand(study, results) for on_demand in RESULTS_ON_DEMAND.values())
    return {path: rule for files in targets if all(map(os.path.exists, files)) for path, rule in files.items()}


def with_sidecar(path: str) -> tuple[str, str]:
    """Return a file and the sidecar that holds its hash and lineage."""
    return path, path + SIDECAR


def evaluation_outputs(benchmarks: Iterable[str]) -> list[str]:
    """Return the files that a job which asks these benchmarks writes, with their sidecars.

    A score and a table each; of programs, which another job judges, the table alone.
    """
    scores = [f"{benchmark}.json" for benchmark in benchmarks if BENCHMARKS[benchmark].kind != CODE]
    return [*scores, *(path for benchmark in benchmarks for path in with_sidecar(table_name(benchmark)))]


def _cost_files(study: Study, paths: Paths, models: Iterable[str]) -> dict[str, str]:
    """Return ``{path: rule}`` of the attributions of some models."""
    runs = study.attributed_runs()
    return {paths.attribution(model, runs[model].seed): "attribute" for model in models}


def _whole(name: str) -> Iterable[str]:
    """Return a file with its sidecar; an artifact needs none."""
    return [name] if name.endswith(".json") else with_sidecar(name)


def _targets(study: Study, paths: Paths) -> dict[str, str]:
    """Return ``{path: rule}`` of the study's targets."""
    figures = [paths.figure(name, suffix) for name in study.figure_names() for suffix in FIGURE_SUFFIXES]
    tables = [paths.table(number, suffix) for number in study.tables() for suffix in TABLE_SUFFIXES]
    stats = [paths.stats(name) for name in ("summary.json", COMPARISONS, *study.analyses())]
    return {
        **dict.fromkeys([paths.aggregate_table(name) for name in ("ledger.csv", *study.result_tables())], "aggregate"),
        **dict.fromkeys([*stats, *tables], "stats"),
        **dict.fromkeys(figures, "figures"),
        **dict.fromkeys(replication_targets(study, paths), "replication_summary"),
    }


def _training_files(run: Run, paths: Paths) -> dict[str, str]:
    """Return ``{path: rule}`` of one run's tokens, batches, probe, selection and training."""
    key = (run.model, run.arm, run.seed)
    files = dict.fromkeys(with_sidecar(paths.tokens(run.model)), "tokens")
    files[paths.batches(run.model, run.seed)] = "batches"
    if run.reads == UPDATES:
        files[paths.updates(run.model, run.seed)] = "adapter_updates"
    elif run.probes:
        files[paths.probe(run.model, run.seed)] = "probe"
    if run.selects:
        files[paths.selection(*key)] = "select"
    return files | dict.fromkeys([paths.run(*key), *with_sidecar(paths.adapter(*key))], run.kind)


def _evaluation_files(study: Study, model: str, arm: str) -> dict[str, str]:
    """Return ``{file: rule}`` of the evaluations of a base model, or of one of its runs."""
    files: dict[str, str] = {}
    for step, benchmarks in study.evaluation_jobs(model, arm).items():
        files |= dict.fromkeys(evaluation_outputs(benchmarks), "_".join([step, *benchmarks]))
    for judged in [name for name in study.benchmarks_of(model, arm) if BENCHMARKS[name].kind == CODE]:
        files |= dict.fromkeys([f"{judged}.json", *with_sidecar(f"{judged}.parquet")], "score_code")
    return files
