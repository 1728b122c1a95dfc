"""The search of a campaign: every run that it could ever ask for, declared with whole settings.

A search (:mod:`aletheia.search`) decides as it goes which of these trials are asked for. They are runs like any other,
but for three things: the study does not plan them, so that its targets, its ledger and its lists of files are without
them; those that are not std's in the paper's shape take as many steps as take the seconds of std's, by a measurement of
their recipe in turns with std; and only those that confirm are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.search.section import EXTRAS, read_space
from aletheia.search.space import STD, Space
from aletheia.search.trials import CONFIRM, FLOOR, FULL, PUSH, SHORT, Trial, declared
from aletheia.study.arms import MakeError, check_arm
from aletheia.study.benchmarks import HELDOUT, RETENTION, TEST
from aletheia.study.entered_runs import enter_plan, recipe_sections
from aletheia.study.recipe_checks import adapted_layers, check_ranks, check_training
from aletheia.study.recipes import layers_and_steps
from aletheia.study.run_length import EPOCHS, STEPS
from aletheia.study.schema import at, schema, validate, with_defaults
from aletheia.study.search_names import timed_name
from aletheia.study.study import Run, Study

CONFIRMING = (CONFIRM, SHORT)
COST_AWARE = "cost_aware"


@dataclass(frozen=True)
class Search:
    """The search of a model.

    Attributes
    ----------
    campaign, model
        The names of its campaign and of the model.
    section
        The campaign's section ``search``, with defaults.
    settings
        The campaign's sections ``adapter`` and ``training`` for the model.
    space
        What the section declares.
    trials
        Every run that it can ask for.
    timed
        Recipes but std, whose measurements in turns with std say what their steps take: one at the search's seed, and
        for the confirmation another one, by which nothing was chosen.
    """

    campaign: str
    model: str
    section: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    space: Space
    trials: list[Trial]
    timed: tuple[str, ...]

    def of_rung(self, rung: str) -> list[Trial]:
        """Return the trials of a rung."""
        return [trial for trial in self.trials if trial.rung == rung]

    def timed_as(self, trial: Trial) -> tuple[str, int] | None:
        """Return arm and seed of the measurement in turns that says how many steps a trial has; None for std's own."""
        if trial.recipe not in self.timed:
            return None
        again = trial.rung in CONFIRMING
        seed = self.space.confirm_seeds[0] if again else self.space.search_seed
        return timed_name(trial.recipe, again=again), seed

    def standard(self, study: Study) -> Run:
        """Return the run of std in the paper's shape, at the paper's rate."""
        first = self.of_rung(FLOOR)[0]
        return study.trials[self.model, first.arm_name, first.seed]

    def judged(self, rung: str) -> list[str]:
        """Return the benchmarks that the runs of a rung are evaluated on."""
        bounded = [RETENTION] if self.space.retention_bound is not None else []
        return {CONFIRM: [HELDOUT, *bounded], SHORT: [HELDOUT], FULL: bounded, PUSH: bounded}.get(rung, [])


def legal_keys() -> list[str]:
    """Return the keys that an arm may state."""
    return list(schema("campaign")["$defs"]["recipe"]["properties"])


def enter_search(study: Study, campaign: Mapping[str, Any], model: str, settings: Mapping[str, Any]) -> None:
    """Enter the search of a model and its trials, which are no runs of the study.

    Parameters
    ----------
    study
        Gains ``searches`` and ``trials``, and the plans of batches that these read.
    campaign
        With its ``path`` and its section ``search``.
    settings
        The model's sections in this campaign.

    Raises
    ------
    UserError
        With file, line and key, for a search that could not run or would decide nothing.
    """
    say = _error_below(Path(campaign["path"]))
    if model in study.searches:
        other = study.searches[model].campaign
        raise say(f"{model} is searched in campaign {other} too; a model has one search, so take one out")
    section = campaign["search"]
    _check_open_keys(section, say)
    _check_judges(section, settings, study.data[settings["data"]], say)
    of_model = {name: settings[name] for name in ("adapter", "training")}
    space = read_space(section, settings=of_model, legal_keys=legal_keys(), say=say)
    trials = declared(space)
    timed = tuple(dict.fromkeys(trial.recipe for trial in trials if trial.recipe != STD))
    search = Search(campaign["name"], model, section, of_model, space, trials, timed)
    study.searches[model] = search
    arms: dict[str, Run] = {}
    for trial in trials:
        if trial.arm_name not in arms:
            arms[trial.arm_name] = _run_of(trial, search, settings)
            _check_recipe(trial, arms[trial.arm_name], study.models[model].get("layers"), say)
        run = replace(arms[trial.arm_name], seed=trial.seed)
        _enter_trial(study, campaign, run, search.judged(trial.rung), settings["training"])
        if run.timed_as and (model, *run.timed_as) not in study.trials:
            arm, seed = run.timed_as
            _enter_trial(study, campaign, replace(run, arm=arm, seed=seed), [], settings["training"])


