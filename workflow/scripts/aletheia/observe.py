"""What was observed while a job ran: times, memory, machine. None of it enters a payload's hash."""

from __future__ import annotations

import os
import platform
import resource
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def peak_memory_bytes() -> int:
    """Return this process's peak resident memory in bytes (device memory where CUDA is in use)."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def processor() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device() -> str:
    """Return the name of the device that computes: the first CUDA device, else the processor."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return processor()


def driver() -> str | None:
    """Return the version of the NVIDIA driver, or None where there is none."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").split()
    except OSError:
        return None
    return next((word for word in words if word[0].isdigit() and "." in word), None)


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def machine() -> dict[str, Any]:
    """Return host, device, CUDA and driver versions, threads and load of this process's machine."""
    torch = sys.modules.get("torch")
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "device": device(),
        "cuda": getattr(getattr(torch, "version", None), "cuda", None),
        "driver": driver(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "load_average": round(os.getloadavg()[0], 2),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }
