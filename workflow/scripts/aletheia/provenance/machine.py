"""Observations while a job runs: times, memory, machine. None of them enters a payload's hash."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _devices_in_use() -> list[int]:
    """Return the CUDA devices of this process; none where CUDA has not been used."""
    torch = sys.modules.get("torch")
    used = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    return list(range(torch.cuda.device_count())) if used else []


def reset_peak_memory() -> None:
    """Restart :func:`peak_memory_bytes`, so that the peak of loading a model does not hide that of training."""
    devices = _devices_in_use()
    for device in devices:
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
    if not devices:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory_bytes() -> int:
    """Return this process's peak resident memory in bytes (device memory, of all devices, where CUDA is in use)."""
    devices = _devices_in_use()
    if devices:
        return sum(int(sys.modules["torch"].cuda.max_memory_allocated(device)) for device in devices)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
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
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def conditions() -> dict[str, Any]:
    """Return the clocks and the load, which may change a run's speed from one moment to the next.

    Returns
    -------
    dict
        ``load_average`` (one minute, this process included), ``cpu_mhz`` (mean over the cores) and, per device in use,
        ``gpus`` with clocks, temperature, power and utilisation as the driver reports them; None where it reports none.
    """
    return {"load_average": round(os.getloadavg()[0], 2), "cpu_mhz": _cpu_mhz(), "gpus": _gpus()}


def _cpu_mhz() -> float | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    clocks = [float(line.partition(":")[2]) for line in text.splitlines() if line.startswith("cpu MHz")]
    return round(sum(clocks) / len(clocks), 1) if clocks else None


def _gpus() -> list[dict[str, str]] | None:
    """Return the report of ``nvidia-smi`` on each device that this process may use; None without such a report."""
    fields = ("uuid", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu", "power.draw", "utilization.gpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [*command, *([f"--id={visible}"] if visible else [])],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [dict(zip(fields, line.split(", "), strict=False)) for line in done.stdout.splitlines()]


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
