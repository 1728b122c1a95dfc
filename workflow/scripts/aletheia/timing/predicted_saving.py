"""What a choice of layers saves by the cost model, before anything is trained.

The model is that of :mod:`aletheia.timing.step_cost`. Where its parts were measured on this machine (an attribution) it
gives a number. Where they were not it gives a range, over parts in units of a layer's forward pass: a frozen layer's
backward pass costs as much as its forward pass, since there are no gradients of weights; what is equal in all arms and
what a layer's adapters cost differ by model and machine, between :data:`LEAST` and :data:`MOST`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.timing.step_cost import PARTS, CostModel, Shape

# By a count of products alone adapters of a small rank cost next to nothing, and the head of a small model up to an
# eighth of its layers' passes.
LEAST_FIXED = 0.25  # of all layers' forward pass
# The most that was measured, where small products wait: SmolLM2-135M on two cores, rank 16 (benchmarks/training.json).
MOST_ADAPTER = 1.75  # of a layer's forward pass


@dataclass(frozen=True)
class Share:
    """A time as a share of standard LoRA's, from the least to the most; equal where the parts were measured."""

    low: float
    high: float

    @classmethod
    def over(cls, values: list[float]) -> Share:
        """Return the range of some values."""
        return cls(min(values), max(values))


@dataclass(frozen=True)
class PredictedRun:
    """What is predicted of one arm.

    Attributes
    ----------
    shape
        Its layers.
    step
        Of a step that computes every layer.
    later
        Of a step from the second visit of its rows on, where the states of the layers below are read back; that of
        ``step`` where nothing lies below.
    run
        Of all steps.
    """

    shape: Shape
    step: Share
    later: Share
    run: Share


def predicted_run(
    selection: Mapping[str, Any],
    *,
    epochs: float,
    recomputed: bool = False,
    prefix_cache: bool = True,
    attribution: Mapping[str, Any] | None = None,
    modules_total: int | None = None,
) -> PredictedRun:
    """Return what the cost model predicts of an arm against standard LoRA of the same rank.

    Parameters
    ----------
    selection
        Payload of an artifact ``selection`` that is ok.
    epochs
        Passes over the rows.
    recomputed
        Whether the backward pass recomputes activations (``gradient_checkpointing``).
    prefix_cache
        Whether the states of the frozen layers are kept where rows come again.
    attribution
        Payload of the model's attribution, where there is one; one that failed counts as none.
    modules_total
        As of :func:`shape_of`.
    """
    shape = shape_of(selection, recomputed=recomputed, modules_total=modules_total)
    whole = Shape(shape.layers_total, shape.layers_total, 0, 1, recomputed)
    steps, later = [], []
    for parts in _parts(shape.layers_total, attribution):
        model = CostModel(**parts)
        of_std = model.seconds(whole, 1)
        steps.append(model.seconds(shape, 1) / of_std)
        # Without a known forward pass what is read back in its place is not known either.
        kept = prefix_cache and parts["forward"] is not None
        later.append(steps[-1] - (shape.lowest * parts["forward"] / of_std if kept else 0.0))
    again = max(0.0, epochs - 1) / max(epochs, 1)
    runs = [(1 - again) * first + again * other for first, other in zip(steps, later, strict=True)]
    return PredictedRun(shape, Share.over(steps), Share.over(later), Share.over(runs))


def shape_of(selection: Mapping[str, Any], *, recomputed: bool, modules_total: int | None = None) -> Shape:
    """Return what decides the cost of a selection, of ranks that are those of standard LoRA (1 stands for them).

    A layer of which some modules are chosen counts as its share of ``modules_total``, the modules of the whole model
    that standard LoRA adapts; where that is not known, of the kinds that are chosen in any layer.
    """
    names = [*selection["target_modules"], *selection["target_parameters"]]
    kinds = {name.rpartition(".")[2] for name in names}
    whole, total = len(selection["layers"]), selection["layers_total"]
    adapted = whole
    if modules_total and names:
        adapted = total * len(names) / modules_total
    elif selection["unit"] != "layer" and kinds:
        adapted = min(whole, len(names) / len(kinds))
    return Shape(total, adapted, selection["lowest_layer"], 1, recomputed)


def is_measured(attribution: Mapping[str, Any] | None) -> bool:
    """Tell whether an attribution has the parts of a step."""
    return bool(attribution) and attribution["status"] == "ok" and attribution["cost_model"] is not None


def _parts(layers_total: int, attribution: Mapping[str, Any] | None) -> list[dict[str, float | None]]:
    """Return the parts of a step to predict with: the measured ones, else the two ends of what is usual."""
    if is_measured(attribution):
        found = attribution["cost_model"]["seconds_per_step"]
        parts = {name: found[name] and found[name]["value"] for name in PARTS}
        rank = attribution["arms"]["all"]["rank"]
        return [{**parts, "adapter": max(0.0, parts["adapter"] + rank * parts["adapter_rank"]), "adapter_rank": 0.0}]
    usual = {"forward": 1.0, "backward": 1.0, "adapter_rank": 0.0}
    return [
        {**usual, "fixed": LEAST_FIXED * layers_total, "adapter": 0.0},
        {**usual, "fixed": 0.0, "adapter": MOST_ADAPTER},
    ]
