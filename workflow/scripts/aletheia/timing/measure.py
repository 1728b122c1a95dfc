"""Interleaved measurements from staged inputs to payloads: std with another arm, and the attribution."""

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
from aletheia.timing.interleaving import WARMUP_ROUNDS, round_orders, take_turns, total_steps, twin
from aletheia.timing.paired import AGAIN, RATIOS, STD, ratios_payload, status_of
from aletheia.timing.rounds import Turns
from aletheia.timing.step_attribution import BUDGET_PERCENT, arms, attribution, scaled_rank
from aletheia.timing.step_cost import Shape
from aletheia.training.batch_plan import planned_batches
from aletheia.training.loop import Loop
from aletheia.training.placement import placed
from aletheia.training.run import RunInputs
from aletheia.training.trainer import TrainingRecord

# What the artifact of every interleaved measurement says of itself.
MODE = "interleaved"
ABOUT = "The arms took turns in one process, in blocks of steps; these times are not those of the ledger's runs."


@dataclass(frozen=True)
class Work:
    """What all arms of a measurement share.

    Attributes
    ----------
    model
        A base model without adapters.
    batches
        Collated micro-batches in order, by batch size and accumulation: arms of another shape cut the same rows
        otherwise.
    dtype
        That all arms compute in.
    facts
        What the artifact says of its arm's batches: the hash of their plan, and the positions of each counted step.
    """

    model: Any
    batches: dict[tuple[int, int], list[TokenBatch]]
    dtype: str
    facts: dict[str, Any]


