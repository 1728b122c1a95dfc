"""What a machine has once, and one cluster at a time may have: the file where SLURM's programs look."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

# Jobs of the executor's look here whatever their environment. While a cluster runs, a link to its own file is here.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
KEPT = CONFIGURATION.with_name("slurm.conf.kept")
OWN = "aletheia-slurm.conf"
LOCK = Path("/run/lock/aletheia-slurm.lock")


@contextlib.contextmanager
def machine(folder: Path, patience: float) -> Iterator[int]:
    """Hold this machine's lock for a cluster below ``folder``; it is free when all copies of the descriptor are closed.

    Raises
    ------
    RuntimeError
        If another cluster has it for more than ``patience`` seconds.
    """
    with LOCK.open("a+") as lock:
        end = time.monotonic() + patience
        while not _locked(lock.fileno()):
            if time.monotonic() > end:
                raise RuntimeError(f"another cluster runs below {LOCK.read_text()}; stop it first")
            time.sleep(0.5)
        lock.truncate(0)
        lock.write(str(folder))
        lock.flush()
        yield lock.fileno()


def _locked(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def linked() -> Path | None:
    """Return the file of the cluster that has the machine, or had it when it was killed."""
    target = CONFIGURATION.readlink() if CONFIGURATION.is_symlink() else None
    return target if target and target.name == OWN else None


def link(configuration: Path) -> None:
    """Show SLURM's programs a cluster's file; keep what is there."""
    CONFIGURATION.parent.mkdir(exist_ok=True)
    if os.path.lexists(CONFIGURATION):
        CONFIGURATION.rename(KEPT)
    CONFIGURATION.symlink_to(configuration)


def unlink() -> None:
    """Undo ``link``, even one that was killed half-way."""
    if linked():
        CONFIGURATION.unlink()
    if os.path.lexists(KEPT) and not os.path.lexists(CONFIGURATION):
        KEPT.rename(CONFIGURATION)
