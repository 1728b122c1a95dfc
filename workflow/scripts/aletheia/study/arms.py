"""Arms of a campaign: which rule trains each, which models have it, and which of its settings contradict each other.

What an arm may state beside its layers is :mod:`aletheia.study.recipes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.length_checks import check_one_length
from aletheia.study.recipes import EQUAL_IN_ALL_ARMS, MEASURED, decided_elsewhere, timed_arm, trials_of
from aletheia.study.run_length import EPOCHS, LENGTHS, STEPS, epochs_needed, lengthened, steps_of
from aletheia.study.schema import at
from aletheia.study.schema_sentences import nearest
from aletheia.study.selectors import LAYER, NOTHING, SELECTORS, reads

STD = "std"
ALE = "ale"
# The values of `layers` that read a key of an arm; beside any other the key would change nothing.
READERS = {
    key: tuple(name for name, selector in SELECTORS.items() if key in selector.keys)
    for key in dict.fromkeys(key for selector in SELECTORS.values() for key in selector.keys)
}
MORE_STEPS_KEYS = ("steps", "epochs", "extra_steps_percent")
PERCENT_KEYS = ("budget_percent", "time_percent", "extra_steps_percent")
SHAPE = ("batch_size", "accumulation")  # of an optimiser step


@dataclass(frozen=True)
class NamedArm:
    """The meaning of one of the study's own arm names, on which every table relies.

    Attributes
    ----------
    words
        What the arm is, for error messages.
    all_layers
        Whether it adapts all layers.
    longer
        Whether it takes more steps than the matched number.
    """

    words: str
    all_layers: bool
    longer: bool


NAMED_ARMS = {
    STD: NamedArm("the standard arm, which all others are held against", all_layers=True, longer=False),
    ALE: NamedArm("the arm of selected layers at the matched number of steps", all_layers=False, longer=False),
    "cm": NamedArm("the compute-matched arm of selected layers", all_layers=False, longer=True),
}
# say(*keys, sentence) returns the error about a mistake; the keys lead to its place.
MakeError = Callable[..., UserError]
# A plan of batches is this many times as long as the matched number of steps: room for an arm with measured steps, and
# for longer arms that a campaign gains later, which can then read the plan that finished runs have read. (More matched
# steps, or an arm longer than this, need a longer plan, and every arm that reads it runs again.)
PLAN_LENGTH_FACTOR = 3


def rule_of(arm: Mapping[str, Any]) -> str:
    """Return the rule that trains an arm: ``train_std`` (all layers), ``train_cm`` (more steps), else ``train_ale``."""
    if "steps" in decided_elsewhere(arm) or arm.get("extra_steps_percent"):
        return "train_cm"
    return "train_std" if arm["layers"] == "all" else "train_ale"


def needs_probe(arm: Mapping[str, Any]) -> bool:
    """Tell whether an arm's layers follow from a probe, of gradients, activations, weights, or steps of training."""
    return reads(arm) != NOTHING


def entries(campaign: Mapping[str, Any], model: str) -> dict[str, dict[str, Any]]:
    """Return the arms that a model of a campaign has, by name.

    These are the campaign's arms that name the model or no models at all; an arm in the model's overrides replaces the
    campaign's of that name, or follows them.
    """
    overriding = campaign["overrides"].get(model, {}).get("arms", {})
    common = {arm: entry for arm, entry in campaign["arms"].items() if model in entry.get("models", campaign["models"])}
    return {**common, **overriding}


def arms_of(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return the names of the arms that a model of a campaign has."""
    return list(entries(campaign, model))


def keys_of_arm(campaign: Mapping[str, Any], model: str, arm: str) -> tuple[str, ...]:
    """Return the keys that lead to an arm of a model in its campaign's file."""
    overridden = arm in campaign["overrides"].get(model, {}).get("arms", {})
    return ("overrides", model, "arms", arm) if overridden else ("arms", arm)


def arms_with(
    key: str, campaigns: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], str, str, dict[str, Any], MakeError]]:
    """Yield campaign, model, name, entry, and what makes the errors, of each arm that states a key."""
    for campaign in campaigns:
        for model in campaign["models"]:
            for arm, entry in entries(campaign, model).items():
                if key in entry:
                    say = _error_below(Path(campaign["path"]), keys_of_arm(campaign, model, arm))
                    yield campaign, model, arm, entry, say


