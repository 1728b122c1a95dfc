"""The moment at which a job ends by itself, so that its row is written before SLURM would kill it."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

# Work stops this long before a SLURM job's wall limit, so that its row can still be written. Chosen by hand.
RESERVE_SECONDS = 120


@dataclass(frozen=True)
class Deadline:
    """A moment after which nothing new is begun.

    Attributes
    ----------
    at
        Value of ``time.monotonic()``.
    reason
        The reason in a row that ended by it.
    """

    at: float = math.inf
    reason: str = ""

    def passed(self) -> bool:
        """Tell whether the moment has passed."""
        return time.monotonic() > self.at


NEVER = Deadline()


def deadline(limit: float | None, *, spent: float = 0.0, within_job: bool = True) -> Deadline:
    """Return the earlier of a soft limit, counted from now, and the end of the SLURM job less the reserve.

    Parameters
    ----------
    limit
        Seconds; None for no soft limit.
    spent
        Seconds of it that an earlier try has used up.
    within_job
        Whether the job's end counts. If not, SLURM kills a job that is too slow, and it is tried again with more time.
    """
    now = time.monotonic()
    soft = Deadline(now + limit - spent, f"past the limit of {limit} s") if limit else NEVER
    end = os.environ.get("SLURM_JOB_END_TIME")
    if not (end and within_job):
        return soft
    job = Deadline(
        now + float(end) - time.time() - RESERVE_SECONDS, f"stopped {RESERVE_SECONDS} s before the job's wall limit"
    )
    return min(soft, job, key=lambda each: each.at)
