"""Checkpoints of a run at fixed times, so that a killed run continues from the last one."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIGEST = hashlib.sha256().digest_size


class Checkpoint:
    """The one checkpoint of a run: the newest replaces the last, and none is left once the run's artifacts are there.

    Parameters
    ----------
    path
        Its file; hidden, since it is no artifact.
    fingerprint
        Hash of all that determines the run (inputs, code, settings, environment, seed, threads, device); a checkpoint
        with another one is deleted.
    seconds
        Time between two; None for none.
    """

    def __init__(self, path: Path, fingerprint: str, seconds: float | None) -> None:
        self._path, self._fingerprint, self._seconds = path, fingerprint, seconds
        self._temporary = path.with_name(f"{path.name}.tmp")
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Return the saved state; None, with a printed reason, where it is another run's or damaged."""
        import torch

        if not self._path.is_file():
            return None
        content = self._path.read_bytes()
        digest, body = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(body).digest() == digest:
            saved = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
            if saved["fingerprint"] == self._fingerprint:
                return saved["state"]
            print("the checkpoint was saved with other inputs, code, settings, packages, threads or device", flush=True)
        else:
            print("the checkpoint is damaged", flush=True)
        print("so the run begins anew", flush=True)
        self.remove()
        return None

    def due(self) -> bool:
        """Tell whether it is time for the next one."""
        return self._seconds is not None and time.monotonic() - self._last >= self._seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically; on a full disk there is no checkpoint, and the run goes on."""
        import torch

        body = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "state": dict(state)}, body)
        self._last = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._temporary.open("wb") as handle:
                handle.write(hashlib.sha256(body.getbuffer()).digest())
                handle.write(body.getbuffer())
                handle.flush()
                os.fsync(handle.fileno())
            self._temporary.replace(self._path)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            print(f"no checkpoint: {error.strerror}", flush=True)

    def enabled(self) -> bool:
        """Tell whether the run saves checkpoints at all."""
        return self._seconds is not None

    def remove(self) -> None:
        """Delete it: the run's artifacts are there, or it was another's."""
        self._path.unlink(missing_ok=True)
        self._temporary.unlink(missing_ok=True)


def checkpoint_of(out: Path, fingerprint: str, *, seconds: int) -> Checkpoint:
    """Return a run's checkpoint, beside its ``run.json``.

    Parameters
    ----------
    out
        The ``run.json``.
    fingerprint
        Of the job (:attr:`aletheia.provenance.job.Job.fingerprint`); threads and device join it, on which bits depend.
    seconds
        Time between two; below 0 for none.
    """
    import torch

    parts = (fingerprint, str(torch.get_num_threads()), "cuda" if torch.cuda.is_available() else "cpu")
    digest = hashlib.sha256(":".join(parts).encode()).hexdigest()
    return Checkpoint(out.with_name(".checkpoint"), digest, None if seconds < 0 else seconds)
