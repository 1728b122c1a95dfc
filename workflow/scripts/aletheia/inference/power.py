"""What a design can tell before its runs: the smallest effect that it detects, its power to show equivalence.

Notation: δ is the true difference of an arm and the standard one, SE the standard error of its estimate, and SE² is
itself estimated with df degrees of freedom, as s² = SE²·χ²(df)/df. Both powers are exact under this: the chance for a
given s is a difference of two normal distribution functions, and its mean over χ² is taken by quadrature (Owen 1965;
Phillips 1990 for two one-sided tests). scipy's noncentral t would serve the first alone, and is NaN in its far tail.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special, stats

POINTS = 100.0  # of a score between 0 and 1
FEWEST_POOLED = 3  # models of which a mean is taken; fewer are told one by one
# Gauss and Legendre's quadrature over s/SE, between the quantiles of χ that leave this share on either side.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
_TAIL = 1e-12


@dataclass(frozen=True, kw_only=True)
class Design:
    """How many models, seeds and questions a comparison of two arms has, and how much they are assumed to vary.

    All SDs are in the unit of the measure: percentage points, nats, or a log ratio of times.

    Attributes
    ----------
    seeds
        Paired runs of each model.
    run_sd
        SD over seeds of a model's difference.
    models
        1: what is told is of this model. More: of their mean, for models to come.
    model_sd
        SD over models of their true differences; read with several models.
    questions
        Their number, the same for every model; None for a measure without questions.
    discordance
        Share of questions that one of the two arms answers correctly and the other does not.
    shared
        Share, 0 to 1, of the variance over questions that all models have in common: 1 where all change on the same
        questions, 0 where each changes on its own.
    """

    seeds: int
    run_sd: float
    models: int = 1
    model_sd: float = 0.0
    questions: int | None = None
    discordance: float = 0.0
    shared: float = 1.0


@dataclass(frozen=True)
class PlannedError:
    """The standard error of a difference, and the degrees of freedom with which it will be estimated."""

    se: float
    df: float


def planned_se(design: Design) -> PlannedError | None:
    """Return the standard error that a comparison will have.

    The paired difference of one question is −1, 0 or 1. Its variance is discordance − mean², at most the discordance,
    so the mean of Q questions has the variance ω = 100²·discordance/Q, in points². With S seeds and k models,

        one model   SE² = σ²/S + ω                      df: Satterthwaite of S − 1 and Q − 1
        k models    SE² = (τ² + σ²/S + (1 − c)·ω)/k + c·ω   df = k − 1

    where σ is ``run_sd``, τ ``model_sd`` and c ``shared``. Taken on the cautious side are three things. ω is not
    divided by S, as if a question's change were the same in every seed. All models answer the same questions, so that
    the part of ω that they have in common does not average out over them, and by default (c = 1) that is all of it.
    And df is of the models alone, though σ and ω are estimated with more.

    Returns
    -------
    PlannedError or None
        None for one model with one seed: nothing then shows how seeds differ.

    Raises
    ------
    ValueError
        For counts below 1 (questions: 2), negative SDs, and shares outside 0 to 1.
    """
    _check(design)
    run = design.run_sd**2 / design.seeds
    question = POINTS**2 * design.discordance / design.questions if design.questions else 0.0
    if design.models > 1:
        own = design.model_sd**2 + run + (1 - design.shared) * question
        return PlannedError(math.sqrt(own / design.models + design.shared * question), design.models - 1)
    if design.seeds == 1:
        return None
    parts = [(run, design.seeds - 1), (question, (design.questions or 0) - 1)]
    spread = sum(part**2 / df for part, df in parts if part)
    df = (run + question) ** 2 / spread if spread else design.seeds - 1
    return PlannedError(math.sqrt(run + question), df)


def detectable_effect(se: float, df: float, *, power: float = 0.8, level: float = 0.05) -> float:
    """Return the smallest true difference that a two-sided t-test finds with probability ``power``.

    Solves P(|T| > t(1 − level/2, df)) = power for the noncentral T with noncentrality δ/SE.

    Parameters
    ----------
    se, df
        Of the estimated difference; df may be infinite. The result has the unit of ``se``.
    power
        Above ``level`` and below 1.
    """
    if not level < power < 1:
        raise ValueError(f"a power is expected between the level {level} and 1, found {power}")
    return se * _noncentrality(df, power, level)


@functools.cache
def _noncentrality(df: float, power: float, level: float) -> float:
    """Return the δ/SE that is found with probability ``power``; the same few degrees of freedom come up often."""
    critical = float(stats.t.isf(level / 2, df))

    def missing(effect: float) -> float:
        def chance(u: np.ndarray) -> np.ndarray:
            return special.ndtr(critical * u - effect) - special.ndtr(-critical * u - effect)

        return power - 1 + _mean_over_variances(chance, df)

    # The sum of two central quantiles lies near the solution, below it or above.
    above = 2 * (critical + float(stats.t.isf(1 - power, df))) if power > 0.5 else 2 * critical
    return float(optimize.brentq(missing, 0.0, above))


def equivalence_power(se: float, df: float, margin: float, *, true: float = 0.0, level: float = 0.05) -> float:
    """Return the probability that two one-sided t-tests show a difference to lie within ±``margin``.

    Both reject where |estimate| < margin − t(1 − level, df)·s.

    Parameters
    ----------
    se, df, margin
        Of the estimated difference, in one unit; df may be infinite.
    true
        The true difference; at ±``margin`` the result is the error of the first kind.
    level
        Of each one-sided test.
    """
    if margin <= 0:
        raise ValueError(f"a margin is expected above 0, found {margin}")
    if se == 0:
        return float(abs(true) < margin)
    critical = _quantile(level, df)

    def chance(u: np.ndarray) -> np.ndarray:
        half = margin / se - critical * u
        return special.ndtr(half - true / se) - special.ndtr(-half - true / se)

    return _mean_over_variances(chance, df, largest=margin / se / critical)


def questions_needed(
    margin: float, design: Design, *, wanted: float = 0.8, level: float = 0.05, most: int = 100_000
) -> int | None:
    """Return the fewest questions with which equivalence within ±``margin`` is shown with probability ``wanted``.

    At a true difference of 0. None where ``most`` do not suffice, as where the seeds alone are too few.
    """
    return _fewest(lambda n: replace(design, questions=n), margin, range(2, most + 1), wanted, level)


def seeds_needed(
    margin: float, design: Design, *, wanted: float = 0.8, level: float = 0.05, most: int = 100
) -> int | None:
    """Return the fewest seeds, as :func:`questions_needed` does questions."""
    return _fewest(lambda n: replace(design, seeds=n), margin, range(2, most + 1), wanted, level)


def models_needed(
    margin: float, design: Design, *, wanted: float = 0.8, level: float = 0.05, most: int = 100
) -> int | None:
    """Return the fewest models, three and more, as :func:`questions_needed` does questions."""
    return _fewest(lambda n: replace(design, models=n), margin, range(FEWEST_POOLED, most + 1), wanted, level)


def _fewest(with_n: Callable[[int], Design], margin: float, counts: range, wanted: float, level: float) -> int | None:
    """Return the first of growing counts whose design has the power that is wanted.

    Counts are tried 10 % apart, then one by one by halving what lies between two of them. (With few seeds the power may
    fall again as questions grow: the seeds' few degrees of freedom then rule.)
    """

    def power(n: int) -> float:
        error = planned_se(with_n(n))
        return equivalence_power(error.se, error.df, margin, level=level) if error else 0.0

    below, n = counts.start, counts.start
    while n < counts.stop:
        if power(n) >= wanted:
            between = range(below, n + 1)
            return between[bisect_left(between, wanted, key=power)]
        below, n = n + 1, max(n + 1, min(int(1.1 * n), counts.stop - 1))
    return None


def _quantile(tail: float, df: float) -> float:
    """Return the value that Student's t exceeds with the probability ``tail``."""
    return -float(special.ndtri(tail) if math.isinf(df) else special.stdtrit(df, tail))


def _mean_over_variances(chance: Callable[[np.ndarray], np.ndarray], df: float, *, largest: float = math.inf) -> float:
    """Return the mean of ``chance(s/SE)`` over s² = SE²·χ²(df)/df, where it is 0 beyond ``largest``."""
    if math.isinf(df):
        return float(chance(np.ones(1))[0]) if largest > 1 else 0.0
    low = math.sqrt(2 * special.gammaincinv(df / 2, _TAIL) / df)
    high = min(math.sqrt(2 * special.gammainccinv(df / 2, _TAIL) / df), largest)
    if high <= low:
        return 0.0
    u = low + (high - low) * (_NODES + 1) / 2
    # χ's density. By scipy.stats a plan of many campaigns would take minutes.
    log_density = (df - 1) * np.log(u) - df * u**2 / 2 + df / 2 * math.log(df / 2) - special.gammaln(df / 2)
    return float((high - low) * np.sum(_WEIGHTS * np.exp(log_density) * chance(u)))


def _check(design: Design) -> None:
    counts = {"models": (design.models, 1), "seeds": (design.seeds, 1), "questions": (design.questions or 2, 2)}
    for name, (count, fewest) in counts.items():
        if count < fewest:
            raise ValueError(f"{name}: expected at least {fewest}, found {count}")
    for name in ("run_sd", "model_sd"):
        if getattr(design, name) < 0:
            raise ValueError(f"{name}: expected at least 0, found {getattr(design, name)}")
    for name in ("discordance", "shared"):
        if not 0 <= getattr(design, name) <= 1:
            raise ValueError(f"{name}: expected a share from 0 to 1, found {getattr(design, name)}")
