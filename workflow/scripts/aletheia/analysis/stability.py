"""Stability of a selection: agreement of probes over independent draws of batches, for several batch counts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from aletheia.errors import UserError
from aletheia.method.probe import Probe
from aletheia.method.selection import select_layers

CONFIDENCE_LEVEL = 0.95
MEASURES = {"jaccard": "Jaccard overlap of the selections", "spearman": "Spearman ρ of the scores"}


def jaccard(first: Sequence[int], second: Sequence[int]) -> float:
    """Return |A ∩ B| / |A ∪ B| of two selections."""
    return len({*first} & {*second}) / len({*first} | {*second})


def pairwise(values: np.ndarray) -> dict[str, Any]:
    """Return the mean over pairs of draws, with a jackknife interval over draws.

    Parameters
    ----------
    values
        Symmetric matrix [draws, draws] of an agreement; the diagonal is not read. NaN where it is not defined.

    Returns
    -------
    dict
        ``mean`` over the n·(n−1)/2 pairs and ``min``; ``low`` and ``high`` of the 95 % interval (None below
        three draws); all four None where the agreement of some pair is not defined; ``n`` draws, ``pairs``.

    Notes
    -----
    Pairs that share a draw are not independent, so the interval is over draws: t-interval of the delete-one
    pseudo-values n·θ − (n−1)·θ₋ᵢ of this U-statistic, cut to [−1, 1].

    References
    ----------
    Arvesen (1969), "Jackknifing U-statistics", Annals of Mathematical Statistics 40(6).
    """
    n = len(values)
    upper = np.triu_indices(n, 1)
    counted = {"n": n, "pairs": len(upper[0])}
    if not np.isfinite(values[upper]).all():
        return {**dict.fromkeys(("mean", "low", "high", "min")), **counted}
    mean = float(values[upper].mean())
    low = high = None
    if n > 2:
        without = [np.delete(np.delete(values, i, 0), i, 1)[np.triu_indices(n - 1, 1)].mean() for i in range(n)]
        pseudo = n * mean - (n - 1) * np.array(without)
        half = stats.t.ppf((1 + CONFIDENCE_LEVEL) / 2, n - 1) * pseudo.std(ddof=1) / np.sqrt(n)
        low, high = float(max(-1, mean - half)), float(min(1, mean + half))
    return {"mean": mean, "low": low, "high": high, "min": float(values[upper].min()), **counted}


def rank_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's ρ of two draws' scores; NaN where a draw has no ranking: one layer, or equal scores."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def model_stability(
    model: str,
    probes: Sequence[Mapping[str, Any]],
    *,
    draws: int,
    batches: Sequence[int],
    score: str,
    budget_percent: float,
) -> dict[str, Any]:
    """Return the agreement of one model's draws, for each number of batches.

    Parameters
    ----------
    model
        Its name, for the sentence of an error.
    probes
        Probe payloads, each with as many batches as the largest count; a draw's first B are its probe of B batches.
    draws
        Their expected number.
    batches
        The counts B.
    score
        ``l2``, ``sum_of_norms``, ``relative`` or ``normalized``: the score by which layers are ranked.
    budget_percent
        Share of the layers to select.

    Raises
    ------
    UserError
        When there are fewer than two draws that ended well.
    """
    ended = [probe for probe in probes if probe["status"] == "ok"]
    if len(probes) != draws or len(ended) < 2:
        raise UserError(
            f"stability of {model}: expected {draws} draws, two or more of which ended well, found {len(probes)} and "
            f"{len(ended)}; see their probes"
        )
    depth = probes[0]["layers_total"]
    scores = {count: np.array([layer_scores(draw, score, count) for draw in ended]) for count in batches}
    size = len(select_layers([0.0] * depth, budget_percent))
    rows = [{"batches": count, **_agreements(scores[count], budget_percent)} for count in batches]
    return {
        "layers_total": depth,
        "draws": draws,
        "draws_ok": len(ended),
        "score": score,
        "budget_percent": budget_percent,
        # Expected of two random selections of this size: the level of no information.
        "jaccard_by_chance": chance_overlap(depth, size, size),
        "by_batches": rows,
    }


def _agreements(scores: np.ndarray, budget_percent: float) -> dict[str, Any]:
    """Return both agreements of scores [draws, layers], and the share of the draws that selects each layer."""
    chosen = [select_layers(row.tolist(), budget_percent) for row in scores]
    overlap, agreement = np.eye(len(scores)), np.eye(len(scores))
    for i, j in itertools.combinations(range(len(scores)), 2):
        overlap[i, j] = overlap[j, i] = jaccard(chosen[i], chosen[j])
        agreement[i, j] = agreement[j, i] = rank_agreement(scores[i], scores[j])
    share = [sum(layer in layers for layers in chosen) / len(chosen) for layer in range(scores.shape[1])]
    return {"jaccard": pairwise(overlap), "spearman": pairwise(agreement), "selected_share": share}


def layer_scores(draw: Mapping[str, Any], score: str, count: int) -> list[float]:
    """Return the layer scores of a draw's first ``count`` batches."""
    first = Probe(draw["per_module"][:count], draw["weight_norms"], draw["losses"][:count], draw["layers_total"])
    return first.scores(score)


def chance_overlap(total: int, first: int, second: int) -> float:
    """Return the expected Jaccard overlap of independent uniform selections of two sizes out of ``total``.

    The number that both share is hypergeometric.
    """
    shared = stats.hypergeom(total, first, second)
    return float(sum(shared.pmf(k) * k / (first + second - k) for k in range(min(first, second) + 1)))
