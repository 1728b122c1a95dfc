"""The artifacts that a run was made from, found by the names in its lineage and checked to be the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import Artifact

JSON, TABLE = ".json", ".safetensors"
TITLES = {"model_lock": "the lock of its model", "data_lock": "the lock of its data"}


def lock_of(run: Artifact, kind: str) -> Artifact:
    """Return the lock of a run's model (``model_lock``) or of its data (``data_lock``).

    Raises
    ------
    UserError
        When it is gone, or another one stands there.
    """
    found = next(_inputs(run, kind), None)
    if found is None:
        raise UserError(
            f"{run.path}: expected {TITLES[kind]} where its study has it, found none; keep the study's folders results "
            "and resources together"
        )
    return found[1]


def selection_of(run: Artifact) -> tuple[str, Artifact] | None:
    """Return the selection that placed a run's adapters, after the name that the lineage has for it.

    None where the run adapts all layers, or its selection is gone. A run may read another arm's selection too, whose
    time it takes.
    """
    placed = run.payload["placement"]["modules"].keys()
    return next(
        (found for found in _inputs(run, "selection") if found[1].payload["rank_pattern"].keys() == placed), None
    )


def encoding_of(run: Artifact) -> dict[str, Any]:
    """Return the section ``encoding`` of the table of tokens that a run read, or its own where it read none.

    Raises
    ------
    UserError
        When the table's sidecar is gone.
    """
    tables = [name for name in run.envelope["lineage"]["inputs"] if name.endswith(TABLE)]
    sidecars = [place for name in tables if (place := _place(run, artifacts.sidecar(Path(name))))]
    if sidecars:
        return artifacts.read(sidecars[0], "file")["lineage"]["config"]["encoding"]
    own = run.envelope["lineage"]["config"]["encoding"]
    if tables or "prompt" not in own:
        raise UserError(
            f"{run.path}: expected the table of tokens that it was trained on (results/tokens), found none; keep the "
            "study's folders together"
        )
    return own


def _inputs(run: Artifact, kind: str) -> Iterator[tuple[str, Artifact]]:
    """Yield a run's inputs of a kind that are there, each checked, after its name in the lineage."""
    for name, entry in run.envelope["lineage"]["inputs"].items():
        place = _place(run, Path(name)) if name.endswith(JSON) else None
        if place is None or _kind(place) != kind:
            continue
        artifact = artifacts.read_artifact(place, kind)
        if artifact.envelope["payload_sha256"] != entry["payload_sha256"]:
            raise UserError(
                f"{place}: expected what {run.path} was made from (payload {entry['payload_sha256'][:12]}…), found "
                "another one; run the study again, so that both agree"
            )
        yield name, artifact


def _kind(path: Path) -> str | None:
    """Return the kind of an artifact, unchecked; None for another file."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return None
    return found.get("schema") if isinstance(found, dict) else None


def _place(run: Artifact, name: Path) -> Path | None:
    """Return where an input is: by its name from a folder above the run on, or from the working folder."""
    return next((f / name for f in (*run.path.resolve().parents, Path.cwd()) if (f / name).is_file()), None)
