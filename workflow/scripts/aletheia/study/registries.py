"""The registries of models and of data, read and checked: a key that nothing would read is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.benchmarks import BENCHMARKS, RETENTION, STAGED
from aletheia.study.registry_entries import check_source, format_of, held_out_mistake
from aletheia.study.schema import at, check, read_validated
from aletheia.study.schema_sentences import nearest


def read_models(path: Path) -> dict[str, dict[str, Any]]:
    """Return the registry of models, defaults filled in.

    Raises
    ------
    UserError
        For an unknown key, a wrong value, or a key that the kind of source does not read.
    """
    models = read_validated(path, "models")
    for name, entry in models.items():
        kind = entry["source"]["type"]
        if entry.get("gated") and kind != "hub":
            raise UserError(
                f"{at(path, name, 'gated')}: found true beside a source of type {kind}, and only the hub asks to "
                "accept terms; take it out"
            )
    return models


def read_data(path: Path) -> dict[str, dict[str, Any]]:
    """Return the registry of training data and question sets, defaults filled in.

    Raises
    ------
    UserError
        For an unknown key, a wrong value, or a key that such a source or such rows do not read.
    """
    data = read_validated(path, "data")
    for name, entry in data.items():
        key, mistake = held_out_mistake(entry) or (None, None)
        if key:
            raise UserError(f"{at(path, name, key)}: {mistake}")
        try:
            check_source("data", name, entry)
        except UserError as error:
            # The step says it too, without the line.
            raise UserError(f"{at(path, name)}: {str(error).removeprefix(f'data {name}: ')}") from None
    return data


def expect_entry(what: str, name: str, entry: Mapping[str, Any]) -> None:
    """Check an entry that was given by hand against the schema of its registry.

    Parameters
    ----------
    what
        ``model`` or ``data``.
    name, entry
        As they would stand in the registry.

    Raises
    ------
    UserError
        As for an entry of the registry.
    """
    check({name: entry}, {"model": "models", "data": "data"}[what], "--set")


def expect_data(
    where: str,
    model: str,
    data: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Any],
    questions: Mapping[str, str],
) -> None:
    """Refuse data that a model of a campaign needs and that the registry lacks, or has in another form.

    Parameters
    ----------
    where, model
        The campaign's file and the model's name, for the sentence.
    data
        The registry.
    settings
        The model's.
    questions
        ``{benchmark: name in the registry}`` of the benchmarks that it is asked.

    Raises
    ------
    UserError
        For a name that is missing, questions in the place of training rows and the reverse, too few examples or
        passages, and training data without held-out rows.
    """
    for name in [settings["data"], *questions.values()]:
        if name not in data:
            near = nearest(name, list(data))
            raise UserError(f"{where}: {model} needs the data {name!r}, which is not in the registry{near}")
    entry = data[settings["data"]]
    _expect_format(f"{where}: data: {settings['data']}", entry, "rows")
    for benchmark, name in questions.items():
        key = BENCHMARKS[benchmark].named_by
        _expect_format(f"{where}: evaluation.{benchmark}.{key}: {name}", data[name], benchmark)
        wanted = settings["evaluation"][benchmark].get("num_fewshot", 0)
        fewshot = data[name].get("fewshot") or {"rows": 0}
        if wanted > fewshot.get("rows", 5):
            raise UserError(
                f"{where}: evaluation.{benchmark}.num_fewshot is {wanted}, and {name} has {fewshot.get('rows', 5)} "
                "few-shot examples; give it fewshot (file, rows) in the registry of data, or set num_fewshot lower (0 "
                "asks without examples)"
            )
    if RETENTION in questions:
        _expect_passages(where, settings["evaluation"][RETENTION], data)
    if not (entry.get("held_out") or entry.get("held_out_path")):
        raise UserError(
            f"{where}: {model} trains on {settings['data']!r}, which sets no rows aside for the held-out loss; give it "
            "held_out or held_out_path in the registry of data"
        )


def _expect_passages(where: str, asked: Mapping[str, Any], data: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to read more passages than the registry draws."""
    name, wanted = asked["passages"], asked["rows"]
    drawn = data[name].get("rows")
    if drawn is not None and wanted > drawn:
        raise UserError(
            f"{where}: evaluation.{RETENTION}.rows is {wanted}, and {name} has {drawn} passages (rows in the registry "
            "of data); lower it, or raise rows there"
        )


def _expect_format(where: str, entry: Mapping[str, Any], wanted: str) -> None:
    found = format_of(entry)
    if found != wanted:
        contents = {name: f"{name} {BENCHMARKS[name].named_by}" for name in STAGED}
        has, needs = (contents.get(kind, "training rows") for kind in (found, wanted))
        raise UserError(f"{where} has {has} (source.format: {found}), and this needs {needs}; name other data")
