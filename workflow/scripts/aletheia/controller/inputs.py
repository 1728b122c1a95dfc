"""Which files a step reads: each function takes the study, its paths and what a rule's wildcards name."""

from __future__ import annotations

from collections.abc import Iterable

from aletheia.audit import bundle
from aletheia.errors import UserError
from aletheia.provenance.artifacts import SIDECAR
from aletheia.staging.local_paths import local_inputs
from aletheia.study import outputs, sections
from aletheia.study.arms import ALE, STD
from aletheia.study.campaign_artifacts import campaign_artifacts, digest_of_paths
from aletheia.study.paths import BASE, Paths
from aletheia.study.planned_runs import planned_runs
from aletheia.study.recipes import MEASURED, timed_arm, trials_of
from aletheia.study.report_contents import ANSWER_TABLE, CURVE_FIGURES, CURVE_TABLE, LAYER_FIGURES, LAYER_TABLE
from aletheia.study.selectors import COSTS, UPDATES
from aletheia.study.study import Run, Study

# For an input that a job does not have.
NO_INPUT: list[str] = []


def study_targets(study: Study, paths: Paths) -> list[str]:
    """Return the targets of the study: ledgers, statistics, tables, analyses, figures."""
    return outputs.study_targets(study, paths.results)


def model_files(study: Study, model: str) -> list[str]:
    """Return the user's own files that a model is staged from."""
    return list(map(str, local_inputs(study.models[model])))


def data_files(study: Study, data: str) -> list[str]:
    """Return the user's own files that a data set is staged from."""
    return list(map(str, local_inputs(study.data[data])))


def training_data(study: Study, paths: Paths, model: str) -> str:
    """Return the lock of a model's training data."""
    return paths.data_lock(study.shared[model]["data"])


def tokens(paths: Paths, model: str) -> list[str]:
    """Return the table of a model's rows as token ids, then its sidecar."""
    return list(outputs.with_sidecar(paths.tokens(model)))


def precision(study: Study, paths: Paths, model: str) -> str | list[str]:
    """Return the measured choice of precision, for a model with dtype auto."""
    return paths.precision(model) if study.models[model]["dtype"] == "auto" else NO_INPUT


def probe(study: Study, paths: Paths, model: str, arm: str, seed: int) -> str | list[str]:
    """Return the probe that an arm's layers follow from, by gradients or by training; a control needs none."""
    run = study.run(model, arm, seed)
    if run.reads == UPDATES:
        return paths.updates(model, seed)
    return paths.probe(model, seed) if run.probes else NO_INPUT


def selection(study: Study, paths: Paths, model: str, arm: str, seed: int) -> str | list[str]:
    """Return the selection of an arm that does not adapt all layers."""
    return paths.selection(model, arm, seed) if study.run(model, arm, seed).selects else NO_INPUT


def costs(study: Study, paths: Paths, model: str, arm: str, seed: int) -> str | list[str]:
    """Return the attribution with a model's costs of a step, for an arm whose layers follow from them too."""
    if study.run(model, arm, seed).reads != COSTS:
        return NO_INPUT
    return paths.attribution(model, study.attributed_runs()[model].seed)


def layers_of_model(study: Study, paths: Paths, model: str, arm: str, seed: int) -> str | list[str]:
    """Return the lock that names a model's layers, for a control whose layers follow from no probe."""
    return NO_INPUT if study.run(model, arm, seed).probes else paths.model_lock(model)


def reference_run(study: Study, paths: Paths, model: str, arm: str, seed: int, *, of: str) -> str | list[str]:
    """Return the run of arm ``of``, whose measured time decides the steps of an arm with ``steps: measured``."""
    measured = study.run(model, arm, seed).arm_settings.get("steps") == MEASURED
    return paths.run(model, of, seed) if measured else NO_INPUT