def _error_below(path: Path) -> MakeError:
    """Return what makes the errors of a search: ``say(*keys, sentence)``, with the keys below ``search``."""

    def say(*keys_and_sentence: str | int) -> UserError:
        *keys, sentence = keys_and_sentence
        return UserError(f"{at(path, 'search', *keys)}: {sentence}")

    return say


def _check_open_keys(section: Mapping[str, Any], say: MakeError) -> None:
    """Refuse keys and values of recipes and extras, which the schema leaves open, that no arm could have."""
    if len(section["budget"]) > 1:
        raise say("budget", "found runs beside seconds; take one of both out")
    definitions = schema("campaign")["$defs"]
    known = {**definitions["recipe"]["properties"], EXTRAS: {"type": "boolean"}}
    closed = {"type": "object", "properties": known, "additionalProperties": False, "$defs": definitions}
    stated = {("recipes", name): recipe for name, recipe in section["recipes"].items()}
    for place, keys in {("std", "extras"): section["std"]["extras"], **stated}.items():
        validate(keys, closed, str(say(*place, "")).removesuffix(": "))
        if EPOCHS in keys:
            raise say(*place, EPOCHS, "all recipes get equal seconds, counted in steps; take it out")
        if keys.get("layers") == COST_AWARE:
            raise say(*place, "layers", f"found {COST_AWARE}, whose layers follow from step costs; choose another")


def _check_judges(
    section: Mapping[str, Any], settings: Mapping[str, Any], data: Mapping[str, Any], say: MakeError
) -> None:
    """Refuse a search whose winner would be judged by rows that chose it, or bounded by what is not measured."""
    if HELDOUT not in settings["benchmarks"] or settings["evaluation"][HELDOUT]["split"] != TEST:
        raise say(
            f"chooses by the held-out rows, so that other rows must confirm; write benchmarks: [{HELDOUT}] and "
            f"evaluation: {{{HELDOUT}: {{split: {TEST}}}}}"
        )
    if section["retention_bound"] is not None and RETENTION not in settings["benchmarks"]:
        raise say(
            "retention_bound",
            f"found {section['retention_bound']}, and the campaign does not measure it; add {RETENTION} to benchmarks",
        )


def _run_of(trial: Trial, search: Search, settings: Mapping[str, Any]) -> Run:
    """Return a trial's run: as an arm, with the steps of std or as many as take the same seconds."""
    root = schema("campaign")
    arm = with_defaults(dict(trial.arm_settings), root["$defs"]["recipe"], root)
    timed_as = search.timed_as(trial)
    steps = {"steps": {"seconds_of": STD}} if timed_as else {}
    sections = {**settings, **recipe_sections(arm, settings)}
    sections["training"] = {**sections["training"], STEPS: trial.std_steps, EPOCHS: None}
    run = Run(search.model, trial.arm_name, trial.seed, layers_and_steps({**arm, **steps}, settings), sections)
    run.timed_as = timed_as
    return run


def _check_recipe(trial: Trial, run: Run, depth: int | None, say: MakeError) -> None:
    """Refuse settings of a recipe that contradict each other, or its model."""

    def of_recipe(*keys_and_sentence: str) -> UserError:
        *keys, sentence = keys_and_sentence
        return say("recipes", f"{trial.recipe} ({trial.rung})", *keys, sentence)

    given = {key: value for key, value in trial.arm_settings.items() if key != "learning_rate"}
    check_arm(trial.arm_name, given, of_recipe)
    check_training(given, run.settings["training"], of_recipe)
    check_ranks(given, run.settings["adapter"], of_recipe)
    layers, active = run.arm_settings["layers"], run.settings["training"]["layers_active"]
    if depth and isinstance(layers, list) and max(layers) >= depth:
        raise of_recipe("layers", f"found layer {max(layers)}, and {run.model} has 0 to {depth - 1}; name others")
    adapted = adapted_layers(run.arm_settings, depth)
    if active and adapted is not None and active["count"] >= adapted:
        raise of_recipe("layers_active", f"expected fewer than the {adapted} layers that it adapts; lower count")


def _enter_trial(
    study: Study, campaign: Mapping[str, Any], run: Run, judged: list[str], common: Mapping[str, Any]
) -> None:
    key = (run.model, run.arm, run.seed)
    if key in study.runs:
        place = at(Path(campaign["path"]), "search")
        raise UserError(f"{place}: one of its trials is named {run.arm}, as an arm of the study; rename that arm")
    study.trials.setdefault(key, run)
    study.asked[run.model, run.arm] = judged
    enter_plan(study, campaign, run, common)
