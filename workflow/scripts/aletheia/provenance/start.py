"""The time from a process's start to its first unit of work: a training step, a pass, a table."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Start of a forked job, "PID:ticks" (workflow/fork_server/server.py). Only the process with that PID reads it.
START_VARIABLE = "ALETHEIA_STARTED"
_seconds: list[float | None] = []


def work_begins() -> None:
    """Mark the end of start-up: what follows is the process's own work. Only the first call counts."""
    if not _seconds:
        _seconds.append(_age())


def start_seconds() -> float | None:
    """Return the seconds from the process's start to :func:`work_begins`, or to now where nothing has begun.

    Returns
    -------
    float or None
        None where the system does not tell when a process began. To a hundredth of a second.
    """
    work_begins()
    return _seconds[0]


def _age() -> float | None:
    """Return the age of this process in seconds; of its client, where it is a fork."""
    process, _, ticks = os.environ.get(START_VARIABLE, "").partition(":")
    try:
        if process != str(os.getpid()):
            # After the name, which may hold anything, field 22 of proc(5): clock ticks from the system's start.
            ticks = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK"), 2)
    except (OSError, ValueError, AttributeError):
        return None
