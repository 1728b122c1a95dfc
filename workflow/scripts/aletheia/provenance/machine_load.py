"""What else a machine did while something was timed, and the rule that calls it busy.

Each share is of the time of the cores that this process may use, so that neither its own threads nor jobs on the other
cores of a node count.
"""

from __future__ import annotations

import os
import resource
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Chosen by hand, well above what this project's own runs show on a machine that does nothing else.
OTHERS_SHARE = 0.10
STEAL_SHARE = 0.05
STEP_SPREAD = 1.5
BUSY_RULE = (
    f"other processes took more than {OTHERS_SHARE:.0%} of the time of the run's cores, or the hypervisor more than "
    f"{STEAL_SHARE:.0%}, or one step in ten took more than {STEP_SPREAD:g} times the median step"
)
# Fields of a core's line in /proc/stat (man 5 proc_stat): guest time is part of user time.
WORK, IDLE, STEAL = (0, 1, 2, 5, 6), (3, 4), 7


class LoadMeter:
    """Measures from its making on, until it is read."""

    def __init__(self) -> None:
        self._cores, self._own = _core_times(), _own_seconds()

    def shares(self) -> dict[str, float | None]:
        """Return ``others_share`` and ``steal_share`` (0 to 1) since this was made; None where the system tells none.

        References
        ----------
        https://man7.org/linux/man-pages/man5/proc_stat.5.html
        """
        before, now = self._cores, _core_times()
        if before is None or now is None:
            return {"others_share": None, "steal_share": None}
        work, idle, steal = (after - earlier for after, earlier in zip(now, before, strict=True))
        whole = work + idle + steal
        if whole <= 0:
            return {"others_share": None, "steal_share": None}
        others = max(0.0, work - (_own_seconds() - self._own))
        return {"others_share": round(others / whole, 4), "steal_share": round(max(0.0, steal) / whole, 4)}


def _own_seconds() -> float:
    """Return the processor seconds of this process and of the children that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _core_times() -> tuple[float, float, float] | None:
    """Return seconds of work, idleness and steal of the cores that this process may use, since the system's start."""
    try:
        lines = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
        usable = {f"cpu{core}" for core in os.sched_getaffinity(0)}
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return None
    cores = [list(map(int, fields[1:])) for fields in map(str.split, lines) if fields and fields[0] in usable]
    if not cores or min(map(len, cores)) <= STEAL:
        return None
    work, idle = (sum(core[field] for core in cores for field in fields) / ticks for fields in (WORK, IDLE))
    return work, idle, sum(core[STEAL] for core in cores) / ticks


def step_spread(seconds: Sequence[float], positions: Sequence[int]) -> float | None:
    """Return how much longer than the median step one step in ten takes, by the clock and by the position.

    Parameters
    ----------
    seconds
        Of each optimiser step, those of warm-up left out.
    positions
        Positions of its micro-batches, padding included. Steps differ in size: of the two ratios, of seconds and of
        seconds a position, the smaller one counts.

    Returns
    -------
    float or None
        90th percentile / median; None below ten steps.
    """
    if len(seconds) < 10:
        return None
    each = [time / max(1, size) for time, size in zip(seconds, positions, strict=True)]
    tenth = [statistics.quantiles(values, n=10)[-1] / statistics.median(values) for values in (seconds, each)]
    return round(min(tenth), 4)


def busy_reason(load: Mapping[str, Any]) -> str | None:
    """Return why a time was taken on a busy machine; None where it was not, or nothing is known.

    Parameters
    ----------
    load
        ``others_share``, ``steal_share``, ``step_spread``, and ``probe``, the same of the probe that a run is charged
        for; each may be missing.
    """
    found = []
    if (load.get("others_share") or 0) > OTHERS_SHARE:
        found.append(f"other processes took {load['others_share']:.0%} of the cores")
    if (load.get("steal_share") or 0) > STEAL_SHARE:
        found.append(f"the hypervisor took {load['steal_share']:.0%} of the cores")
    if (load.get("step_spread") or 0) > STEP_SPREAD:
        found.append(f"one step in ten took {load['step_spread']:.1f} times the median")
    probe = busy_reason(load["probe"]) if load.get("probe") else None
    found += [f"in the probe {probe}"] if probe else []
    return "; ".join(found) or None
