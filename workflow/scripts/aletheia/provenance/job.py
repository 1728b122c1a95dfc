"""A job: one run of one script, which holds its outputs' locks, knows its lineage and writes its artifacts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import lineage, machine, start
from aletheia.provenance.artifacts import (
    Artifact,
    canonical_bytes,
    folder_files,
    make_envelope,
    read,
    read_artifact,
    read_input,
    sha256_file,
    sidecar,
)
from aletheia.provenance.atomic_write import atomic_path, clear_leftovers
from aletheia.provenance.locking import hold_lock

# The parts of a lineage that decide what a job writes.
DECISIVE_PARTS = ("inputs", "code", "config", "environment", "seed")


@dataclass(frozen=True)
class Step:
    """Which script runs, and all that decides its result besides its inputs.

    Attributes
    ----------
    name
        The step's one name ("probe").
    script
        The script's file name below ``workflow/scripts``, whose code, and all code that it reaches, counts.
    config
        Settings by section.
    environment
        Digests of the files that declare the rule's environment; the packages that are installed are added to them.
    seed
        Of the run; None for a step that draws nothing.
    extra_code
        Files other than Python modules that decide the result (paths relative to the project): task definitions.
    attempt
        Which try of the job this is.
    """

    name: str
    script: str
    config: dict[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    extra_code: tuple[str, ...] = ()
    attempt: int = 1


class Job:
    """One run of one script: it holds the outputs' locks, knows its lineage and writes its artifacts.

    Parameters
    ----------
    step
        What runs; the ``step`` of the arguments that :func:`aletheia.cli.step_parser` parses.
    inputs
        Files that decide the result.
    outputs
        Artifacts (or files and folders with sidecars) that the script will write.
    """

    def __init__(self, step: Step, *, inputs: Iterable[Path], outputs: Iterable[Path]) -> None:
        self.step, self.config = step, step.config
        self.outputs = [Path(p) for p in outputs]
        twice = next((p for p in self.outputs if self.outputs.count(p) > 1), None)
        if twice:
            raise UserError(f"{twice}: expected a path of its own for each output, found one for two; name another")
        self._input_paths = [Path(p) for p in inputs]
        # Before waiting for another job's locks: modules that are imported by now do not see a later edit.
        self._code = lineage.code_digests(step.script, step.extra_code)

    def __enter__(self) -> Job:
        with contextlib.ExitStack() as locks:
            # In one order everywhere, so that two jobs which share outputs never wait for each other.
            for path in sorted(set(self.outputs)):
                _make_folder(path.parent)
                locks.enter_context(hold_lock(path))
            self._begin()
            self._locks = locks.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._locks.close()

    def _begin(self) -> None:
        """Clear what killed jobs left, record the lineage, and see whether the outputs are there already."""
        for path in self.outputs:
            clear_leftovers(path)
            clear_leftovers(sidecar(path))
        self._started, self._clock = machine.now(), time.monotonic()
        inputs = {path: read_input(path) for path in sorted(set(self._input_paths))}
        self._artifacts = {path: artifact for path, (_, artifact) in inputs.items() if artifact is not None}
        self.lineage = {
            "step": self.step.name,
            "inputs": {path.as_posix(): described for path, (described, _) in inputs.items()},
            # Of the code that this process runs, not of what was there when it was submitted.
            "code": {**self._code, **lineage.yet_to_run(self._code)},
            "config": self.config,
            "environment": {**lineage.environment(), **self.step.environment},
            "seed": self.step.seed,
            **lineage.commit(),
        }
        decides = {key: self.lineage[key] for key in DECISIVE_PARTS}
        self.fingerprint = hashlib.sha256(canonical_bytes(decides)).hexdigest()
        self.done = all(self._is_up_to_date(path) for path in self.outputs)
        if self.done:
            print(f"{self.outputs[0]}: already there, made by the same code from the same inputs")

    def input(self, path: Path | None, kind: str) -> Artifact | None:
        """Return one of the inputs, an artifact, as it was when the job began: read, hashed and checked once.

        Parameters
        ----------
        path
            As it was given to the job; None for an optional input that was not given.
        kind
            The schema that is expected.

        Raises
        ------
        UserError
            When it is no artifact, or one of another kind.
        """
        if path is None:
            return None
        artifact = self._artifacts.get(path)
        if artifact is None:
            # Not known as an artifact by its name or its first bytes.
            artifact = self._artifacts[path] = read_artifact(path)
            if artifact.sha256 != self.lineage["inputs"][path.as_posix()]["sha256"]:
                raise UserError(f"{path}: changed since this job began; run it again")
        read(artifact, kind)
        return artifact

    def _is_up_to_date(self, path: Path) -> bool:
        """Tell whether ``path`` already holds what this job would write."""
        holder = path if path.suffix == ".json" else sidecar(path)
        if not path.exists() or not holder.is_file():
            return False
        try:
            envelope = read(holder)
            if holder != path and envelope["payload"]["files"] != _content(path):
                return False
        except UserError:
            return False
        return all(envelope["lineage"].get(key) == self.lineage[key] for key in DECISIVE_PARTS)

    def write_json(
        self, path: Path, *, kind: str, payload: dict[str, Any], observed: dict[str, Any] | None = None
    ) -> Path:
        """Write a JSON artifact, whole or not at all.

        Parameters
        ----------
        path
            Where it goes.
        kind, payload
            The schema's name, and the content.
        observed
            What was measured; stays outside the payload's hash.

        Returns
        -------
        pathlib.Path
            ``path``.

        Raises
        ------
        UserError
            When the payload does not fit its schema.
        """
        path = _begin_output(path)
        self._write_envelope(path, path, kind, payload, observed)
        return path

    def write_file(
        self,
        path: Path,
        *,
        write: Callable[[Path], Any],
        about: dict[str, Any] | None = None,
        observed: dict[str, Any] | None = None,
    ) -> Path:
        """Write any other file, or a folder, whole or not at all; then its sidecar.

        Parameters
        ----------
        path
            Where it goes.
        write
            Called with a temporary path, which it fills.
        about
            Facts for the sidecar (rows, columns, caption).
        observed
            What was measured; stays outside the payload's hash.

        Returns
        -------
        pathlib.Path
            ``path``.
        """
        path = _begin_output(path)
        with atomic_path(path) as temporary:
            write(temporary)
            # The old sidecar goes first: at no moment does a sidecar vouch for other bytes.
            sidecar(path).unlink(missing_ok=True)
        content = {"name": path.name, "files": _content(path), "about": about or {}}
        self._write_envelope(sidecar(path), path, "file", content, observed)
        return path

    def _write_envelope(
        self, path: Path, output: Path, kind: str, content: Any, observed: dict[str, Any] | None
    ) -> None:
        # With its path, by which verification notices artifacts that were swapped or renamed.
        made_by = {**self.lineage, "output": os.path.normpath(output)}
        observations = {
            "started": self._started,
            "ended": machine.now(),
            "seconds": round(time.monotonic() - self._clock, 3),
            "start_seconds": start.start_seconds(),
            "peak_memory_bytes": machine.peak_memory_bytes(),
            "attempt": self.step.attempt,
            # What ran is what was read at the start, unless a module was first imported after an edit.
            "code_edited_meanwhile": lineage.edited_since(self.lineage["code"]),
            **machine.machine(),
            **(observed or {}),
        }
        envelope = make_envelope(kind, content, made_by, observations, path)
        with atomic_path(path) as temporary:
            temporary.write_bytes(canonical_bytes(envelope))


def _begin_output(path: Path) -> Path:
    """Note that the job's own work has begun, and return the path of an output, whose folder is there."""
    start.work_begins()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _make_folder(folder: Path) -> None:
    """Make the folder of an output; missing rights and a full disk are left to :func:`aletheia.errors.run_main`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder}: expected a place for a folder, found none ({error.strerror}); choose another place to write to"
        ) from None


def _content(path: Path) -> dict[str, dict[str, Any]]:
    """Return a sidecar's ``files``: the file itself, or each file of the folder."""
    if path.is_dir():
        return folder_files(path)
    return {path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}}