def measure_pair(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Time std, once more std, and another arm in turns.

    Parameters
    ----------
    inputs
        Model, data, the arm's selection where it has one, seed, and the probe whose time the arm pays for. As many
        batches are drawn as it takes, whatever plan the runs read.
    config
        Sections ``run``, ``model``, ``encoding``, ``adapter``, ``arm``, ``training``, ``interleaving``, and ``std``,
        the standard arm's own ``arm``, ``adapter`` and ``training``; without it std has the arm's, and all layers.

    Returns
    -------
    dict
        Payload of a ``paired`` artifact; an arm that failed is a status in it.
    """
    name = config["run"]["arm"]
    selection = artifacts.payload(inputs.selection, "selection") if inputs.selection else None
    probe = inputs.probe_seconds if inputs.probe else None
    facts = {**_facts(inputs, config), "arm": name, "probe_seconds": probe}
    facts["probe_shared_by_steps"] = config["training"]["steps"]
    # In this order they begin; each further round has its own.
    order = (STD, name, AGAIN)
    facts["order"] = round_orders(order, config["interleaving"]["rounds"])
    nothing = {"frozen_layers": None, **dict.fromkeys(RATIOS), "arms": {}}
    if selection and selection["status"] != "ok":
        return {**facts, **nothing, "status": selection["status"], "reason": f"probe: {selection['reason']}"}
    std = {**config, "arm": {"layers": "all"}, **config.get("std", {})}
    work = _loaded(inputs, config, facts["dtype"], std["training"])
    if isinstance(work, TrainingRecord):
        return {**facts, **nothing, "status": work.status, "reason": work.reason}
    arms_of = {STD: (None, std), name: (selection, config), AGAIN: (None, std)}
    makers = {each: _maker(work, *arms_of[each], seed=inputs.seed) for each in order}
    turns = take_turns(makers, **config["interleaving"])
    status, reason = status_of(turns)
    paid = {"seconds": probe, "steps": config["training"]["steps"]} if probe is not None else None
    arms = {arm: _arm(own) for arm, own in turns.items()}
    return {
        **facts,
        **work.facts,
        "status": status,
        "reason": reason,
        "frozen_layers": arms[name]["frozen_layers"],
        **ratios_payload(turns, name, probe=paid),
        "arms": arms,
    }


def measure_attribution(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Time all arms of the attribution in turns, and hold them against the cost model.

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
    nothing = {
        "layers_total": probe["layers_total"],
        **dict.fromkeys(("positions_per_step", "cost_model", "fit")),
        "arms": {},
    }
    if probe["status"] != "ok":
        return {**facts, **nothing, "status": probe["status"], "reason": f"probe: {probe['reason']}"}
    recomputed = config["training"]["gradient_checkpointing"]
    gradient = select_layers(probe["scores"]["l2"], BUDGET_PERCENT)
    planned = arms(probe["layers_total"], gradient, recomputed=recomputed)
    work = _loaded(inputs, config, facts["dtype"])
    if isinstance(work, TrainingRecord):
        return {**facts, **nothing, "status": work.status, "reason": work.reason}
    layers = adaptable_layers(work.model)
    makers, shapes = {}, {}
    for name, arm in planned.items():
        ranks = {key: scaled_rank(config["adapter"][key], arm.rank_factor) for key in ("rank", "alpha")}
        plan = placement_plan(layers, arm.layers, **ranks, modules=config["adapter"]["modules"])
        rank = statistics.fmean(plan["rank_pattern"].values())
        shapes[name] = Shape(probe["layers_total"], len(arm.layers), arm.layers[0], rank, arm.recomputed)
        training = {**config["training"], "gradient_checkpointing": arm.recomputed}
        own = {**config, "arm": {}, "training": training}
        makers[name] = _maker(work, plan, own, seed=inputs.seed)
    turns = take_turns(makers, **config["interleaving"])
    status, reason = status_of(turns)
    found = attribution(shapes, turns, work.facts["positions"])
    entries = {
        name: {**_arm(turns[name]), **_shape(shapes[name], planned[name].layers), **entry}
        for name, entry in found["arms"].items()
    }
    return {**facts, **nothing, **work.facts, **found, "status": status, "reason": reason, "arms": entries}


def _facts(inputs: RunInputs, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a measurement before a model is loaded."""
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


def _loaded(
    inputs: RunInputs, config: Mapping[str, Any], dtype: str, *others: Mapping[str, Any]
) -> Work | TrainingRecord:
    """Load model and batches; where the model cannot be loaded return the record that says why.

    The batches begin the plan that the study's runs of this model and seed read: a longer one begins with a shorter.
    Those of ``others``, further sections ``training``, are drawn too.
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
    drawn = {"plan": None, "steps": total_steps(section), "seed": inputs.seed}
    shapes = {_shape_of(each): each for each in (*others, training)}
    plans = {shape: planned_batches(rows, tokenizer.pad_token_id, each, **drawn) for shape, each in shapes.items()}
    plan = plans[_shape_of(training)]
    stepped = positions(plan.batches, accumulation=training["accumulation"], steps=section["steps"])
    batches = {shape: each.batches for shape, each in plans.items()}
    return Work(model, batches, dtype, {"batch_plan_sha256": plan.sha256, "positions": stepped})


def _shape_of(training: Mapping[str, Any]) -> tuple[int, int]:
    return training["batch_size"], training["accumulation"]


def positions(batches: list[TokenBatch], *, accumulation: int, steps: int) -> list[list[int]]:
    """Return the sequence positions of each counted step, padding included, by round.

    Parameters
    ----------
    batches
        Micro-batches; those of the warm-up come first.
    accumulation, steps
        Micro-batches a step, and steps a round.
    """
    sizes = [batch.input_ids.numel() for batch in batches]
    each = [sum(sizes[i : i + accumulation]) for i in range(0, len(sizes), accumulation)]
    return [each[i : i + steps] for i in range(WARMUP_ROUNDS * steps, len(each), steps)]


def _maker(work: Work, plan: Mapping[str, Any] | None, config: Mapping[str, Any], *, seed: int) -> Callable[[], Loop]:
    """Return the function that makes an arm's loop."""
    settings = config["training"]

    def make() -> Loop:
        model, placement = placed(twin(work.model), plan, config, seed=seed)
        return Loop(
            model,
            work.batches[_shape_of(settings)],
            settings=settings,
            steps=total_steps(config["interleaving"]),
            learning_rate=settings["learning_rate"] * config["model"]["learning_rate_scale"],
            dtype=work.dtype,
            seed=seed,
            placement=placement,
        )

    return make


def _arm(turns: Turns) -> dict[str, Any]:
    """Return what an artifact says of each arm; where its loop could not be made, its layers are not known."""
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
