"""What the effects of a campaign let one conclude: of each model, and of models to come.

One model: an interval over its seeds and, where the answers are known, its questions. Models: with three and more in
the headline their means are pooled as a sample of models; with fewer nothing is. Each result has a verdict by the
margins of the plan (:mod:`aletheia.analysis.plan`). Corrections for several tests: Holm's over the primary family,
Benjamini and Hochberg's over the models of any other effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from aletheia.analysis.effects import Effect, ModelValues
from aletheia.analysis.plan import Plan
from aletheia.analysis.stats import NO_SPREAD, estimate, t_quantile
from aletheia.analysis.verdicts import FALSE_DISCOVERY, OVER_QUESTIONS, Stated, conclude, equivalence
from aletheia.inference import bayes, bootstrap, exact, mixed, multiplicity, questions, random_effects
from aletheia.inference.power import detectable_effect
from aletheia.study.arms import STD

FEWEST_MODELS = random_effects.FEWEST_MODELS
_FEW_MODELS = f"fewer than {FEWEST_MODELS} headline models, so nothing is said of models to come"
PRIMARY, SECONDARY = "primary", "secondary"


def infer(effects: Sequence[Effect], stated: Stated, *, selecting: str | None) -> list[dict[str, Any]]:
    """Return what follows from each effect of one campaign.

    Parameters
    ----------
    effects
        Of :func:`aletheia.analysis.paired_arms.effects`.
    stated
        The plan.
    selecting
        The arm whose comparison with std is the primary one (:func:`aletheia.analysis.controls.selecting_arm`).
    """
    blocks = [_effect(effect, stated) for effect in effects]
    family = [block for block in blocks if _is_primary(block, stated.plan, selecting)]
    _correct([result for block in family for result in headline_results(block)], multiplicity.holm, "Holm")
    for block in blocks:
        block["family"] = PRIMARY if any(block is own for own in family) else SECONDARY
        _correct_models(block, stated.plan.families.false_discovery_rate)
        settings = {"higher_is_better": block["higher_is_better"], "unit": block["unit"], "stated": stated}
        for result in filter(None, (block["pooled"], *block["models"])):
            result["verdict"] = conclude(result, **settings)
    return blocks


def _is_primary(block: Mapping[str, Any], plan: Plan, selecting: str | None) -> bool:
    ours = block["arm"] == selecting and block["reference"] == STD
    return ours and block["measure"] in plan.families.primary


def headline_results(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results that an effect is told by: the pooled one, else those of the headline models."""
    if block["pooled"] is not None:
        return [block["pooled"]]
    return [model for model in block["models"] if model["headline"] and tells_something(model)]


def tells_something(model: Mapping[str, Any]) -> bool:
    """Tell whether one model's result counts: it has a value, and a base model whose score could have moved."""
    return model["mean"] is not None and not model["at_floor"] and not model["implausible"]


def _effect(effect: Effect, stated: Stated) -> dict[str, Any]:
    plan = stated.plan
    models = [_model(model, effect.unit, plan) for model in effect.models]
    told = [
        (values, found)
        for values, found in zip(effect.models, models, strict=True)
        if values.headline and tells_something(found)
    ]
    variance, df = random_effects.pool_variance([values.values for values, _ in told])
    block = {
        **{"arm": effect.arm, "reference": effect.reference, "measure": effect.measure, "unit": effect.unit},
        **{"higher_is_better": effect.higher_is_better, "family": SECONDARY},
        **{"run_variance": variance, "run_df": df, "models": models},
        **{"pooled": None, "not_pooled": _FEW_MODELS},
    }
    if len(told) >= FEWEST_MODELS:
        pooled = _pooled(told, (variance, df), plan.margin_of(effect.unit), plan)
        block |= {"pooled": pooled | {"equivalence": equivalence(pooled, effect.unit, plan)}, "not_pooled": None}
    return block


