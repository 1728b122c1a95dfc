"""What lies below a folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path


def files_below(folder: Path, _above: Collection[tuple[int, int]] = ()) -> Iterator[Path]:
    """Yield every file below a folder in the order of their paths, behind symbolic links too.

    On a cluster, results are often links to another disk. A link to a folder that it lies in is not followed, and a
    folder that goes meanwhile has no files.

    Parameters
    ----------
    folder
        Where to begin.
    """
    try:
        stat = os.stat(folder)
        identity = stat.st_dev, stat.st_ino
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if identity not in _above else []
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = Path(folder, entry.name)
        if entry.is_dir():
            yield from files_below(path, (*_above, identity))
        elif entry.is_file():
            yield path
