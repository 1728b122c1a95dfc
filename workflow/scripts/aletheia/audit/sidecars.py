"""The artifact that vouches for a file: its own envelope, the sidecar or lock beside it, the run with its hash."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.file_walk import closed_above
from aletheia.provenance.staged_files import LOCK


def vouched_files(path: Path, envelope: Mapping[str, Any]) -> dict[Path, str]:
    """Return ``{file: recorded sha256}`` of what an artifact vouches for: a run's adapter, a lock's or sidecar's list.

    Parameters
    ----------
    path, envelope
        The artifact, and its checked content.
    """
    payload, beside = envelope["payload"], described_path(path)
    if envelope["schema"] == "run":
        return {path.parent / "adapter" / name: sha256 for name, sha256 in payload["adapter"]["files"].items()}
    if beside == path or envelope["schema"] not in ("file", "model_lock", "data_lock"):
        return {}
    recorded = {name: entry["sha256"] for name, entry in payload["files"].items()}
    # By name, since a folder whose files a bundle leaves out is not there.
    if path.name.endswith(SIDECAR) and recorded.keys() == {beside.name}:
        return {beside: recorded[beside.name]}
    return {beside / name: sha256 for name, sha256 in recorded.items()}


def is_envelope(path: Path) -> bool:
    """Tell whether a JSON file claims to be an artifact, by its name or its first bytes."""
    return path.name.endswith((SIDECAR, LOCK)) or artifacts.is_envelope(path)


def ancestry(paths: Iterable[Path]) -> list[Path]:
    """Return the artifacts that some files were made from, with themselves, nearest first.

    A damaged artifact ends its branch: what it was made from cannot be known from it.

    Raises
    ------
    UserError
        When a named file has no lineage, and is no JSON that might be a damaged artifact.
    """
    named = [Path(p) for p in paths]
    pending, ancestors = list(named), dict[Path, None]()
    while pending:
        path = pending.pop(0)
        if path in ancestors:
            continue
        ancestors[path] = None
        envelope = envelope_of(path)
        if envelope is not None:
            with contextlib.suppress(UserError):
                pending += map(Path, artifacts.read(envelope)["lineage"]["inputs"])
        elif path in named and not _may_be_damaged(path):
            raise closed_above(path) or UserError(
                f"{path}: expected an artifact or a file with a sidecar, found neither"
            )
    return list(ancestors)


def _may_be_damaged(path: Path) -> bool:
    """Tell whether a file is JSON that stands for itself: a folder's sidecar vouches for its files, lineage or not."""
    # The last one is the root or the working directory, which has no name.
    vouched = any(os.path.isfile(artifacts.sidecar(above)) for above in path.parents[:-1])
    return path.suffix == ".json" and os.path.isfile(path) and not vouched


def envelope_of(path: Path) -> Path | None:
    """Return the file that holds a path's lineage: its sidecar, or itself; None where there is none."""
    beside = artifacts.sidecar(path)
    # Of `os.path`, since a folder that this user may not enter is an error for pathlib.
    if os.path.isfile(beside):
        return beside
    return path if path.suffix == ".json" and os.path.isfile(path) and is_envelope(path) else None


def stands_empty(path: Path) -> bool:
    """Tell whether a path is a folder whose intact sidecar lists no files, such as the adapter of a failed run.

    Such a folder need not be there: archives hold files alone.
    """
    beside = artifacts.sidecar(path)
    try:
        return os.path.isfile(beside) and not artifacts.payload(beside, "file")["files"]
    except UserError:
        return False


def described_path(path: Path) -> Path:
    """Return the file or folder that a sidecar or a lock describes; any other path itself."""
    for suffix in (SIDECAR, LOCK):
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix))
    return path