def deciding(study: Study, paths: Paths, model: str, arm: str, seed: int) -> dict[str, str | list[str]]:
    """Return what decides an arm's number of steps or its rate, by name; most arms need none of it.

    ``std`` and ``ale``: the runs whose measured times buy the steps of ``steps: measured``. ``trials``: the runs among
    whose rates its own is chosen. ``costs`` and ``timed``: the model's attribution, and the selection of the arm whose
    time its steps take, where that does not adapt all layers. ``turns``: for a trial of a search, the measurement of
    its recipe in turns with std.
    """
    key = (model, arm, seed)
    run = study.run(*key)
    timed = None if run.timed_as else timed_arm(run.arm_settings)
    costs = paths.attribution(model, study.attributed_runs()[model].seed) if timed else NO_INPUT
    return {
        "costs": costs,
        "turns": paths.pair(model, *run.timed_as) if run.timed_as else NO_INPUT,
        "timed": selection(study, paths, model, timed, seed) if timed else NO_INPUT,
        "std": reference_run(study, paths, *key, of=STD),
        "ale": reference_run(study, paths, *key, of=ALE),
        "trials": trials(study, paths, *key),
    }


def trials(study: Study, paths: Paths, model: str, arm: str, seed: int) -> list[str]:
    """Return the runs among whose rates that of an arm is chosen."""
    run = study.run(model, arm, seed)
    return [paths.run(model, name, run.trial_seed) for name in trials_of(run.arm_settings)]


def question_locks(study: Study, paths: Paths, model: str, *, benchmarks: Iterable[str]) -> list[str]:
    """Return the locks of the question sets of some benchmarks."""
    return [paths.data_lock(name) for name in study.question_sets(benchmarks, study.shared[model]).values()]


def evaluated_run(paths: Paths, model: str, run: str) -> str | list[str]:
    """Return the training run to evaluate; the base model has none."""
    return NO_INPUT if run == BASE else paths.run(model, *run.split("/seed"))


def humaneval_lock(study: Study, paths: Paths, model: str) -> str:
    """Return the lock of the HumanEval problems."""
    return paths.data_lock(sections.judging(study, model)["questions"])


def ledger_artifacts(study: Study, paths: Paths) -> list[str]:
    """Return the artifacts of every run that some campaign plans, of which the ledger is made."""
    return [path.as_posix() for path in campaign_artifacts(study.campaign_index(), paths).paths]


def inputs_fact(wildcards: object, input: Iterable[str]) -> str:
    """Return the fact about a rule's declared inputs: their digest, since a command has no room for all paths."""
    return f"inputs:declared={digest_of_paths(input)}"


def layers(paths: Paths, figure: str) -> str | list[str]:
    """Return the table of layer scores, for the figures that show it."""
    return paths.aggregate_table(LAYER_TABLE) if figure in LAYER_FIGURES else NO_INPUT


def curves(paths: Paths, figure: str) -> str | list[str]:
    """Return the table of held-out losses on the way, for the figures that show it."""
    return paths.aggregate_table(CURVE_TABLE) if figure in CURVE_FIGURES else NO_INPUT


def answers(study: Study, paths: Paths) -> str | list[str]:
    """Return the table of all answers, for a study with evaluations."""
    return paths.aggregate_table(ANSWER_TABLE) if study.evaluates() else NO_INPUT


def answers_sidecar(study: Study, paths: Paths) -> str | list[str]:
    """Return the sidecar of the table of all answers, for a study with evaluations."""
    return paths.aggregate_table(ANSWER_TABLE + SIDECAR) if study.evaluates() else NO_INPUT


def stability_draws(study: Study, paths: Paths) -> list[str]:
    """Return the probes of each model's draws.

    Raises
    ------
    UserError
        When no arm of the study has layers that follow from a probe.
    """
    draws = {model: section["draws"] for model, section in sections.stability(study).items()}
    if not draws:
        raise UserError(
            "stability: expected an arm whose layers follow from a probe (layers: gradient, say), found "
            "none in this study; add one to a campaign"
        )
    return [paths.stability_draw(model, draw) for model, n in draws.items() for draw in range(n)]


