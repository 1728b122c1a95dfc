"""Settings of a campaign that contradict each other, or that nothing reads: each would silently do something else.

Only what the user wrote is checked, before defaults are filled in: a default that nothing reads is no mistake.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.arms import STD, MakeError, arms_of, check_percentage, entries, needs_probe
from aletheia.study.benchmarks import GENERATED, HELDOUT, LOSSES, QUESTION_BENCHMARKS, TEST, either
from aletheia.study.length_checks import check_one_length
from aletheia.study.planned_runs import TURNS
from aletheia.study.recipe_checks import check_enough_rows, check_ranks, check_training
from aletheia.study.report_contents import REPORTS
from aletheia.study.schema import at, merge
from aletheia.study.schema_sentences import nearest

# (file, most) → number of its rows, counted up to `most`; None where it cannot be read.
CountRows = Callable[[Path, int], int | None]
# (name, entry of the registry of data) → number of its training rows; None where it is not staged.
StagedRows = Callable[[str, Mapping[str, Any]], int | None]


def check_campaign(campaign: Mapping[str, Any]) -> None:
    """Refuse settings of a campaign that contradict each other, whatever its models are.

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
    check_percentage(share, lambda sentence: UserError(f"{at(path, 'stability', 'budget_percent')}: {sentence}"))
    for model in campaign["overrides"]:
        if model not in campaign["models"]:
            near = nearest(model, campaign["models"])
            raise UserError(f"{at(path, 'overrides', model)}: {model!r} is no model of the campaign{near}")
    _check_lengths(campaign, path)
    _check_reports(campaign, path)
    _check_speed(campaign, path)
    _check_benchmark_settings(campaign, path)


def _check_lengths(campaign: Mapping[str, Any], path: Path) -> None:
    """Refuse steps beside epochs in the campaign's training, a model's, or a rehearsal's."""

    def say(place: str, *keys_and_sentence: str) -> UserError:
        *keys, sentence = keys_and_sentence
        return UserError(f"{'.'.join([place, *keys])}: {sentence}")

    written = campaign["written"]
    check_one_length(written.get("training", {}), functools.partial(say, at(path, "training")))
    for model, override in written.get("overrides", {}).items():
        place = at(path, "overrides", model, "training")
        check_one_length(override.get("training", {}), functools.partial(say, place))
    rehearsed = campaign["rehearsed"].get("training", {})
    check_one_length(rehearsed, functools.partial(say, "config: rehearsal.training"))


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
                f"{either(QUESTION_BENCHMARKS)} to it, or take the report out"
            )


def _check_speed(campaign: Mapping[str, Any], path: Path) -> None:
    """Refuse `speed: turns` where no model has the standard arm and another, and for more seeds than there are."""
    arms = [arms_of(campaign, model) for model in campaign["models"]]
    if campaign["speed"] == TURNS and not any(STD in names and len(names) > 1 for names in arms):
        raise UserError(
            f"{at(path, 'speed')}: turns times each arm beside {STD}, and no model has {STD} and another "
            "arm; add them to arms, or take it out"
        )
    timed, seeds = campaign["interleaving"]["seeds"], len(campaign["seeds"])
    where = at(path, "interleaving", "seeds")
    if timed is not None and campaign["speed"] != TURNS:
        raise UserError(
            f"{where}: found {timed} without speed: turns; `snakemake paired` takes all seeds; take it out, or write "
            "speed: turns"
        )
    if timed is not None and timed > seeds:
        raise UserError(f"{where}: expected at most {seeds}, the campaign's seeds, found {timed}; lower it")


def benchmarks_of(campaign: Mapping[str, Any], model: str) -> list[str]:
    """Return the benchmarks that a model of a campaign is evaluated on."""
    return campaign["overrides"].get(model, {}).get("benchmarks", campaign["benchmarks"])


def _check_benchmark_settings(campaign: Mapping[str, Any], path: Path) -> None:
    """Refuse settings of benchmarks that no model is asked.

    In the campaign's own section only where its file has no list of benchmarks: the settings of one that a list leaves
    out may stay there until it is asked again.
    """
    written = campaign["written"]
    models = {model: set(benchmarks_of(campaign, model)) for model in campaign["models"]}
    if "benchmarks" not in written:
        _refuse_unasked(written.get("evaluation", {}), set.union(*models.values()), path, ["evaluation"])
    _refuse_unread(written.get("evaluation", {}), set.union(*models.values()), path, ["evaluation"])
    for model, override in campaign["overrides"].items():
        evaluation, keys = override.get("evaluation", {}), ["overrides", model, "evaluation"]
        _refuse_unasked(evaluation, models[model], path, keys)
        _refuse_unread(evaluation, models[model], path, keys)


