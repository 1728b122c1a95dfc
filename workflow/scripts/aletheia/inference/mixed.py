"""One mixed model as a check of the two stages: paired difference ~ 1 + (1 | model)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.regression.mixed_linear_model import MixedLM


@dataclass(frozen=True)
class Mixed:
    """REML fit of statsmodels' MixedLM.

    Attributes
    ----------
    mean, se
        The fixed intercept and its standard error (of the normal distribution: too small for few models, so the
        interval is that of :mod:`aletheia.inference.random_effects`).
    model_variance, run_variance
        Variance between models, and within a model between seeds.
    converged
        Whether the optimiser says so. At a variance of 0 between models it may not, and the mean is good all the same.
    """

    mean: float
    se: float
    model_variance: float
    run_variance: float
    converged: bool


def mixed_model(values: Sequence[Sequence[float]]) -> Mixed | None:
    """Fit paired differences with a random intercept for each model, seeds as residuals.

    Parameters
    ----------
    values
        Each model's differences, one a seed.

    Returns
    -------
    Mixed or None
        None below two models, where no model has two seeds, without any spread, and where the fit fails.
    """
    y = np.concatenate([np.asarray(group, dtype=float) for group in values]) if len(values) else np.empty(0)
    groups = np.repeat(np.arange(len(values)), [len(group) for group in values])
    residual = sum(float(np.var(group)) for group in values if len(group) > 1)
    if len(np.unique(groups)) < 2 or len(y) == len(np.unique(groups)) or not residual > 0:
        return None
    # statsmodels' optimiser stops at an absolute tolerance, so the values are fitted in units of their own spread.
    scale = float(y.std(ddof=1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = MixedLM(y / scale, np.ones((len(y), 1)), groups=groups).fit(reml=True)
    except (np.linalg.LinAlgError, ValueError):
        return None
    mean, se = float(fit.fe_params[0]) * scale, float(fit.bse_fe[0]) * scale
    variances = float(fit.cov_re[0, 0]) * scale**2, float(fit.scale) * scale**2
    if not np.isfinite([mean, se, *variances]).all():
        return None
    return Mixed(mean, se, *variances, converged=bool(fit.converged))
