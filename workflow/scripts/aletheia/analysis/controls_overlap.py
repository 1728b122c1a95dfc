"""How alike the choices of arms are, and those of one arm with other seeds, beside what random draws would share."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from aletheia.analysis.controls_arms import RANDOM, SAME_LOWEST, Arms, choice
from aletheia.analysis.stability import chance_overlap, jaccard
from aletheia.analysis.stats import estimate
from aletheia.study.selectors import LAYER, MODULE

Selections = Mapping[tuple[str, int], Mapping[str, Any]]  # payloads of one model that ended well, by (arm, seed)
DRAWS = "random draws"  # in place of an arm: the mean over all draws


def between_arms(arms: Arms, selections: Selections) -> list[dict[str, Any]]:
    """Return the Jaccard overlap of every two arms that select, over the seeds of both.

    Random draws are one entry, :data:`DRAWS`: the mean over all of them. Where an arm chooses modules, modules are
    compared, else layers.

    Returns
    -------
    list of dict
        ``first``, ``second``, ``unit``, ``n`` seeds, ``jaccard`` (mean), ``expected``: of two random draws of the same
        sizes (:func:`aletheia.analysis.stability.chance_overlap`); None where the number of modules is not known.
    """
    selecting = list(dict.fromkeys(arm for arm, _ in selections if arm in arms))
    draws = [arm for arm in selecting if choice(arm, arms[arm]).kind == RANDOM]
    named = [arm for arm in selecting if choice(arm, arms[arm]).kind not in (RANDOM, SAME_LOWEST)]
    pairs = [(first, second, [second]) for first, second in itertools.combinations(named, 2)]
    pairs += [(arm, DRAWS, draws) for arm in named if draws]
    found = []
    for first, second, others in pairs:
        unit = MODULE if MODULE in {choice(arm, arms[arm]).unit for arm in (first, *others)} else LAYER
        by_seed: dict[int, list[tuple[float, float | None]]] = {}
        for (arm, seed), own in selections.items():
            if arm == first:
                beside = [selections[other, seed] for other in others if (other, seed) in selections]
                by_seed |= {seed: [_overlap(own, other, unit, selections) for other in beside]} if beside else {}
        if by_seed:
            found.append({"first": first, "second": second, "unit": unit, **_means(list(by_seed.values()))})
    return found


def between_seeds(arms: Arms, selections: Selections) -> list[dict[str, Any]]:
    """Return the overlap of one arm's choices with different seeds, of all arms with two seeds and more but draws.

    Returns
    -------
    list of dict
        ``arm``, ``unit``, ``n`` seeds, ``jaccard`` (mean over the pairs of seeds), ``least``, ``expected``.
    """
    found = []
    for arm in dict.fromkeys(arm for arm, _ in selections if arm in arms):
        made = choice(arm, arms[arm])
        own = [payload for (name, _), payload in selections.items() if name == arm]
        if made.kind in (RANDOM, SAME_LOWEST) or len(own) < 2:
            continue
        unit = made.unit or LAYER
        pairs = [_overlap(first, second, unit, selections) for first, second in itertools.combinations(own, 2)]
        means, least = _means([pairs]), min(overlap for overlap, _ in pairs)
        found.append({"arm": arm, "unit": unit, **means, "n": len(own), "least": least})
    return found


def _means(by_seed: list[list[tuple[float, float | None]]]) -> dict[str, Any]:
    overlaps = [estimate(overlap for overlap, _ in pairs)["mean"] for pairs in by_seed]
    expected = [level for pairs in by_seed for _, level in pairs]
    known = None if None in expected else estimate(expected)["mean"]
    return {"n": len(by_seed), "jaccard": estimate(overlaps)["mean"], "expected": known}


def _overlap(
    first: Mapping[str, Any], second: Mapping[str, Any], unit: str, selections: Selections
) -> tuple[float, float | None]:
    chosen = [adapted(payload) if unit == MODULE else payload["layers"] for payload in (first, second)]
    total = number_of_modules(selections) if unit == MODULE else first["layers_total"]
    sizes = [len({*names}) for names in chosen]
    return jaccard(*chosen), None if total is None else chance_overlap(total, *sizes)


def adapted(payload: Mapping[str, Any]) -> list[str]:
    """Return the full names of all that a selection adapts: linears and fused experts."""
    return [*payload["target_modules"], *payload["target_parameters"]]


def number_of_modules(selections: Selections) -> float | None:
    """Return how many modules all layers have together, from the selection with the most modules a layer.

    None where no selection is there; a whole number, since layers are alike.
    """
    most = max((len(adapted(payload)) / len(payload["layers"]) for payload in selections.values()), default=None)
    total = next((payload["layers_total"] for payload in selections.values()), None)
    return None if most is None or total is None else round(most * total)
