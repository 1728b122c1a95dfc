"""Layer selection: the top k % of the layers by probe score (the paper's section 3.3, Eq. 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.method.adapters import placement_plan
from aletheia.method.layers import Layer
from aletheia.seeded_order import ranked


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
    if not 1 <= budget_percent <= 100:
        share = f"; write {100 * budget_percent:g} (one half is 50)" if 0 < budget_percent < 1 else ""
        raise UserError(f"budget_percent {budget_percent}: expected at least 1 and at most 100{share}")
    if not scores or not all(math.isfinite(s) for s in scores):
        raise UserError("selection needs one finite score a layer; the probe gave none or a non-finite one")
    count = max(1, math.floor(len(scores) * budget_percent / 100))
    ranked = sorted(range(len(scores)), key=lambda layer: (-scores[layer], layer))
    return sorted(ranked[:count])


def held_shares(scores: Sequence[float], layers: Sequence[int]) -> dict[str, float | None]:
    """Return what part of the total the selected layers hold.

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


def choose_layers(scores: Sequence[float], arm: Mapping[str, Any], *, seed: int) -> list[int]:
    """Return the layers of an arm.

    Parameters
    ----------
    scores
        One number a layer.
    arm
        ``layers`` is ``all``, a list, ``gradient`` (highest scores), or a control of the same budget: ``bottom``
        (lowest scores), ``first``, ``last``, ``random`` (drawn by the seed and ``draw``).
    seed
        The run's seed.
    """
    depth, wanted = len(scores), arm["layers"]
    if not isinstance(wanted, str):
        return sorted(wanted)
    gradient = select_layers(scores, 100 if wanted == "all" else arm["budget_percent"])
    count = len(gradient)
    if wanted == "bottom":
        return select_layers([-score for score in scores], arm["budget_percent"])
    if wanted == "random":
        return sorted(ranked(range(depth), seed=f"{seed}:draw{arm.get('draw', 0)}")[:count])
    return {"first": list(range(count)), "last": list(range(depth - count, depth))}.get(wanted, gradient)


def selection_payload(
    probe: Mapping[str, Any], arm: Mapping[str, Any], adapter: Mapping[str, Any], *, seed: int
) -> dict[str, Any]:
    """Return the payload of a selection artifact.

    Parameters
    ----------
    probe
        Payload of a probe artifact; a probe that failed passes its status on.
    arm
        The arm's entry in the campaign.
    adapter
        The campaign's ``adapter`` section; the arm's ``rank`` and ``alpha`` win over it.
    seed
        The run's seed.
    """
    score = arm.get("score", "l2")
    payload: dict[str, Any] = {
        "status": probe["status"],
        "reason": probe["reason"],
        "method": arm["layers"],
        "score": score,
        "budget_percent": arm.get("budget_percent"),
        "layers_total": probe["layers_total"],
    }
    if probe["status"] != "ok":
        empty = {
            "layers": [],
            "target_modules": [],
            "target_parameters": [],
            "rank_pattern": {},
            "alpha_pattern": {},
        }
        shares = dict.fromkeys(("lowest_layer", "held_norm_share", "held_squared_share", "margin_at_cut"))
        return {**payload, **empty, **shares}
    scores = probe["scores"][score]
    layers = [Layer(i, **names) for i, names in enumerate(probe["adaptable"])]
    plan = placement_plan(
        layers,
        choose_layers(scores, arm, seed=seed),
        rank=arm.get("rank", adapter["rank"]),
        alpha=arm.get("alpha", adapter["alpha"]),
    )
    return {**payload, **plan, "lowest_layer": plan["layers"][0], **held_shares(scores, plan["layers"])}
