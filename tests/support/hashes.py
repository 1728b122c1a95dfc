"""What two runs of a study must have in common, whatever the clock said."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import edit

# What is made from measured times: equal where the times are equal.
REPORTED = ("aggregate", "stats", "tables", "figures")


def payload_hashes(folder: Path) -> dict[str, str]:
    """Return the payload's sha256 of every artifact and sidecar that no clock enters."""
    hashes = {}
    for path in [*folder.glob("results/**/*.json"), *folder.glob("resources/**/*.json")]:
        name = path.relative_to(folder)
        # The choice of precision is itself a measurement of speed.
        if name.parts[1] in (*REPORTED, "precision"):
            continue
        envelope = json.loads(path.read_text(encoding="utf-8"))
        # Beside artifacts stand a model's or an adapter's own JSON files, for which a sidecar or a lock vouches.
        if isinstance(envelope, dict) and "payload_sha256" in envelope:
            hashes[name.as_posix()] = envelope["payload_sha256"]
    return hashes


def reported_bytes(folder: Path) -> dict[str, bytes]:
    """Return each reported file with its bytes, without the sidecars, which say when it was made."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in REPORTED
        for path in (folder / "results" / name).rglob("*")
        if path.is_file() and not path.name.endswith(".lineage.json") and path.name != "summary.json"
    }


def same_precision(finished: Path, folder: Path) -> None:
    """Give a copy of the project the precision that a finished study measured, since another measurement may differ."""
    measured = json.loads((finished / "results/precision/tiny-llama.json").read_text(encoding="utf-8"))
    edit(folder / "tests/study/models.yaml", "dtype: auto", f"dtype: {measured['payload']['dtype']}")
