"""Arms of a campaign: which rule trains each, which models have it, and which of its settings contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.schema import at
from aletheia.study.schema_sentences import nearest

BASELINE = "std"
MATCHED = "ale"
# Values of `layers` that choose by the probe's scores; the others are controls, which need none and pay for none.
BY_SCORE = ("gradient", "bottom")
# Which values of `layers` read a key of an arm; beside another value it would change nothing.
READERS = {
    "budget_percent": (*BY_SCORE, "first", "last", "random"),
    "score": BY_SCORE,
    "draw": ("random",),
}
LONGER = ("steps", "extra_steps_percent")
SHARES = ("budget_percent", "extra_steps_percent")


@dataclass(frozen=True)
class Meaning:
    """What the name of one of the study's own arms promises in every table."""

    words: str
    all_layers: bool
    longer: bool


NAMED = {
    BASELINE: Meaning("the standard arm, which all others are held against", all_layers=True, longer=False),
    MATCHED: Meaning("the arm of selected layers at the matched number of steps", all_layers=False, longer=False),
    "cm": Meaning("the compute-matched arm of selected layers", all_layers=False, longer=True),
}
# Makes the error of a mistake: say(*keys, sentence), with the keys that lead to it.
Say = Callable[..., UserError]
# A plan has so many times the matched number of steps: room for an arm that buys its steps by measured times, and for
# longer arms that a campaign gains later, which then draw nothing anew that finished ones have read. (Matched steps
# that grow, or an arm of more than this, do draw a longer plan, and every arm that reads it runs again.)
ROOM = 3


def rule_of(arm: Mapping[str, Any]) -> str:
    """Return which rule trains an arm: ``train_std`` (all layers), ``train_cm`` (bought steps), else ``train_ale``."""
    if arm.get("steps") or arm.get("extra_steps_percent"):
        return "train_cm"
    return "train_std" if arm["layers"] == "all" else "train_ale"


def needs_probe(arm: Mapping[str, Any]) -> bool:
    """Tell whether an arm's layers follow from the probe's scores."""
    return arm["layers"] in BY_SCORE


