"""How often the intervals of aletheia.inference hold the truth, over simulated studies whose truth is known.

    tests/support/simulated_studies.py    writes benchmarks/coverage.json: minutes on one core, equal anywhere

A study has models whose true effects scatter with SD tau about a mean, three seeds a model, and, where it says so,
questions that all models share. The unit is the SD of one run; what a row counts is studies. Each share comes with its
own exact 95 % interval.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from aletheia.inference.bootstrap import cluster_bootstrap  # noqa: E402
from aletheia.inference.prediction import half_width  # noqa: E402
from aletheia.inference.questions import paired_difference, shared_variance  # noqa: E402
from aletheia.inference.random_effects import pool_variance, random_effects  # noqa: E402
from aletheia.inference.reml import fit  # noqa: E402

MODELS = (6, 10, 14)
SEEDS = 3
TAUS = (0.0, 0.25, 0.5, 1.0, 3.0)
# The variances of runs, in turns over the models: all alike, and different by a factor of four.
RUN_VARIANCES = {"1": (1.0,), "0.4 and 1.6": (0.4, 1.6)}
# A true mean at the margin, where claiming equivalence is an error.
MARGIN = 1.0


def share(interval: str, held: Sequence[bool] | np.ndarray, **settings: Any) -> dict[str, Any]:
    """Return a row: the share of studies in which ``held`` is true, with its exact 95 % interval."""
    count, n = int(np.sum(held)), len(held)
    exact = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    found = {"share": count / n, "low": round(exact.low, 4), "high": round(exact.high, 4), "ledgers": n}
    return {"interval": interval, **settings, **found}


def effects(
    rng: np.random.Generator, *, models: int, tau: float, run_variances: str, ledgers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return effects of models about a mean of 0 and their variances from the pooled run variance, ``[ledgers, k]``."""
    sd = np.sqrt(np.resize(RUN_VARIANCES[run_variances], models))
    runs = rng.normal(0, tau, (ledgers, models, 1)) + sd[:, None] * rng.normal(size=(ledgers, models, SEEDS))
    pooled = runs.var(axis=2, ddof=1).mean(axis=1)
    return runs.mean(axis=2), np.broadcast_to(pooled[:, None] / SEEDS, (ledgers, models))


def pooled(*, models: int, tau: float, run_variances: str = "1", ledgers: int = 4000) -> list[dict[str, Any]]:
    """Return coverage of the mean over models and of a new model's effect, and both kinds of error of a verdict."""
    settings = {"models": models, "tau": tau, "run_variances": run_variances}
    rng = np.random.default_rng([models, int(100 * tau), len(run_variances)])
    y, v = effects(rng, **settings, ledgers=ledgers)
    found, df = fit(y, v), models - 1
    new = rng.normal(0, tau, ledgers)
    one_sided = stats.t.sf((MARGIN - (found.mean + MARGIN)) / found.se, df)
    other_side = stats.t.sf((found.mean + 2 * MARGIN) / found.se, df)
    return [
        share("mean over models", np.abs(found.mean) <= stats.t.ppf(0.975, df) * found.se, **settings),
        share("new model", np.abs(new - found.mean) <= half_width(y, v, found), **settings),
        share("difference claimed at 0", 2 * stats.t.sf(np.abs(found.mean) / found.se, df) < 0.05, **settings),
        share("equivalence claimed at the margin", np.maximum(one_sided, other_side) < 0.05, **settings),
    ]


