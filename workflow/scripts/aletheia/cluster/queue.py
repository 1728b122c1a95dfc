"""A study's jobs in SLURM's queue: those that outlived their controller, and those that were pre-empted."""

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

# The end of the name of each job that the executor submits: its run of Snakemake, a UUID.
RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def submitted_here(folder: Path, *states: str) -> list[str]:
    """Return the ids of the user's jobs that some controller has submitted from a folder.

    The executor names each job after a controller's run (a UUID) and submits it in the controller's folder.

    Parameters
    ----------
    folder
        Where the controller runs.
    states
        SLURM's job states; pending and running jobs when none is given.

    Raises
    ------
    UserError
        When SLURM does not answer.
    """
    if shutil.which("squeue") is None:
        return []
    chosen = [f"--states={','.join(states)}"] if states else []
    rows = answer(["squeue", "--me", "--noheader", "--format=%i|%j|%Z", *chosen]).splitlines()
    jobs = [row.split("|", 2) for row in rows]
    return [number for number, name, place in jobs if RUN_ID.search(name) and Path(place) == folder]


def wait_for_orphans(folder: Path, *, seconds: float = 10) -> bool:
    """Wait until no job of an earlier controller of this folder is left; return whether there was any.

    A controller that was killed leaves its jobs on the cluster. If it submitted them again, they
    would run twice; if it waits, their results count.

    Parameters
    ----------
    folder
        Where the controller runs.
    seconds
        Between two looks at the queue.
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


def watch_for_preemption(folder: Path, restart: Callable[[], None], *, seconds: float = 20) -> None:
    """Call ``restart`` when a job of this controller is pre-empted: the executor would wait for it to come back.

    Runs in a thread of its own and never returns.

    Parameters
    ----------
    folder
        Where the controller runs.
    restart
        Starts the controller again; it then waits for the jobs that still run.
    seconds
        Between two looks at the queue.
    """
    earlier: set[str] | None = None
    while True:
        with contextlib.suppress(UserError):
            preempted = set(submitted_here(folder, "PREEMPTED"))
            # SLURM shows ended jobs for some minutes: those of an earlier controller do not count.
            earlier = preempted if earlier is None else earlier
            new = preempted - earlier
            if new:
                jobs = ", ".join(sorted(new))
                print(f"pre-empted: {jobs}; the executor would wait for ever, so all is planned anew", file=sys.stderr)
                restart()
        time.sleep(seconds)


def answer(command: Sequence[str]) -> str:
    """Return the output of one of SLURM's programs.

    Raises
    ------
    UserError
        When it fails, or is not there.
    """
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} was not found; SLURM's programs are on login nodes")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [done.returncode])[-1]
        raise UserError(f"{command[0]} failed ({reason}); is SLURM up? Try again later")
    return done.stdout