def check_arms(campaign: Mapping[str, Any]) -> None:
    """Check a campaign's arms: each by itself, against its name, and against the campaign's models.

    Parameters
    ----------
    campaign
        With its ``path``, ``models``, ``arms``, ``overrides``, and ``written``: what its file says.

    Raises
    ------
    UserError
        When an arm contradicts itself or its name, or names a model that the campaign lacks; when a model has no arm;
        when an arm with measured steps lacks the two arms whose times decide them.
    """
    path = Path(campaign["path"])
    written = [(("arms", arm), entry) for arm, entry in campaign["written"]["arms"].items()]
    for model, override in campaign["written"].get("overrides", {}).items():
        written += [(("overrides", model, "arms", arm), entry) for arm, entry in override.get("arms", {}).items()]
    for place, entry in written:
        check_arm(place[-1], entry, _error_below(path, place))
        for number, model in enumerate(entry.get("models", [])):
            _check_model(campaign, place, number, model)
    for place, entry in written:
        _check_benchmarks(campaign, place, entry)
    for number, model in enumerate(campaign["models"]):
        if not entries(campaign, model):
            raise UserError(
                f"{at(path, 'models', number)}: no arm has the model {model!r}; name it in one, or take it out"
            )
        _check_measured_steps(campaign, model)


def _error_below(path: Path, place: tuple[str, ...]) -> MakeError:
    """Return what makes the errors of one arm: ``say(*keys, sentence)``, with the keys below ``place``."""

    def say(*keys_and_sentence: str) -> UserError:
        *keys, sentence = keys_and_sentence
        return UserError(f"{at(path, *place, *keys)}: {sentence}")

    return say


def _check_model(campaign: Mapping[str, Any], place: tuple[str, ...], number: int, model: str) -> None:
    """Refuse a model that an arm names and its campaign lacks, and any model in an arm of a model's overrides."""
    key = at(Path(campaign["path"]), *place, "models", number)
    if place[0] == "overrides":
        raise UserError(f"{key}: found {model!r}, but this arm is of {place[1]} alone; take models out")
    if model not in campaign["models"]:
        raise UserError(f"{key}: {model!r} is no model of the campaign{nearest(model, campaign['models'])}")


def _check_benchmarks(campaign: Mapping[str, Any], place: tuple[str, ...], entry: Mapping[str, Any]) -> None:
    """Refuse a benchmark of an arm that the campaign does not ask: its base model would have no score."""
    models = [place[1]] if place[0] == "overrides" else entry.get("models", campaign["models"])
    for number, benchmark in enumerate(entry.get("benchmarks", [])):
        for model in models:
            asked = campaign["overrides"].get(model, {}).get("benchmarks", campaign["benchmarks"])
            if benchmark not in asked:
                raise UserError(
                    f"{at(Path(campaign['path']), *place, 'benchmarks', number)}: found {benchmark}, which {model} is "
                    f"not asked ({', '.join(asked)}); add it to the campaign's benchmarks, or take it out here"
                )


def _check_measured_steps(campaign: Mapping[str, Any], model: str) -> None:
    """Refuse measured steps without the two arms whose times decide them, or in another shape than ale's."""
    arms = entries(campaign, model)
    for arm in [arm for arm, entry in arms.items() if entry.get("steps") == MEASURED]:
        place = at(Path(campaign["path"]), *keys_of_arm(campaign, model, arm), "steps")
        if not {STD, ALE} <= set(arms):
            raise UserError(f"{place}: measured needs the arms std and ale for {model} too")
        for key in SHAPE:
            if arms[arm].get(key) != arms[ALE].get(key):
                raise UserError(
                    f"{place}: measured buys steps at the time of ale's, and this arm has another {key}; make "
                    "it equal in both, or state a number of steps"
                )


def check_arm(arm: str, given: Mapping[str, Any], say: MakeError) -> None:
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
    if "draw" in given and "draws" in given:
        raise say("draws", f"found {given['draws']} beside draw: {given['draw']}; take one of both out")
    if layers == "cost_aware" and "time_percent" not in given:
        raise say("expected time_percent beside layers: cost_aware, found none; add it, such as time_percent: 75")
    for key in PERCENT_KEYS:
        check_percentage(given.get(key), lambda sentence, key=key: say(key, sentence))
    for key in [key for key in EQUAL_IN_ALL_ARMS if key in given]:
        raise say(key, f"found {given[key]!r} in an arm, but all arms are measured alike; state it in training")
    check_one_length(given, say)
    for key in [key for key in LENGTHS if key in given and "extra_steps_percent" in given]:
        effect = ", which buys the steps" if given[key] == MEASURED else ""
        raise say("extra_steps_percent", f"found one beside {key}: {given[key]}{effect}; take one of both out")
    if given.get("steps") == MEASURED and layers == "all":
        raise say(
            "steps",
            "found measured beside layers: all, but the time of arm std buys an arm of all layers the steps of std; "
            "take it out, or select layers",
        )
    if arm in NAMED_ARMS:
        _check_name(arm, given, say)


def _check_name(arm: str, given: Mapping[str, Any], say: MakeError) -> None:
    meaning, other = NAMED_ARMS[arm], "or give the arm another name"
    if (given["layers"] == "all") != meaning.all_layers:
        expected = "all" if meaning.all_layers else "a selection of layers, such as gradient"
        raise say(
            "layers", f"expected {expected}, found {given['layers']!r}: {arm} is {meaning.words}; write it, {other}"
        )
    if not meaning.longer:
        for key in [key for key in MORE_STEPS_KEYS if given.get(key)]:
            raise say(key, f"expected none, found {given[key]!r}: {arm} is {meaning.words}; take it out, {other}")
    elif rule_of(given) != "train_cm":
        raise say(
            "expected extra_steps_percent or steps: measured, found neither: "
            f"{arm} is {meaning.words}; add one, {other}"
        )