def _model(model: ModelValues, unit: str, plan: Plan) -> dict[str, Any]:
    """Return one model's mean, with its error over seeds and questions, or over what there is."""
    found = estimate(model.values)
    block: dict[str, Any] = {
        **{"model": model.model, "headline": model.headline, "at_floor": model.at_floor},
        **{"implausible": model.implausible, "flagged": model.flagged, "clock": model.clock},
        **{"seeds": found["n"], "planned": model.planned, "n": found["n"], "over": None, "mean": found["mean"]},
        **dict.fromkeys(("se", "df", "low", "high", "p", "p_adjusted", "p_equivalence_adjusted", "adjusted_by")),
        **dict.fromkeys(("fcr_low", "fcr_high", "items", "mcnemar", "detectable", "same")),
    }
    if found["mean"] is None:
        return block | {"equivalence": []}
    if model.rounds is not None:
        block |= _over_rounds(model)
    elif found["n"] > 1:
        # A spread that is rounding is none: a test would take it for certainty.
        equal = found["sd"] <= NO_SPREAD * max(map(abs, model.values))
        se = 0.0 if equal else found["sd"] / math.sqrt(found["n"])
        block |= {"over": "seeds", "se": se, "df": found["n"] - 1, "low": found["low"], "high": found["high"]}
    if model.items is not None:
        block |= _over_items(model)
    if block["se"]:
        block["p"] = _p_value(block["mean"], block["se"], block["df"])
        block["detectable"] = detectable_effect(block["se"], block["df"], power=plan.power.wanted)
    if model.same is not None:
        block["same"] = asdict(model.same)
    return block | {"equivalence": equivalence(block, unit, plan)}


def _p_value(mean: float, se: float, df: float) -> float:
    return float(2 * stats.t.sf(abs(mean) / se, df))


def _over_rounds(model: ModelValues) -> dict[str, Any]:
    """Return the error over the rounds of one seed: its bootstrap interval, read as a t-interval."""
    rounds = model.rounds
    se = (rounds.high - rounds.low) / 2 / t_quantile(rounds.n)
    return {"over": "rounds", "n": rounds.n, "se": se, "df": rounds.n - 1, "low": rounds.low, "high": rounds.high}


def _over_items(model: ModelValues) -> dict[str, Any]:
    """Return the error over seeds and questions, and McNemar's tests of right and wrong answers."""
    items = model.items
    found = questions.paired_difference(items.differences, clusters=items.clusters, weights=items.weights)
    names = ("n_questions", "n_clusters", "n_seeds", "dropped", "se_questions", "question_variance", "run_variance")
    tests = None
    if items.discordant:
        tests = {
            "by_seed": [asdict(exact.mcnemar(gained, lost)) for gained, lost in items.discordant],
            "stratified": asdict(exact.stratified_mcnemar(items.discordant)),
        }
    ends = {name: getattr(found, name) for name in ("mean", "se", "df", "low", "high")}
    parts = {name: getattr(found, name) for name in names}
    told = {"items": parts, "mcnemar": tests}
    if found.se is None:
        # Questions of one subject are no sample of subjects: what is over seeds stands.
        return told
    return {**told, **ends, "over": "seeds and questions" if found.n_seeds > 1 else OVER_QUESTIONS}


def _correct(results: list[dict[str, Any]], method: Any, name: str) -> None:
    """Add the adjusted p of the differences, and of the equivalence at the verdict's margin, over some results."""
    if len(results) < 2:
        return
    differences = method([result["p"] for result in results])
    equivalences = method([_p_equivalence(result) for result in results])
    for result, difference, equal in zip(results, differences, equivalences, strict=True):
        result |= {"p_adjusted": difference, "p_equivalence_adjusted": equal, "adjusted_by": name}


def _p_equivalence(result: Mapping[str, Any]) -> float | None:
    return next((test["p"] for test in result["equivalence"] if test["of_verdict"]), None)


