"""The ``peft.LoraConfig`` of a run as Python, with its layers and modules in sight."""

from __future__ import annotations

from typing import Any

from aletheia.exports.choice import Choice
from aletheia.exports.document import Code, as_call, literal
from aletheia.exports.placement import Placement, patterns, placement, rslora


def lora_code(choice: Choice) -> str:
    """Return ``LAYERS``, ``MODULES`` and ``adapter = LoraConfig(…)``."""
    place = placement(choice)
    arguments: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "r": place.rank,
        "lora_alpha": place.alpha,
        "lora_dropout": choice.adapter["dropout"],
        "use_rslora": rslora(choice),
        "target_modules": _targets(place),
        **lora_patterns(choice),
    }
    if place.parameters:
        arguments["target_parameters"] = place.parameters
    return f"{layers_code(place)}\n\nadapter = {as_call('LoraConfig', arguments)}\n"


def layers_code(place: Placement) -> str:
    """Return the layers, and their modules where each has the same, as Python constants."""
    modules = f"\nMODULES = {literal(place.kinds)}" if place.kinds else ""
    return f"LAYERS = {literal(place.layers)}{modules}"


def lora_patterns(choice: Choice) -> dict[str, dict[str, int]]:
    """Return ``rank_pattern`` and ``alpha_pattern``, each where some module differs from the others."""
    place = placement(choice)
    found = {
        "rank_pattern": patterns(place.ranks, choice.modules),
        "alpha_pattern": patterns(place.alphas, choice.modules),
    }
    return {key: value for key, value in found.items() if value}


def _targets(place: Placement) -> Any:
    """Return the full names, which alone are exact whatever else the model has."""
    if place.kinds:
        return Code(f'[f"{place.prefix}.{{layer}}.{{module}}" for layer in LAYERS for module in MODULES]')
    return place.modules
