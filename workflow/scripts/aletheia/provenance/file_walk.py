"""The files below a folder, and whether this user may read and write there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from aletheia.errors import Unreadable, UserError


def files_below(
    folder: Path, closed: Callable[[Unreadable], object] | None = None, _above: Collection[tuple[int, int]] = ()
) -> Iterator[Path]:
    """Yield every file below a folder in the order of their paths, through symbolic links too.

    On a cluster, results are often links to another disk. A link to a folder that contains it is not followed, and a
    folder that is deleted meanwhile has no files.

    Parameters
    ----------
    folder
        Where to begin.
    closed
        Called with the error of each folder or link that cannot be read, then skipped; when None, it is raised.

    Raises
    ------
    Unreadable
        For a folder that cannot be read.
    """
    try:
        stat = os.stat(_inside(folder))
        identity = stat.st_dev, stat.st_ino
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if identity not in _above else []
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        _pass_over(Unreadable(folder, error), closed)
        return
    for entry in entries:
        path = Path(folder, entry.name)
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # a link to itself, or into a folder that this user may not enter
            _pass_over(Unreadable(path, error), closed)
            continue
        if is_folder:
            yield from files_below(path, closed, (*_above, identity))
        elif is_file:
            yield path


def _pass_over(error: Unreadable, closed: Callable[[Unreadable], object] | None) -> None:
    if closed is None:
        raise error from None
    closed(error)


def closed_above(path: Path) -> Unreadable | None:
    """Return the error of the first folder above a path that this user may not enter; None where all can be entered."""
    for folder in reversed(path.parents):
        try:
            os.stat(_inside(folder))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return Unreadable(folder, error)
    return None


def _inside(folder: Path) -> str:
    """Return ``folder/.``, whose stat needs the right to enter the folder: without it no file below can be read."""
    return os.path.join(folder, ".")


def require_folders(records: Path, trees: Iterable[Path]) -> None:
    """Refuse a working folder that Snakemake could not write in, before it tries.

    Parameters
    ----------
    records
        ``.snakemake``, which need not be there yet; another user's cannot be written.
    trees
        Folders for results, logs …, which need not be there either.

    Raises
    ------
    UserError
        With the folder that cannot be written, or the path that is no folder.
    """
    for folder in (records, *trees):
        if os.path.lexists(folder) and not folder.is_dir():
            found = f"a link to {os.readlink(folder)}, which is not there" if folder.is_symlink() else "a file"
            raise UserError(f"{folder}: expected a folder, found {found}; move it away, or make the folder")
    written = [records if records.exists() else records.parent]
    if _may_list(records):
        written += [Path(entry) for entry in os.scandir(records) if entry.is_dir()]
    for folder in written:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise UserError(
                f"{folder.resolve()}: expected a folder that this user may write, found one that is another's or "
                "read-only; copy the project to a folder of your own (cp -a) and run it there; verify.py and "
                "lineage.py read it as it is"
            )


def _may_list(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
