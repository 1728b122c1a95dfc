"""Settings of a campaign that contradict each other, or that nothing reads: each would quietly do something else.

What the user wrote is held against what it would do, before defaults are filled in: a default that nothing reads is no
mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import Say, arms_of, check_share, entries, needs_probe, place_of
from aletheia.study.benchmarks import GENERATED, HELDOUT, LOSSES, QUESTIONS, either
from aletheia.study.recipes import GROUPS, stated_keys
from aletheia.study.report_contents import REPORTS
from aletheia.study.schema import at, merged
from aletheia.study.schema_sentences import nearest

# (file, most) → its rows, counted up to so many; None where it cannot be read.
CountRows = Callable[[Path, int], int | None]


def check_campaign(campaign: Mapping[str, Any]) -> None:
    """Refuse what contradicts itself in a campaign, whatever its models are.

    Parameters
    ----------
    campaign
        With defaults, its ``path`` and ``written``: what its file says.

    Raises
    ------
    UserError
        With file, line and key, and what to write instead.
    """
    path, written = Path(campaign["path"]), campaign["written"]
    share = written.get("stability", {}).get("budget_percent")
    check_share(share, lambda said: UserError(f"{at(path, 'stability', 'budget_percent')}: {said}"))
    for model in campaign["overrides"]:
        if model not in campaign["models"]:
            near = nearest(model, campaign["models"])
            raise UserError(f"{at(path, 'overrides', model)}: {model!r} is no model of the campaign{near}")
    _check_reports(campaign, path)
    _check_asked(campaign, path)


def _check_reports(campaign: Mapping[str, Any], path: Path) -> None:
    """Refuse a report that no model can feed, whose tables would be empty."""
    for number, name in enumerate(campaign["reports"]):
        report, keys = REPORTS[name], ("reports", number)
        if not any(set(report.arms) <= set(arms_of(campaign, model)) for model in campaign["models"]):
            raise UserError(
                f"{at(path, *keys)}: {name} compares the arms {' and '.join(report.arms)}, and no model has both; add "
                "them to arms, or take the report out"
            )
        asked = {benchmark for model in campaign["models"] for benchmark in benchmarks_of(campaign, model)}
        if report.asks and asked <= set(LOSSES):
            raise UserError(
                f"{at(path, *keys)}: {name} is about benchmarks with questions, and benchmarks names none; add "
                f"{either(QUESTIONS)} to it, or take the report out"
            )


def benchmarks_of(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return what a model of a campaign is evaluated on."""
    return campaign["overrides"].get(model, {}).get("benchmarks", campaign["benchmarks"])


def _check_asked(campaign: Mapping[str, Any], path: Path) -> None:
    """Refuse settings of benchmarks that nobody is asked.

    Of the campaign itself only where its file names no benchmarks at all: beside a list that leaves one out, its
    settings are kept for the day that it comes back.
    """
    written = campaign["written"]
    models = {model: set(benchmarks_of(campaign, model)) for model in campaign["models"]}
    if "benchmarks" not in written:
        _expect_asked(written.get("evaluation", {}), set.union(*models.values()), path, ["evaluation"])
    _expect_read(written.get("evaluation", {}), set.union(*models.values()), path, ["evaluation"])
    for model, own in campaign["overrides"].items():
        evaluation, keys = own.get("evaluation", {}), ["overrides", model, "evaluation"]
        _expect_asked(evaluation, models[model], path, keys)
        _expect_read(evaluation, models[model], path, keys)


def _expect_asked(evaluation: Mapping[str, Any], asked: set[str], path: Path, keys: Sequence[str]) -> None:
    for benchmark in [key for key, value in evaluation.items() if isinstance(value, dict) and key not in asked]:
        raise UserError(
            f"{at(path, *keys, benchmark)}: found settings of {benchmark}, which benchmarks does not name (there are "
            f"{', '.join(sorted(asked))}); add it there, or take them out"
        )


def _expect_read(evaluation: Mapping[str, Any], asked: set[str], path: Path, keys: Sequence[str]) -> None:
    if evaluation.get("generation", "transformers") != "transformers" and not asked & set(GENERATED):
        raise UserError(
            f"{at(path, *keys, 'generation')}: found {evaluation['generation']}, which writes the answers of "
            f"{' and '.join(GENERATED)}, and benchmarks names neither; add one, or take it out"
        )
    if evaluation.get("prompt", "registry") != "registry" and asked <= set(LOSSES):
        raise UserError(
            f"{at(path, *keys, 'prompt')}: found {evaluation['prompt']}, which words questions, and benchmarks names "
            "none that has any; take it out (encoding.prompt words the held-out rows)"
        )


