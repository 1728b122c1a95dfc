"""The training rows of a data set that is staged already, as its lock counts them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.staging.local_paths import DECISIVE_KEYS, local_inputs


def staged_train_rows(resources: Path, name: str, entry: Mapping[str, Any]) -> int | None:
    """Return the number of training rows of a staged data set.

    Parameters
    ----------
    resources
        The folder that has ``data/``.
    name, entry
        The registry's key and value.

    Returns
    -------
    int or None
        None where it is not staged as the entry says now: not yet, from another entry, or from a file that has changed
        since.
    """
    lock = resources / "data" / f"{name}.lock.json"
    try:
        envelope = artifacts.read(lock, "data_lock") if lock.is_file() else None
    except UserError:
        return None
    made_from = envelope["lineage"]["config"].get("data") if envelope else None
    if not made_from or any((made_from.get(key) or None) != (entry.get(key) or None) for key in DECISIVE_KEYS):
        return None
    made = lock.stat().st_mtime
    if any(file.stat().st_mtime > made for file in local_inputs(entry) if file.is_file()):
        return None
    return envelope["payload"]["files"].get("train.jsonl", {}).get("rows")
