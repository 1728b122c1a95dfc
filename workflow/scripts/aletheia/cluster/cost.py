"""The cost of a study before anything is submitted: GPU-hours by campaign and model, from the registry's time model.

An optimiser step of the standard arm takes the registry's ``time.seconds_per_step``. From it follow, for each job on
a GPU,

    load        START_SECONDS + 2 bytes a parameter / READ_GIB_PER_SECOND
    small       SMALL_JOB_SECONDS, of the batches and each selection, which run in turn on the same GPUs
    probe       load + batches · step / accumulation
    updates     load + update_steps · step, for a probe by training
    train       load + (steps + losses · eval_rows · forward) · rows · step
    turns       load + 3 · (rounds + 1) · steps · step, for each arm but std of a campaign with speed: turns
    costs       load + 10 · (rounds + 1) · steps · step, once for a model with steps by equal time
    evaluate    load + heldout + Σ benchmarks
    heldout     rows · forward · step
    retention   rows · longest piece in tokens / ROW_TOKENS · forward · step
    benchmark   questions · ((shots + 1) · example tokens / ROW_TOKENS · forward · step)
                + ⌈questions / batch⌉ · answer tokens
                · (layers · LAYER_LAUNCH_SECONDS + bytes / MEMORY_GIB_PER_SECOND)

where a row's forward pass takes the share forward = FORWARD_SHARE_OF_STEP / (batch_size · accumulation) of a step,
`losses` is 1 plus the number of losses taken on the way, `rows` is the arm's rows a step divided by the campaign's, and
`bytes` are the loaded weights; those in 4 bits are unpacked in each pass, which adds twice their 16-bit size. Every arm
counts as the standard one with its own number of steps: selecting arms take less, and the compute-matched one is meant
to take as long. A search counts with the most that it can ask for (aletheia.cluster.search_cost). Answers count with
their full length. So these are plans on the safe side, not predictions; all constants but the step times are chosen by
hand and have not been measured. Tokenising rows and judging generated code need no GPU and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import SHAPE
from aletheia.study.benchmarks import BENCHMARKS, HELDOUT, RETENTION
from aletheia.study.equal_time import models_with_costs
from aletheia.study.planned_runs import planned_runs, runs_in_turns
from aletheia.study.study import Run, Study

SMALL_JOB_SECONDS = 60.0  # of a job that loads no model, inside an allocation with jobs that do
START_SECONDS = 60.0  # until a job's interpreter and libraries are loaded
READ_GIB_PER_SECOND = 1.0  # of weights, from a shared file system
# Frozen weights have no gradients, so backward costs about as much as forward.
FORWARD_SHARE_OF_STEP = 0.5
ROW_TOKENS = 150  # tokens of an instruction row with its wording
LAYER_LAUNCH_SECONDS = 1e-3  # to launch a layer's kernels for one new token of each sequence
MEMORY_GIB_PER_SECOND = 1000.0  # an A100's memory, at about two thirds of its peak
NF4_SHARE_OF_16_BIT = 4.127 / 16  # of a model's size, with double quantisation (arXiv:2305.14314, section 3)
ATTRIBUTED_ARMS = 10  # in turns, of an attribution (aletheia.timing.step_attribution)
ARMS_PER_MEASUREMENT = 3  # in turns: std, another arm, and std once more
REQUIRED_KEYS = ("time", "parameters", "layers")


@dataclass(frozen=True)
class Cost:
    """The cost of a model in a campaign, without the runs that an earlier campaign has already made.

    Attributes
    ----------
    campaign, model
        Their names.
    gpus
        GPUs of each job.
    trainings, evaluations
        Numbers of new jobs; the base model's evaluation counts as one.
    training_seconds, evaluation_seconds
        Wall time of all these jobs; the first includes batches, probes, selections and measurements in turns.
    """

    campaign: str
    model: str
    gpus: int
    trainings: int
    evaluations: int
    training_seconds: float
    evaluation_seconds: float

    @property
    def gpu_hours(self) -> float:
        """GPU-hours: an hour of a job with four GPUs counts as four."""
        return (self.training_seconds + self.evaluation_seconds) * self.gpus / 3600


def load_seconds(entry: Mapping[str, Any]) -> float:
    """Return the seconds from a job's start until its model is loaded."""
    return START_SECONDS + _sixteen_bit_gib(entry) / READ_GIB_PER_SECOND


