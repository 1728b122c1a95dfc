"""A Bayesian reading of the effects of models: the normal hierarchy on a grid, without a sampler.

y_i ~ N(θ_i, r²·v_i), θ_i ~ N(μ, τ²); μ has a flat prior, τ a half-normal one. r is 1, or, where the variances come from
runs with ν degrees of freedom, unknown: ν/r² ~ χ²(ν), and r·√(mean variance) has a half-normal prior of the same scale.
Given τ and r all is normal in closed form (Gelman and others 2013, section 5.4), so that the posteriors of μ, of each
θ_i and of a new model's effect are mixtures of normals over the grid of τ and r.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from aletheia.inference.reml import positive_variances

_LEVEL = 0.95
_TAU_NODES = 160
_RUN_NODES = 32
# The grid ends at this many scales of the half-normal prior, beyond which its mass is 1e-15, and beyond twice the place
# where data that contradict the prior put their mode.
_FARTHEST = 8.0
# The finest part of the grid of τ, as a share of the smallest standard error.
_FINEST = 0.02


@dataclass(frozen=True)
class Hierarchy:
    """Posterior of the mean over models, of each model, and of a new one; intervals are central, 95 %.

    Attributes
    ----------
    n
        Models. With one, all is None but ``models``: nothing then is known of how models differ, and a flat μ leaves
        the model's own effect as it is. Without any scatter (equal effects, variances of 0) ``models`` is empty too:
        constant answers say nothing about others.
    mean, low, high, p_within_margin
        Of μ: posterior mean, interval, P(−margin < μ < margin).
    tau
        Median of the SD between models.
    new_model_low, new_model_high, p_new_within_margin
        Of a new model's true effect.
    models
        ``{mean, low, high, p_within_margin}`` of each θ_i, drawn towards μ.
    sensitivity
        ``{scale, mean, p_within_margin}`` of μ by scale of the half-normal prior, in the effect's unit.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None
    tau: float | None
    new_model_low: float | None
    new_model_high: float | None
    p_within_margin: float | None
    p_new_within_margin: float | None
    models: list[dict[str, float]]
    sensitivity: list[dict[str, float | None]]


