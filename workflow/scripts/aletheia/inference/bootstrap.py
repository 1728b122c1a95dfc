"""Cluster bootstrap over models, runs and questions, in which no normal distribution is assumed.

Models are drawn, then seeds within each drawn model, and clusters of questions once for all models, since all models
answer the same ones: questions cross with models (Owen 2007, "The pigeonhole bootstrap", Ann. Appl. Stat. 1:386). The
interval is studentised: each draw's deviation from the mean is divided by the draw's own standard error (Efron and
Tibshirani 1993, section 12.5). Percentiles of the drawn means held the truth in 86 % at six models, where 95 was meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_MODELS = 6
# Share of studies whose interval at 95 % held the truth, by number of models: benchmarks/coverage.json.
COVERAGE: dict[int, float] = {}


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
    """Return the mean over models with a bootstrap interval; below six models None, since it would be far too narrow.

    Parameters
    ----------
    by_model
        ``[seeds, questions]`` each, of the same questions; ``[seeds, 1]`` where there are none. Numbers of seeds may
        differ. A question with a NaN in any model is left out.
    clusters, weights
        ``[questions]``, as for :func:`aletheia.inference.questions.paired_difference`.

    Raises
    ------
    ValueError
        Where models have other numbers of questions, or no question is left.
    """
    if len(by_model) < FEWEST_MODELS:
        return None
    sums, totals = _cluster_sums(by_model, clusters, weights)
    seeds = np.array([np.shape(values)[0] for values in by_model])
    rng = np.random.default_rng(seed)
    mean, se = (float(value[0]) for value in _means(sums, totals, seeds, *_as_seen(seeds, len(totals))))
    drawn, drawn_se = _means(sums, totals, seeds, *_resampled(rng, seeds, len(totals), draws))
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
    if not d.shape[1]:
        raise ValueError("expected a question that every model answered")
    indicator = np.zeros((d.shape[1], labels.max() + 1))
    indicator[np.arange(d.shape[1]), labels] = w
    return d @ indicator, indicator.sum(axis=0)
