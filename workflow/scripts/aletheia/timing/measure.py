"""Interleaved measurements from staged inputs to payloads: the pair of std and a selecting arm, and the attribution."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.method.adapters import placement_plan
from aletheia.method.layers import adaptable_layers
from aletheia.method.loading import check_context, load, loading, resolved_dtype
from aletheia.method.selection import select_layers
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import checked_folder
from aletheia.timing.interleaving import WARMUP_ROUNDS, take_turns, total_steps, twin
from aletheia.timing.paired import STD, ratios_payload, status_of
from aletheia.timing.rounds import Turns
from aletheia.timing.step_attribution import BUDGET_PERCENT, arms, attribution, scaled_rank
from aletheia.timing.step_cost import Shape
from aletheia.training.loop import Loop
from aletheia.training.run import placed, planned_batches
from aletheia.training.trainer import TrainingRecord

# What the artifact of every interleaved measurement says of itself.
MODE = "interleaved"
ABOUT = "The arms took turns in one process, in blocks of steps; these times are not those of the ledger's runs."


@dataclass(frozen=True)
class Work:
    """What all arms of a measurement share: a base model without adapters, and micro-batches in order."""

    model: Any
    batches: list[TokenBatch]
    dtype: str


def measure_pair(args: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Time std and a selecting arm in turns.

    Parameters
    ----------
    args
        Arguments of ``interleave.py``.
    config
        Sections ``run``, ``model``, ``encoding``, ``adapter``, ``arm``, ``training``, ``interleaving``, and ``std``,
        the standard arm's entry.

    Returns
    -------
    dict
        Payload of a ``paired`` artifact; an arm that failed is a status in it.
    """
    name = config["run"]["arm"]
    selection = artifacts.payload(args.selection, "selection")
    probe = artifacts.read(args.probe, "probe")["observed"]["probe_seconds"] if args.probe else None
    facts = {**_facts(args, config), "arm": name, "probe_seconds": probe}
    facts["probe_shared_by_steps"] = config["training"]["steps"]
    nothing = {"frozen_layers": None, "ratio": None, "ratio_with_probe": None, "arms": {}}
    if selection["status"] != "ok":
        return {**facts, **nothing, "status": selection["status"], "reason": f"probe: {selection['reason']}"}
    work, failed = _loaded(args, config, facts)
    if work is None:
        return {**facts, **nothing, **failed}
    audits: dict[str, dict[str, Any]] = {STD: {}, name: {}}
    std = {**config, "arm": config.get("std", {"layers": "all"})}
    makers = {
        STD: _maker(work, None, std, seed=args.seed, audit=audits[STD]),
        name: _maker(work, selection, config, seed=args.seed, audit=audits[name]),
    }
    turns = take_turns(makers, **config["interleaving"])
    status, reason = status_of(turns)
    paid = {"seconds": probe, "steps": config["training"]["steps"]} if probe is not None else None
    return {
        **facts,
        "status": status,
        "reason": reason,
        "frozen_layers": audits[name].get("frozen_layers"),
        **ratios_payload(turns, name, probe=paid),
        "arms": {arm: _arm(turns[arm], audits[arm]) for arm in turns},
    }


