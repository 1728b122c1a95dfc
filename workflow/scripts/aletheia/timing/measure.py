"""Interleaved measurements from staged inputs to payloads: std beside another arm, and the attribution."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.method.adapters import placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.method.loading import check_context, load, load_options, resolve_dtype
from aletheia.method.selection import select_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts
from aletheia.timing.interleaving import (
    WARMUP_ROUNDS,
    copy_sharing_weights,
    equal_rows,
    round_orders,
    take_turns,
    total_steps,
)
from aletheia.timing.paired import RATIOS, STD, STD_AGAIN, ratios_payload, status_of
from aletheia.timing.rounds import Turns
from aletheia.timing.step_attribution import BUDGET_PERCENT, arms, attribution, scaled_rank
from aletheia.timing.step_cost import Shape
from aletheia.training.batch_plan import planned_batches
from aletheia.training.joined_rows import positions_of
from aletheia.training.loop import Loop
from aletheia.training.placement import place_adapters
from aletheia.training.planned_length import with_steps
from aletheia.training.run_inputs import RunInputs
from aletheia.training.trainer import TrainingRecord

# Facts in the artifact of every interleaved measurement.
MODE = "interleaved"
ABOUT = "The arms took turns in one process, in blocks of steps; these times are not those of the ledger's runs."


@dataclass(frozen=True)
class SharedWork:
    """Model and batches that all arms of a measurement share.

    Attributes
    ----------
    model
        A base model without adapters.
    batches
        Collated micro-batches in order, by (batch size, accumulation): arms of another shape have the same rows in
        other micro-batches.
    dtype
        Of all arms.
    facts
        For the artifact: the hash of the batch plan, and the positions of each counted step.
    steps
        Of each loop, warm-up included, by the same keys as ``batches``.
    """

    model: Any
    batches: dict[tuple[int, int], list[TokenBatch]]
    dtype: str
    facts: dict[str, Any]
    steps: dict[tuple[int, int], int]


def measure_pair(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Time std, a second std and another arm in turns.

    Parameters
    ----------
    inputs
        Model, data, the arm's selection where it has one, seed, and the probe whose time counts for the arm. As many
        batches are drawn as the measurement needs, whatever plan the runs read.
    config
        Sections ``run``, ``model``, ``encoding``, ``adapter``, ``arm``, ``training``, ``interleaving``, and ``std``,
        the standard arm's own ``arm``, ``adapter`` and ``training``; without it std has the arm's, and all layers.

    Returns
    -------
    dict
        Payload of a ``paired`` artifact; an arm that failed is a status in it.
    """
    config = with_steps(inputs, config)
    name = config["run"]["arm"]
    selection = artifacts.payload(inputs.selection, "selection") if inputs.selection else None
    probe = inputs.probe_seconds(config["arm"]) if inputs.probe else None
    facts = {**_facts(inputs, config), "arm": name, "probe_seconds": probe}
    facts["probe_shared_by_steps"] = config["training"]["steps"]
    # The order of the first round.
    order = (STD, name, STD_AGAIN)
    facts["order"] = round_orders(order, config["interleaving"]["rounds"])
    no_results = {"frozen_layers": None, **dict.fromkeys(RATIOS), "arms": {}}
    if selection and selection["status"] != "ok":
        return {**facts, **no_results, "status": selection["status"], "reason": selection["reason"]}
    std = {**config, "arm": {"layers": "all"}, **config.get("std", {})}
    std_times, times = equal_rows(std["training"], config["training"])
    facts["micro_batches"] *= times
    work = _load_work(inputs, config, facts["dtype"], times=times, std=(std["training"], std_times))
    if isinstance(work, TrainingRecord):
        return {**facts, **no_results, "status": work.status, "reason": work.reason}
    settings_of = {STD: (None, std), name: (selection, config), STD_AGAIN: (None, std)}
    makers = {each: _loop_maker(work, *settings_of[each], seed=inputs.seed) for each in order}
    per_round = {STD: std_times, name: times, STD_AGAIN: std_times}
    turns = take_turns(makers, **config["interleaving"], times=per_round)
    status, reason = status_of(turns)
    probe_time = {"seconds": probe, "steps": config["training"]["steps"]} if probe is not None else None
    arms = {arm: _arm(arm_turns) for arm, arm_turns in turns.items()}
    return {
        **facts,
        **work.facts,
        "status": status,
        "reason": reason,
        "frozen_layers": arms[name]["frozen_layers"],
        **ratios_payload(turns, name, probe=probe_time, steps=config["interleaving"]["steps"]),
        "arms": arms,
    }


