"""Choice by module in place of layer: of each kind of module, the layers where it scores highest."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aletheia.method.adapters import module_kind
from aletheia.method.layers import layer_index
from aletheia.method.top_share import top_share


def choose_modules(scores: Mapping[str, float], budget_percent: float) -> list[str]:
    """Return, of each kind of module, the share with the highest scores, as Spectrum does.

    Each kind (``q_proj``, …) stands once in each of L layers, and ⌊L·k/100⌋ of each are taken (at least one); so the
    adapters have as many parameters as those of a choice by layer with the same budget.

    Parameters
    ----------
    scores
        By full name, in the order of layers.
    budget_percent
        k, from 1 to 100.

    Returns
    -------
    list of str
        In the order of ``scores``. Of equal scores the lower layer's is taken.

    Raises
    ------
    UserError
        When the budget is out of range, or a score is not finite.

    References
    ----------
    Hartford et al., "Spectrum: Targeted Training on Signal to Noise Ratio", arXiv:2406.06623.
    """
    kinds: dict[str, list[str]] = {}
    for name in scores:
        kinds.setdefault(module_kind(name), []).append(name)
    chosen: set[str] = set()
    for names in kinds.values():
        chosen.update(names[i] for i in top_share([scores[name] for name in names], budget_percent))
    return [name for name in scores if name in chosen]


def restricted(plan: Mapping[str, Any], modules: Collection[str]) -> dict[str, Any]:
    """Return a placement plan with some of its modules alone, and the layers that have any of them.

    Parameters
    ----------
    plan
        Of :func:`aletheia.method.adapters.placement_plan`.
    modules
        Full names, each in the plan.
    """
    kept = set(modules)
    return {
        "layers": sorted({layer_index(name) for name in kept}),
        **{key: [name for name in plan[key] if name in kept] for key in ("target_modules", "target_parameters")},
        **{
            key: {name: value for name, value in plan[key].items() if name in kept}
            for key in ("rank_pattern", "alpha_pattern")
        },
    }
