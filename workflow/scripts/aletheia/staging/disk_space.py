"""Free space on the disk, checked before a download begins."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError

GIB = 2**30
BYTES_PER_PARAMETER = 2  # a parameter, as nearly all models on the hub have; a few have 4


def require_space(wanted: int, folder: Path, what: str) -> None:
    """Refuse a download that the disk has no room for.

    Parameters
    ----------
    wanted
        Bytes that are yet to come.
    folder
        Where they go.
    what
        The download's name, for the error message.

    Raises
    ------
    UserError
        With what it needs and what is free.
    """
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise UserError(
            f"{what} needs {wanted / GIB:.1f} GiB and {folder} has {free / GIB:.1f} GiB free; free some "
            "space or put resources/ on another disk"
        )


def staging_space(models: Mapping[str, Mapping[str, Any]], folder: Path) -> str | None:
    """Return a sentence on the space that the models to be staged take, and on the space that is free.

    Parameters
    ----------
    models
        Their entries in the registry; those of the hub count, with 16 bits for each of their ``parameters``.
    folder
        ``resources/models``; bytes that an earlier call has brought there count.

    Returns
    -------
    str or None
        One sentence; None where nothing comes from the hub.

    Raises
    ------
    UserError
        Where there is too little room for them all.
    """
    weights = {
        name: BYTES_PER_PARAMETER * entry.get("parameters", 0)
        for name, entry in models.items()
        if entry["source"]["type"] == "hub"
    }
    if not weights:
        return None
    present = {name: _size(folder / name) + _size(folder / f".{name}.partial") for name in weights}
    total, wanted = sum(weights.values()), sum(max(0, size - present[name]) for name, size in weights.items())
    free = shutil.disk_usage(_existing(folder)).free
    sentence = (
        f"staging {len(weights)} models of the hub takes about {total / GIB:.1f} GiB, of which {wanted / GIB:.1f} GiB "
        f"are yet to come; {folder} has {free / GIB:.1f} GiB free"
    )
    if wanted > free:
        raise UserError(
            f"{sentence}; free some space, put resources/ on another disk (pathvars: {{resources: …}}), or stage fewer "
            "models at a time"
        )
    return sentence


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