def check_settings(
    campaign: Mapping[str, Any],
    model: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    count_rows: CountRows | None = None,
) -> None:
    """Refuse what contradicts itself in the settings of one model of a campaign.

    Parameters
    ----------
    campaign
        With its ``path``, the ``rehearsed`` settings that lie over it, and ``given``: what both say.
    model
        Its name.
    settings
        The model's, overrides and defaults included.
    data
        The registry's entry of its training data.
    count_rows
        Counts the rows of a held-out file of the user's own; without it a number of rows is not held against such one.

    Raises
    ------
    UserError
        With file and key, and what to write instead.
    """
    path, own = Path(campaign["path"]), campaign["overrides"].get(model, {})

    def say(*said: str) -> UserError:
        """Return the error, with the place that states the setting."""
        keys = said[:-1]
        if _has(own, keys):
            place = at(path, "overrides", model, *keys)
        elif _has(campaign["rehearsed"], keys):
            place = f"config: {'.'.join(['rehearsal', *keys])}"
        else:
            place = at(path, *keys)
        return UserError(f"{place}: {said[-1]}")

    sections = ("adapter", "training", "evaluation")
    given = {name: merged(campaign["given"].get(name, {}), own.get(name, {})) for name in sections}
    check_training(given["training"], settings["training"], lambda *said: say("training", *said))
    _check_heldout(given, settings, data, say, count_rows)
    check_ranks(given.get("adapter", {}), settings["adapter"], lambda *said: say("adapter", *said))
    probed = any(map(needs_probe, entries(campaign, model).values()))
    _check_rows(settings, data, say, probed=probed)


def check_recipe(
    campaign: Mapping[str, Any], model: str, arm: str, settings: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """Refuse what contradicts itself in an arm of a model: in what it states, or between that and its campaign's.

    Parameters
    ----------
    campaign, model, data
        As of :func:`check_settings`, which has found the campaign's own settings in order.
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
    path, place = Path(campaign["path"]), place_of(campaign, model, arm)

    def say(*said: str) -> UserError:
        """Return the error, at the arm's key where it states it, else at the arm."""
        keys, key = said[:-1], ".".join(said[:-1])
        if keys[0] in entry:
            return UserError(f"{at(path, *place, *keys)}: {said[-1]}")
        return UserError(f"{at(path, *place)}: {key}, which the campaign decides for it: {said[-1]}")

    if stated_keys(entry, settings):
        check_training(entry, settings["training"], say)
        check_ranks(entry, settings["adapter"], say)
        rows, needed = data.get("rows"), settings["training"]["batch_size"]
        if "batch_size" in entry and rows and rows < needed:
            raise say("batch_size", f"needs {needed} rows, and {settings['data']} has {rows}; lower it")


def check_ranks(given: Mapping[str, Any], adapter: Mapping[str, Any], say: Say) -> None:
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


def _has(mapping: Mapping[str, Any], keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(mapping, Mapping) or key not in mapping:
            return False
        mapping = mapping[key]
    return True


def check_training(given: Mapping[str, Any], settings: Mapping[str, Any], say: Say) -> None:
    """Refuse a schedule that is all warm-up, or that reads none, and a run without a step to time.

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
        The paper's 20 steps of warm-up are a tenth of its 200: beside fewer steps the number is the user's to say.
    """
    steps, warmup, timed = (settings[key] for key in ("steps", "warmup_steps", "timing_warmup_steps"))
    first = {"timing_warmup_steps": (timed, "no step would be left to time", min(1, steps - 1))}
    if settings["schedule"] != "constant":
        first = {"warmup_steps": (warmup, "the rate would not fall", steps // 10), **first}
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
    for key, (value, effect, better) in first.items():
        if value >= steps and key in given:
            raise say(key, f"expected less than training.steps ({steps}), found {value}: {effect}; write {better}")
        if value >= steps:
            raise say("steps", f"found {steps}, but {key} is {value} where not given: {effect}; add {key}: {better}")


def _check_heldout(
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    say: Say,
    count_rows: CountRows | None,
) -> None:
    """Refuse a given number of held-out rows that the data does not have; a default takes what is there."""
    wanted = {("training", "eval_rows"): given["training"].get("eval_rows")}
    if HELDOUT in settings["benchmarks"]:
        wanted["evaluation", HELDOUT, "rows"] = given["evaluation"].get(HELDOUT, {}).get("rows")
    for keys, rows in wanted.items():
        there = data.get("held_out")
        if rows is not None and data.get("held_out_path"):
            there = count_rows(Path(data["held_out_path"]), rows) if count_rows else None
        if rows is not None and there is not None and rows > there:
            origin = data.get("held_out_path") or "held_out in the registry of data"
            raise say(
                *keys,
                f"expected at most {there}, the held-out rows of {settings['data']} ({origin}), found {rows}; "
                "lower it, or set more rows apart",
            )


def _check_rows(settings: Mapping[str, Any], data: Mapping[str, Any], say: Say, *, probed: bool) -> None:
    """Refuse a subset of training rows that is smaller than one micro-batch, or than what the probe reads."""
    rows, probe = data.get("rows"), settings["probe"]
    needs = {("training", "batch_size"): settings["training"]["batch_size"]}
    if probed:
        needs["probe", "batches"] = probe["batches"] * probe["batch_size"]
    for keys, needed in needs.items():
        if rows and rows < needed:
            raise say(
                *keys,
                f"needs {needed} rows, and {settings['data']} has {rows} to train on (rows in the registry of data); "
                "lower it, or raise rows",
            )
