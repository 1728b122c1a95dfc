"""How many times as long as a step of one arm a step of another takes, by the measured step costs of their model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.method.adapters import ALL, placement_plan
from aletheia.method.layers import Layer
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import Source
from aletheia.timing.in_turns import step_seconds_by_round
from aletheia.timing.step_cost import Shape, seconds_of_step
from aletheia.training.trainer import TimeRatio


def time_ratio(
    costs: Source,
    config: Mapping[str, Any],
    model_lock: Source,
    *,
    selection: Source | None,
    timed_selection: Source | None,
) -> TimeRatio:
    """Return t(ARM) / t(own) for a run with ``steps: {seconds_of: ARM}``.

    Parameters
    ----------
    costs
        Artifact of the model's attribution.
    config
        Sections ``arm``, ``adapter`` and ``training`` of the run. ``arm.steps`` may state ``adapter`` and
        ``gradient_checkpointing`` of the other arm; without them it has the run's.
    model_lock
        Names the modules of each layer, for an arm without a selection.
    selection, timed_selection
        Of the run and of the other arm; None where it adapts all layers.
    """
    of, recomputed = config["arm"]["steps"], config["training"]["gradient_checkpointing"]
    adaptable = artifacts.payload(model_lock, "model_lock").get("adaptable", ())
    arms = (
        (selection, config["adapter"], recomputed),
        (timed_selection, of.get("adapter", config["adapter"]), of.get("gradient_checkpointing", recomputed)),
    )
    shapes = []
    for source, adapter, checkpointing in arms:
        plan = artifacts.payload(source, "selection") if source else _all_layers(adapter, adaptable)
        if plan["status"] != "ok":
            return TimeRatio(None, f"steps: seconds_of, and a probe ended as {plan['status']}: {plan['reason']}")
        shapes.append(shape_of(plan, recomputed=checkpointing))
    return ratio_of(artifacts.payload(costs, "attribution"), own=shapes[0], timed=shapes[1])


def ratio_in_turns(pair: Source) -> TimeRatio:
    """Return t(std) / t(own) from a measurement of a recipe in turns with std.

    The geometric mean over rounds of what a round's steps of std took, both arms of it together, over those of the
    recipe: the reciprocal of :func:`aletheia.search.equal_time.step_cost`.

    Parameters
    ----------
    pair
        Artifact of kind ``paired``.
    """
    found = artifacts.payload(pair, "paired")
    if found["status"] != "ok":
        return TimeRatio(None, f"steps: seconds_of, and in turns with std it ended as {found['status']}")
    own, std = step_seconds_by_round(found)
    return TimeRatio(math.exp(statistics.fmean(math.log(b / a) for a, b in zip(own, std, strict=True))))


def _all_layers(adapter: Mapping[str, Any], adaptable: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    layers = [Layer(i, **names) for i, names in enumerate(adaptable)]
    settings = {"rank": adapter["rank"], "alpha": adapter["alpha"], "modules": adapter.get("modules", ALL)}
    return {"status": "ok", "layers_total": len(layers), **placement_plan(layers, range(len(layers)), **settings)}


def shape_of(plan: Mapping[str, Any], *, recomputed: bool) -> Shape:
    """Return the shape of an arm from a selection's payload; ``recomputed``: under gradient checkpointing."""
    rank = statistics.fmean(plan["rank_pattern"].values())
    return Shape(plan["layers_total"], len(plan["layers"]), min(plan["layers"]), rank, recomputed)


def ratio_of(costs: Mapping[str, Any], *, own: Shape, timed: Shape) -> TimeRatio:
    """Return t(timed) / t(own) by the cost model of an attribution's payload, or why there is none."""
    fitted = costs["cost_model"]
    if fitted is None:
        why = f"{costs['status']}: {costs['reason']}" if costs["reason"] else costs["status"]
        return TimeRatio(None, f"steps: seconds_of, and the step costs were not measured ({why})")
    parts = {name: estimate and estimate["value"] for name, estimate in fitted["seconds_per_step"].items()}
    if parts["forward"] is None and not own.recomputed == timed.recomputed == costs["gradient_checkpointing"]:
        return TimeRatio(None, "steps: seconds_of, and the step costs do not tell checkpointing from its absence")
    seconds = [seconds_of_step(parts, shape) for shape in (timed, own)]
    if min(seconds) <= 0:
        return TimeRatio(None, "steps: seconds_of, and by the measured step costs a step would take no time")
    return TimeRatio(seconds[0] / seconds[1])
