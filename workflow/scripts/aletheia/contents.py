"""What files hold: their hashes and their envelopes, each read once."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aletheia import artifacts
from aletheia.errors import UserError
from aletheia.observe import usable_cores


class Contents:
    """Hashes and envelopes of files; what was read stays valid while a file's size, time and inode stay the same."""

    def __init__(self) -> None:
        self._hashes: dict[Path, tuple[Any, str]] = {}
        self._envelopes: dict[Path, tuple[Any, dict[str, Any] | UserError]] = {}

    def load(self, paths: Iterable[Path]) -> None:
        """Hash files ahead, several at a time (hashing releases Python's lock)."""
        pending = [path for path in dict.fromkeys(paths) if self._hashes.get(path, (None,))[0] != _version(path)]
        # The largest first, so that no worker is left with one at the end.
        pending.sort(key=lambda path: path.stat().st_size, reverse=True)
        with ThreadPoolExecutor(max_workers=usable_cores()) as pool:
            list(pool.map(self.sha256, pending))

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file's bytes."""
        version = _version(path)
        known = self._hashes.get(path)
        if known is None or known[0] != version:
            known = self._hashes[path] = version, artifacts.sha256_file(path)
        return known[1]

    def envelope(self, path: Path) -> dict[str, Any]:
        """Return an artifact's envelope, checked.

        Raises
        ------
        UserError
            As :func:`aletheia.artifacts.read`.
        """
        version = _version(path)
        known = self._envelopes.get(path)
        if known is None or known[0] != version:
            known = self._envelopes[path] = version, _read(path)
        if isinstance(known[1], UserError):
            raise known[1]
        return known[1]


def _version(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _read(path: Path) -> dict[str, Any] | UserError:
    try:
        return artifacts.read(path)
    except UserError as error:
        return error
