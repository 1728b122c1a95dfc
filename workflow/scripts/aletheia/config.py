"""Read the study's configuration: closed schemas, defaults filled in, one sentence for each mistake."""

from __future__ import annotations

import copy
import difflib
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from aletheia.errors import UserError
from aletheia.lineage import ROOT

SCHEMAS = ROOT / "workflow" / "schemas"


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """Return the schema ``workflow/schemas/NAME.schema.yaml``."""
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises
    ------
    UserError
        When the file is missing, empty, no text or no YAML; the sentence names the line where it can.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: expected a configuration file here and found none") from None
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}: expected YAML, found {error.problem}{line}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected a configuration file, found bytes that are no UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: expected a configuration file that can be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:
        # A control character, or a date that no calendar has.
        raise UserError(f"{path}: expected YAML, found {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of settings, found {type(content).__name__}")
    return content


def _resolve(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one ``$ref`` inside the same schema; keys beside it win."""
    if "$ref" not in node:
        return node
    target: Any = root
    for key in node["$ref"].removeprefix("#/").split("/"):
        target = target[key]
    return {**target, **{k: v for k, v in node.items() if k != "$ref"}}


def with_defaults(value: Any, node: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return ``value`` with every default of its schema filled in, at any depth."""
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
    return filled


def section_defaults(section: str) -> dict[str, Any]:
    """Return the defaults of a section that a script reads.

    Parameters
    ----------
    section
        A section of a campaign (``training``, ``probe``, …), ``arm`` (all layers), ``model`` (a registry's entry
        without its source), ``run`` (its name), ``humaneval``, ``precision`` or ``figures``.
    """
    campaign = schema("campaign")
    if section in campaign["properties"]:
        filled = with_defaults({}, campaign["properties"][section], campaign)
        # Which benchmarks is the campaign's to say; by hand the one that needs no questions.
        return {"benchmarks": ["heldout"], **filled} if section == "evaluation" else filled
    defaults = {
        "arm": lambda: with_defaults({"layers": "all"}, *_section_schema("arm")),
        "model": lambda: with_defaults({}, *_section_schema("model")),
        "run": lambda: {"model": None, "arm": "custom"},
        "batches": lambda: {k: section_defaults("training")[k] for k in ("steps", "batch_size", "accumulation")},
        "humaneval": lambda: section_defaults("evaluation")["humaneval"],
        "precision": lambda: {k: section_defaults("training")[k] for k in ("batch_size", "accumulation")},
        "figures": lambda: with_defaults({}, *_section_schema("figures")),
    }
    return defaults[section]()


def _section_schema(section: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the schema of a section, and the whole that its references are of; empty where a section has none."""
    campaign, config, models = schema("campaign"), schema("config"), schema("models")
    places = {
        "arm": (campaign["$defs"]["arm"], campaign),
        "model": (models["additionalProperties"], models),
        "humaneval": (campaign["properties"]["evaluation"]["properties"]["humaneval"], campaign),
        "figures": (config["properties"]["figures"], config),
    }
    return places.get(section) or (campaign["properties"].get(section, {}), campaign)


def section_keys(path: Sequence[str]) -> list[str]:
    """Return the keys that the schemas know at a place.

    Parameters
    ----------
    path
        A section that a script reads, and the keys below it: ``("training", "optimizer")``.
    """
    node, root = _section_schema(path[0])
    for key in path[1:]:
        node = _resolve(node, root).get("properties", {}).get(key, {})
    # A value may be one number or a mapping, as ranks are.
    choices = [_resolve(node, root), *_resolve(node, root).get("anyOf", [])]
    return list(dict.fromkeys(key for choice in choices for key in choice.get("properties", {})))


def check(value: Any, schema_name: str, where: str, *, partly: bool = False) -> None:
    """Validate ``value`` against a schema.

    Parameters
    ----------
    value
        Parsed configuration.
    schema_name
        ``config``, ``campaign``, ``models`` or ``data``.
    where
        The file, for the sentence.
    partly
        Whether required keys of the top level may be missing.

    Raises
    ------
    UserError
        With the key, what was expected and what came; for an unknown key also the nearest right one.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    root = {**schema(schema_name), "required": []} if partly else schema(schema_name)
    errors = list(Draft202012Validator(root).iter_errors(value))
    if errors:
        # An unknown key explains more than the required key that is missed because of it.
        unknown = [e for e in errors if e.validator == "additionalProperties"]
        raise UserError(f"{where}: {_sentence(best_match(unknown or errors))}")


def _sentence(error: Any) -> str:
    path = ".".join(map(str, error.absolute_path))
    at = f"{path}: " if path else ""
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                return f"{at}unknown key {key!r}{nearest(key, known)}"
    if error.validator == "propertyNames":
        return f"{at}bad name: {error.message}"
    if error.validator in ("anyOf", "oneOf") and error.context:
        choices = "; or ".join(dict.fromkeys(_expected(e) for e in error.context if not e.path))
        return f"{at}expected {choices or error.schema.get('description', 'another value')}, found {error.instance!r}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"{at}expected the key {missing[0]!r}, which is missing"
    return f"{at}expected {_expected(error)}, found {error.instance!r}"


def _expected(error: Any) -> str:
    value = error.validator_value
    words = {
        "type": "a value of type {}",
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "enum": "one of {}",
        "const": "{}",
        "pattern": "a name like {}",
        "minItems": "at least {} entry",
        "minProperties": "at least {} entry",
        "uniqueItems": "entries without repetition",
        "required": "the keys {}",
        "additionalProperties": "no other keys",
    }
    shown = " or ".join(map(str, value)) if error.validator == "type" and isinstance(value, list) else value
    if error.validator in ("enum", "required"):
        shown = ", ".join("null" if v is None else str(v) for v in value)
    return words.get(error.validator, error.message).format(shown)


def nearest(key: str, known: list[str]) -> str:
    """Return "; did you mean …?" with the closest known word, or the list of the known words."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""


def trees(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return where a study keeps its two trees, ``results`` and ``resources``, as Snakemake's path variables name them.

    Parameters
    ----------
    config
        The merged configuration, checked or not.

    Raises
    ------
    UserError
        For another path variable, or a folder that is spelled so that the paths below it have two names.
    """
    places = config.get("pathvars", {})
    check({"pathvars": places}, "config", "config", partly=True)
    found = {name: places.get(name, name) for name in schema("config")["properties"]["pathvars"]["properties"]}
    for name, folder in found.items():
        plain = os.path.normpath(folder)
        if folder != plain:
            expected = f"expected a folder in its shortest spelling, {plain}"
            raise UserError(f"config: pathvars.{name}: {expected}, found {folder!r}; write it so")
    return found["results"], found["resources"]


def load_checked(path: Path, schema_name: str) -> dict[str, Any]:
    """Return a YAML file, validated against its schema, with defaults filled in."""
    content = read_yaml(path)
    check(content, schema_name, str(path))
    root = schema(schema_name)
    return with_defaults(content, root, root)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` on top; mappings merge, all else replaces."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result
