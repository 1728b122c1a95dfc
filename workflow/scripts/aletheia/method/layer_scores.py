"""The scores by which layers, or modules, are ranked: their formulas, and how a probe's payload is read for them.

With ∇_p the gradient of the loss of batch b by parameter p, and G the parameters of a layer (or of one module):

- ``l2``: Σ_b √(Σ_{p∈G} ‖∇_p‖²), the norm of the whole gradient (the paper's Eq. 1);
- ``sum_of_norms``: Σ_b Σ_{p∈G} ‖∇_p‖;
- ``relative``: ``l2`` over the norm of the weights, √(Σ_{p∈G} ‖p‖²);
- ``fisher``: Σ_b Σ_{p∈G} ‖∇_p‖², the trace of the empirical Fisher information, where each batch counts as one sample
  (Kirkpatrick et al., arXiv:1612.00796; Sung et al., arXiv:2111.09839);
- ``gradient_times_weight``: Σ_b Σ_{p∈G} ‖∇_p‖·‖p‖, by Cauchy and Schwarz an upper bound of Σ_b Σ_p |⟨∇_p, p⟩|: of the
  loss's first-order change if G were taken out (the importance of Molchanov et al., arXiv:1906.10771).

It imports no torch: choosing reads the probe's artifact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.method.adapters import module_kind
from aletheia.study.selectors import GRADIENTS

SUMMED = ("l2", "sum_of_norms", "relative", "gradient_times_weight", "fisher")  # over batches
# Ways to choose layers that rank by the score of their own name; others rank by the arm's `score`, a gradient's.
OWN_SCORE = ("fisher", "block_influence", "activation_norm", "weight_snr", "adapter_update")
# Scores of modules that stand in a payload ready made, by score.
READY = {"weight_snr": "module_snr", "adapter_update": "module_update"}


def batch_score(
    norms: Mapping[str, float], weight_norms: Mapping[str, float], names: Sequence[str], score: str
) -> float:
    """Return the score of a group of parameters on one batch (see the module's formulas).

    Parameters
    ----------
    norms, weight_norms
        L2 norms of gradients and of parameters, by parameter.
    names
        The group's parameters.
    score
        One of :data:`SUMMED`.
    """
    if score == "sum_of_norms":
        return math.fsum(norms[n] for n in names)
    if score == "gradient_times_weight":
        return math.fsum(norms[n] * weight_norms[n] for n in names)
    squares = math.fsum(norms[n] ** 2 for n in names)
    if score == "fisher":
        return squares
    if score == "relative":
        weight = math.sqrt(math.fsum(weight_norms[n] ** 2 for n in names))
        return math.sqrt(squares) / weight if weight else 0.0
    return math.sqrt(squares)


def ranking_score(arm: Mapping[str, Any]) -> str:
    """Return the name of the score that ranks an arm's layers, or that its controls are held against."""
    layers = arm["layers"]
    return layers if isinstance(layers, str) and layers in OWN_SCORE else arm.get("score", "l2")


def layer_scores(probe: Mapping[str, Any], arm: Mapping[str, Any]) -> list[float] | None:
    """Return one number a layer, by which an arm ranks; None where the probe did not measure it.

    Parameters
    ----------
    probe
        Payload of a probe that is ``ok``.
    arm
        The arm's entry in the campaign.
    """
    return probe["scores"].get(ranking_score(arm))


def module_scores(probe: Mapping[str, Any], arm: Mapping[str, Any], modules: Iterable[str]) -> dict[str, float]:
    """Return the score of each module, by which an arm with ``unit: module`` ranks.

    A module's parameters are its weight and its bias; of fused experts, the parameter that is named itself.

    Parameters
    ----------
    probe
        Payload of a probe that is ``ok``.
    arm
        The arm's entry in the campaign.
    modules
        Full names.

    Raises
    ------
    UserError
        When the probe did not measure it.
    """
    score, names = ranking_score(arm), list(modules)
    if score in READY:
        values = probe.get(READY[score]) or {}
        values = finite_ratios(values) if score == "weight_snr" else values
        absent = [name for name in names if values.get(name) is None]
        scores = {name: values[name] for name in names} if not absent else {}
    else:
        groups = {name: _parameters(name, probe["weight_norms"]) for name in names}
        absent = names if not probe["per_module"] else [name for name in names if not groups[name]]
        scores = {} if absent else _summed(probe, groups, score)
    if absent:
        raise not_measured(arm, f"{READY.get(score, GRADIENTS)} of {absent[0]}")
    return scores


def _parameters(module: str, known: Mapping[str, float]) -> list[str]:
    return [name for name in (module, f"{module}.weight", f"{module}.bias") if name in known]


def _summed(probe: Mapping[str, Any], groups: Mapping[str, Sequence[str]], score: str) -> dict[str, float]:
    """Return each group's score, summed over the probe's batches."""
    weights = probe["weight_norms"]
    return {
        group: math.fsum(batch_score(norms, weights, names, score) for norms in probe["per_module"])
        for group, names in groups.items()
    }


def finite_ratios(ratios: Mapping[str, float | None]) -> dict[str, float]:
    """Return signal-to-noise ratios with a number for those that are infinite: just above the highest of their kind.

    A ratio is infinite where a weight has no singular value within the noise; published ratios of several models have
    some. The order is kept. Where all of a kind are infinite each is 1.

    Parameters
    ----------
    ratios
        By module; None (as in artifacts) or infinite.
    """
    highest: dict[str, float] = {}
    for name, ratio in ratios.items():
        if ratio is not None and math.isfinite(ratio):
            highest[module_kind(name)] = max(ratio, highest.get(module_kind(name), 0.0))
    above = {kind: math.nextafter(ratio, math.inf) for kind, ratio in highest.items()}
    return {
        name: ratio if ratio is not None and math.isfinite(ratio) else above.get(module_kind(name), 1.0)
        for name, ratio in ratios.items()
    }


def not_measured(arm: Mapping[str, Any], what: str) -> UserError:
    """Return the error of an arm that ranks by what a probe did not measure."""
    return UserError(
        f"layers: {arm['layers']}: expected {what} in the probe's artifact, found none; measure it (probe.measure), or "
        "choose by another score"
    )
