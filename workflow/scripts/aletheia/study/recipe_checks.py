"""Settings of adapters and training that contradict each other, in a campaign or in an arm that states its own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import SHAPE, MakeError, entries, keys_of_arm
from aletheia.study.length_checks import check_steps
from aletheia.study.recipes import GROUPS, stated_keys
from aletheia.study.run_length import steps_of
from aletheia.study.schema import at
from aletheia.study.schema_sentences import nearest
from aletheia.study.selectors import SELECTORS


def check_recipe(
    campaign: Mapping[str, Any],
    model: str,
    arm: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    rows: int | None = None,
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
    rows
        Training rows, from which the steps of epochs follow; None where nobody knows.

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
        check_training(entry, settings["training"], say, rows=rows)
        check_ranks(entry, settings["adapter"], say)
        if set(SHAPE) & set(entry):
            check_enough_rows(settings["training"], data.get("rows"), settings["data"], say, given=entry)


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


def check_training(
    given: Mapping[str, Any], settings: Mapping[str, Any], say: MakeError, *, rows: int | None = None
) -> None:
    """Refuse a warm-up that no schedule reads, and what contradicts the number of steps where that is known.

    Parameters
    ----------
    given
        The keys of ``training`` that the user wrote.
    settings
        The whole section.
    say
        Makes the error: ``say(*keys, sentence)``, with the keys below ``training``.
    rows
        Training rows, from which the steps of epochs follow; None where nobody knows.

    Raises
    ------
    UserError
        With the key, and what to write instead.
    """
    warmup = settings["warmup_steps"]
    if settings["schedule"] == "constant" and given.get("warmup_steps"):
        raise say(
            "warmup_steps",
            f"found {warmup} beside schedule: constant, which has no warm-up; take it out, or write "
            "schedule: constant_with_warmup",
        )
    if given.get("warmup_from") and (settings["schedule"] == "constant" or not warmup):
        beside = "schedule: constant" if settings["schedule"] == "constant" else "warmup_steps: 0"
        raise say("warmup_from", f"found {given['warmup_from']} beside {beside}: no warm-up; take one of both out")
    steps = steps_of(settings, rows)
    if steps is not None:
        check_steps(given, settings, steps, say)


def check_enough_rows(
    settings: Mapping[str, Any], rows: int | None, data: str, say: MakeError, *, given: Collection[str] = ()
) -> None:
    """Refuse a subset of training rows that is smaller than one optimiser step.

    Parameters
    ----------
    settings
        A section ``training``.
    rows, data
        Size of the subset by the registry, None where it draws none; and the name of its entry.
    say
        Makes the error: ``say(*keys, sentence)``, with the keys below ``training``.
    given
        The keys of ``training`` that the user wrote, of which the sentence then names one.

    Raises
    ------
    UserError
        With the key, and what to write instead.
    """
    size = math.prod(settings[key] for key in SHAPE)
    if rows and rows < size:
        key = next((key for key in SHAPE if key in given), SHAPE[0])
        raise say(
            key,
            f"an optimiser step of {settings['batch_size']} × {settings['accumulation']} rows needs {size}, and {data} "
            f"has {rows} to train on (rows in the registry of data); lower it, or raise rows",
        )
