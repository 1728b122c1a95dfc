"""Checkpoints of a run on a clock, so that a run that was killed goes on where it was."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Checkpoint:
    """The one checkpoint of a run: the newest replaces the last, and none is left once the run has ended.

    Parameters
    ----------
    path
        Where it stands; hidden, since it is no artifact.
    fingerprint
        What decides the run (inputs, code, settings, environment); a checkpoint of anything else is thrown away.
    seconds
        Time between two; None for none.
    """

    def __init__(self, path: Path, fingerprint: str, seconds: float | None) -> None:
        self._path, self._fingerprint, self._seconds = path, fingerprint, seconds
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved, or None where there is none of this run."""
        import torch

        if not self._path.is_file():
            return None
        try:
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError):
            saved = {}
        if saved.get("fingerprint") != self._fingerprint:
            self.remove()
            return None
        return saved["state"]

    def due(self) -> bool:
        """Tell whether it is time for the next one."""
        return self._seconds is not None and time.monotonic() - self._last >= self._seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        import torch

        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.tmp")
        with temporary.open("wb") as handle:
            torch.save({"fingerprint": self._fingerprint, "state": dict(state)}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(self._path)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Delete it: the run has ended, or it was another's."""
        self._path.unlink(missing_ok=True)
        self._path.with_name(f"{self._path.name}.tmp").unlink(missing_ok=True)
