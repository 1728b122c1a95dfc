"""Settings of adapters and training that contradict each other, in a campaign or in an arm that states its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import MakeError, entries, keys_of_arm
from aletheia.study.recipes import GROUPS, stated_keys
from aletheia.study.schema import at
from aletheia.study.schema_sentences import nearest
from aletheia.study.selectors import SELECTORS


def check_recipe(
    campaign: Mapping[str, Any], model: str, arm: str, settings: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """Refuse settings of an arm of a model that contradict each other, or its campaign's.

    Parameters
    ----------
    campaign, model, data
        As of :func:`aletheia.study.contradictions.check_settings`, which has checked the campaign's own settings.
    arm
        The arm's name.
    settings
        The sections of its runs.

    Raises
    ------
    UserError
        With file and key, and what to write instead.
    """
    entry = entries(campaign, model)[arm]
    path, place = Path(campaign["path"]), keys_of_arm(campaign, model, arm)

    def say(*keys_and_sentence: str) -> UserError:
        """Return the error, at the arm's key where it states it, else at the arm."""
        *keys, sentence = keys_and_sentence
        if keys[0] in entry:
            return UserError(f"{at(path, *place, *keys)}: {sentence}")
        return UserError(f"{at(path, *place)}: {'.'.join(keys)}, which the campaign decides for it: {sentence}")

    if stated_keys(entry, settings):
        check_training(entry, settings["training"], say)
        check_ranks(entry, settings["adapter"], say)
        rows, needed = data.get("rows"), settings["training"]["batch_size"]
        if "batch_size" in entry and rows and rows < needed:
            raise say("batch_size", f"needs {needed} rows, and {settings['data']} has {rows}; lower it")


def check_active_layers(
    campaign: Mapping[str, Any], model: str, arm: str, settings: Mapping[str, Any], depth: int | None
) -> None:
    """Refuse layers that take turns in training where all adapted layers would be active.

    Parameters
    ----------
    campaign, model, arm, settings
        As of :func:`check_recipe`.
    depth
        The model's number of layers, where the registry says it; elsewhere training itself refuses this.

    Raises
    ------
    UserError
        With file and arm, and what to write instead.
    """
    entry, active = entries(campaign, model)[arm], settings["training"]["layers_active"]
    adapted = adapted_layers(entry, depth)
    if active and adapted is not None and active["count"] >= adapted:
        place = at(Path(campaign["path"]), *keys_of_arm(campaign, model, arm))
        raise UserError(
            f"{place}: training.layers_active.count: expected less than {adapted}, the layers that this arm adapts of "
            f"{model}, found {active['count']}: all would train all the time; lower it, or give the arm layers_active: "
            "null"
        )


def adapted_layers(arm: Mapping[str, Any], depth: int | None) -> int | None:
    """Return how many layers an arm adapts; None where that follows from the model or a measurement."""
    layers = arm["layers"]
    if isinstance(layers, list):
        return len(set(layers))
    if depth is None or layers == "all":
        return depth
    known = layers in SELECTORS and "budget_percent" in SELECTORS[layers].keys and "budget_percent" in arm
    return max(1, math.floor(depth * arm["budget_percent"] / 100)) if known else None


def check_ranks(given: Mapping[str, Any], adapter: Mapping[str, Any], say: MakeError) -> None:
    """Refuse ranks by kind of module that leave out a group, or that speak of modules which carry no adapters.

    Whether a model has modules of a kind is seen where adapters are placed.

    Parameters
    ----------
    given
        What the user wrote, keys of ``adapter`` among it.
    adapter
        The whole section.
    say
        Makes the error: ``say(*keys, sentence)``.

    Raises
    ------
    UserError
        With the key, and what to write instead.
    """
    modules = adapter["modules"]
    adapted = [modules] if isinstance(modules, str) else modules
    for key in [key for key in ("rank", "alpha") if isinstance(given.get(key), Mapping)]:
        stated = given[key]
        for kind in stated:
            near = nearest(kind, GROUPS)
            if kind not in GROUPS and "mean" in near:
                raise say(key, kind, f"expected attention, mlp or a module's name{near}")
            if kind not in GROUPS and not set(adapted) & {"all", *GROUPS, kind}:
                raise say(key, kind, f"found {stated[kind]} for modules that `modules` leaves out; take it out")
        whole = GROUPS if modules == "all" else [group for group in GROUPS if group in adapted]
        missing = [group for group in whole if group not in adapter[key]]
        if missing and set(adapter[key]) <= set(GROUPS):
            raise say(key, f"expected the key {missing[0]!r} too, or one number for all modules; add it")


def check_training(given: Mapping[str, Any], settings: Mapping[str, Any], say: MakeError) -> None:
    """Refuse a schedule that is all warm-up, a warm-up that no schedule reads, and a run without a step to time.

    Parameters
    ----------
    given
        The keys of ``training`` that the user wrote.
    settings
        The whole section.
    say
        Makes the error: ``say(*keys, sentence)``, with the keys below ``training``.

    Raises
    ------
    UserError
        With the key, and what to write instead. (The default of 20 warm-up steps is a tenth of the paper's 200 steps;
        with fewer, the user has to state it.)
    """
    steps, warmup, timed = (settings[key] for key in ("steps", "warmup_steps", "timing_warmup_steps"))
    bounds = {"timing_warmup_steps": (timed, "no step would be left to time", min(1, steps - 1))}
    if settings["schedule"] != "constant":
        bounds = {"warmup_steps": (warmup, "the rate would not fall", steps // 10), **bounds}
    elif given.get("warmup_steps"):
        raise say(
            "warmup_steps",
            f"found {warmup} beside schedule: constant, which has no warm-up; take it out, or write "
            "schedule: constant_with_warmup",
        )
    if given.get("warmup_from") and (settings["schedule"] == "constant" or not warmup):
        beside = "schedule: constant" if settings["schedule"] == "constant" else "warmup_steps: 0"
        raise say("warmup_from", f"found {given['warmup_from']} beside {beside}: no warm-up; take one of both out")
    if (settings["curve_every"] or 0) >= steps:
        raise say(
            "curve_every",
            f"expected less than training.steps ({steps}), found {settings['curve_every']}: no loss would be taken on "
            f"the way; write {max(1, steps // 10)}",
        )
    active = settings["layers_active"]
    if active and active["every"] >= steps:
        raise say(
            "layers_active",
            f"expected every to be less than training.steps ({steps}), found {active['every']}: the first layers drawn "
            f"would train alone; write {max(1, steps // 10)}",
        )
    for key, (value, effect, better) in bounds.items():
        if value >= steps and key in given:
            raise say(key, f"expected less than training.steps ({steps}), found {value}: {effect}; write {better}")
        if value >= steps:
            raise say("steps", f"found {steps}, but {key} is {value} where not given: {effect}; add {key}: {better}")
