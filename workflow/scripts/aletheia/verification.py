"""Hold every artifact against its own hash, and against what the others recorded of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia import artifacts
from aletheia.artifacts import IGNORED, SIDECAR
from aletheia.errors import UserError
from aletheia.observe import usable_cores

LOCK = ".lock.json"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it was recorded."""

    path: str
    problem: str
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        values = f" (expected {self.expected}, found {self.found})" if self.expected or self.found else ""
        return f"{self.path}: {self.problem}{values}"


class Hashes:
    """sha256 of each file, computed once, several files at a time (hashing releases Python's lock)."""

    def __init__(self, paths: Iterable[Path]) -> None:
        unique = list(dict.fromkeys(paths))
        with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
            self._known = dict(zip(unique, pool.map(artifacts.sha256_file, unique), strict=True))

    def __getitem__(self, path: Path) -> str:
        if path not in self._known:
            self._known[path] = artifacts.sha256_file(path)
        return self._known[path]


def is_envelope(path: Path) -> bool:
    """Tell whether a JSON file claims to be an artifact, by its name or its first bytes."""
    return path.name.endswith((SIDECAR, LOCK)) or artifacts.is_envelope(path)


def verify_folders(roots: Iterable[Path]) -> tuple[list[Finding], int]:
    """Check every artifact below some folders, and name the files that no artifact vouches for.

    Parameters
    ----------
    roots
        Folders (``results``, ``resources``).

    Returns
    -------
    tuple
        Findings in the order of their paths, and how many artifacts were read.
    """
    files = [p for root in roots for p in sorted(root.rglob("*")) if p.is_file() and not _scratch(p)]
    findings, checked, claimed = _verified(files)
    # Wheels are a cache: each is held against the sha256 in the registry whenever it is used.
    strays = [p for p in files if p not in claimed and "downloads" not in p.parts]
    findings += [Finding(str(p), "no artifact vouches for this file") for p in strays]
    return sorted(findings), checked


def verify_files(files: Iterable[Path]) -> tuple[list[Finding], int]:
    """Check some files with their sidecars (see :func:`ancestry`)."""
    envelopes = [e for e in map(envelope_of, files) if e is not None]
    findings, checked, _ = _verified([*files, *envelopes])
    return sorted(set(findings)), checked


def _verified(files: Iterable[Path]) -> tuple[list[Finding], int, set[Path]]:
    """Return the findings on all artifacts among ``files``, their number, and the files that they vouch for."""
    files = list(dict.fromkeys(files))
    findings = [Finding(str(p), "missing", "a file", "no file") for p in files if not p.is_file()]
    files = [p for p in files if p.is_file()]
    hashes = Hashes(files)
    claimed: set[Path] = set()
    envelopes = [p for p in files if p.suffix == ".json" and is_envelope(p)]
    for path in envelopes:
        claimed.add(path)
        try:
            envelope = artifacts.read(path)
        except UserError as error:
            findings.append(Finding(str(path), str(error).removeprefix(f"{path}: ")))
            # What a damaged sidecar vouched for is unknown, but it is no stray.
            claimed.update(p for p in files if p.is_relative_to(_beside(path)))
            continue
        findings += _content(path, envelope, hashes, claimed)
        findings += _inputs(path, envelope, hashes)
    return findings, len(envelopes), claimed


def _scratch(path: Path) -> bool:
    """Tell whether a file is no content: Snakemake's time stamps, locks, and what a job is writing just now."""
    return path.name in IGNORED or path.name.startswith(".")


def _beside(path: Path) -> Path:
    """Return what a sidecar or a lock stands beside."""
    for suffix in (SIDECAR, LOCK):
        if path.name.endswith(suffix):
            return path.with_name(path.name.removesuffix(suffix))
    return path


def _content(path: Path, envelope: dict[str, Any], hashes: Hashes, claimed: set[Path]) -> Iterator[Finding]:
    """Yield what differs between a sidecar or lock and the files that it vouches for."""
    target = _beside(path)
    if target == path:
        return
    for name, entry in envelope["payload"]["files"].items():
        file = target / name if target.is_dir() or path.name.endswith(LOCK) else target
        claimed.add(file)
        if not file.is_file():
            yield Finding(str(file), "missing", entry["sha256"], "no file")
        elif hashes[file] != entry["sha256"]:
            yield Finding(str(file), "changed after it was written", entry["sha256"], hashes[file])


def _inputs(path: Path, envelope: dict[str, Any], hashes: Hashes) -> Iterator[Finding]:
    """Yield inputs that are not, or no longer, what the artifact was made from."""
    for name, described in envelope["lineage"]["inputs"].items():
        file = Path(name)
        found = hashes[file] if file.is_file() else "no file"
        if found != described["sha256"]:
            yield Finding(str(path), f"made from another {name}", described["sha256"], found)


def ancestry(paths: Iterable[Path]) -> list[Path]:
    """Return the artifacts that some files were made from, with themselves, nearest first.

    Raises
    ------
    UserError
        When a file has no lineage.
    """
    pending, found = [Path(p) for p in paths], dict[Path, None]()
    while pending:
        path = pending.pop(0)
        if path in found:
            continue
        found[path] = None
        envelope = envelope_of(path)
        if envelope is not None:
            pending += map(Path, json.loads(envelope.read_text(encoding="utf-8"))["lineage"]["inputs"])
        elif path in map(Path, paths):
            raise UserError(f"{path}: expected an artifact or a file with a sidecar, found neither")
    return list(found)


def envelope_of(path: Path) -> Path | None:
    """Return the file that holds a path's lineage: its sidecar, or itself; None where there is none."""
    beside = artifacts.sidecar(path)
    if beside.is_file():
        return beside
    return path if path.suffix == ".json" and path.is_file() and is_envelope(path) else None
