"""An arm as a recipe: which keys it may state beside its layers, and whose settings they replace.

An arm states any key of the sections ``adapter`` and ``training``, over those of its campaign and its model. What
chooses layers and steps stays the arm's own section; the rest is part of the run's ``adapter`` and ``training``, which
its steps read as they read the campaign's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from aletheia.study.run_length import EPOCHS, LENGTHS

SECTIONS = ("adapter", "training")
GROUPS = ["attention", "mlp"]  # of an adapted layer's modules
MEASURED = "measured"  # the value of an arm's `steps` that is no number
RATE = "learning_rate"
# Keys of training that an arm may leave to other runs or to measurements, where its value is no number.
DECIDED_ELSEWHERE = ("steps", RATE)
# Equal in all arms, or their losses could not be compared.
EQUAL_IN_ALL_ARMS = ("eval_rows",)


def with_recipes(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the keys that an arm of a campaign may state, ``$defs/recipe``.

    Parameters
    ----------
    name, schema
        As of :func:`aletheia.study.schema.schema`; the mapping itself is changed.
    """
    if name != "campaign":
        return schema
    arm, properties = schema["$defs"]["arm"], schema["properties"]
    stated: dict[str, Any] = {}
    for section in SECTIONS:
        stated |= {key: _without_default(node) for key, node in properties[section]["properties"].items()}
    numbers = {key: _number_or(arm["properties"][key], stated[key]) for key in DECIDED_ELSEWHERE}
    asked = {
        **_without_default(properties["benchmarks"]),
        "description": "What its runs are evaluated on, of the campaign's benchmarks; all when absent.",
    }
    recipe = {**arm, "properties": {**stated, **arm["properties"], **numbers, "benchmarks": asked}}
    schema["$defs"]["recipe"] = recipe
    return schema


def _number_or(other: Mapping[str, Any], number: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a key whose value is a number, or what other runs decide; described as the latter."""
    plain = {key: value for key, value in number.items() if key != "description"}
    others = other.get("anyOf", [{key: value for key, value in other.items() if key != "description"}])
    return {"anyOf": [*others, plain], "description": other["description"]}


def _without_default(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a key's schema without defaults at any depth: what an arm leaves out is its campaign's."""
    kept = {key: copy.deepcopy(value) for key, value in node.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {key: _without_default(value) for key, value in kept["properties"].items()}
    return kept


def recipe(arm: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings that an arm states, by section.

    Parameters
    ----------
    arm
        Its entry in a campaign.
    keys
        By section: its keys, such as a model's settings.

    Returns
    -------
    dict
        ``{adapter: {…}, training: {…}}``, each with the stated keys alone.
    """
    elsewhere = decided_elsewhere(arm)
    return {
        section: {key: arm[key] for key in arm if key in keys[section] and key not in elsewhere} for section in SECTIONS
    }


def decided_elsewhere(arm: Mapping[str, Any]) -> list[str]:
    """Return the keys of training that an arm states and other runs or measurements decide (``steps: measured``)."""
    return [key for key in DECIDED_ELSEWHERE if isinstance(arm.get(key), str | Mapping)]


def trials_of(arm: Mapping[str, Any]) -> list[str]:
    """Return the arms among whose rates that of an arm is chosen; none where its settings say it."""
    return list(arm[RATE]["best_of"]) if RATE in decided_elsewhere(arm) else []


def layers_and_steps(arm: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the other keys of an arm, which choose its layers and steps, without those that change no run."""
    elsewhere = {key for stated in recipe(arm, keys).values() for key in stated} | {"models", "benchmarks", "equal"}
    return {key: value for key, value in arm.items() if key not in elsewhere}


def timed_arm(arm: Mapping[str, Any]) -> str | None:
    """Return the arm whose time an arm's steps take (``steps: {seconds_of: ARM}``); None where it names none."""
    steps = arm.get("steps")
    return steps["seconds_of"] if isinstance(steps, Mapping) else None


def stated_keys(arm: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return ``{section: keys}`` that an arm states; sections without any are left out.

    A rate and steps that other arms decide are among them, unlike ``steps: measured``.
    """
    stated = {section: [*stated] for section, stated in recipe(arm, keys).items()}
    stated["training"] += [key for key in decided_elsewhere(arm) if arm[key] != MEASURED]
    if set(LENGTHS) & set(stated["training"]) and keys["training"][EPOCHS] is not None:
        # Of steps and epochs the one that is not stated is the arm's own, too.
        stated["training"] = [*{*stated["training"], *LENGTHS}]
    return {section: sorted(names) for section, names in stated.items() if names}
