"""Settings of adapters and training that contradict each other, in a campaign or in an arm that states its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import MakeError, entries, keys_of_arm
from aletheia.study.recipes import GROUPS, stated_keys
from aletheia.study.schema import at
from aletheia.study.schema_sentences import nearest


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
    for key, (value, effect, better) in bounds.items():
        if value >= steps and key in given:
            raise say(key, f"expected less than training.steps ({steps}), found {value}: {effect}; write {better}")
        if value >= steps:
            raise say("steps", f"found {steps}, but {key} is {value} where not given: {effect}; add {key}: {better}")
