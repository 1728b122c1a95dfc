"""Memory that is freed stays with the process once asked for, and goes back where a peak is measured anew."""

import ctypes
import subprocess
import sys

import pytest

from conftest import SCRIPTS

MIB = 1 << 20
BLOCKS = """
import resource, sys
import numpy as np
from aletheia.provenance import machine
from aletheia.provenance.process_memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(64 << 20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
machine.reset_peak_memory()
print(machine.peak_memory_bytes())
"""
GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def measured(how):
    """Return the page faults of five blocks of 64 MiB, and the peak in bytes after they were freed."""
    ran = subprocess.run([sys.executable, "-c", BLOCKS, how], cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return map(int, ran.stdout.split())


@pytest.mark.skipif(not GLIBC, reason="mallopt is glibc's: nothing is kept elsewhere")
def test_freed_memory_is_used_again_and_does_not_count_as_a_later_peak():
    returned, low = measured("return")
    kept, peak = measured("keep")
    # 5 blocks, at least a page of 2 MiB a fault.
    assert returned >= 5 * 32
    assert kept < returned / 10
    assert peak < low + 16 * MIB
