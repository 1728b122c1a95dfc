"""A kernel lock on an artifact: the kernel releases it when its holder ends, so nobody has to unlock by hand."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from aletheia.errors import UserError


def without_locks(folder: Path, error: OSError) -> UserError:
    """Return the error for a folder on a file system without locks."""
    return UserError(
        f"{folder}: expected a file system with locks, found one that gives none ({error.strerror}); use a folder on "
        "one that is mounted with flock"
    )


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` while the block runs; wait for another holder.

    The lock is ``flock`` on a small file beside ``path``. The file is removed on release, so whoever waited for
    it checks that the file it has locked is still the one on the disk.

    Parameters
    ----------
    path
        The artifact that is about to be written.

    Raises
    ------
    UserError
        Where the file system has no locks.
    """
    lock = path.with_name(f".{path.name}.lock")
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # The file stays: it may be another holder's, since a lock is also refused where the kernel lacks memory.
            os.close(descriptor)
            raise without_locks(path.parent, error) from None
        try:
            current = lock.stat().st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            current = False
        if current:
            break
        os.close(descriptor)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
