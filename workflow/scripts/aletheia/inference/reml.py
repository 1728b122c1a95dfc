"""Restricted maximum likelihood of the variance between models, over arrays of whole studies.

Effect y_i of model i has known sampling variance v_i, and the true effects scatter with variance τ² about their mean:
y_i ~ N(μ, v_i + τ²). With weights w_i = 1/(v_i + τ²), μ = Σ w_i y_i / Σ w_i. The last axis is the models; leading
axes are independent studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Of the largest variance at hand: below it a variance is rounding, and its weight would be infinite.
SMALLEST_SHARE = 1e-12
_STEPS = 200
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Fit:
    """REML fit of one or of many studies; each field has the shape of the leading axes.

    Attributes
    ----------
    mean
        Weighted mean μ.
    se
        Standard error of Knapp and Hartung (2003): √(Σ w_i (y_i − μ)² / ((k − 1) Σ w_i)).
    tau2
        Variance between models, truncated at 0.
    """

    mean: np.ndarray
    se: np.ndarray
    tau2: np.ndarray


def positive_variances(effects: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the variances, those of 0 raised to a share of what scatter there is that changes no result."""
    scatter = np.var(effects, axis=-1, ddof=1) + variances.max(axis=-1)
    least = SMALLEST_SHARE * np.where(scatter > 0, scatter, 1.0)
    return np.maximum(variances, least[..., None])


def weighted(effects: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and the weighted sum of squares about it, over the last axis."""
    mean = (weights * effects).sum(axis=-1) / weights.sum(axis=-1)
    return mean, (weights * (effects - mean[..., None]) ** 2).sum(axis=-1)


def fit(effects: np.ndarray, variances: np.ndarray) -> Fit:
    """Fit μ and τ² by Fisher scoring on the restricted likelihood (Viechtbauer 2005, J. Educ. Behav. Stat. 30:261).

    With P = W − w wᵀ/Σw the step is (yᵀPPy − tr P) / tr PP, and τ² is cut at 0. Where steps change sign they are
    halved, since whole ones may go back and forth for ever. With equal variances the first step is the solution:
    τ² = max(0, s² − v).

    Parameters
    ----------
    effects, variances
        ``[..., models]``, at least two models; variances from 0.
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    v = positive_variances(y, v)
    tau2 = np.maximum(0.0, np.var(y, axis=-1, ddof=1) - v.mean(axis=-1))
    size = np.var(y, axis=-1, ddof=1) + v.mean(axis=-1)
    damping, last = np.ones_like(tau2), np.zeros_like(tau2)
    for _ in range(_STEPS):
        step = _step(y, v, tau2)
        damping, last = np.where(step * last < 0, damping / 2, damping), step
        new = np.maximum(0.0, tau2 + damping * step)
        done = np.all(np.abs(new - tau2) <= _TOLERANCE * size)
        tau2 = new
        if done:
            break
    weights = 1 / (v + tau2[..., None])
    mean, scatter = weighted(y, weights)
    return Fit(mean, np.sqrt(scatter / ((y.shape[-1] - 1) * weights.sum(axis=-1))), tau2)


def _step(y: np.ndarray, v: np.ndarray, tau2: np.ndarray) -> np.ndarray:
    w = 1 / (v + tau2[..., None])
    mean, _ = weighted(y, w)
    sums = [(w**power).sum(axis=-1) for power in (1, 2, 3)]
    trace_p = sums[0] - sums[1] / sums[0]
    trace_pp = sums[1] - 2 * sums[2] / sums[0] + (sums[1] / sums[0]) ** 2
    return ((w**2 * (y - mean[..., None]) ** 2).sum(axis=-1) - trace_p) / trace_pp
