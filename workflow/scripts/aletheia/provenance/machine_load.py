"""The load of other processes on a machine while something was timed, and the rule that calls it busy.

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
    """Measures the load between its construction and each reading."""

    def __init__(self) -> None:
        self._cores, self._own = _core_times(), _own_seconds()

    def shares(self) -> dict[str, float | None]:
        """Return ``others_share`` and ``steal_share`` (0 to 1) since construction; None where the system does not tell.

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
    usages = [resource.getrusage(scope) for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


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
    """Return the 90th percentile of step times over their median.

    Parameters
    ----------
    seconds
        Time of each optimiser step, those of warm-up left out.
    positions
        Token positions of its micro-batches, padding included. Steps differ in size: of the two ratios, that of seconds
        and that of seconds a position, the smaller one counts.

    Returns
    -------
    float or None
        None below ten steps.
    """
    if len(seconds) < 10:
        return None
    each = [time / max(1, size) for time, size in zip(seconds, positions, strict=True)]
    tenth = [statistics.quantiles(values, n=10)[-1] / statistics.median(values) for values in (seconds, each)]
    return round(min(tenth), 4)


def busy_reason(load: Mapping[str, Any]) -> str | None:
    """Return the reasons why a machine was busy while something was timed; None where it was not, or nothing is known.

    Parameters
    ----------
    load
        ``others_share``, ``steal_share``, ``step_spread``, and ``probe``, the same of the probe whose time is part of a
        run's; each may be missing.
    """
    reasons = []
    if (load.get("others_share") or 0) > OTHERS_SHARE:
        reasons.append(f"other processes took {load['others_share']:.0%} of the cores")
    if (load.get("steal_share") or 0) > STEAL_SHARE:
        reasons.append(f"the hypervisor took {load['steal_share']:.0%} of the cores")
    if (load.get("step_spread") or 0) > STEP_SPREAD:
        reasons.append(f"one step in ten took {load['step_spread']:.1f} times the median")
    probe = busy_reason(load["probe"]) if load.get("probe") else None
    reasons += [f"in the probe {probe}"] if probe else []
    return "; ".join(reasons) or None
