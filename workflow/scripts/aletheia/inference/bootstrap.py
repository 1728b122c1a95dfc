"""Cluster bootstrap over models, runs and questions, in which no normal distribution is assumed.

Models are drawn, then seeds within each drawn model, and clusters of questions once for all models, since all models
answer the same ones: questions cross with models (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1:386). The
interval is studentised: each draw's deviation from the mean is divided by the draw's own standard error (Efron and
Tibshirani 1993, section 12.5), since percentiles of the drawn means are too narrow for six models that differ much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aletheia.inference.questions import complete_questions

FEWEST_MODELS = 6
# Share of 1,000 simulated studies whose 95 % interval held the truth, by number of models that differ by one run's SD
# (benchmarks/coverage.json; ± 0.015).
COVERAGE = {6: 0.94, 10: 0.946, 14: 0.943}


@dataclass(frozen=True)
class Bootstrap:
    """Mean over models and its studentised interval.

    Attributes
    ----------
    n, draws, level
        Models, resamples, and the level of the interval.
    mean, se
        Mean over models, and the SD of the drawn means.
    low, high
        The interval; None where the models do not differ.
    """

    n: int
    draws: int
    level: float
    mean: float
    se: float
    low: float | None
    high: float | None


def cluster_bootstrap(
    by_model: Sequence[np.ndarray],
    *,
    clusters: Sequence[object] | None = None,
    weights: Sequence[float] | None = None,
    draws: int = 2000,
    seed: int,
    level: float = 0.95,
) -> Bootstrap | None:
    """Return the mean over models with a bootstrap interval; None below six models, too few to resample.

    Parameters
    ----------
    by_model
        ``[seeds, questions]`` each, of the same questions; ``[seeds, 1]`` where there are none. Numbers of seeds may
        differ. A question with a NaN in any model is left out; None is returned where none is left.
    clusters, weights
        ``[questions]``, as for :func:`aletheia.inference.questions.paired_difference`.

    Raises
    ------
    ValueError
        Where models have other numbers of questions.
    """
    if len(by_model) < FEWEST_MODELS:
        return None
    sums, totals = _cluster_sums(by_model, clusters, weights)
    if not len(totals):
        return None
    seeds = np.array([np.shape(values)[0] for values in by_model])
    rng = np.random.default_rng(seed)
    mean, se = (float(value[0]) for value in _means(sums, totals, *_as_seen(seeds, len(totals))))
    drawn, drawn_se = _means(sums, totals, *_resampled(rng, seeds, len(totals), draws))
    low = high = None
    usable = drawn_se > 1e-12 * np.abs(sums).max() / totals.mean()
    if se > 0 and usable.any():
        t = (drawn[usable] - mean) / drawn_se[usable]
        above, below = np.quantile(t, [(1 + level) / 2, (1 - level) / 2])
        low, high = mean - float(above) * se, mean - float(below) * se
    return Bootstrap(len(by_model), draws, level, mean, float(drawn.std(ddof=1)), low, high)


def _cluster_sums(
    by_model: Sequence[np.ndarray], clusters: Sequence[object] | None, weights: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ w d by run and cluster, ``[runs, clusters]`` with models one after another, and Σ w by cluster."""
    if len({np.shape(values)[1] for values in by_model}) != 1:
        raise ValueError("expected the same questions of every model")
    d, labels, w = complete_questions(np.vstack([np.asarray(v, dtype=float) for v in by_model]), clusters, weights)
    n_clusters = labels.max(initial=-1) + 1
    sums = [np.bincount(labels, weights=w * row, minlength=n_clusters) for row in d]
    return np.array(sums), np.bincount(labels, weights=w, minlength=n_clusters)


def _as_seen(seeds: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the one draw that takes each model, run and cluster once; as :func:`_resampled`."""
    place = np.arange(seeds.max())
    runs = (np.cumsum(seeds) - seeds)[:, None] + np.minimum(place, seeds[:, None] - 1)
    share = (place < seeds[:, None]) / seeds[:, None]
    return runs[None], share[None], np.ones((1, n_clusters))


def _resampled(
    rng: np.random.Generator, seeds: np.ndarray, n_clusters: int, draws: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which runs each draw takes, with what share of their model, and how often each cluster.

    ``[draws, models, seeds]`` twice and ``[draws, clusters]``. A model of fewer seeds fills up with shares of 0.
    """
    chosen = rng.integers(len(seeds), size=(draws, len(seeds)))
    counts = seeds[chosen][..., None]
    place = np.arange(seeds.max())
    runs = (np.cumsum(seeds) - seeds)[chosen][..., None] + rng.integers(counts, size=(*chosen.shape, len(place)))
    clusters = rng.integers(n_clusters, size=(draws, n_clusters)) + n_clusters * np.arange(draws)[:, None]
    times = np.bincount(clusters.ravel(), minlength=draws * n_clusters).reshape(draws, n_clusters)
    return runs, (place < counts) / counts, times.astype(float)


def _means(
    sums: np.ndarray, totals: np.ndarray, runs: np.ndarray, share: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each draw's mean over models and its standard error, ``[draws]`` each.

    SE² = s²/k over the drawn models + the clustered variance of the mean over models. What questions add to single
    models stands in both; the same in each draw as in the study, it cancels.
    """
    draws, models, _ = runs.shape
    total = times @ totals
    row = np.arange(draws)[:, None, None]
    of_models = ((times @ sums.T / total[:, None])[row, runs] * share).sum(axis=2)
    mean = of_models.mean(axis=1)
    variance = of_models.var(axis=1, ddof=1) / models
    n_clusters = len(totals)
    if n_clusters > 1:
        place = (row * len(sums) + runs).ravel()
        of_runs = np.bincount(place, weights=(share / models).ravel(), minlength=draws * len(sums))
        residual = of_runs.reshape(draws, -1) @ sums - mean[:, None] * totals
        variance += (times * residual**2).sum(axis=1) / total**2 * n_clusters / (n_clusters - 1)
    return mean, np.sqrt(variance)