def measure_attribution(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Time all arms of the attribution in turns, and compare them with the cost model.

    Parameters
    ----------
    inputs
        Model, data, seed, and the probe that chooses the layers of one arm.
    config
        Sections ``run``, ``model``, ``encoding``, ``adapter``, ``training``, ``interleaving``.

    Returns
    -------
    dict
        Payload of an ``attribution`` artifact; an arm that failed is a status in it.
    """
    probe = artifacts.payload(inputs.probe, "probe")
    facts = _facts(inputs, config)
    no_results = {
        "layers_total": probe["layers_total"],
        **dict.fromkeys(("positions_per_step", "cost_model", "fit")),
        "arms": {},
    }
    if probe["status"] != "ok":
        return {**facts, **no_results, "status": probe["status"], "reason": f"probe: {probe['reason']}"}
    recomputed = config["training"]["gradient_checkpointing"]
    gradient = select_layers(probe["scores"]["l2"], BUDGET_PERCENT)
    planned = arms(probe["layers_total"], gradient, recomputed=recomputed)
    work = _load_work(inputs, config, facts["dtype"])
    if isinstance(work, TrainingRecord):
        return {**facts, **no_results, "status": work.status, "reason": work.reason}
    layers = adaptable_layers(work.model)
    makers, shapes = {}, {}
    for name, arm in planned.items():
        ranks = {key: scaled_rank(config["adapter"][key], arm.rank_factor) for key in ("rank", "alpha")}
        plan = placement_plan(layers, arm.layers, **ranks, modules=config["adapter"]["modules"])
        rank = statistics.fmean(plan["rank_pattern"].values())
        shapes[name] = Shape(probe["layers_total"], len(arm.layers), arm.layers[0], rank, arm.recomputed)
        # The cost model is of arms whose layers train all the time.
        training = {**config["training"], "gradient_checkpointing": arm.recomputed, "layers_active": None}
        makers[name] = _loop_maker(work, plan, {**config, "arm": {}, "training": training}, seed=inputs.seed)
    turns = take_turns(makers, **config["interleaving"])
    status, reason = status_of(turns)
    results = attribution(shapes, turns, work.facts["positions"])
    entries = {
        name: {**_arm(turns[name]), **_shape(shapes[name], planned[name].layers), **entry}
        for name, entry in results["arms"].items()
    }
    return {**facts, **no_results, **work.facts, **results, "status": status, "reason": reason, "arms": entries}


def _facts(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a measurement that are known before a model is loaded."""
    section = config["interleaving"]
    return {
        "mode": MODE,
        "about": ABOUT,
        # A rule names the model; by hand its lock does.
        "model": config["run"]["model"] or artifacts.payload(inputs.model_lock, "model_lock")["model"],
        "seed": inputs.seed,
        "dtype": resolve_dtype(config["model"], inputs.precision),
        "quantization": config["model"]["quantization"],
        "gradient_checkpointing": config["training"]["gradient_checkpointing"],
        "rounds": section["rounds"],
        "steps_per_round": section["steps"],
        "warmup_rounds": WARMUP_ROUNDS,
        "micro_batches": total_steps(section) * config["training"]["accumulation"],
        "batch_plan_sha256": None,
        "positions": None,
    }


def _load_work(
    inputs: RunInputs,
    config: Mapping[str, Any],
    dtype: str,
    *,
    times: int = 1,
    std: tuple[Mapping[str, Any], int] | None = None,
) -> SharedWork | TrainingRecord:
    """Load model and batches; where the model cannot be loaded, return a record with the reason.

    The batches are the first ones of the plan that the study's runs of this model and seed read, since a longer plan
    begins with a shorter one. They are drawn for ``config["training"]``, and for the section of ``std`` where it has
    its own, each with as many steps as ``times`` says (:func:`aletheia.timing.interleaving.equal_rows`).
    """
    section, training = config["interleaving"], config["training"]
    rows = inputs.rows(config, lambda: tokenizer)
    try:
        model, tokenizer = load(inputs.model_lock, dtype=dtype, **load_options(config["model"]))
    except (RuntimeError, MemoryError) as error:
        record = TrainingRecord()
        record.fail_by(error)
        return record
    check_context(model, config["encoding"]["max_tokens"])
    wanted = {
        _shape_of(each): (each, total_steps(section) * of) for each, of in (*((std,) if std else ()), (training, times))
    }
    plans = {
        shape: planned_batches(rows, tokenizer.pad_token_id, each, plan=None, steps=steps, seed=inputs.seed)
        for shape, (each, steps) in wanted.items()
    }
    plan = plans[_shape_of(training)]
    step_positions = positions(
        model, plan.batches, accumulation=training["accumulation"], steps=section["steps"] * times
    )
    batches = {shape: each.batches for shape, each in plans.items()}
    facts = {"batch_plan_sha256": plan.sha256, "positions": step_positions}
    return SharedWork(model, batches, dtype, facts, {shape: steps for shape, (_, steps) in wanted.items()})


def _shape_of(training: Mapping[str, Any]) -> tuple[int, int]:
    return training["batch_size"], training["accumulation"]


def positions(model: Any, batches: list[TokenBatch], *, accumulation: int, steps: int) -> list[list[int]]:
    """Return the positions that each counted step computes, padding included, by round.

    Parameters
    ----------
    model
        Of the arms, which decides whether rows are joined.
    batches
        Micro-batches; those of the warm-up come first.
    accumulation, steps
        Micro-batches a step, and steps a round.
    """
    sizes = [positions_of(model, batch) for batch in batches]
    each = [sum(sizes[i : i + accumulation]) for i in range(0, len(sizes), accumulation)]
    return [each[i : i + steps] for i in range(WARMUP_ROUNDS * steps, len(each), steps)]


def _loop_maker(
    work: SharedWork, plan: Mapping[str, Any] | None, config: Mapping[str, Any], *, seed: int
) -> Callable[[], Loop]:
    """Return a function that builds an arm's loop."""
    settings = config["training"]

    def make() -> Loop:
        model, placement = place_adapters(copy_sharing_weights(work.model), plan, config, seed=seed)
        return Loop(
            model,
            work.batches[_shape_of(settings)],
            settings=settings,
            steps=work.steps[_shape_of(settings)],
            learning_rate=settings["learning_rate"] * config["model"]["learning_rate_scale"],
            dtype=work.dtype,
            seed=seed,
            placement=placement,
        )

    return make


def _arm(turns: Turns) -> dict[str, Any]:
    """Return an arm's entry in the artifact; without its layers where the loop could not be built."""
    placement = turns.placement or {}
    return {
        "status": turns.status,
        "reason": turns.reason,
        **{key: placement.get(key) for key in ("layers", "frozen_layers", "trainable_parameters")},
        "step_seconds": turns.step_seconds,
    }


def _shape(shape: Shape, layers: list[int]) -> dict[str, Any]:
    return {
        "layers": layers,
        "lowest_layer": shape.lowest,
        "rank": shape.rank,
        "gradient_checkpointing": shape.recomputed,
    }