def _refuse_unasked(evaluation: Mapping[str, Any], asked: set[str], path: Path, keys: Sequence[str]) -> None:
    for benchmark in [key for key, value in evaluation.items() if isinstance(value, dict) and key not in asked]:
        raise UserError(
            f"{at(path, *keys, benchmark)}: found settings of {benchmark}, which benchmarks does not name (there are "
            f"{', '.join(sorted(asked))}); add it there, or take them out"
        )


def _refuse_unread(evaluation: Mapping[str, Any], asked: set[str], path: Path, keys: Sequence[str]) -> None:
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
    *,
    rows: int | None = None,
) -> None:
    """Refuse settings of one model of a campaign that contradict each other.

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
        Counts the rows of a held-out file of the user's own; when None, a number of rows is not checked against it.
    rows
        Training rows, from which the steps of epochs follow; None where nobody knows.

    Raises
    ------
    UserError
        With file and key, and what to write instead.
    """
    path, override = Path(campaign["path"]), campaign["overrides"].get(model, {})

    def say(*keys_and_sentence: str) -> UserError:
        """Return the error, with the place that states the setting."""
        *keys, sentence = keys_and_sentence
        if _has(override, keys):
            place = at(path, "overrides", model, *keys)
        elif _has(campaign["rehearsed"], keys):
            place = f"config: {'.'.join(['rehearsal', *keys])}"
        else:
            place = at(path, *keys)
        return UserError(f"{place}: {sentence}")

    sections = ("adapter", "training", "evaluation")
    given = {name: merge(campaign["given"].get(name, {}), override.get(name, {})) for name in sections}
    check_training(given["training"], settings["training"], functools.partial(say, "training"), rows=rows)
    _check_heldout(given, settings, data, say, count_rows)
    check_ranks(given.get("adapter", {}), settings["adapter"], functools.partial(say, "adapter"))
    probed = any(map(needs_probe, entries(campaign, model).values()))
    _check_rows(settings, data, say, probed=probed, given=given["training"])


def _has(mapping: Mapping[str, Any], keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(mapping, Mapping) or key not in mapping:
            return False
        mapping = mapping[key]
    return True


def _check_heldout(
    given: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    say: MakeError,
    count_rows: CountRows | None,
) -> None:
    """Refuse a given number of held-out or test rows that the data does not have; a default takes what there is."""
    wanted = {("training", "eval_rows"): given["training"].get("eval_rows")}
    if HELDOUT in settings["benchmarks"]:
        rows = given["evaluation"].get(HELDOUT, {}).get("rows")
        if settings["evaluation"][HELDOUT]["split"] == TEST:
            _check_test_rows(rows, settings["data"], data.get("test"), say)
        else:
            wanted["evaluation", HELDOUT, "rows"] = rows
    for keys, rows in wanted.items():
        available = data.get("held_out")
        if rows is not None and data.get("held_out_path"):
            available = count_rows(Path(data["held_out_path"]), rows) if count_rows else None
        if rows is not None and available is not None and rows > available:
            origin = data.get("held_out_path") or "held_out in the registry of data"
            raise say(
                *keys,
                f"expected at most {available}, the held-out rows of {settings['data']} ({origin}), found {rows}; "
                "lower it, or set more rows apart",
            )


def _check_test_rows(rows: int | None, name: str, available: int | None, say: MakeError) -> None:
    """Refuse test rows of data that sets none apart, and more of them than it does."""
    if not available:
        raise say(
            *("evaluation", HELDOUT, "split"),
            f"found {TEST}, and {name} has no test rows; give it test in the registry of data, or write heldout",
        )
    if rows is not None and rows > available:
        raise say(
            *("evaluation", HELDOUT, "rows"),
            f"expected at most {available}, the test rows of {name} (test in the registry of data), found {rows}; "
            "lower it, or set more rows apart",
        )


def _check_rows(
    settings: Mapping[str, Any], data: Mapping[str, Any], say: MakeError, *, probed: bool, given: Mapping[str, Any]
) -> None:
    """Refuse a subset of training rows that is smaller than one optimiser step, or than what the probe reads."""
    rows, probe = data.get("rows"), settings["probe"]
    training = functools.partial(say, "training")
    check_enough_rows(settings["training"], rows, settings["data"], training, given=given)
    needed = probe["batches"] * probe["batch_size"]
    if probed and rows and rows < needed:
        raise say(
            *("probe", "batches"),
            f"needs {needed} rows, and {settings['data']} has {rows} to train on (rows in the registry of data); "
            "lower it, or raise rows",
        )
