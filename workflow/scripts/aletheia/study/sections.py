"""Which settings each step reads: nothing else of the configuration reaches its script, or reruns it.

Each function takes a study and what a rule's wildcards name, and returns a section that is part of the step's lineage.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aletheia.study.arms import SHAPE, STD, entries
from aletheia.study.benchmarks import HELDOUT
from aletheia.study.budget_sweeps import budget_sweeps as sweeps_of
from aletheia.study.run_length import LENGTHS, without_null_epochs
from aletheia.study.schema import PACE
from aletheia.study.selectors import GRADIENTS, RANDOM
from aletheia.study.study import Run, Study

Section = dict[str, Any]
FIT = "fit"  # the campaign that is reported on where a study has several
# The settings that decide a training step's time, and the number of steps, over which the probe's time is spread.
TIMING_KEYS = (
    *(*LENGTHS, "batch_size", "accumulation", "optimizer", "max_grad_norm", "gradient_checkpointing"),
    *("learning_rate", "schedule", "warmup_steps", "warmup_from", "layers_active"),
)
# What a probe by training reads of the sections `probe` and `training`.
UPDATES_PROBE_KEYS = ("update_steps",)
UPDATES_TRAINING_KEYS = (*SHAPE, "learning_rate", "max_grad_norm", "optimizer", "gradient_checkpointing")
# Settings that decide no result; a rule passes them as resources, whose change reruns nothing.
INDECISIVE_KEYS = ("checkpoint_seconds", "tensorboard", "prefix_cache_gib")


def encoding(study: Study, model: str) -> Section:
    """Return the settings by which rows become tokens."""
    return study.shared[model]["encoding"]


def token_limit(study: Study, model: str) -> Section:
    """Return the longest sequence in tokens, which a step that reads the token table has to know."""
    return {"max_tokens": encoding(study, model)["max_tokens"]}


def loading(study: Study, model: str) -> Section:
    """Return the settings by which a model is loaded."""
    return {key: study.models[model][key] for key in ("dtype", "quantization", "attention")}


def trained_model(study: Study, model: str) -> Section:
    """Return the settings by which a model is loaded, and the scale of its learning rate."""
    return {**loading(study, model), "learning_rate_scale": study.models[model]["learning_rate_scale"]}


def model_source(study: Study, model: str) -> Section:
    """Return the registry's keys that decide a staged model's files."""
    entry = study.models[model]
    return {key: entry[key] for key in ("source", "family", "parameters", "layers", "licence") if key in entry}


def data_source(study: Study, data: str) -> Section:
    """Return the registry's keys that decide a staged data set's files."""
    return {key: value for key, value in study.data[data].items() if key != "note"}


def precision(study: Study, model: str) -> Section:
    """Return the micro-batches that the choice of precision is measured with."""
    shape = next(shape for (name, _), shape in study.batches.items() if name == model)
    return {key: shape[key] for key in SHAPE}


def probe(study: Study, model: str) -> Section:
    """Return the probe's settings, with what it measures where that is not the gradients alone."""
    parts, settings = study.measured_parts(model), _of_batches(study, model)
    return settings if parts in ([], [GRADIENTS]) else {**settings, "measure": parts}


def stability_draw(study: Study, model: str) -> Section:
    """Return the probe's settings for the study of its stability: as many batches as the largest count."""
    return {**_of_batches(study, model), "batches": max(study.shared[model]["stability"]["batches"])}


def updates(study: Study, model: str) -> Section:
    """Return the number of steps of a probe by training."""
    return {key: study.shared[model]["probe"][key] for key in UPDATES_PROBE_KEYS}


def updates_adapter(study: Study, model: str, seed: int) -> Section:
    """Return the settings of the adapters that a probe by training has in all layers."""
    return study.updated_runs()[model, seed].settings["adapter"]


def updates_training(study: Study, model: str, seed: int) -> Section:
    """Return the settings of training that a probe by training reads."""
    settings = study.updated_runs()[model, seed].settings["training"]
    return {key: settings[key] for key in UPDATES_TRAINING_KEYS}


def stability(study: Study) -> Section:
    """Return draws and counts of each model that is probed."""
    return {
        model: study.shared[model]["stability"] for model in dict.fromkeys(model for model, _ in study.probe_keys())
    }


def controls(study: Study) -> list[Section]:
    """Return the arms of each campaign with std and random draws, by model, without what decides no result."""
    chosen = []
    for campaign, index in zip(study.campaigns, study.campaign_index(), strict=True):
        arms = {model: entries(campaign, model) for model in campaign["models"]}
        drawn = any(entry["layers"] == RANDOM for of_model in arms.values() for entry in of_model.values())
        if drawn and all(STD in of_model for of_model in arms.values()):
            models = {
                model: {
                    "headline": index["models"][model]["headline"],
                    "arms": {arm: _without(entry, ("models", "benchmarks")) for arm, entry in of_model.items()},
                }
                for model, of_model in arms.items()
            }
            chosen.append({"name": campaign["name"], "models": models})
    return chosen


def _without(entry: Section, keys: Iterable[str]) -> Section:
    return {key: value for key, value in entry.items() if key not in keys}


def search(study: Study, model: str) -> Section:
    """Return what the search of a model declares, and the settings that its recipes are stated over."""
    searched = study.searches[model]
    training = {key: value for key, value in searched.settings["training"].items() if key not in INDECISIVE_KEYS}
    return {"model": model, "section": searched.section, "adapter": searched.settings["adapter"], "training": training}


