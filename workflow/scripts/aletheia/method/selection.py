"""Layer selection: the top k % of the layers by probe score (the paper's section 3.3, Eq. 2), and its controls."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.method.adapters import ALL, placement_plan
from aletheia.method.controls import control_layers
from aletheia.method.cost_aware import StepCosts, cost_aware_layers
from aletheia.method.layer_scores import layer_scores, module_scores, not_measured, ranking_score
from aletheia.method.layers import Layer
from aletheia.method.module_choice import choose_modules, restricted
from aletheia.method.top_share import budget_count, top_share
from aletheia.study.selectors import COSTS, LAYER, MODULE, NOTHING, SELECTORS, reads

SHARES = ("held_norm_share", "held_squared_share", "margin_at_cut")
# Ways that take the layers with the highest scores.
BY_HIGHEST = ("gradient", "fisher", "block_influence", "activation_norm", "weight_snr", "adapter_update")


def select_layers(scores: Sequence[float], budget_percent: float = 50) -> list[int]:
    """Return the layers with the highest scores, in ascending order.

    Parameters
    ----------
    scores
        One finite number a layer.
    budget_percent
        Share of the layers to select, from 1 (0.5 would be taken for one half) to 100; ⌊L·k/100⌋ layers, at least one.

    Returns
    -------
    list of int
        Layer indices from 0. Of equal scores the lower layer is taken.

    Raises
    ------
    UserError
        When the budget is out of range, or a score is missing or not finite.

    References
    ----------
    The paper's section 3.3, Eq. 2 (k = 50).
    """
    return top_share(scores, budget_percent)


def gradient_shares(scores: Sequence[float], layers: Sequence[int]) -> dict[str, float | None]:
    """Return the share of all layers' gradient norm that the selected layers have.

    Parameters
    ----------
    scores
        One number a layer (gradient norms).
    layers
        The selected layers.

    Returns
    -------
    dict
        ``held_norm_share`` = Σ_{ℓ∈S} g_ℓ / Σ g_ℓ · ``held_squared_share`` = Σ_{ℓ∈S} g_ℓ² / Σ g_ℓ² ·
        ``margin_at_cut``: the relative gap between the lowest selected and the highest other score.
    """
    chosen, others = set(layers), [s for i, s in enumerate(scores) if i not in set(layers)]
    total, squares = math.fsum(scores), math.fsum(s * s for s in scores)
    lowest = min(scores[i] for i in chosen)
    return {
        "held_norm_share": math.fsum(scores[i] for i in chosen) / total if total else None,
        "held_squared_share": math.fsum(scores[i] ** 2 for i in chosen) / squares if squares else None,
        "margin_at_cut": (lowest - max(others)) / lowest if others and lowest else None,
    }


def choose_layers(
    depth: int,
    arm: Mapping[str, Any],
    *,
    seed: int,
    scores: Sequence[float] | None = None,
    seconds: Callable[[int, int], float] | None = None,
) -> list[int]:
    """Return the layers of an arm.

    Parameters
    ----------
    depth
        The model's number of layers.
    arm
        ``layers`` is ``all``, a list, or a name of :data:`aletheia.study.selectors.SELECTORS`, which says what other
        keys it reads. ``random`` is drawn by the seed and ``draw``; ``random_same_lowest`` has the lowest layer that
        ``gradient`` would have, and draws the others from those above it; ``every_other`` takes layers ⌊i·L/n⌋,
        i = 0 … n − 1.
    seed
        The run's seed.
    scores
        One number a layer (:func:`aletheia.method.layer_scores.layer_scores`), for a choice that reads any.
    seconds
        For ``cost_aware``: seconds of a step by its lowest layer and its number of adapted layers.

    Raises
    ------
    UserError
        When the choice reads what is not given, or the budget is out of range or too small.
    """
    wanted = arm["layers"]
    if not isinstance(wanted, str):
        return sorted(wanted)
    if wanted == "all":
        return list(range(depth))
    if scores is None and reads(arm) != NOTHING:
        raise UserError(f"layers: {wanted}: expected a probe, whose scores it chooses by, found none; give --probe")
    if wanted == "cost_aware":
        if seconds is None:
            raise UserError("layers: cost_aware: expected the costs of a step, found none; give --costs")
        return cost_aware_layers(scores, seconds, arm["time_percent"] / 100 * seconds(0, depth))
    budget = arm["budget_percent"]
    if wanted in BY_HIGHEST:
        return select_layers(scores, budget)
    if wanted == "bottom":
        return select_layers([-score for score in scores], budget)
    lowest = min(select_layers(scores, budget)) if wanted == "random_same_lowest" else None
    count = budget_count(depth, budget)
    return control_layers(wanted, depth, count, seed=seed, draw=arm.get("draw", 0), lowest=lowest)


def selection_payload(
    arm: Mapping[str, Any],
    adapter: Mapping[str, Any],
    *,
    seed: int,
    probe: Mapping[str, Any] | None = None,
    adaptable: Sequence[Mapping[str, Any]] = (),
    costs: StepCosts | None = None,
) -> dict[str, Any]:
    """Return the payload of a selection artifact.

    Parameters
    ----------
    arm
        The arm's entry in the campaign.
    adapter
        The run's ``adapter`` section; the arm's ``rank`` and ``alpha``, which it has by hand, win over it.
    seed
        The run's seed.
    probe
        Payload of a probe artifact, by whose scores layers are chosen; the status of one that failed is kept.
    adaptable
        Without a probe: the modules of each layer, as :class:`aletheia.method.layers.Layer` names it.
    costs
        Costs of a step, by which ``cost_aware`` chooses and any arm's time is predicted. Where they could not be
        measured, ``cost_aware`` has their status, and other arms no prediction.
    """
    probed = probe or {"status": "ok", "reason": None, "layers_total": len(adaptable), "adaptable": adaptable}
    status, reason = _outcome(arm, probed, costs)
    payload: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "method": arm["layers"],
        "reads": reads(arm),
        "unit": _unit(arm),
        "score": ranking_score(arm) if probe else None,
        "budget_percent": arm.get("budget_percent"),
        "layers_total": probed["layers_total"],
        "predicted_step_percent": None,
    }
    if status != "ok":
        return {**payload, **_nothing_selected()}
    place = functools.partial(
        placement_plan,
        [Layer(i, **names) for i, names in enumerate(probed["adaptable"])],
        rank=arm.get("rank", adapter["rank"]),
        alpha=arm.get("alpha", adapter["alpha"]),
        modules=adapter.get("modules", ALL),
    )
    choose = _by_module if _unit(arm) == MODULE else _by_layer
    everywhere = place(range(probed["layers_total"]))
    costs = costs if costs and costs.seconds else None
    chosen = choose(arm, everywhere, place, seed=seed, probe=probe, costs=costs)
    return {**payload, **chosen, "predicted_step_percent": _predicted(chosen, everywhere, costs)}


def _unit(arm: Mapping[str, Any]) -> str:
    """Return what an arm chooses, layers or modules; refuse modules where its way to choose has no score of them."""
    unit, layers = arm.get("unit", LAYER), arm["layers"]
    if unit == MODULE and not (isinstance(layers, str) and "unit" in getattr(SELECTORS.get(layers), "keys", ())):
        able = ", ".join(name for name, selector in SELECTORS.items() if "unit" in selector.keys)
        raise UserError(f"unit: module: expected layers chosen by {able}, found {layers}; take unit out")
    return unit


def _outcome(arm: Mapping[str, Any], probed: Mapping[str, Any], costs: StepCosts | None) -> tuple[str, str | None]:
    """Return status and reason: those of a probe, or of costs that the choice reads, where one failed; it is named."""
    if costs and costs.layers_total != probed["layers_total"]:
        raise UserError(
            f"costs: expected those of a model of {probed['layers_total']} layers, found {costs.layers_total}; give "
            "the attribution of the same model"
        )
    if probed["status"] == "ok" and costs and reads(arm) == COSTS and costs.seconds is None:
        return costs.status, costs.reason
    return probed["status"], None if probed["status"] == "ok" else f"probe: {probed['reason']}"


def _nothing_selected() -> dict[str, Any]:
    lists: dict[str, Any] = {key: [] for key in ("layers", "target_modules", "target_parameters")}
    return {**lists, "rank_pattern": {}, "alpha_pattern": {}, **dict.fromkeys(("lowest_layer", *SHARES))}


def _by_layer(
    arm: Mapping[str, Any],
    everywhere: Mapping[str, Any],
    place: Callable[[Sequence[int]], dict[str, Any]],
    *,
    seed: int,
    probe: Mapping[str, Any] | None,
    costs: StepCosts | None,
) -> dict[str, Any]:
    """Return what a selection says of layers that an arm chooses.

    Parameters
    ----------
    arm
        The arm's entry in the campaign.
    everywhere
        The placement plan of all layers.
    place
        Returns the plan of some layers.
    seed
        The run's seed.
    probe
        Payload of a probe that is ``ok``.
    costs
        Costs of a step that were measured.
    """
    scores = layer_scores(probe, arm) if probe else None
    if probe and scores is None and reads(arm) != NOTHING:
        raise not_measured(arm, f"scores {ranking_score(arm)}")
    seconds = costs and functools.partial(costs.seconds, rank=_mean_rank(everywhere))
    plan = place(choose_layers(len(everywhere["layers"]), arm, seed=seed, scores=scores, seconds=seconds))
    shares = gradient_shares(scores, plan["layers"]) if scores else dict.fromkeys(SHARES)
    without = {} if scores else {"score": None}
    return {**without, **plan, "lowest_layer": plan["layers"][0], **shares}


def _by_module(
    arm: Mapping[str, Any], everywhere: Mapping[str, Any], *_: Any, probe: Mapping[str, Any] | None, **unread: Any
) -> dict[str, Any]:
    """Return what a selection says of modules that an arm chooses; there is no single cut that had a margin."""
    if probe is None:
        raise UserError(
            f"layers: {arm['layers']}: expected a probe, whose scores it chooses by, found none; give --probe"
        )
    scores = module_scores(probe, arm, everywhere["rank_pattern"])
    modules = set(choose_modules(scores, arm["budget_percent"]))
    plan = restricted(everywhere, modules)
    held = [place for place, name in enumerate(scores) if name in modules]
    shares = {**gradient_shares(list(scores.values()), held), "margin_at_cut": None}
    return {**plan, "lowest_layer": plan["layers"][0], **shares}


def _mean_rank(plan: Mapping[str, Any]) -> float:
    return statistics.fmean(plan["rank_pattern"].values())


def _predicted(plan: Mapping[str, Any], everywhere: Mapping[str, Any], costs: StepCosts | None) -> float | None:
    """Return the predicted step in percent of one with all layers adapted; modules count as their share of a layer."""
    if costs is None:
        return None
    modules_of_layer = len(everywhere["rank_pattern"]) / len(everywhere["layers"])
    return costs.percent_of_all(
        lowest=plan["lowest_layer"], adapted=len(plan["rank_pattern"]) / modules_of_layer, rank=_mean_rank(plan)
    )