def check_percentage(value: float | None, say: Callable[[str], UserError]) -> None:
    """Refuse a percentage between 0 and 1: one half is 50."""
    if value is not None and 0 < value < 1:
        raise say(f"expected a percentage of at least 1, found {value}; write {100 * value:g} (one half is 50)")


def check_arms_of(
    campaign: Mapping[str, Any],
    model: str,
    settings: Mapping[str, Mapping[str, Any]],
    depth: int | None,
    *,
    rows: int | None = None,
) -> None:
    """Check the arms of one model against its depth, its steps and each other.

    Parameters
    ----------
    campaign
        With its ``path``, ``arms`` and ``overrides``, defaults filled in, and what is ``rehearsed``.
    model
        Its name.
    settings
        By arm: the sections of its runs.
    depth
        Its number of layers, where the registry says it.
    rows
        Training rows, from which the steps of epochs follow; None where nobody knows.

    Raises
    ------
    UserError
        When an arm names a layer that the model lacks, has extra steps that add none, or equals another arm.
    """
    path = Path(campaign["path"])
    seen: list[tuple[str, dict[str, Any]]] = []
    for arm, entry in entries(campaign, model).items():
        place = keys_of_arm(campaign, model, arm)
        layers, percent = entry["layers"], entry.get("extra_steps_percent")
        steps = steps_of(settings[arm]["training"], rows)
        if depth and isinstance(layers, list) and max(layers) >= depth:
            raise UserError(
                f"{at(path, *place, 'layers')}: found layer {max(layers)}, and the registry says that {model} has "
                f"{depth} (0 to {depth - 1}); name others"
            )
        if steps is not None:
            check_extra_steps(percent, steps, model, _error_below(path, place))
        effect = _deciding_settings(entry, settings[arm])
        twin = next((other for other, settled in seen if settled == effect), None)
        # A rehearsal may make equal what sets two arms apart.
        if twin and not campaign["rehearsed"]:
            raise UserError(
                f"{at(path, *place)}: for {model} it has the settings of arm {twin}, so it would be the same run "
                "twice; take one out, or change it"
            )
        seen.append((arm, effect))


def check_extra_steps(percent: float | None, steps: int, model: str, say: MakeError) -> None:
    """Refuse ``extra_steps_percent`` that adds no step to those of a model."""
    if percent and lengthened(steps, percent) == steps:
        raise say(
            "extra_steps_percent",
            f"found {percent}, which adds no step to the {steps} of {model}; write {100 / steps:.3g} or more",
        )


def _deciding_settings(arm: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that decide a run of an arm, spelled so that equal ones compare equal."""
    layers, adapter = arm["layers"], settings["adapter"]
    # Whole layers are what is chosen where `unit` is not stated, too.
    given = {key: value for key, value in arm.items() if (key, value) != ("unit", LAYER)}
    read = {key: given[key] for key, readers in READERS.items() if key in given and layers in readers}
    ranks = {key: _by_kind(adapter[key]) for key in ("rank", "alpha")}
    modules = sorted(adapter["modules"]) if isinstance(adapter["modules"], list) else adapter["modules"]
    return {
        **read,
        "layers": sorted(layers) if isinstance(layers, list) else layers,
        "trials": sorted(trials_of(arm)),
        "timed": timed_arm(arm),
        "longer": MEASURED if arm.get("steps") == MEASURED else arm.get("extra_steps_percent") or 0,
        "adapter": {**adapter, **ranks, "modules": modules},
        "training": settings["training"],
    }


def _by_kind(rank: int | Mapping[str, int]) -> dict[str, int]:
    return dict(rank) if isinstance(rank, Mapping) else {"attention": rank, "mlp": rank}


def plan_needs(base: Mapping[str, Any], training: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, float]:
    """Return how many steps, and epochs, a plan of batches in the campaign's shape needs for an arm.

    Parameters
    ----------
    base
        The campaign's section ``training`` for the model.
    training
        The arm's section of that name.
    arm
        Its entry in a campaign.

    Returns
    -------
    dict
        ``steps``, ``epochs`` or both; whichever makes the longer plan decides, and that follows from the rows.
    """
    percent = arm.get("extra_steps_percent")
    needs = {key: PLAN_LENGTH_FACTOR * base[key] for key in LENGTHS if base[key] is not None}
    if training[EPOCHS] is not None:
        key, needed = EPOCHS, epochs_needed(training[EPOCHS], percent)
    else:
        rows = lengthened(training[STEPS], percent) * math.prod(training[key] for key in SHAPE)
        key, needed = STEPS, math.ceil(rows / math.prod(base[key] for key in SHAPE))
    return {**needs, key: max(needs.get(key, 0), needed)}
