"""Atomic writes: a file or folder is filled under a temporary name beside its path, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to fill, and rename it to ``path`` when the block ends without an error.

    On an error the temporary file or folder is removed, and the old ``path`` stays. The caller holds the lock of
    ``path``.

    Parameters
    ----------
    path
        The file or folder to write.

    Raises
    ------
    OSError
        ``ENOSPC`` with the temporary path, also where the writer wrapped a full disk in an error of its own.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        flush(temporary)
        _replace(temporary, path)
    except BaseException as error:
        _discard(temporary)
        # Writers in other languages hide the system's error number in a message.
        if "No space left" in str(error) and not isinstance(error, OSError):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary)) from error
        raise


def clear_leftovers(path: Path) -> None:
    """Remove what killed jobs left beside ``path``; the caller holds its lock, so no job is using it.

    The names are matched whole: ``.a.b.7.tmp.json`` belongs to ``a.b.json``, which another job may be writing, and not
    to ``a.json``.
    """
    aside = re.compile(rf"\.{re.escape(path.name)}\.\d+\.old")
    for beside in [*abandoned_paths(path), *(p for p in path.parent.iterdir() if aside.fullmatch(p.name))]:
        _discard(beside)


def abandoned_paths(path: Path) -> list[Path]:
    """Return the temporary files and folders that killed jobs filled for ``path`` and never renamed.

    The caller holds the lock of ``path``.
    """
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.\d+\.tmp{re.escape(path.suffix)}")
    return sorted(beside for beside in path.parent.iterdir() if pattern.fullmatch(beside.name))


def apply_umask(folder: Path) -> None:
    """Give the files of a folder the mode that the user's umask asks for.

    safetensors writes 0600, which other users of a shared results tree could not read.
    """
    umask = os.umask(0)
    os.umask(umask)
    for path in filter(Path.is_file, folder.iterdir()):
        path.chmod(0o666 & ~umask)


def flush(path: Path) -> None:
    """Write a file, or a folder with all in it, to the disk: after a power cut no name is without its bytes."""
    if path.is_dir():
        for child in path.iterdir():
            flush(child)
    _synchronise(path)


def _temporary(path: Path) -> Path:
    # The suffix stays last, since writers choose the format by it.
    return path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")


def _replace(temporary: Path, path: Path) -> None:
    """Rename. An existing folder is moved aside first; a kill in between leaves leftovers and no folder."""
    if path.is_dir():
        aside = path.with_name(f".{path.name}.{os.getpid()}.old")
        path.rename(aside)
        try:
            temporary.rename(path)
        except OSError:
            aside.rename(path)
            raise
        # The old path may have been a link to a folder elsewhere, which is left as it is.
        _discard(aside)
    else:
        temporary.replace(path)
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