@dataclass(frozen=True)
class _Mixture:
    """A mixture of normals: mean and variance by node (or one for all), and the nodes' weights."""

    mean: np.ndarray
    variance: np.ndarray
    weights: np.ndarray

    def below(self, x: float) -> float:
        return float((self.weights * special.ndtr((x - self.mean) / np.sqrt(self.variance))).sum())

    def centre(self) -> float:
        return float((self.weights * self.mean).sum())

    def within(self, margin: float) -> float:
        return self.below(margin) - self.below(-margin)

    def quantile(self, share: float) -> float:
        sd = np.sqrt(self.variance)
        first, last = float((self.mean - 10 * sd).min()), float((self.mean + 10 * sd).max())
        return float(optimize.brentq(lambda x: self.below(x) - share, first, last, xtol=1e-12 * (last - first)))

    def summary(self, margin: float) -> dict[str, float]:
        low, high = (self.quantile(share) for share in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
        return {"mean": self.centre(), "low": low, "high": high, "p_within_margin": self.within(margin)}


@dataclass(frozen=True)
class _Data:
    effects: np.ndarray
    variances: np.ndarray
    run_df: int | None
    shared: float


@dataclass(frozen=True)
class _Grid:
    """Nodes of (τ, r), flat, with posterior weights; and of μ given a node its mean and variance."""

    tau: np.ndarray
    ratio: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def hierarchy(
    effects: Sequence[float],
    variances: Sequence[float],
    *,
    tau_scale: float,
    margin: float,
    run_df: int | None = None,
    prior_scales: Sequence[float] = (0.5, 1.0, 2.0),
    shared_variance: float = 0.0,
) -> Hierarchy:
    """Return the posterior of the normal hierarchy.

    Parameters
    ----------
    effects, variances
        One a model; variances from 0, of runs and questions.
    tau_scale
        Scale of the half-normal prior of τ, in the effect's unit, such as the margin.
    margin
        Half the width of what counts as equal.
    run_df
        Degrees of freedom of the variances, where they are estimates from runs; None takes them as known.
    prior_scales
        Factors of ``tau_scale`` for the sensitivity.
    shared_variance
        The part of the variances that all models have in common, as for
        :func:`aletheia.inference.random_effects.random_effects`: taken off them, and added to the variance of μ, of
        each model and of a new one.

    Raises
    ------
    ValueError
        Without an effect, where ``tau_scale`` or ``margin`` is not above 0, and of what is not finite.
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    if y.ndim != 1 or not len(y) or y.shape != v.shape or not (tau_scale > 0 and margin > 0):
        raise ValueError("expected one variance an effect, at least one effect, a scale and a margin above 0")
    if not np.isfinite([y, v]).all() or (v < 0).any():
        raise ValueError("expected finite effects, and variances from 0")
    if not v.max() > 0 and not np.ptp(y) > 0:
        return Hierarchy(len(y), *(None,) * 8, models=[], sensitivity=[])
    own = positive_variances(y, np.maximum(0.0, v - shared_variance)) if len(y) > 1 else v
    data = _Data(y, own, run_df, shared_variance)
    grid = _posterior(data, tau_scale)
    if len(y) == 1:
        alone = _Mixture(y, grid.ratio**2 * v, grid.weights).summary(margin)
        return Hierarchy(1, *(None,) * 8, models=[alone], sensitivity=[])
    new = _Mixture(grid.mean, grid.variance + grid.tau**2 + shared_variance, grid.weights)
    return Hierarchy(
        n=len(y),
        **_of_mean(data, grid).summary(margin),
        tau=_median(grid.tau, grid.weights),
        new_model_low=new.quantile((1 - _LEVEL) / 2),
        new_model_high=new.quantile((1 + _LEVEL) / 2),
        p_new_within_margin=new.within(margin),
        models=[_of_model(data, grid, place).summary(margin) for place in range(len(y))],
        sensitivity=[_sensitivity(data, factor * tau_scale, margin) for factor in prior_scales],
    )


def _sensitivity(data: _Data, scale: float, margin: float) -> dict[str, float]:
    found = _of_mean(data, _posterior(data, scale))
    return {"scale": scale, "mean": found.centre(), "p_within_margin": found.within(margin)}


def _posterior(data: _Data, scale: float) -> _Grid:
    """Weigh each node of (τ, r) by priors, the restricted likelihood, and the likelihood of the variances."""
    y, v = data.effects, data.variances
    tau, tau_weights = _tau_nodes(y, scale, float(v.min()) ** 0.5) if len(y) > 1 else (np.zeros(1), np.ones(1))
    ratio, ratio_weights = _run_nodes(data.run_df, float(v.mean()) ** 0.5, scale)
    t, r = (nodes.ravel() for nodes in np.meshgrid(tau, ratio, indexing="ij"))
    total = r[:, None] ** 2 * v + t[:, None] ** 2
    precision = (1 / total).sum(axis=1)
    mean = (y / total).sum(axis=1) / precision
    log = -0.5 * (np.log(total).sum(axis=1) + np.log(precision) + ((y - mean[:, None]) ** 2 / total).sum(axis=1))
    log -= t**2 / (2 * scale**2)
    if len(y) == 1:
        log = np.zeros_like(log)
    weights = np.exp(log - log.max()) * np.outer(tau_weights, ratio_weights).ravel()
    return _Grid(t, r, weights / weights.sum(), mean, 1 / precision)


@functools.cache
def _legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss–Legendre nodes and weights on [−1, 1]; they take longer than what is integrated by them."""
    return np.polynomial.legendre.leggauss(nodes)


def _tau_nodes(y: np.ndarray, scale: float, finest: float) -> tuple[np.ndarray, np.ndarray]:
    """Return Gauss–Legendre nodes of τ from 0, close together near 0: τ = f·sinh(x), f of the size of ``finest``."""
    f = min(max(_FINEST * finest, 1e-8 * scale), scale)
    nodes, weights = _legendre(_TAU_NODES)
    # Far beyond the prior its exponent −τ²/2s² and the data's −SS/2τ² meet at τ⁴ = SS·s².
    mode = (float(((y - y.mean()) ** 2).sum()) * scale**2) ** 0.25
    last = np.arcsinh((_FARTHEST * scale + 2 * mode) / f)
    x = (nodes + 1) / 2 * last
    return f * np.sinh(x), weights / 2 * last * f * np.cosh(x)


def _run_nodes(run_df: int | None, typical: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes of r = σ/s and their weights: likelihood of ν/r² ~ χ²(ν) times the half-normal prior of r·s."""
    if not run_df:
        return np.ones(1), np.ones(1)
    # ν s²/σ² has the density of χ²(ν), as a likelihood of σ; in log r the measure is r·d(log r).
    first, last = (0.5 * np.log(run_df / stats.chi2.ppf(tail, run_df)) for tail in (1 - 1e-9, 1e-9))
    # The same for runs: −ν/2r² and −r²·(mean variance)/2s² meet at r⁴ = ν·s²/(mean variance).
    mode = (run_df * (scale / typical) ** 2) ** 0.25
    first, last = min(first, np.log(mode / 2)), min(last, np.log(2 * mode + _FARTHEST * scale / typical))
    nodes, weights = _legendre(_RUN_NODES)
    x = first + (nodes + 1) / 2 * (last - first)
    log = -run_df * x - run_df * np.exp(-2 * x) / 2 + x - (np.exp(x) * typical) ** 2 / (2 * scale**2)
    return np.exp(x), weights * np.exp(log - log.max())


def _of_mean(data: _Data, grid: _Grid) -> _Mixture:
    return _Mixture(grid.mean, grid.variance + data.shared, grid.weights)


def _of_model(data: _Data, grid: _Grid, place: int) -> _Mixture:
    """Return the posterior of one θ_i: between its own effect and μ, by the two variances."""
    own, between = grid.ratio**2 * data.variances[place], grid.tau**2
    pull = own / (own + between)
    mean = (1 - pull) * data.effects[place] + pull * grid.mean
    return _Mixture(mean, pull * between + pull**2 * grid.variance + data.shared, grid.weights)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    nodes, place = np.unique(values, return_inverse=True)
    mass = np.bincount(place, weights=weights)
    return float(np.interp(0.5, np.cumsum(mass) - mass / 2, nodes))
