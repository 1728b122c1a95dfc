"""How each arm of a campaign chooses its layers, and which random draws it can be held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.study.arms import ALE, STD
from aletheia.study.selectors import LAYER, RANDOM, SAME_LOWEST, SELECTORS

ALL, GIVEN, SELECTOR, CONTROL = "all", "given", "selector", "control"  # kinds beside `std` and the two of draws
# Keys of an arm that choose its layers; the others but these are its recipe.
CHOOSING = {"layers", *(key for selector in SELECTORS.values() for key in selector.keys)}
_BESIDE = {"models", "benchmarks", "equal"}
_DEFAULTS = {"score": "l2", "unit": LAYER, "draw": 0}
Arms = Mapping[str, Mapping[str, Any]]  # entries by name, of one campaign and model


@dataclass(frozen=True)
class Choice:
    """How an arm chooses its layers.

    Attributes
    ----------
    kind
        ``std``, :data:`ALL` (another arm of all layers), :data:`GIVEN` (a list), :data:`SELECTOR`, :data:`CONTROL`, or
        the kind of a draw.
    layers, score, unit, draw, budget_percent
        The keys of its entry, None where its way to choose does not read them; of a list ``layers`` is "a list".
    """

    kind: str
    layers: str
    score: str | None
    unit: str | None
    draw: int | None
    budget_percent: float | None


def choice(arm: str, entry: Mapping[str, Any]) -> Choice:
    """Return how an arm chooses its layers."""
    layers = entry["layers"]
    if not isinstance(layers, str):
        return Choice(GIVEN, "a list", None, None, None, None)
    if layers not in SELECTORS:
        return Choice(STD if arm == STD else ALL, layers, None, None, None, None)
    selector = SELECTORS[layers]
    read = {key: entry.get(key, _DEFAULTS.get(key)) if key in selector.keys else None for key in _DEFAULTS}
    kind = layers if layers in (RANDOM, SAME_LOWEST) else CONTROL if selector.control else SELECTOR
    budget = entry.get("budget_percent") if "budget_percent" in selector.keys else None
    return Choice(kind, layers, budget_percent=budget, **read)


def named_selector(arms: Arms) -> str | None:
    """Return the arm that a study of controls asks about, or None.

    ``ale`` where it chooses by gradient, else the first arm with ``layers: gradient``, score l2 and whole layers.
    """
    by_gradient = [arm for arm, entry in arms.items() if entry["layers"] == "gradient"]
    plain = [arm for arm in by_gradient if (made := choice(arm, arms[arm])).score == "l2" and made.unit == LAYER]
    return ALE if ALE in by_gradient else next(iter(plain), None)


def recipe(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an arm states beside its choice of layers: modules, ranks, steps, rates, shapes.

    A rate that is the best of several is the same recipe for all arms that choose theirs so, whatever their trials are
    called.
    """
    stated = {key: value for key, value in entry.items() if key not in CHOOSING | _BESIDE}
    chosen = {
        key: "the best of several" for key, value in stated.items() if isinstance(value, Mapping) and "best_of" in value
    }
    return {**stated, **chosen}


def draws_for(arms: Arms, arm: str, kind: str, adapted: Mapping[str, float | None]) -> list[str]:
    """Return the random draws that differ from an arm in the choice of layers alone.

    Parameters
    ----------
    arms
        All entries of a campaign and model.
    arm
        No draw itself.
    kind
        :data:`RANDOM` or :data:`SAME_LOWEST`.
    adapted
        The number of layers that each arm adapts, where known: it decides where an arm reads no ``budget_percent``.
    """
    own = choice(arm, arms[arm])
    found = []
    for name, entry in arms.items():
        made = choice(name, entry)
        if made.kind == kind and recipe(entry) == recipe(arms[arm]):
            known = adapted.get(arm) is not None and adapted.get(arm) == adapted.get(name)
            if own.budget_percent == made.budget_percent if own.budget_percent is not None else known:
                found.append(name)
    return found
