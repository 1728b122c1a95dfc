"""What a search knows of its trials: a row a run, with its loss, its steps, and its seconds by the measured costs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aletheia.search.equal_time import step_cost
from aletheia.search.results import OK, Result
from aletheia.search.space import STD
from aletheia.search.trials import Trial
from aletheia.study.benchmarks import HELDOUT, RETENTION
from aletheia.study.paths import BASE
from aletheia.study.search_names import timed_recipe
from aletheia.timing.in_turns import step_seconds_by_round

Row = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """The payloads that a rung reads.

    Attributes
    ----------
    before
        Of the earlier rungs, by name.
    runs, turns, evaluations
        Of kind ``run``, ``paired`` and ``evaluation``.
    """

    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: Sequence[Mapping[str, Any]] = ()
    turns: Sequence[Mapping[str, Any]] = ()
    evaluations: Sequence[Mapping[str, Any]] = ()


def measured_costs(turns: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return by recipe what a step costs over one of std's, from measurements in turns.

    Returns
    -------
    dict
        ``{recipe: {status, reason, cost, std_seconds, probe_seconds, measured_seconds}}``; ``cost`` as
        :class:`aletheia.search.equal_time.Cost`, ``std_seconds`` of a step of std beside it, ``measured_seconds`` of
        all counted steps of the measurement.
    """
    return {timed_recipe(pair["arm"]): _measured(pair) for pair in turns}


def _measured(pair: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: pair[key] for key in ("status", "reason", "probe_seconds")}
    if pair["status"] != OK:
        return {**told, **dict.fromkeys(("cost", "std_seconds", "measured_seconds"))}
    own, std = step_seconds_by_round(pair)
    steps = (seconds for arm in pair["arms"].values() for each in arm["step_seconds"] for seconds in each)
    measured = {"std_seconds": statistics.median(std), "measured_seconds": sum(steps)}
    return {**told, "cost": asdict(step_cost(own, std)), **measured}


@dataclass(frozen=True)
class Prices:
    """Seconds of runs by what was measured in turns.

    Attributes
    ----------
    costs
        Of :func:`measured_costs`, of every rung so far.
    std_seconds
        Seconds of a step of std: the median over the measurements before the scan; None where none ended well.
    """

    costs: Mapping[str, Mapping[str, Any]]
    std_seconds: float | None

    def cost(self, recipe: str) -> Mapping[str, Any] | None:
        """Return the cost of a step of a recipe over one of std's; None where it was not measured."""
        if recipe == STD:
            return {"value": 1.0, "low": 1.0, "high": 1.0, "log2_se": 0.0, "n": 0}
        return self.costs.get(recipe, {}).get("cost")

    def probe_seconds(self, recipe: str) -> float:
        """Return what a recipe's choice of layers takes."""
        return self.costs.get(recipe, {}).get("probe_seconds") or 0.0

    def training_seconds(self, recipe: str, steps: int | None) -> float | None:
        """Return the seconds of a run's steps; None where they are not known."""
        cost = self.cost(recipe)
        if cost is None or self.std_seconds is None or steps is None:
            return None
        return steps * cost["value"] * self.std_seconds

    def seconds(self, recipe: str, steps: int | None) -> float | None:
        """Return the seconds of a run with its choice of layers; None where they are not known."""
        training = self.training_seconds(recipe, steps)
        return None if training is None else training + self.probe_seconds(recipe)


def prices(before: Mapping[str, Mapping[str, Any]], further: Mapping[str, Mapping[str, Any]] | None = None) -> Prices:
    """Return the prices that are known after some rungs; what was ``further`` measured stands over them."""
    costs = {recipe: each for payload in before.values() for recipe, each in payload.get("costs", {}).items()}
    return Prices({**costs, **(further or {})}, before.get("cost", {}).get("std_seconds"))


def rows_of(trials: Sequence[Trial], evidence: Evidence, known: Prices | None) -> list[Row]:
    """Return a row for each run, in the order of the trials.

    Parameters
    ----------
    trials
        Those that the runs may be of.
    evidence
        Runs, and evaluations where they were asked for.
    known
        Prices; None before they are measured.
    """
    runs = {(run["arm"], run["seed"]): run for run in evidence.runs}
    scores = {(each["arm"], each["seed"], each["benchmark"]): each for each in evidence.evaluations}
    base = _loss(scores.get((BASE, None, RETENTION)))
    rows = []
    for trial in trials:
        key = (trial.arm_name, trial.seed)
        if key not in runs:
            continue
        run, retention = runs[key], _loss(scores.get((*key, RETENTION)))
        ended = run["status"] == OK
        rows.append(
            {
                **{"rung": trial.rung, "arm": trial.arm_name, "recipe": trial.recipe, "rate": trial.rate},
                **{"seed": trial.seed, "status": run["status"], "reason": run["reason"]},
                "steps": run["steps"],
                "loss": run["eval_loss"] if ended else None,
                "seconds": known.seconds(trial.recipe, run["steps"]) if known else None,
                "test_loss": _loss(scores.get((*key, HELDOUT))),
                "retention": None if base is None or retention is None else retention - base,
            }
        )
    return rows


def _loss(evaluation: Mapping[str, Any] | None) -> float | None:
    return evaluation["loss"] if evaluation and evaluation["status"] == OK else None


def results_of(rows: Iterable[Row]) -> list[Result]:
    """Return rows as the decisions read them."""
    keys = ("arm", "recipe", "rate", "seed", "status", "loss", "seconds", "steps", "retention")
    return [Result(**{key: row[key] for key in keys}) for row in rows]
