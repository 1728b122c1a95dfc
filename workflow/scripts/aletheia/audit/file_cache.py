"""A cache of files' hashes and envelopes, each read once."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aletheia.errors import Unreadable, UserError
from aletheia.provenance import artifacts
from aletheia.provenance.machine import usable_cores

_Version = tuple[int, int, int]


class FileCache:
    """Hashes and envelopes of files; what was read stays valid while a file's size, time and inode stay the same."""

    def __init__(self) -> None:
        self._hashes: dict[Path, tuple[Any, str]] = {}
        self._envelopes: dict[Path, tuple[Any, dict[str, Any] | UserError]] = {}

    def load(self, paths: Iterable[Path]) -> None:
        """Hash files ahead, several at a time (hashing releases Python's lock)."""
        versions = {path: _version(path) for path in paths}
        pending = [path for path, version in versions.items() if version and self._hashed_version(path) != version]
        # The largest first, so that no worker is left with one at the end.
        pending.sort(key=lambda path: versions[path], reverse=True)
        with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
            list(pool.map(self._ahead, pending))

    def _ahead(self, path: Path) -> None:
        # The error is raised again where the file's hash is asked for.
        with contextlib.suppress(Unreadable):
            self.sha256(path)

    def sha256(self, path: Path) -> str | None:
        """Return the sha256 of a file's bytes; None where this user sees no file, or it is deleted meanwhile.

        Raises
        ------
        Unreadable
            When the file is there and cannot be read.
        """
        version = _version(path)
        if version is None:
            return None
        if self._hashed_version(path) != version:
            try:
                self._hashes[path] = version, artifacts.sha256_file(path)
            except FileNotFoundError:
                return None
        return self._hashes[path][1]

    def _hashed_version(self, path: Path) -> _Version | None:
        return self._hashes[path][0] if path in self._hashes else None

    def envelope(self, path: Path) -> dict[str, Any]:
        """Return an artifact's envelope, checked.

        Raises
        ------
        UserError
            As :func:`aletheia.provenance.artifacts.read`.
        """
        version = _version(path)
        known = self._envelopes.get(path)
        if known is None or known[0] != version:
            known = self._envelopes[path] = version, _read(path)
        if isinstance(known[1], UserError):
            raise known[1]
        return known[1]


def _version(path: Path) -> _Version | None:
    """Return a file's size, time and inode; None where there is no file, or none that this user may see."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _read(path: Path) -> dict[str, Any] | UserError:
    try:
        return artifacts.read(path)
    except UserError as error:
        return error
