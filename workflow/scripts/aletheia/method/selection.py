"""Layer selection: the top k % of the layers by probe score (the paper's section 3.3, Eq. 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.method.adapters import ALL, placement_plan
from aletheia.method.layers import Layer
from aletheia.seeded_order import seeded_order

SHARES = ("held_norm_share", "held_squared_share", "margin_at_cut")


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


def choose_layers(depth: int, arm: Mapping[str, Any], *, seed: int, scores: Sequence[float] | None = None) -> list[int]:
    """Return the layers of an arm.

    Parameters
    ----------
    depth
        The model's number of layers.
    arm
        ``layers`` is ``all``, a list, ``gradient`` (highest scores), or a control of the same budget: ``bottom``
        (lowest scores), ``first``, ``last``, ``random`` (drawn by the seed and ``draw``).
    seed
        The run's seed.
    scores
        One number a layer; needed for ``gradient`` and ``bottom`` alone.
    """
    wanted = arm["layers"]
    if not isinstance(wanted, str):
        return sorted(wanted)
    if wanted == "all":
        return list(range(depth))
    if scores is not None and wanted in ("gradient", "bottom"):
        return select_layers([score if wanted == "gradient" else -score for score in scores], arm["budget_percent"])
    count = len(select_layers([0.0] * depth, arm["budget_percent"]))
    if wanted == "random":
        return sorted(seeded_order(range(depth), seed=f"{seed}:draw{arm.get('draw', 0)}")[:count])
    if wanted not in ("first", "last"):
        raise UserError(f"layers: {wanted}: expected a probe, whose scores it chooses by, found none; give --probe")
    return list(range(count)) if wanted == "first" else list(range(depth - count, depth))


def selection_payload(
    arm: Mapping[str, Any],
    adapter: Mapping[str, Any],
    *,
    seed: int,
    probe: Mapping[str, Any] | None = None,
    adaptable: Sequence[Mapping[str, Any]] = (),
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
    """
    probed = probe or {"status": "ok", "reason": None, "layers_total": len(adaptable), "adaptable": adaptable}
    score = arm.get("score", "l2")
    payload: dict[str, Any] = {
        "status": probed["status"],
        "reason": probed["reason"],
        "method": arm["layers"],
        "score": score if probe else None,
        "budget_percent": arm.get("budget_percent"),
        "layers_total": probed["layers_total"],
    }
    if probed["status"] != "ok":
        empty = {
            "layers": [],
            "target_modules": [],
            "target_parameters": [],
            "rank_pattern": {},
            "alpha_pattern": {},
        }
        return {**payload, **empty, **dict.fromkeys(("lowest_layer", *SHARES))}
    scores = probe["scores"][score] if probe else None
    layers = [Layer(i, **names) for i, names in enumerate(probed["adaptable"])]
    plan = placement_plan(
        layers,
        choose_layers(len(layers), arm, seed=seed, scores=scores),
        rank=arm.get("rank", adapter["rank"]),
        alpha=arm.get("alpha", adapter["alpha"]),
        modules=adapter.get("modules", ALL),
    )
    shares = gradient_shares(scores, plan["layers"]) if scores else dict.fromkeys(SHARES)
    return {**payload, **plan, "lowest_layer": plan["layers"][0], **shares}