def _correct_models(block: dict[str, Any], rate: float) -> None:
    """Correct over an effect's headline models, unless they are of the primary family; intervals by FCR."""
    models = [model for model in block["models"] if model["headline"] and tells_something(model)]
    if len(models) < 2 or any(model["adjusted_by"] for model in models):
        return
    _correct(models, multiplicity.benjamini_hochberg, FALSE_DISCOVERY)
    levels = multiplicity.fcr_levels([model["p"] for model in models], q=rate)
    for model, level in zip(models, levels, strict=True):
        if level is not None:
            half = float(stats.t.ppf((1 + level) / 2, model["df"])) * model["se"]
            model |= {"fcr_low": model["mean"] - half, "fcr_high": model["mean"] + half}


def _pooled(
    told: Sequence[tuple[ModelValues, dict[str, Any]]], of_runs: tuple[float | None, int], margin: float, plan: Plan
) -> dict[str, Any]:
    """Return the mean over models: two-stage random effects, its checks, and the Bayesian reading."""
    models, means = [values for values, _ in told], [found["mean"] for _, found in told]
    # A model's own variance of two or three runs is too uncertain to weigh by, so that of all models together.
    runs = [(of_runs[0] or 0.0) / found["seeds"] for _, found in told]
    asked = [(found["items"] or {}).get("question_variance") or 0.0 for _, found in told]
    variances = [run + question for run, question in zip(runs, asked, strict=True)]
    arrays = _arrays(models)
    shared = _shared_variance(arrays) if _same_items(models) else 0.0
    pooled = asdict(random_effects.random_effects(means, variances, shared_variance=shared))
    reading = bayes.hierarchy(
        means,
        variances,
        tau_scale=margin * plan.priors.tau_over_margin,
        margin=margin,
        run_df=None if any(asked) else of_runs[1] or None,
        shared_variance=shared,
    )
    resampled = bootstrap.cluster_bootstrap(**arrays, draws=plan.bootstrap.draws, seed=plan.bootstrap.seed)
    check = mixed.mixed_model([values.values for values in models])
    found = detectable_effect(pooled["se"], pooled["df"], power=plan.power.wanted) if pooled["se"] else None
    return {
        **pooled,
        **{"shared_variance": shared, "detectable": found, "same": _same_arm(models)},
        **dict.fromkeys(("p_adjusted", "p_equivalence_adjusted", "adjusted_by")),
        **{"mixed": check and asdict(check), "bootstrap": resampled and asdict(resampled)},
        "bayes": {**asdict(reading), "names": [values.model for values in models]},
    }


def _same_arm(models: Sequence[ModelValues]) -> dict[str, float] | None:
    """Return std against itself over models, where two and more were timed in turns with it."""
    found = estimate(model.same.mean for model in models if model.same)
    return None if found["low"] is None else {end: found[end] for end in ("mean", "low", "high")}


def _same_items(models: Sequence[ModelValues]) -> bool:
    names = {None if model.items is None else model.items.names for model in models}
    if len(names) != 1 or None in names:
        return False
    return not np.isnan(np.vstack([model.items.differences for model in models])).any(axis=0).all()


def _arrays(models: Sequence[ModelValues]) -> dict[str, Any]:
    """Return what is resampled: seeds and questions where all models answered the same ones, else seeds."""
    if not _same_items(models):
        return {"by_model": [np.array(model.values)[:, None] for model in models], "clusters": None, "weights": None}
    first = models[0].items
    arrays = [model.items.differences for model in models]
    return {"by_model": arrays, "clusters": first.clusters, "weights": first.weights}


def _shared_variance(arrays: Mapping[str, Any]) -> float:
    """Return the variance of the mean over models that comes of their being asked the same questions."""
    means = [differences.mean(axis=0) for differences in arrays["by_model"]]
    return questions.shared_variance(means, clusters=arrays["clusters"], weights=arrays["weights"])
