"""A study's jobs in SLURM's queue: which outlived their controller, and which were pre-empted."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aletheia.errors import UserError

# What ends the name of each job that the executor submits.
RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def submitted_here(folder: Path, *states: str) -> list[str]:
    """Return the ids of the jobs that some controller has submitted from a folder, by its own account.

    The executor names each job after a controller's run (a UUID) and submits it in the controller's folder.

    Parameters
    ----------
    folder
        Where the controller runs.
    states
        Of SLURM's; those that pend or run when there is none.

    Raises
    ------
    UserError
        When SLURM does not answer: then nobody can tell.
    """
    if shutil.which("squeue") is None:
        return []
    chosen = [f"--states={','.join(states)}"] if states else []
    rows = answer(["squeue", "--me", "--noheader", "--format=%i|%j|%Z", *chosen]).splitlines()
    jobs = [row.split("|", 2) for row in rows]
    return [number for number, name, place in jobs if RUN.search(name) and Path(place) == folder]


def wait_for_orphans(folder: Path, *, seconds: float = 10) -> bool:
    """Wait until no job of an earlier controller of this folder is left; return whether there was any.

    A controller that was killed leaves its jobs on the cluster. Submitted again beside them, the same job would run
    twice; waited for, what they finish counts.

    Parameters
    ----------
    folder
        Where the controller runs.
    seconds
        Between two looks.
    """
    waited = False
    while left := submitted_here(folder):
        if not waited:
            print(
                f"{len(left)} jobs of an earlier snakemake in this folder are still on the cluster "
                f"({', '.join(left)}); waiting for them to end (to give them up: scancel {' '.join(left)})",
                file=sys.stderr,
                flush=True,
            )
        waited = True
        time.sleep(seconds)
    return waited


def watch_for_preemption(folder: Path, again: Callable[[], None], *, seconds: float = 20) -> None:
    """Call ``again`` when a job of this controller was pre-empted, which the executor takes for one that comes back.

    Meant for a thread of its own; it never returns otherwise.

    Parameters
    ----------
    folder
        Where the controller runs.
    again
        Starts the controller again; what still runs then outlives its controller, and is waited for.
    seconds
        Between two looks.
    """
    known: set[str] | None = None
    while True:
        with contextlib.suppress(UserError):
            found = set(submitted_here(folder, "PREEMPTED"))
            # SLURM shows ended jobs for some minutes: those of an earlier controller are no news.
            new = found - (found if known is None else known)
            known = found if known is None else known
            if new:
                jobs = ", ".join(sorted(new))
                print(f"pre-empted: {jobs}; the executor would wait for ever, so all is planned anew", file=sys.stderr)
                again()
        time.sleep(seconds)


def answer(command: Sequence[str]) -> str:
    """Return what one of SLURM's programs prints.

    Raises
    ------
    UserError
        When it fails, or is not there.
    """
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} was not found; SLURM's programs are on login nodes")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{command[0]} failed ({said[-1] if said else done.returncode}); is SLURM up? Try again later")
    return done.stdout
