"""Read the study's configuration: closed schemas, defaults filled in, one sentence for each mistake."""

from __future__ import annotations

import copy
import functools
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aletheia.errors import UserError
from aletheia.provenance.lineage import ROOT
from aletheia.study.benchmark_settings import with_benchmarks
from aletheia.study.benchmarks import HELDOUT, HUMANEVAL
from aletheia.study.recipes import with_recipes
from aletheia.study.run_length import EPOCHS, STEPS, with_one_length
from aletheia.study.schema_sentences import sentence
from aletheia.study.selectors import with_selectors
from aletheia.study.strict_yaml import MisreadError, Position, find_position, parse

SCHEMAS = ROOT / "workflow" / "schemas"
# Files that are easily given in another's place: the keys by which each is recognised, and what to do with it.
OTHER_KINDS = {
    "campaign": ({"arms", "seeds"}, "a campaign; name it in a configuration (campaigns: [FILE])"),
    "config": ({"campaigns"}, "a study's configuration; give it to --configfile"),
}
KIND_NAMES = {
    "campaign": "a campaign",
    "config": "a study's configuration",
    "models": "a registry of models",
    "data": "a registry of data",
    "site": "a site",
    "analysis": "a plan of the analysis",
}
# The keys of the section interleaving that a script reads; which seeds are timed the study decides.
PACE = ("rounds", "steps")
# What a plan of batches reads of the section training.
PLANNED = (STEPS, EPOCHS, "batch_size", "accumulation")
# Larger files, such as weights named in a configuration's place, are not read.
MAX_FILE_BYTES = 1_000_000


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """Return ``workflow/schemas/NAME.schema.yaml``, with what follows from benchmarks, selectors and sections."""
    read = yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))
    return with_recipes(name, with_selectors(name, with_benchmarks(name, read)))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the settings of a YAML file (:mod:`aletheia.study.strict_yaml` says what is refused).

    Raises
    ------
    UserError
        When the file is missing, empty, no text, no YAML or no mapping; the sentence names the line where it can.
    """
    text = _read_text(path)
    try:
        content = parse(text)
    except MisreadError as error:
        line = f", line {error.line}" if error.line else ""
        raise UserError(f"{path}{line}: {error.sentence}") from None
    if not isinstance(content, dict):
        kind = "an empty file" if content is None else {list: "a list"}.get(type(content), f"{content!r:.60}")
        raise UserError(f"{path}: expected a mapping of settings, found {kind}")
    return content


def _read_text(path: Path) -> str:
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
        if stat.S_ISDIR(mode):
            raise UserError(f"{path}: expected a configuration file, found a folder; name a file in it")
        if not stat.S_ISREG(mode) or size > MAX_FILE_BYTES:
            kind = f"one of {size / 1e6:,.0f} MB" if stat.S_ISREG(mode) else "a device or a pipe"
            raise UserError(f"{path}: expected a configuration file, found {kind}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: expected a configuration file here and found none") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a configuration file, found bytes that are no UTF-8") from None
    except (OSError, ValueError) as error:
        # A path with a NUL character raises a ValueError.
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: expected a configuration file that can be read ({reason})") from None


def _resolve(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one ``$ref`` inside the same schema; keys beside it win."""
    if "$ref" not in node:
        return node
    target: Any = root
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return {**target, **{k: v for k, v in node.items() if k != "$ref"}}


