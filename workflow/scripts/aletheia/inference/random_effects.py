"""Models as the unit: the mean effect over models, how much models differ, and what a new model may show.

Two stages (DerSimonian and Laird 1986; τ² by REML): each model gives its own effect with a sampling variance, then the
effects are pooled as a sample of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from aletheia.inference.prediction import half_width
from aletheia.inference.reml import fit

FEWEST_MODELS = 3
# The level whose interval lies inside the margins exactly where both one-sided tests reject at 5 %.
EQUIVALENCE_LEVEL = 0.90
# A standard error below this share of the effects is rounding: t would be huge and meaningless.
NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Pooled:
    """Mean effect over models.

    Attributes
    ----------
    n
        Models.
    mean, se, df, low, high, low90, high90, p
        Mean over models, its standard error (Knapp–Hartung, and the shared variance), k − 1, the interval at the level
        asked and at 90 % (for two one-sided tests), and the two-sided p of mean = 0. ``p`` is None without any scatter.
    tau2, i2
        Variance between models' true effects; share of the scatter that it is (0 to 1, Higgins and Thompson 2002).
    q, q_p
        Cochran's Q and its p under no difference between models. They and ``i2`` are None where a variance is 0, or is
        all shared.
    prediction_low, prediction_high
        Interval of a new model's true effect, at the level asked.
    """

    n: int
    mean: float
    se: float
    df: int
    low: float
    high: float
    low90: float
    high90: float
    p: float | None
    tau2: float
    i2: float | None
    q: float | None
    q_p: float | None
    prediction_low: float | None
    prediction_high: float | None


def pool_variance(values: Sequence[Sequence[float]]) -> tuple[float | None, int]:
    """Return the pooled variance within models, Σ(n_i − 1)s_i² / Σ(n_i − 1), and its degrees of freedom.

    Parameters
    ----------
    values
        Each model's values, one a seed. A model of one value adds nothing.

    Returns
    -------
    tuple
        (None, 0) where no model has two values.
    """
    groups = [np.asarray(group, dtype=float) for group in values]
    df = sum(max(len(group) - 1, 0) for group in groups)
    if not df:
        return None, 0
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups if len(group) > 1)
    return squares / df, df


def random_effects(
    effects: Sequence[float], variances: Sequence[float], *, shared_variance: float = 0.0, level: float = 0.95
) -> Pooled:
    """Pool the effects of models: REML τ², standard error and t(k − 1) of Knapp and Hartung (2003), prediction.

    Where all effects are the same number, as scores of few questions may be, the scatter between models is 0 and says
    nothing; the standard error then is that of the variances, 1/√(Σ 1/v_i), and 0 only where a variance is 0.

    Parameters
    ----------
    effects
        One a model.
    variances
        Sampling variance of each effect, from 0: of its runs, and of its questions with what models share of them.
    shared_variance
        The part of these variances that all models have in common, such as that of the same questions
        (:func:`aletheia.inference.questions.shared_variance`). The scatter between models does not show it, so it is
        taken off the variances (down to 0) and added to the squared standard error; the degrees of freedom stay k − 1,
        too few rather than too many.
    level
        Of the interval and of the prediction.

    Raises
    ------
    ValueError
        Below three models, where lengths differ, and of what is not finite.
    """
    y, v = np.asarray(effects, dtype=float), np.asarray(variances, dtype=float)
    if y.ndim != 1 or y.shape != v.shape:
        raise ValueError(f"expected one variance an effect, found {y.shape} effects and {v.shape} variances")
    if not np.isfinite([y, v]).all() or (v < 0).any():
        raise ValueError("expected finite effects, and variances from 0")
    if len(y) < FEWEST_MODELS:
        raise ValueError("fewer than 3 models are not pooled")
    v = np.maximum(0.0, v - shared_variance)
    found, df = fit(y, v), len(y) - 1
    if found.se <= NO_SPREAD * np.abs(y).max():
        of_variances = (1 / v).sum() ** -0.5 if v.min() > 0 else 0.0
        is_rounding = of_variances <= NO_SPREAD * np.abs(y).max()
        found = replace(found, se=np.asarray(0.0 if is_rounding else of_variances))
    mean, se = float(found.mean), float(np.sqrt(found.se**2 + shared_variance))
    half, half90 = (float(stats.t.ppf((1 + wanted) / 2, df)) * se for wanted in (level, EQUIVALENCE_LEVEL))
    reach = float(half_width(y, v, found, shared_variance=shared_variance, level=level))
    return Pooled(
        n=len(y),
        mean=mean,
        se=se,
        df=df,
        low=mean - half,
        high=mean + half,
        low90=mean - half90,
        high90=mean + half90,
        p=float(2 * stats.t.sf(abs(mean) / se, df)) if se > 0 else None,
        tau2=float(found.tau2),
        **_heterogeneity(y, v),
        prediction_low=mean - reach,
        prediction_high=mean + reach,
    )


def _heterogeneity(y: np.ndarray, v: np.ndarray) -> dict[str, float | None]:
    """Return Cochran's Q, its p, and I² = max(0, 1 − (k − 1)/Q)."""
    if (v <= 0).any():
        return {"i2": None, "q": None, "q_p": None}
    q = float(((y - np.average(y, weights=1 / v)) ** 2 / v).sum())
    df = len(y) - 1
    return {"i2": max(0.0, 1 - df / q) if q > 0 else 0.0, "q": q, "q_p": float(stats.chi2.sf(q, df))}