def training_seconds(
    entry: Mapping[str, Any], settings: Mapping[str, Any], share: float = 1.0, *, steps: int | None = None
) -> float:
    """Return the seconds of one training job.

    Parameters
    ----------
    entry
        The model's, in the registry.
    settings
        The sections of the run.
    share
        The rows of its step over those of the registry's step.
    steps
        Its optimiser steps; those that its settings state when None.
    """
    training, step = settings["training"], share * entry["time"]["seconds_per_step"]
    steps = training["steps"] if steps is None else steps
    losses = 1 + (1 + steps // training["curve_every"] if training["curve_every"] else 0)
    return load_seconds(entry) + (steps + losses * training["eval_rows"] * _forward_share(settings)) * step


def share_of_rows(study: Study, run: Run) -> float:
    """Return the rows of a run's step over those of its campaign's; 1 where its steps take equal time in all."""
    if run.timed_as:
        return 1.0
    of_run, of_campaign = run.settings["training"], study.batches[run.model, run.seed]
    return math.prod(of_run[key] / of_campaign[key] for key in SHAPE)


def turns_seconds(entry: Mapping[str, Any], pace: Mapping[str, Any], *, arms: int) -> float:
    """Return the seconds of a job in which ``arms`` arms train in turns; ``pace`` is a section ``interleaving``."""
    steps = arms * (pace["rounds"] + 1) * pace["steps"]  # one round of warm-up
    return load_seconds(entry) + steps * entry["time"]["seconds_per_step"]


def probe_seconds(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the seconds of one probe job."""
    passes = settings["probe"]["batches"] / settings["training"]["accumulation"]
    return load_seconds(entry) + passes * entry["time"]["seconds_per_step"]


def updates_seconds(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the seconds of one probe by a few steps of training."""
    return load_seconds(entry) + settings["probe"]["update_steps"] * entry["time"]["seconds_per_step"]


def evaluation_seconds(
    entry: Mapping[str, Any],
    settings: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    questions: Mapping[str, int],
) -> float:
    """Return the seconds of one evaluation job.

    Parameters
    ----------
    entry
        The model's, in the registry.
    settings
        The sections of a run of the model.
    evaluation
        The settings of its benchmarks.
    questions
        Number of questions, or passages, of each benchmark but the held-out loss.
    """
    row = _forward_share(settings) * entry["time"]["seconds_per_step"]
    seconds = load_seconds(entry) + evaluation[HELDOUT]["rows"] * row
    token = entry["layers"] * LAYER_LAUNCH_SECONDS + _gib_per_pass(entry) / MEMORY_GIB_PER_SECOND
    for name, count in questions.items():
        benchmark = evaluation[name]
        examples = benchmark.get("num_fewshot", 0) + 1
        tokens = benchmark.get("max_tokens", BENCHMARKS[name].example_tokens)
        seconds += count * examples * tokens / ROW_TOKENS * row
        seconds += math.ceil(count / evaluation["batch_size"]) * benchmark.get("max_new_tokens", 0) * token
    return seconds


def questions_of(study: Study, model: str) -> dict[str, int]:
    """Return the number of questions, or passages, of each benchmark that a model is asked, but the held-out loss."""
    shared = study.shared[model]
    sets = Study.question_sets(shared["benchmarks"], shared)
    passages = {RETENTION: shared["evaluation"][RETENTION]["rows"]}
    return {
        benchmark: passages.get(benchmark) or study.data[name].get("rows") or BENCHMARKS[benchmark].size
        for benchmark, name in sets.items()
    }


def estimate_costs(study: Study) -> list[Cost]:
    """Return the cost of each campaign's models, in their order; a run that two campaigns share counts in the first.

    An arm's evaluation counts with the benchmarks of all campaigns, since one job asks them all.

    Raises
    ------
    UserError
        When the registry lacks what the time model needs, or the steps of epochs follow from rows that nobody has
        counted yet.
    """
    _require(study)
    seen: set[tuple[Any, ...]] = set()
    costs = []
    for campaign in study.campaign_index():
        planned = planned_runs(campaign)
        for model in campaign["models"]:
            runs = [(model, run["arm"], run["seed"]) for run in planned if run["model"] == model]
            timed = [("turns", *key) for key in runs_in_turns(campaign) if key[0] == model]
            new, timed = _take_unseen(seen, runs), len(_take_unseen(seen, timed))
            costs.append(_cost(study, campaign["name"], model, new, seen, timed=timed))
    return costs


def _cost(
    study: Study, campaign: str, model: str, runs: list[tuple[Any, ...]], seen: set[tuple[Any, ...]], *, timed: int
) -> Cost:
    """Return the cost of a model's new runs and of ``timed`` measurements in turns."""
    entry = study.models[model]
    shared = study.shared[model]
    settings = next(run.settings for run in study.runs.values() if run.model == model)
    selecting = [run for run in runs if study.runs[run].selects]
    keys = {(m, seed) for m, _, seed in runs}
    probes = _take_unseen(seen, sorted(("probe", *key) for key in keys.intersection(study.probe_keys())))
    updates = _take_unseen(seen, sorted(("updates", *key) for key in keys.intersection(study.updated_runs())))
    small = len(selecting) + len(_take_unseen(seen, sorted(("batches", *key) for key in keys)))
    evaluations = len(runs) + len(_take_unseen(seen, [("base", model)]))
    questions = questions_of(study, model)
    seconds = evaluation_seconds(entry, settings, shared["evaluation"], questions) * (evaluations - len(runs))
    for _, arm, _ in runs:
        of_arm = {name: count for name, count in questions.items() if name in study.benchmarks_of(model, arm)}
        seconds += evaluation_seconds(entry, settings, shared["evaluation"], of_arm)
    trained = [study.runs[run] for run in runs]
    training = sum(
        training_seconds(entry, run.settings, share_of_rows(study, run), steps=study.nominal_steps(run))
        for run in trained
    )
    training += len(probes) * probe_seconds(entry, settings) + len(updates) * updates_seconds(entry, settings)
    training += timed * turns_seconds(entry, shared["interleaving"], arms=ARMS_PER_MEASUREMENT)
    if model in models_with_costs(study):
        attributions = len(_take_unseen(seen, [("attribution", model)]))
        training += attributions * turns_seconds(entry, shared["interleaving"], arms=ATTRIBUTED_ARMS)
    return Cost(
        campaign=campaign,
        model=model,
        gpus=entry["gpus"],
        trainings=len(runs),
        evaluations=evaluations,
        training_seconds=training + small * SMALL_JOB_SECONDS,
        evaluation_seconds=seconds,
    )


def _take_unseen(seen: set[tuple[Any, ...]], keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the keys that are not in ``seen`` yet, and add them to it."""
    new = [key for key in keys if key not in seen]
    seen.update(new)
    return new


def _forward_share(settings: Mapping[str, Any]) -> float:
    """Return the share of a step that one row's forward pass takes."""
    return FORWARD_SHARE_OF_STEP / (settings["training"]["batch_size"] * settings["training"]["accumulation"])


def _sixteen_bit_gib(entry: Mapping[str, Any]) -> float:
    return 2 * entry["parameters"] / 2**30


def _gib_per_pass(entry: Mapping[str, Any]) -> float:
    """Return the GiB of memory that one pass reads and writes; 4-bit weights are unpacked in each pass.

    The registry's ``memory_gib`` tells which part of the weights is in 4 bits.
    """
    whole = _sixteen_bit_gib(entry)
    if entry["quantization"] is None:
        return whole
    loaded = entry.get("memory_gib", NF4_SHARE_OF_16_BIT * whole)
    return loaded + 2 * (whole - loaded) / (1 - NF4_SHARE_OF_16_BIT)


def _require(study: Study) -> None:
    for model in study.used_models():
        missing = [key for key in REQUIRED_KEYS if key not in study.models[model]]
        if missing:
            raise UserError(
                f"model {model}: the registry lacks {' and '.join(missing)}, from which its time is estimated; add it "
                "(time: {seconds_per_step: …, origin: measured})"
            )
    unknown = next((run for run in study.runs.values() if study.nominal_steps(run) is None), None)
    if unknown:
        training, data = unknown.settings["training"], unknown.settings["data"]
        raise UserError(
            f"model {unknown.model}: arm {unknown.arm} trains for {training['epochs']:g} epochs of {data}, whose rows "
            "are not counted yet; stage it first (snakemake stage, with the same --configfile), or give it rows in the "
            "registry of data"
        )
