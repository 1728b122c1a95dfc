"""Sweeps of the budget: arms of a model that differ in nothing but how many layers they train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.study.arms import STD, entries
from aletheia.study.selectors import SELECTORS

FEWEST_BUDGETS = 3  # a line through two says nothing of a trend
# Keys of an arm that decide no run, or its budget alone.
_ASIDE = {"budget_percent", "models", "benchmarks", "equal"}
# Keys that choose layers, of which the standard arm reads none.
_OF_LAYERS = {"layers", *(key for selector in SELECTORS.values() for key in selector.keys)}


def budget_sweeps(campaigns: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each sweep as ``{campaign, model, budgets: {arm: percent of the layers}}``, budgets from the smallest.

    Arms of one way to choose layers, with at least :data:`FEWEST_BUDGETS` budgets; the standard arm is the 100 % of
    those that have its other settings. Of two arms with one budget the first counts.

    Parameters
    ----------
    campaigns
        As read (:func:`aletheia.study.campaign_files.read_campaigns`).
    """
    return [
        {"campaign": campaign["name"], "model": model, "budgets": budgets}
        for campaign in campaigns
        for model in campaign["models"]
        for budgets in _of_model(entries(campaign, model))
    ]


def _of_model(arms: Mapping[str, Mapping[str, Any]]) -> list[dict[str, float]]:
    groups: dict[str, dict[float, str]] = {}
    for arm, entry in arms.items():
        if _has_budget(entry):
            settings = {key: value for key, value in entry.items() if key not in _ASIDE}
            groups.setdefault(repr(sorted(settings.items())), {}).setdefault(entry["budget_percent"], arm)
    for of_group in groups.values():
        first = arms[next(iter(of_group.values()))]
        if STD in arms and _other_settings(arms[STD]) == _other_settings(first):
            of_group.setdefault(100, STD)
    sweeps = [dict(sorted(of_group.items())) for of_group in groups.values() if len(of_group) >= FEWEST_BUDGETS]
    return [{arm: percent for percent, arm in of_group.items()} for of_group in sweeps]


def _has_budget(arm: Mapping[str, Any]) -> bool:
    layers = arm["layers"]
    return isinstance(layers, str) and layers in SELECTORS and "budget_percent" in SELECTORS[layers].keys


def _other_settings(arm: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arm.items() if key not in _ASIDE | _OF_LAYERS}
