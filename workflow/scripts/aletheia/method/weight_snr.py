r"""Signal-to-noise ratios of weights by random matrix theory, as Spectrum takes them; no data is read.

With s the singular values of a weight of shape (m, n), β = min(m, n)/max(m, n) and σ = IQR(s)/1.349, the standard
deviation of a normal distribution with that interquartile range:

    ε = σ·(1 + √β)        the upper edge of the singular values of noise, after Marchenko and Pastur
    SNR = (Σ_{s>ε} s / Σ_{s≤ε} s) / max s

References
----------
Hartford et al., "Spectrum: Targeted Training on Signal to Noise Ratio", arXiv:2406.06623, and its program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from aletheia.method.adapters import module_kind
from aletheia.method.four_bit import dequantised
from aletheia.method.layer_scores import finite_ratios

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aletheia.method.layers import Layer

IQR_OF_NORMAL = 1.349  # in standard deviations


def signal_to_noise(weight: torch.Tensor) -> float:
    """Return the signal-to-noise ratio of a weight; for three dimensions the mean of the experts' finite ones.

    Parameters
    ----------
    weight
        Floating point, of shape (out, in) or (experts, …, …). Its singular values are taken in fp32.

    Returns
    -------
    float
        0 for a weight of zeros; infinite where all singular values are above the threshold, which is so for random
        weights of β ≤ 1/4 too; NaN where the weight is not finite.
    """
    if weight.dim() == 3:
        ratios = [signal_to_noise(expert) for expert in weight]
        finite = [ratio for ratio in ratios if math.isfinite(ratio)]
        return math.fsum(finite) / len(finite) if finite and not any(map(math.isnan, ratios)) else sum(ratios)
    if not torch.isfinite(weight).all():
        return math.nan
    values = torch.linalg.svdvals(weight.detach().float())
    largest = values.max()
    if not largest:
        return 0.0
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], device=values.device))
    threshold = (high - low) / IQR_OF_NORMAL * (1 + math.sqrt(min(weight.shape) / max(weight.shape)))
    signal = values > threshold
    return float(values[signal].sum() / values[~signal].sum() / largest)


def module_snr(model: PreTrainedModel, layers: Sequence[Layer]) -> dict[str, float]:
    """Return the signal-to-noise ratio of each adaptable module's weight, by full name; 4-bit ones one at a time."""
    found = {}
    for layer in layers:
        for name in (*layer.attention, *layer.mlp, *layer.experts):
            weight = model.get_parameter(name if name in layer.experts else f"{name}.weight")
            found[name] = signal_to_noise(dequantised(name, weight))
    return found


def layer_snr(ratios: Mapping[str, float], layers: Sequence[Layer]) -> list[float]:
    """Return each layer's mean over its modules of SNR over the mean SNR of that kind of module in all layers.

    Kinds differ in SNR by their shapes alone; so each counts alike. Infinite ratios count as the highest of their kind
    (:func:`aletheia.method.layer_scores.finite_ratios`).

    Parameters
    ----------
    ratios
        By full name (:func:`module_snr`).
    layers
        All layers of the model.
    """
    ratios = finite_ratios(ratios)
    by_kind: dict[str, list[float]] = {}
    for name, ratio in ratios.items():
        by_kind.setdefault(module_kind(name), []).append(ratio)
    means = {kind: math.fsum(values) / len(values) for kind, values in by_kind.items()}
    scores = []
    for layer in layers:
        names = (*layer.attention, *layer.mlp, *layer.experts)
        shares = [ratios[name] / mean if (mean := means[module_kind(name)]) else 0.0 for name in names]
        scores.append(math.fsum(shares) / len(shares))
    return scores