def answers(
    rng: np.random.Generator, *, models: int, tau: float, questions: int, run_sd: float = 1.0
) -> list[np.ndarray]:
    """Return differences ``[seeds, questions]`` of each model about 0, in clusters of two alike questions.

    A question is easy or hard for all models (SD 2), for one model (SD 2), and in one run (SD 3); a run has a
    difference of its own (SD ``run_sd``).
    """

    def of_questions(sd: float) -> np.ndarray:
        common = np.repeat(rng.normal(size=(questions + 1) // 2), 2)[:questions]
        return sd * (0.6 * common + 0.8 * rng.normal(size=questions))

    for_all = of_questions(2.0)
    return [
        rng.normal(0, tau)
        + for_all
        + of_questions(2.0)
        + rng.normal(0, run_sd, (SEEDS, 1))
        + rng.normal(0, 3.0, (SEEDS, questions))
        for _ in range(models)
    ]


def one_model(*, questions: int, run_sd: float = 1.0, ledgers: int = 2000) -> list[dict[str, Any]]:
    """Return coverage of one model's difference, over new seeds and questions, and over new questions of one run."""
    rng, clusters = np.random.default_rng([1, questions, int(100 * run_sd)]), np.arange(questions) // 2
    both, alone = [], []
    for _ in range(ledgers):
        (d,) = answers(rng, models=1, tau=0.0, questions=questions, run_sd=run_sd)
        found = paired_difference(d, clusters=clusters)
        both.append(found.low <= 0 <= found.high)
        (d,) = answers(rng, models=1, tau=0.0, questions=questions, run_sd=0.0)
        found = paired_difference(d[:1], clusters=clusters)
        alone.append(found.low <= 0 <= found.high)
    settings = {"models": 1, "run_sd": run_sd, "questions": questions}
    return [
        share("one model, new seeds and questions", both, **settings),
        share("one model, new questions", alone, **settings),
    ]


def with_questions(*, models: int, tau: float, questions: int = 60, ledgers: int = 2000) -> list[dict[str, Any]]:
    """Return coverage of the mean over models where all share the questions, with and without the shared variance."""
    rng, clusters = np.random.default_rng([2, models, int(100 * tau)]), np.arange(questions) // 2
    held: dict[str, list[bool]] = {"with": [], "without": []}
    for _ in range(ledgers):
        d = answers(rng, models=models, tau=tau, questions=questions)
        y = [values.mean() for values in d]
        run, _ = pool_variance([values.mean(axis=1) for values in d])
        common = shared_variance([values.mean(axis=0) for values in d], clusters=clusters)
        for name, variance in (("with", common), ("without", 0.0)):
            found = random_effects(y, [run / SEEDS + variance] * models, shared_variance=variance)
            held[name].append(found.low <= 0 <= found.high)
    settings = {"models": models, "tau": tau, "questions": questions}
    return [
        share(f"mean over models, {name} the variance of shared questions", values, **settings)
        for name, values in held.items()
    ]


def bootstrapped(
    *, models: int, tau: float = 1.0, questions: int = 40, draws: int = 1000, ledgers: int = 1000
) -> list[dict[str, Any]]:
    """Return coverage of the cluster bootstrap."""
    rng, clusters = np.random.default_rng([3, models, int(100 * tau)]), np.arange(questions) // 2
    held = []
    for number in range(ledgers):
        d = answers(rng, models=models, tau=tau, questions=questions)
        found = cluster_bootstrap(d, clusters=clusters, draws=draws, seed=number)
        held.append(found.low <= 0 <= found.high)
    return [share("bootstrap", held, models=models, tau=tau, questions=questions)]


def rows() -> list[dict[str, Any]]:
    """Return all rows."""
    calls: list[tuple[Callable[..., list[dict[str, Any]]], dict[str, Any]]] = [
        (pooled, {"models": models, "tau": tau, "run_variances": name})
        for models in (3, *MODELS)
        for tau in TAUS
        for name in RUN_VARIANCES
    ]
    calls += [(one_model, {"questions": questions, "run_sd": sd}) for questions in (24, 200) for sd in (0.3, 1.0, 3.0)]
    calls += [(with_questions, {"models": models, "tau": tau}) for models in MODELS for tau in (0.0, 1.0)]
    calls += [(bootstrapped, {"models": models, "tau": tau}) for models in MODELS for tau in (0.0, 1.0, 3.0)]
    return [row for function, settings in calls for row in function(**settings)]


if __name__ == "__main__":
    result = {"what": __doc__.splitlines()[0], "level": 0.95, "unit": "SD of one run", "rows": rows()}
    lines = ",\n".join(f"  {json.dumps(row, sort_keys=True)}" for row in result.pop("rows"))
    head = json.dumps(result, indent=1, sort_keys=True).removesuffix("\n}")
    (ROOT / "benchmarks" / "coverage.json").write_text(f'{head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
