"""What becomes of the memory that this process frees."""

from __future__ import annotations

import ctypes
import sys

# Of mallopt, in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_FROM_HEAP = 1 << 30  # bytes
_NEVER = (1 << 31) - 1
_HEAP_GROWS_BY = 64 << 20  # bytes; what the heap may hold beyond its peak


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed for what is allocated next; without effect where it is not glibc.

    Activations on the CPU come and go by the megabyte. By default glibc returns the larger ones to the system at once,
    which gives them back empty, a page fault for every 4 KiB: 4 % of a step of SmolLM2-135M's arms. Values are the
    same; the process stays as large as it was at its peak (`mallopt(3)`,
    https://man7.org/linux/man-pages/man3/mallopt.3.html).

    Returns
    -------
    bool
        Whether the C library took it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return False
    wanted = {_MMAP_THRESHOLD: _LARGEST_FROM_HEAP, _TRIM_THRESHOLD: _NEVER, _TOP_PAD: _HEAP_GROWS_BY}
    return all(mallopt(name, value) == 1 for name, value in wanted.items())


def return_freed_memory() -> None:
    """Return to the system what was freed and kept, so that a peak measured from here on is that of what follows."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)