def with_defaults(value: Any, node: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return ``value`` with every default of its schema filled in, at any depth; epochs replace default steps."""
    node = _resolve(node, root)
    if not isinstance(value, dict) or "oneOf" in node:
        return value
    filled = dict(value)
    for key, child in node.get("properties", {}).items():
        resolved = _resolve(child, root)
        if key not in filled and "default" in resolved:
            filled[key] = copy.deepcopy(resolved["default"])
        if key in filled:
            filled[key] = with_defaults(filled[key], child, root)
    others = node.get("additionalProperties")
    if isinstance(others, dict):
        known = node.get("properties", {})
        filled |= {k: with_defaults(v, others, root) for k, v in filled.items() if k not in known}
    return with_one_length(value, filled)


def section_defaults(section: str) -> dict[str, Any]:
    """Return the defaults of a section that a script reads.

    Parameters
    ----------
    section
        A section of a campaign (``training``, ``probe``, …), ``arm`` (all layers), ``model`` (a registry's entry
        without its source), ``run`` (its name), ``humaneval``, ``precision`` or ``figures``.
    """
    campaign = schema("campaign")
    pace = with_defaults({}, campaign["properties"]["interleaving"], campaign)
    if section in campaign["properties"] and section != "interleaving":
        filled = with_defaults({}, campaign["properties"][section], campaign)
        # By hand only the benchmark that needs no questions.
        return {"benchmarks": [HELDOUT], **filled} if section == "evaluation" else filled
    defaults = {
        "arm": lambda: with_defaults({"layers": "all"}, *section_schema("arm")),
        "model": lambda: with_defaults({}, *section_schema("model")),
        "run": lambda: {"model": None, "arm": "custom"},
        "batches": lambda: {k: section_defaults("training")[k] for k in PLANNED},
        HUMANEVAL: lambda: section_defaults("evaluation")[HUMANEVAL],
        "interleaving": lambda: {k: value for k, value in pace.items() if k in PACE},
        "precision": lambda: {k: section_defaults("training")[k] for k in ("batch_size", "accumulation")},
        "figures": lambda: with_defaults({}, *section_schema("figures")),
    }
    return defaults[section]()


def section_schema(section: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the schema of a section (empty where it has none), and the whole schema that its references point into."""
    campaign, config, models = schema("campaign"), schema("config"), schema("models")
    known = campaign["properties"]
    training, evaluation = known["training"]["properties"], known["evaluation"]
    places = {
        "arm": (campaign["$defs"]["arm"], campaign),
        # Without its source, which the lock names.
        "model": ({**models["additionalProperties"], "required": []}, models),
        "batches": (_closed_object({key: training[key] for key in PLANNED}), campaign),
        "precision": (_closed_object({key: training[key] for key in ("batch_size", "accumulation")}), campaign),
        "interleaving": (_closed_object({key: known["interleaving"]["properties"][key] for key in PACE}), campaign),
        # A campaign has its list of benchmarks elsewhere; by hand it stands here.
        "evaluation": (_closed_object({"benchmarks": known["benchmarks"], **evaluation["properties"]}), campaign),
        HUMANEVAL: (evaluation["properties"][HUMANEVAL], campaign),
        "figures": (config["properties"]["figures"], config),
    }
    return places.get(section) or (known.get(section, {}), campaign)


def _closed_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def section_keys(path: Sequence[str]) -> list[str]:
    """Return the keys that the schemas know at a place.

    Parameters
    ----------
    path
        A section that a script reads, and the keys below it: ``("training", "optimizer")``.
    """
    node, root = section_schema(path[0])
    for key in path[1:]:
        node = _resolve(node, root).get("properties", {}).get(key, {})
    # A value may be one number or a mapping, as ranks are.
    choices = [_resolve(node, root), *_resolve(node, root).get("anyOf", [])]
    return list(dict.fromkeys(key for choice in choices for key in choice.get("properties", {})))


def check(value: Any, schema_name: str, where: str | Path, *, partly: bool = False) -> None:
    """Validate ``value`` against a schema.

    Parameters
    ----------
    value
        Parsed configuration.
    schema_name
        ``config``, ``campaign``, ``models``, ``data``, ``site`` or ``analysis``.
    where
        The file that it was read from, whose line the sentence then names, or words.
    partly
        Whether required keys of the top level may be missing.

    Raises
    ------
    UserError
        With the key, what was expected, what came and what to write; for an unknown key also the nearest right one.
    """
    root = {**schema(schema_name), "required": []} if partly else schema(schema_name)
    for kind, (keys, advice) in OTHER_KINDS.items():
        if kind != schema_name and isinstance(value, dict) and keys <= set(value):
            raise UserError(f"{where}: expected {KIND_NAMES[schema_name]}, found {advice}")
    if schema_name == "config" and isinstance(value, dict):
        of_campaign = set(value) & (set(schema("campaign")["properties"]) - set(root["properties"]))
        if of_campaign:
            key = min(of_campaign)
            raise UserError(f"{where}: {key!r} is a key of campaigns; write it into the campaign's own file")
    validate(value, root, where)


def validate(value: Any, root: Mapping[str, Any], where: str | Path) -> None:
    """Validate ``value`` against a schema that is given as data; otherwise like :func:`check`."""
    errors = list(_validator()(root).iter_errors(value))
    if errors:
        position, message = sentence(errors, lambda keys: _position(where, keys))
        raise UserError(f"{where}{f', line {position.line}' if position else ''}: {message}")


@functools.cache
def _validator() -> Any:
    """Return jsonschema's validator, changed so that 200.0 is no integer, as it is none in Python."""
    from jsonschema import Draft202012Validator, validators

    plain = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return validators.extend(Draft202012Validator, type_checker=plain)


def _position(where: str | Path, keys: Sequence[str | int]) -> Position | None:
    """Return the position of a value in its file; None where no file is known, or it cannot be read a second time."""
    if not (isinstance(where, Path) and where.is_file()):
        return None
    return find_position(_read_text(where), keys)


def at(path: Path, *keys: str | int) -> str:
    """Return the place of a setting, for error messages: file, line, and the keys that lead to it."""
    position = _position(path, keys)
    return f"{path}{f', line {position.line}' if position else ''}: {'.'.join(map(str, keys))}"


def trees(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the folders of a study's two trees, ``results`` and ``resources``, named by Snakemake's path variables.

    Parameters
    ----------
    config
        The merged configuration, checked or not.

    Raises
    ------
    UserError
        For an unknown path variable, or a folder that is not spelled in its shortest way or overlaps with another.
    """
    places = config.get("pathvars", {})
    check({"pathvars": places}, "config", "config", partly=True)
    found = {name: places.get(name, name) for name in schema("config")["properties"]["pathvars"]["properties"]}
    for name, folder in found.items():
        plain = os.path.normpath(folder)
        if folder != plain:
            expected = f"expected a folder in its shortest spelling, {plain}"
            raise UserError(f"config: pathvars.{name}: {expected}, found {folder!r}; write it so")
        if Path.cwd().is_relative_to(os.path.abspath(folder)):
            raise UserError(
                f"config: pathvars.{name}: expected a folder of its own, found {folder!r}, which holds the project"
            )
    results, resources = (Path(os.path.abspath(folder)) for folder in found.values())
    if results.is_relative_to(resources) or resources.is_relative_to(results):
        raise UserError(
            "config: pathvars: expected two folders, neither within the other, found results in "
            f"{found['results']} and resources in {found['resources']}; name others"
        )
    return found["results"], found["resources"]


def read_validated(path: Path, schema_name: str) -> dict[str, Any]:
    """Return a YAML file, validated against its schema, with defaults filled in."""
    content = read_yaml(path)
    check(content, schema_name, path)
    root = schema(schema_name)
    return with_defaults(content, root, root)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` on top; mappings merge, all else replaces, and a run's steps replace its epochs."""
    result = dict(base)
    for key, value in over.items():
        mappings = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if mappings else copy.deepcopy(value)
    return with_one_length(over, result)
