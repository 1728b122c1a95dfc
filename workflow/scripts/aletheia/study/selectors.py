"""The ways to choose an arm's layers: what each reads, where it is from, and what it costs; data alone, no formulas.

Formulas are in :mod:`aletheia.method.layer_scores` and :mod:`aletheia.method.selection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What a choice reads beside the number of layers. A probe measures the first three in one pass; the fourth is a probe
# that trains; the last is the cost model of a step beside the probe.
NOTHING, GRADIENTS, ACTIVATIONS, WEIGHTS, UPDATES, COSTS = (
    *("nothing", "gradients", "activations", "weights", "updates", "costs"),
)
# What the probe step measures; an arm is charged the seconds of its own part.
PROBED = (GRADIENTS, ACTIVATIONS, WEIGHTS)
LAYER, MODULE = "layer", "module"  # values of an arm's `unit`


@dataclass(frozen=True)
class Selector:
    """One value of ``layers`` in an arm.

    Attributes
    ----------
    words
        What it chooses.
    reads
        :data:`NOTHING`, :data:`GRADIENTS`, :data:`ACTIVATIONS`, :data:`WEIGHTS`, :data:`UPDATES` or :data:`COSTS`.
    source
        The paper or program that it is from.
    cost
        What a choice takes, in passes of the probe's batches or in other words.
    keys
        Keys of an arm that it reads beside ``layers``.
    control
        Whether it follows from no score, or from one turned around: what selectors are held against.
    """

    words: str
    reads: str
    source: str
    cost: str
    keys: tuple[str, ...] = ("budget_percent",)
    control: bool = False


_PASS = "one forward and backward pass of the probe's batches"
_OURS = "a control of this study"

SELECTORS: dict[str, Selector] = {
    "gradient": Selector(
        "the highest gradient norms", GRADIENTS, "the paper, Eq. 1 and 2", _PASS, ("budget_percent", "score", "unit")
    ),
    "fisher": Selector(
        "the highest sums of squared gradients (empirical Fisher information)",
        GRADIENTS,
        "Kirkpatrick et al., arXiv:1612.00796; Sung et al., arXiv:2111.09839",
        _PASS,
        ("budget_percent", "unit"),
    ),
    "block_influence": Selector(
        "the layers that turn their input most, 1 − cosine of input and output",
        ACTIVATIONS,
        "ShortGPT, arXiv:2403.03853",
        "one forward pass of the probe's batches",
    ),
    "activation_norm": Selector(
        "the highest norms of a layer's output", ACTIVATIONS, "a baseline of this study", "one forward pass"
    ),
    "weight_snr": Selector(
        "the highest signal-to-noise ratios of the weights",
        WEIGHTS,
        "Spectrum, arXiv:2406.06623",
        "singular values of every adaptable weight; no data",
        ("budget_percent", "unit"),
    ),
    "adapter_update": Selector(
        "the layers whose adapters moved most in a few steps of training",
        UPDATES,
        "after AdaLoRA, arXiv:2303.10512, and LISA, arXiv:2403.17919",
        "a few optimiser steps of the standard arm",
        ("budget_percent", "unit"),
    ),
    "cost_aware": Selector(
        "the set with the most score that a share of the standard arm's step time pays for",
        COSTS,
        "this study",
        _PASS + ", and a model's step costs, measured once",
        ("time_percent", "score"),
    ),
    "bottom": Selector("the lowest gradient norms", GRADIENTS, _OURS, _PASS, ("budget_percent", "score"), control=True),
    "random": Selector("a random draw", NOTHING, _OURS, "nothing", ("budget_percent", "draw", "draws"), control=True),
    "random_same_lowest": Selector(
        "a random draw among those that have the lowest layer of `gradient`",
        GRADIENTS,
        _OURS,
        _PASS,
        ("budget_percent", "draw", "draws", "score"),
        control=True,
    ),
    "first": Selector("the first layers", NOTHING, _OURS, "nothing", control=True),
    "last": Selector("the last layers", NOTHING, "the default of mlx-lm", "nothing", control=True),
    "every_other": Selector(
        "layers at equal distances from layer 0", NOTHING, "LayerDrop, arXiv:1909.11556", "nothing", control=True
    ),
}
# Scores of the probe that rank layers by gradients, `score` of an arm.
GRADIENT_SCORES = ("l2", "sum_of_norms", "relative", "gradient_times_weight")


def reads(arm: Mapping[str, Any]) -> str:
    """Return what an arm's choice of layers reads; :data:`NOTHING` for all layers and for a list."""
    layers = arm["layers"]
    return SELECTORS[layers].reads if isinstance(layers, str) and layers in SELECTORS else NOTHING


def selectors() -> dict[str, Selector]:
    """Return every way to choose layers by name, each with its source and its cost."""
    return dict(SELECTORS)


def with_selectors(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the names of all ways to choose layers filled in.

    Parameters
    ----------
    name, schema
        As of :func:`aletheia.study.schema.schema`; the mapping itself is changed.
    """
    if name == "campaign":
        names, _ = schema["$defs"]["arm"]["properties"]["layers"]["anyOf"]
        names["enum"] += SELECTORS
    return schema
