"""The interval that holds a new model's true effect, over arrays of whole studies.

μ ± t·√(τ̂² + SE²) of Higgins, Thompson and Spiegelhalter (2009) takes the estimate τ̂² for the truth. With ten models it
is 0 in a third of all studies whose models do differ, and the interval then is too narrow (Partlett and Riley 2017,
Stat. Med. 36:301). So τ² is here averaged over its confidence distribution, as Nagashima, Noma and Furukawa (2019,
Stat. Methods Med. Res. 28:1689) do; that distribution is the inverted Q-profile (Viechtbauer 2007, Stat. Med. 26:37):
Q(τ²) = Σ (y_i − μ)²/(v_i + τ²) is χ² with k − 1 degrees of freedom, whatever τ² is. One degree is given up, as Higgins
and others do: sampling variances are themselves estimates, and differ between models. With k − 1 the interval held
92.7 % of new models (10 models, run variances 1 and 4, 10,000 studies), with k − 2 at least 95.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import special, stats

from aletheia.inference.reml import Fit, positive_variances, weighted

_NODES = 48
_BISECTIONS = 60
_NEWTON_STEPS = 30


def half_width(
    effects: np.ndarray, variances: np.ndarray, fit: Fit, *, shared_variance: float = 0.0, level: float = 0.95
) -> np.ndarray:
    """Return the half-width h of the prediction interval μ ± h of a new model's true effect.

    h solves E[2Φ(h/√V) − 1] = level over C ~ χ²(k − 2), with V = SE²·(k − 1)/C + τ²(C) + shared variance, SE that of
    Knapp and Hartung, and τ²(C) the root of Q(τ²) = C, or 0 where Q(0) < C. Without sampling variance this is
    t(k − 2)·s·√((1 + 1/k)·(k − 1)/(k − 2)).

    Parameters
    ----------
    effects, variances
        ``[..., models]``.
    fit
        What :func:`aletheia.inference.reml.fit` found for them.
    """
    y = np.asarray(effects, dtype=float)
    v = positive_variances(y, np.asarray(variances, dtype=float))
    df = y.shape[-1] - 1
    chi2, node_weights = _chi2_nodes(df - 1)
    tau2 = _profile(y, v, chi2)
    spread = np.sqrt(fit.se[..., None] ** 2 * df / chi2 + tau2 + shared_variance)
    return _solve(spread, node_weights, level)


@functools.cache
def _chi2_nodes(df: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the mean over χ²(df): Gauss–Legendre over its quantiles."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return stats.chi2.ppf((nodes + 1) / 2, df), weights / 2


def _profile(y: np.ndarray, v: np.ndarray, chi2: np.ndarray) -> np.ndarray:
    """Return τ² of each node, ``[..., nodes]``: the root of Q(τ²) = χ², or 0."""
    df = y.shape[-1] - 1
    if np.ptp(v, axis=-1).max() <= 1e-9 * v.max():
        return np.maximum(0.0, df * np.var(y, axis=-1, ddof=1)[..., None] / chi2 - v.mean(axis=-1)[..., None])
    # Q(τ²) ≤ Σ(y − ȳ)²/τ², so the root lies below Σ(y − ȳ)²/χ².
    high = df * np.var(y, axis=-1, ddof=1)[..., None] / chi2
    low = np.zeros_like(high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        _, q = weighted(y[..., None, :], 1 / (v[..., None, :] + middle[..., None]))
        low, high = np.where(q > chi2, middle, low), np.where(q > chi2, high, middle)
    return np.where(high <= 1e-12 * v.max(axis=-1)[..., None], 0.0, (low + high) / 2)


def _solve(spread: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
    """Return h with Σ weights·(2Φ(h/spread) − 1) = level; concave in h, so Newton from below cannot overshoot."""
    h = special.ndtri((1 + level) / 2) * spread.min(axis=-1)
    for _ in range(_NEWTON_STEPS):
        z = h[..., None] / np.where(spread > 0, spread, 1.0)
        inside = np.where(spread > 0, 2 * special.ndtr(z) - 1, 1.0) @ weights
        slope = (2 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / np.where(spread > 0, spread, np.inf)) @ weights
        step = np.where(slope > 0, (level - inside) / np.where(slope > 0, slope, 1.0), 0.0)
        h = h + step
        if np.all(np.abs(step) <= 1e-12 * h):
            break
    return h
