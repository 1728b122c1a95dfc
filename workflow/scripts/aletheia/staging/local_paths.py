"""The user's own files that registry entries name: which they are, and one sentence where one is not there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.staging.repository_files import TEXT_FILE
from aletheia.staging.table_files import located_rows
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.registry_entries import check_source, format_of

# The keys that decide a staged folder; a lock with other values was made from another entry.
DECISIVE_KEYS = ("source", "rows", "held_out", "held_out_path", "test", "fewshot", "seed")


def named_paths(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths on this machine that an entry names, as it writes them, by key ("source.path")."""
    source, paths = entry.get("source") or {}, {}
    if source.get("type") == "local" and "path" in source:
        paths["source.path"] = str(source["path"])
    if entry.get("held_out_path"):
        paths["held_out_path"] = str(entry["held_out_path"])
    if source.get("type") == "local" and entry.get("fewshot"):
        paths["fewshot.file"] = str(entry["fewshot"]["file"])
    if source.get("type") == "random" and source.get("tokenizer", "bytes") != "bytes":
        paths["source.tokenizer"] = str(source["tokenizer"])
    return paths


def local_inputs(entry: Mapping[str, Any]) -> list[Path]:
    """Return the user's own files that an entry reads."""
    files = []
    for key, written in named_paths(entry).items():
        # Weights that lie beside a tokenizer are not read.
        path, text_alone = Path(written), key == "source.tokenizer"
        files += [f for f in _files(path) if not text_alone or f == path or TEXT_FILE.fullmatch(f.name)]
    return files


def _files(path: Path) -> list[Path]:
    """Return the files of a folder; a file, or what is not there, as it is."""
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]


def count_rows(path: Path, most: int) -> int | None:
    """Return the number of rows of a table file, counted up to ``most``; None where it cannot be read."""
    try:
        return sum(1 for _ in itertools.islice(located_rows(path), most))
    except UserError:
        return None


def check_paths(what: str, name: str, entry: Mapping[str, Any]) -> None:
    """Refuse an entry that names a path which is not there, or a folder for a file.

    Parameters
    ----------
    what
        ``model`` or ``data``.
    name, entry
        The registry's key and value.

    Raises
    ------
    UserError
        With the entry, the key and the path.
    """
    folder = what == "model"
    wanted = "a folder" if folder else "a file"
    for key, written in named_paths(entry).items():
        where, path = f"{what} {name}: {key}", Path(written)
        if not _exists(path, where):
            raise UserError(f"{where}: expected {wanted} at {written} and found none; {_hint(written)}")
        if folder and not path.is_dir():
            raise UserError(f"{where}: expected a folder (weights, configuration, tokenizer), found the file {path}")
        if path.is_dir() and not folder and not _by_subject(entry):
            raise UserError(f"{where}: expected a file, found the folder {path}; name a file in it")


def _by_subject(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry's files may be one a subject, in a folder."""
    benchmark = BENCHMARKS.get((entry.get("source") or {}).get("format"))
    return benchmark is not None and benchmark.by_subject


def _exists(path: Path, where: str) -> bool:
    """Tell whether a path leads anywhere; refuse one that this user may not read."""
    try:
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{where}: expected a path that can be read, found {path} ({error.strerror})") from None
    if exists and not os.access(path, os.R_OK):
        raise UserError(f"{where}: expected the right to read {path} and was refused; give it to this user")
    return exists


def _hint(path: str) -> str:
    if path.startswith("~") or "$" in path:
        return "paths are taken as they stand, so write it whole, without ~ and variables"
    if ":/" in path:
        return "nothing is downloaded from there, so fetch it first (or name a repository of the hub: type: hub)"
    return f"check the path in the registry (it is looked for from {Path.cwd()})"


def check_registries(study: Any, resources: Path) -> None:
    """Refuse entries that a study uses and cannot: a path that is not there, rows in the place of questions.

    Snakemake's own message for a missing file names the rule and not the registry. A staged folder can be used after
    its source has gone, as long as the entry is unchanged.

    Parameters
    ----------
    study
        An ``aletheia.study.Study`` (not imported: staging imports this module, and would follow every
        change there).
    resources
        The folder that has, or will have, ``models/`` and ``data/``.

    Raises
    ------
    UserError
        For the first such entry.
    """
    used = [("model", name, study.models[name], resources / "models") for name in study.used_models()]
    used += [("data", name, study.data[name], resources / "data") for name in study.used_data()]
    for what, name, entry, folder in used:
        check_source(what, name, entry)
        try:
            check_paths(what, name, entry)
        except UserError:
            if not _staged_from(folder / f"{name}.lock.json", what, entry):
                raise
    for settings in study.shared.values():
        wanted = {"rows": settings["data"], **study.question_sets(settings["benchmarks"], settings)}
        for kind, name in wanted.items():
            found = format_of(study.data[name])
            if found != kind:
                role = "as training data" if kind == "rows" else f"for the benchmark {kind}"
                raise UserError(f"data {name}: expected source.format {kind} {role}, found {found}; name another entry")


def _staged_from(lock: Path, what: str, entry: Mapping[str, Any]) -> bool:
    """Tell whether a lock was made from what an entry says now."""
    try:
        staged = artifacts.read(lock, f"{what}_lock")["lineage"]["config"].get(what) or {}
    except UserError:
        return False
    # Staged by hand, an entry may lack its defaults.
    return all((staged.get(key) or None) == (entry.get(key) or None) for key in DECISIVE_KEYS)