def arms_of(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return the arms that a model of a campaign has: those that name it, and those that name no models."""
    return [arm for arm, entry in campaign["arms"].items() if model in entry.get("models", campaign["models"])]


def meaning(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a run of an arm: all but which models have it."""
    return {key: value for key, value in arm.items() if key != "models"}


def check_arms(campaign: Mapping[str, Any]) -> None:
    """Hold a campaign's arms against themselves, their names and the campaign's models.

    Parameters
    ----------
    campaign
        With its ``path``, ``models``, ``arms``, and ``written``: what its file says.

    Raises
    ------
    UserError
        When an arm contradicts itself or its name, or names a model that the campaign has not; when a model has no arm;
        when an arm of measured steps lacks the two arms that decide them.
    """
    path = Path(campaign["path"])
    for arm, entry in campaign["written"]["arms"].items():
        check_arm(arm, entry, lambda *said, arm=arm: UserError(f"{at(path, 'arms', arm, *said[:-1])}: {said[-1]}"))
    for arm, entry in campaign["arms"].items():
        for number, model in enumerate(entry.get("models", [])):
            if model not in campaign["models"]:
                near = nearest(model, campaign["models"])
                raise UserError(
                    f"{at(path, 'arms', arm, 'models', number)}: {model!r} is no model of the campaign{near}"
                )
        for model in entry.get("models", campaign["models"]):
            if entry.get("steps") and not {BASELINE, MATCHED} <= set(arms_of(campaign, model)):
                raise UserError(
                    f"{at(path, 'arms', arm, 'steps')}: measured needs the arms std and ale for {model} too"
                )
    for number, model in enumerate(campaign["models"]):
        if not arms_of(campaign, model):
            raise UserError(
                f"{at(path, 'models', number)}: no arm has the model {model!r}; name it in one, or take it out"
            )


def check_arm(arm: str, given: Mapping[str, Any], say: Say) -> None:
    """Refuse the keys of one arm that contradict each other, or its name.

    Parameters
    ----------
    arm, given
        Its name, and its entry as the user wrote it.
    say
        Makes the error: ``say(*keys, sentence)``, with the keys below the arm.

    Raises
    ------
    UserError
        With the key, and what to write instead.
    """
    layers = given["layers"]
    shown = "a list" if isinstance(layers, list) else layers
    for key in [key for key in READERS if key in given and layers not in READERS[key]]:
        raise say(
            key,
            f"found {given[key]!r} beside layers: {shown}, which does not read it (only {', '.join(READERS[key])} do); "
            "take it out, or choose one of these",
        )
    for key in SHARES:
        check_share(given.get(key), lambda sentence, key=key: say(key, sentence))
    if "steps" in given and "extra_steps_percent" in given:
        raise say("extra_steps_percent", "found one beside steps: measured, which buys the steps; take one of both out")
    if "steps" in given and layers == "all":
        raise say(
            "steps",
            "found measured beside layers: all, but the time of arm std buys an arm of all layers the steps of std; "
            "take it out, or select layers",
        )
    if arm in NAMED:
        _check_name(arm, given, say)


def _check_name(arm: str, given: Mapping[str, Any], say: Say) -> None:
    meaning, other = NAMED[arm], "or give the arm another name"
    if (given["layers"] == "all") != meaning.all_layers:
        expected = "all" if meaning.all_layers else "a selection of layers, such as gradient"
        raise say(
            "layers", f"expected {expected}, found {given['layers']!r}: {arm} is {meaning.words}; write it, {other}"
        )
    if not meaning.longer:
        for key in [key for key in LONGER if given.get(key)]:
            raise say(key, f"expected none, found {given[key]!r}: {arm} is {meaning.words}; take it out, {other}")
    elif rule_of(given) != "train_cm":
        raise say(
            "expected extra_steps_percent or steps: measured, found neither: "
            f"{arm} is {meaning.words}; add one, {other}"
        )


def check_share(value: float | None, say: Callable[[str], UserError]) -> None:
    """Refuse a percentage between 0 and 1: one half is 50."""
    if value is not None and 0 < value < 1:
        raise say(f"expected a percentage of at least 1, found {value}; write {100 * value:g} (one half is 50)")


def check_arms_of(campaign: Mapping[str, Any], model: str, settings: Mapping[str, Any], depth: int | None) -> None:
    """Hold the arms of one model against its depth and steps, and against each other.

    Parameters
    ----------
    campaign
        With its ``path`` and ``arms``, defaults filled in.
    model, settings
        Its name and settings.
    depth
        Its number of layers, where the registry says it.

    Raises
    ------
    UserError
        When an arm names a layer that the model has not, has more steps that are none, or is another arm once more.
    """
    path, steps = Path(campaign["path"]), settings["training"]["steps"]
    seen: list[tuple[str, dict[str, Any]]] = []
    for arm in arms_of(campaign, model):
        entry = campaign["arms"][arm]
        layers, percent = entry["layers"], entry.get("extra_steps_percent")
        if depth and isinstance(layers, list) and max(layers) >= depth:
            raise UserError(
                f"{at(path, 'arms', arm, 'layers')}: found layer {max(layers)}, and the registry says that {model} has "
                f"{depth} (0 to {depth - 1}); name others"
            )
        if percent and round(steps * (1 + percent / 100)) == steps:
            raise UserError(
                f"{at(path, 'arms', arm, 'extra_steps_percent')}: found {percent}, which adds no step to the {steps} "
                f"of {model}; write {100 / steps:.3g} or more"
            )
        effect = _effect(entry, settings["adapter"])
        twin = next((other for other, there in seen if there == effect), None)
        if twin:
            raise UserError(
                f"{at(path, 'arms', arm)}: for {model} it has the settings of arm {twin}, so it would be the same run "
                "twice; take one out, or change it"
            )
        seen.append((arm, effect))


def _effect(arm: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an arm that decide its run, each in one spelling."""
    layers = arm["layers"]
    read = {k: v for k, v in arm.items() if k != "models" and layers in READERS.get(k, (layers,))}
    ranks = {key: _by_kind(arm.get(key, adapter[key])) for key in ("rank", "alpha")}
    longer = {"extra_steps_percent": arm.get("extra_steps_percent") or 0}
    return {**read, **ranks, **longer, "layers": sorted(layers) if isinstance(layers, list) else layers}


def _by_kind(rank: int | Mapping[str, int]) -> dict[str, int]:
    return dict(rank) if isinstance(rank, Mapping) else {"attention": rank, "mlp": rank}


def steps_of_plan(steps: int, arm: Mapping[str, Any]) -> int:
    """Return how many steps a plan needs for an arm.

    Parameters
    ----------
    steps
        The matched number.
    arm
        Its entry in a campaign.
    """
    return max(ROOM * steps, round(steps * (1 + arm.get("extra_steps_percent", 0) / 100)))
