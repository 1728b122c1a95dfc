"""What each campaign will be able to tell, before its runs: the smallest difference it detects, its power to show none.

From its counts of models, seeds and questions, and from the margins and the spread that the plan of the analysis
assumes (:mod:`aletheia.analysis.plan`), by :mod:`aletheia.inference.power`. A run that fails, or a model that only
guesses, leaves less than is said here. Rows of a loss are no sample here: what is said of it holds on these rows.
:mod:`aletheia.analysis.power_sentences` has it in words.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aletheia.analysis.benchmarks import TITLES, stem_of
from aletheia.analysis.plan import TIME, AssumedVariation, Plan, Unit
from aletheia.cluster.cost import questions_of
from aletheia.inference.power import (
    FEWEST_POOLED,
    Design,
    detectable_effect,
    equivalence_power,
    models_needed,
    planned_se,
    questions_needed,
    seeds_needed,
)
from aletheia.study.arms import STD
from aletheia.study.benchmarks import BENCHMARKS, LOSSES
from aletheia.study.planned_runs import planned_runs
from aletheia.study.study import Study


@dataclass(frozen=True, kw_only=True)
class PlannedPower:
    """What a campaign will tell about one measure of some arms, each against the standard arm.

    All models answer the same questions. Numbers without a suffix hold where all of them change on the same questions,
    which is the cautious side; those ``at_best`` where each changes on questions of its own. Without questions, and of
    one model, both are the same.

    Attributes
    ----------
    campaign, arms
        Their names; the arms have equal counts.
    measure, title
        ``time``, or a benchmark's column in the ledger; and its name for readers.
    unit
        Of ``margin`` and ``detectable``: percentage points, nats, or the log ratio of two times.
    models
        Headline models that have the arms and the standard one. Fewer than three are told one by one.
    seeds
        With which they have this measure.
    questions
        The fewest that a model is asked; None of times and losses.
    all_questions
        Those that the benchmark has in all.
    margin
        Of equivalence, by the plan.
    detectable, detectable_at_best
        The smallest true difference that is found with the power that the plan wants. None where one model has one
        seed.
    power, power_at_best
        To show equivalence where the true difference is 0; None likewise.
    questions_needed, questions_needed_at_best, seeds_needed_at_best, models_needed_at_best
        Any of them alone would raise that power to the one wanted. None where it has it, and where no such number
        within reach does. On the cautious side neither seeds nor models make up for questions that all share.
    """

    campaign: str
    arms: tuple[str, ...]
    measure: str
    title: str
    unit: Unit
    models: int
    seeds: int
    questions: int | None
    all_questions: int | None
    margin: float
    detectable: float | None = None
    detectable_at_best: float | None = None
    power: float | None = None
    power_at_best: float | None = None
    questions_needed: int | None = None
    questions_needed_at_best: int | None = None
    seeds_needed_at_best: int | None = None
    models_needed_at_best: int | None = None


def planned_power(study: Study, plan: Plan) -> list[PlannedPower]:
    """Return what each campaign will be able to tell, by measure and arms, in the order of the study."""
    return [
        _with_power(comparison, plan)
        for campaign in study.campaign_index()
        for comparison in _comparisons(campaign, plan, lambda model: questions_of(study, model))
    ]


def _comparisons(
    campaign: Mapping[str, Any], plan: Plan, questions: Callable[[str], Mapping[str, int]]
) -> Iterator[PlannedPower]:
    """Yield a campaign's comparisons, without power; arms that have a measure of the same models are one."""
    runs = {(run["model"], run["arm"]): run["benchmarks"] for run in planned_runs(campaign) if run["headline"]}
    for measure in (TIME, *BENCHMARKS):
        groups: dict[tuple[str, ...], list[str]] = {}
        for arm in dict.fromkeys(arm for _, arm in runs if arm != STD):
            models = [model for model, own in runs if own == arm and _has(runs, model, arm, measure)]
            groups.setdefault(tuple(models), []).append(arm)
        seeds = campaign.get("timed_seeds", campaign["seeds"]) if measure == TIME else campaign["seeds"]
        unit = _unit(measure)
        for models, arms in groups.items():
            if models:
                yield PlannedPower(
                    campaign=campaign["name"],
                    arms=tuple(arms),
                    measure=TIME if measure == TIME else stem_of(measure),
                    title=TITLES.get(measure, measure),
                    unit=unit,
                    models=len(models),
                    seeds=len(seeds),
                    questions=min(questions(model)[measure] for model in models) if unit == "points" else None,
                    all_questions=BENCHMARKS[measure].size if unit == "points" else None,
                    margin=plan.margin_of(unit),
                )


def _has(runs: Mapping[tuple[str, str], Collection[str]], model: str, arm: str, measure: str) -> bool:
    """Tell whether a model has the measure of an arm and of the standard one."""
    sides = [runs.get((model, side)) for side in (STD, arm)]
    return all(side is not None and (measure == TIME or measure in side) for side in sides)


def _unit(measure: str) -> Unit:
    if measure == TIME:
        return "log_ratio"
    return "nats" if measure in LOSSES else "points"


def _with_power(comparison: PlannedPower, plan: Plan) -> PlannedPower:
    """Return a comparison with what it can tell."""
    wanted, margin = plan.power.wanted, comparison.margin
    cautious = _design(comparison, plan.power.assumed)
    best = replace(cautious, shared=0.0)
    errors = planned_se(cautious), planned_se(best)
    if errors[0] is None or errors[1] is None:
        return comparison
    detectable, detectable_at_best = (detectable_effect(error.se, error.df, power=wanted) for error in errors)
    power, power_at_best = (equivalence_power(error.se, error.df, margin) for error in errors)
    needed: dict[str, int | None] = {}
    if power < wanted and comparison.questions:
        needed["questions_needed"] = questions_needed(margin, cautious, wanted=wanted)
    if power_at_best < wanted:
        if comparison.questions:
            needed["questions_needed_at_best"] = questions_needed(margin, best, wanted=wanted)
        needed["seeds_needed_at_best"] = seeds_needed(margin, best, wanted=wanted)
        if best.models > 1:
            needed["models_needed_at_best"] = models_needed(margin, best, wanted=wanted)
    return replace(
        comparison,
        detectable=detectable,
        detectable_at_best=detectable_at_best,
        power=power,
        power_at_best=power_at_best,
        **needed,
    )


def _design(comparison: PlannedPower, assumed: AssumedVariation) -> Design:
    """Return the design of a comparison on the cautious side, of one model where there are fewer than three."""
    suffix = {"points": "points", "nats": "nats", "log_ratio": "log_time"}[comparison.unit]
    return Design(
        seeds=comparison.seeds,
        run_sd=getattr(assumed, f"seed_sd_{suffix}"),
        models=comparison.models if comparison.models >= FEWEST_POOLED else 1,
        model_sd=getattr(assumed, f"model_sd_{suffix}"),
        questions=comparison.questions,
        discordance=assumed.discordance if comparison.questions else 0.0,
    )