def measure_attribution(args: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Time all arms of the attribution in turns, and hold them against the cost model.

    Parameters
    ----------
    args
        Arguments of ``attribution.py``.
    config
        Sections ``run``, ``model``, ``encoding``, ``adapter``, ``training``, ``interleaving``.

    Returns
    -------
    dict
        Payload of an ``attribution`` artifact; an arm that failed is a status in it.
    """
    probe = artifacts.payload(args.probe, "probe")
    facts = _facts(args, config)
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
    work, failed = _loaded(args, config, facts)
    if work is None:
        return {**facts, **nothing, **failed}
    layers = adaptable_layers(work.model)
    makers, shapes, audits = {}, {}, {name: dict[str, Any]() for name in planned}
    for name, arm in planned.items():
        ranks = {key: scaled_rank(config["adapter"][key], arm.rank_factor) for key in ("rank", "alpha")}
        plan = placement_plan(layers, arm.layers, **ranks)
        rank = statistics.fmean(plan["rank_pattern"].values())
        shapes[name] = Shape(probe["layers_total"], len(arm.layers), arm.layers[0], rank, arm.recomputed)
        training = {**config["training"], "gradient_checkpointing": arm.recomputed}
        own = {**config, "arm": {}, "training": training}
        makers[name] = _maker(work, plan, own, seed=args.seed, audit=audits[name])
    turns = take_turns(makers, **config["interleaving"])
    status, reason = status_of(turns)
    found = attribution(shapes, turns, facts["positions"])
    entries = {
        name: {**_arm(turns[name], audits[name]), **_shape(shapes[name], planned[name].layers), **entry}
        for name, entry in found["arms"].items()
    }
    return {**facts, **nothing, **found, "status": status, "reason": reason, "arms": entries}


def _facts(args: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a measurement before a model is loaded."""
    section = config["interleaving"]
    return {
        "mode": MODE,
        "about": ABOUT,
        # A rule names the model; by hand its lock does.
        "model": config["run"]["model"] or artifacts.payload(args.model_lock, "model_lock")["model"],
        "seed": args.seed,
        "dtype": resolved_dtype(config["model"], args.precision),
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
    args: Any, config: Mapping[str, Any], facts: dict[str, Any]
) -> tuple[Work, None] | tuple[None, dict[str, Any]]:
    """Load model and batches and enter the batches' facts; where that fails return status and reason instead.

    The batches begin the plan that the study's runs of this model and seed read: a longer one begins with a shorter.
    """
    section, training = config["interleaving"], config["training"]
    try:
        model, tokenizer = load(args.model_lock, dtype=facts["dtype"], **loading(config["model"]))
    except (RuntimeError, MemoryError) as error:
        record = TrainingRecord()
        record.fail_by(error)
        return None, {"status": record.status, "reason": record.reason}
    check_context(model, config["encoding"]["max_tokens"])
    plan = {"model": facts["model"], "steps": total_steps(section)}
    batches = planned_batches(args, checked_folder(args.data_lock, "data_lock"), tokenizer, config, plan)
    facts["batch_plan_sha256"] = plan["batch_plan_sha256"]
    facts["positions"] = positions(batches, accumulation=training["accumulation"], steps=section["steps"])
    return Work(model, batches, facts["dtype"]), None


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


def _maker(
    work: Work, plan: Mapping[str, Any] | None, config: Mapping[str, Any], *, seed: int, audit: dict[str, Any]
) -> Callable[[], Loop]:
    """Return the function that makes an arm's loop; ``audit`` gains the adapters' audit, which its first step ends."""
    settings = config["training"]

    def make() -> Loop:
        model, placement = placed(twin(work.model), plan, config, seed=seed)
        audit.update(placement)
        return Loop(
            model,
            work.batches,
            settings=settings,
            steps=total_steps(config["interleaving"]),
            learning_rate=settings["learning_rate"] * config["model"]["learning_rate_scale"],
            dtype=work.dtype,
            seed=seed,
            placement=audit,
        )

    return make


def _arm(turns: Turns, audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an artifact says of each arm; where its loop could not be made, its layers are not known."""
    return {
        "status": turns.status,
        "reason": turns.reason,
        "layers": audit.get("layers"),
        "frozen_layers": audit.get("frozen_layers"),
        "trainable_parameters": audit.get("trainable_parameters"),
        "step_seconds": turns.step_seconds,
    }


def _shape(shape: Shape, layers: list[int]) -> dict[str, Any]:
    return {
        "layers": layers,
        "lowest_layer": shape.lowest,
        "rank": shape.rank,
        "gradient_checkpointing": shape.recomputed,
    }