def searches(study: Study) -> Section:
    """Return that of each model that is searched."""
    return {model: search(study, model) for model in study.searches}


def fit(study: Study) -> Section:
    """Return the campaign and the model that ``snakemake fit`` tells of, and which rows judge.

    The campaign is that of the name :data:`FIT`, else the study's only one. It has one model, and asks its held-out
    loss; empty where there is no such campaign.
    """
    index = study.campaign_index()
    campaigns = [campaign for campaign in index if campaign["name"] == FIT] or index
    if len(campaigns) != 1 or len(campaigns[0]["models"]) != 1:
        return {}
    ((model, facts),) = campaigns[0]["models"].items()
    if HELDOUT not in facts["benchmarks"]:
        return {}
    split = study.shared[model]["evaluation"][HELDOUT]["split"]
    return {"campaign": campaigns[0]["name"], "model": model, "split": split}


def batches(study: Study, model: str, seed: int) -> Section:
    """Return the shape of a plan that serves every arm of a model and a seed."""
    return study.batches[model, seed]


def arm(study: Study, model: str, arm: str, seed: int) -> Section:
    """Return the settings that choose an arm's layers and decide its steps."""
    return study.run(model, arm, seed).arm_settings


def standard_arm(study: Study, model: str, arm: str, seed: int) -> Section:
    """Return the sections of a pair's standard arm: its entry, its adapters, and what it reads of training."""
    run = study.standard_run(model, arm, seed)
    return {"arm": run.arm_settings, "adapter": run.settings["adapter"], "training": _timing_settings(run)}


def adapter(study: Study, model: str, arm: str, seed: int) -> Section:
    """Return the settings of a run's adapters: modules, ranks, alphas and dropout."""
    return study.run(model, arm, seed).settings["adapter"]


def adapter_shape(study: Study, model: str, arm: str, seed: int) -> Section:
    """Return modules, ranks and alphas, which a selection writes down."""
    return {key: adapter(study, model, arm, seed)[key] for key in ("modules", "rank", "alpha")}


def run(model: str, arm: str) -> Section:
    """Return the run's name, which its adapter and its row carry."""
    return {"model": model, "arm": arm}


def training(study: Study, model: str, arm: str, seed: int) -> Section:
    """Return the optimisation's settings."""
    settings = study.run(model, arm, seed).settings["training"]
    return _without(without_null_epochs(settings), INDECISIVE_KEYS)


def timed_training(study: Study, model: str, arm: str, seed: int) -> Section:
    """Return the settings of training that a measurement in turns reads."""
    return _timing_settings(study.run(model, arm, seed))


def interleaving(study: Study, model: str) -> Section:
    """Return the numbers of rounds and steps that arms take in turns."""
    return {key: study.shared[model]["interleaving"][key] for key in PACE}


def attributed_model(model: str) -> Section:
    """Return the model's name, which its attribution carries."""
    return {"model": model, "arm": None}


def attributed_adapter(study: Study, model: str) -> Section:
    """Return ranks, alphas and dropout of a model's adapters, for its attribution."""
    return study.attributed_runs()[model].settings["adapter"]


def attributed_training(study: Study, model: str) -> Section:
    """Return the settings of training that a model's attribution reads; which layers train is decided by its arms."""
    settings = _timing_settings(study.attributed_runs()[model])
    return {key: value for key, value in settings.items() if key != "layers_active"}


def evaluation(study: Study, model: str, *, step: str, benchmarks: Iterable[str]) -> Section:
    """Return the settings by which a step, ``evaluate`` or ``generate``, asks a model some benchmarks."""
    settings = study.shared[model]["evaluation"]
    prompt = study.models[model]["prompt"] if settings["prompt"] == "registry" else settings["prompt"]
    common = {key: settings[key] for key in ("batch_size", "time_limit_seconds")} | {"prompt": prompt}
    if step == "generate":
        common["generation"] = settings["generation"]
    asked = {name: {k: v for k, v in settings[name].items() if k != "sandbox"} for name in benchmarks}
    return {**common, "benchmarks": list(benchmarks), **asked}


def judging(study: Study, model: str) -> Section:
    """Return the settings by which generated code is judged."""
    return {key: study.shared[model]["evaluation"]["humaneval"][key] for key in ("questions", "sandbox")}


def campaigns(study: Study) -> list[Section]:
    """Return the runs of each campaign, and what the campaign reports."""
    return study.campaign_index()


def published_scores(study: Study) -> Section:
    """Return the published scores of the models that are asked, by benchmark; none where models are stand-ins."""
    names = dict.fromkeys(model for campaign in study.campaigns for model in campaign["models"])
    return {name: scores for name in names if (scores := study.models[name].get("published_scores"))}


def reports(study: Study) -> list[str]:
    """Return the reports that the study's campaigns feed."""
    return study.reports()


def budget_sweeps(study: Study) -> list[Section]:
    """Return the sweeps of the budget, each with its campaign and model."""
    return sweeps_of(study.campaigns)


def figures(study: Study) -> Section:
    """Return the look of the figures."""
    return study.figures


def _of_batches(study: Study, model: str) -> Section:
    """Return the settings of the probe that measures batches."""
    return {key: value for key, value in study.shared[model]["probe"].items() if key not in UPDATES_PROBE_KEYS}


def _timing_settings(run: Run) -> Section:
    return without_null_epochs({key: run.settings["training"][key] for key in TIMING_KEYS})