def pairs(study: Study, paths: Paths) -> list[str]:
    """Return the measurement in turns of each run that has a standard one beside it."""
    return [paths.pair(run.model, run.arm, run.seed) for run in study.paired_runs()]


def attributions(study: Study, paths: Paths) -> list[str]:
    """Return the attribution of each model that is probed."""
    return [paths.attribution(model, run.seed) for model, run in study.attributed_runs().items()]


def replication(study: Study, paths: Paths) -> list[str]:
    """Return the files of the replication report.

    Raises
    ------
    UserError
        When the study has no model of the paper's tables.
    """
    files = outputs.replication_targets(study, paths)
    if not files:
        raise UserError(
            "replication: expected a model of the paper's tables (a key of config/published/table1.csv), found none in "
            "this study; name one in a campaign, as config/paper.yaml does"
        )
    return files


def control_selections(study: Study, paths: Paths) -> list[str]:
    """Return the selections of the campaigns with random draws.

    Raises
    ------
    UserError
        When no arm of the study is a random draw.
    """
    runs = _control_runs(study)
    if not runs:
        raise UserError(
            "controls: expected an arm with layers: random, against which the choice by gradient is held, found none "
            "in this study; add some to a campaign, each with its draw"
        )
    return [paths.selection(run.model, run.arm, run.seed) for run in runs if run.selects]


def control_curves(study: Study, paths: Paths) -> str | list[str]:
    """Return the table of held-out losses on the way, for a study that takes such."""
    return paths.aggregate_table(CURVE_TABLE) if study.has_curves() else NO_INPUT


def control_attributions(study: Study, paths: Paths) -> list[str]:
    """Return the step costs of the models of campaigns with random draws, where these are probed."""
    models = {run.model for run in _control_runs(study)}
    attributed = study.attributed_runs().items()
    return [paths.attribution(model, run.seed) for model, run in attributed if model in models]


def control_attribution_figure(study: Study, paths: Paths) -> str | list[str]:
    """Return the figure of these step costs: what asks for one file of the attribution leaves none of it unmade."""
    return paths.attribution_figure("pdf") if control_attributions(study, paths) else NO_INPUT


def control_rates(study: Study, paths: Paths) -> list[str]:
    """Return the runs of arms that chose their learning rate among others', which alone say what it was."""
    chosen = {
        (model, arm)
        for campaign in sections.controls(study)
        for model, facts in campaign["models"].items()
        for arm, entry in facts["arms"].items()
        if isinstance(entry.get("learning_rate"), dict)
    }
    runs = (run for run in _control_runs(study) if (run.model, run.arm) in chosen)
    return [paths.run(run.model, run.arm, run.seed) for run in runs]


def _control_runs(study: Study) -> list[Run]:
    """Return the runs of the campaigns with random draws."""
    names = {campaign["name"] for campaign in sections.controls(study)}
    keys = (
        (run["model"], run["arm"], run["seed"])
        for campaign in study.campaign_index()
        if campaign["name"] in names
        for run in planned_runs(campaign)
    )
    return [study.run(*key) for key in dict.fromkeys(keys)]


def fit_runs(study: Study, paths: Paths) -> list[str]:
    """Return the runs of the campaign that the fit report is about, which say their rates and their adapters' hashes.

    Raises
    ------
    UserError
        When the study has not one such campaign and model.
    """
    told = sections.fit(study)
    if not told:
        raise UserError(
            "fit: expected a campaign with one model and the benchmark heldout, named fit or the study's only one, "
            "found none in this study; a study of several models is told in stats/FINDINGS.md"
        )
    campaign = next(each for each in study.campaign_index() if each["name"] == told["campaign"])
    return [paths.run(run["model"], run["arm"], run["seed"]) for run in planned_runs(campaign)]


def made_files(study: Study, results: str, resources: str) -> list[str]:
    """Return every file that the study's rules have written, results on demand too; a folder by its sidecar."""
    return bundle.made_files(study, results, resources)
