"""The files of a finished study, each with the rule that writes it.

The rules declare the same paths; a test compares both. Verify, audit and the evidence bundle read this, so that a
deleted file is missed even where nothing else names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from aletheia.provenance.artifacts import SIDECAR
from aletheia.study.benchmarks import BENCHMARKS, CODE, table_name
from aletheia.study.paths import Paths
from aletheia.study.report_contents import COMPARISONS
from aletheia.study.study import Run, Study

FIGURE_SUFFIXES = ("pdf", "png", "svg")


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
    attributed = study.attributed_runs()
    files |= {paths.attribution(model, attributed[model].seed): "attribute" for model in study.costed_models()}
    for model, run_name in study.evaluated_runs():
        arm = run_name.partition("/")[0]
        files |= {
            paths.evaluation(model, run_name, name): rule for name, rule in _evaluation_files(study, model, arm).items()
        }
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
    """Return ``{path: rule}`` of what ``snakemake attribution`` writes, which is not among the study's targets."""
    paths = Paths(results)
    files = {paths.attribution(model, run.seed): "attribute" for model, run in study.attributed_runs().items()}
    plots = [path for suffix in FIGURE_SUFFIXES for path in with_sidecar(paths.attribution_figure(suffix))]
    return files | dict.fromkeys(plots, "draw_attribution")


def evidence_files(study: Study, results: str = "results") -> dict[str, str]:
    """Return ``{path: rule}`` of what ``snakemake bundle`` writes, whatever the study is."""
    return dict.fromkeys(with_sidecar(Paths(results).evidence()), "evidence")


# Made on demand, each by the target of its name: results beside the study's own, and the archive that holds all.
RESULTS_ON_DEMAND: dict[str, Callable[..., dict[str, str]]] = {
    "stability": stability_files,
    "paired": paired_files,
    "attribution": attribution_files,
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


def _whole(name: str) -> Iterable[str]:
    """Return a file with its sidecar; an artifact needs none."""
    return [name] if name.endswith(".json") else with_sidecar(name)


def _targets(study: Study, paths: Paths) -> dict[str, str]:
    """Return ``{path: rule}`` of the study's targets."""
    figures = [paths.figure(name, suffix) for name in study.figure_names() for suffix in FIGURE_SUFFIXES]
    tables = [paths.table(number, suffix) for number in study.tables() for suffix in ("csv", "md", "tex")]
    stats = [paths.stats(name) for name in ("summary.json", COMPARISONS, *study.analyses())]
    return {
        **dict.fromkeys([paths.aggregate_table(name) for name in ("ledger.csv", *study.result_tables())], "aggregate"),
        **dict.fromkeys([*stats, *tables], "stats"),
        **dict.fromkeys(figures, "figures"),
    }


def _training_files(run: Run, paths: Paths) -> dict[str, str]:
    """Return ``{path: rule}`` of one run's tokens, batches, probe, selection and training."""
    key = (run.model, run.arm, run.seed)
    files = dict.fromkeys(with_sidecar(paths.tokens(run.model)), "tokens")
    files[paths.batches(run.model, run.seed)] = "batches"
    if run.probes:
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
