"""Staged files: the folder beside each lock, checked against it, and its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts

LOCK = ".lock.json"


def folder_of(lock_path: artifacts.Source) -> Path:
    """Return the folder that a lock file describes: its own path without ``.lock.json``."""
    lock_path = Path(lock_path)
    return lock_path.with_name(lock_path.name.removesuffix(LOCK))


def checked_folder(lock_path: artifacts.Source, kind: str | None = None) -> Path:
    """Return the folder of a lock, after checking that each of its files is the one that was staged.

    A file whose size and modification time are those seen at staging is taken as unchanged; any other is
    hashed.

    Parameters
    ----------
    lock_path
        The lock: its path, or the artifact as it was read.
    kind
        ``model_lock`` or ``data_lock``; any when None.

    Raises
    ------
    UserError
        When it is another kind of lock, or a file is missing, was changed, or was added since staging.
    """
    envelope = artifacts.read(lock_path, kind)
    folder, files = folder_of(lock_path), envelope["payload"]["files"]
    seen = envelope["observed"].get("stat", {})
    remedy = f"restage it (delete {lock_path} and run the stage step)"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: expected a staged file here and found none; {remedy}")
        stat = path.stat()
        if seen.get(name) == [stat.st_size, stat.st_mtime_ns]:
            continue
        found = artifacts.sha256_file(path)
        if found != expected["sha256"]:
            raise UserError(
                f"{path}: changed since it was staged (expected sha256 {expected['sha256']}, found {found}); {remedy}"
            )
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and not path.name.startswith("."):
            raise UserError(f"{path}: not among the files that were staged; remove it, or {remedy}")
    return folder


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """Return the rows of a staged JSONL file (:mod:`aletheia.staging.training_rows` reads what users bring).

    Raises
    ------
    UserError
        When the data set has no such rows.
    """
    try:
        with Path(path).open(encoding="utf-8") as handle:
            return [json.loads(line) for line in handle]
    except FileNotFoundError:
        raise UserError(
            f"{path}: expected staged rows here and found none; name the lock of a data set that has them"
        ) from None
