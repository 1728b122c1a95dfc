"""The project's fork server for a whole session of tests, where it has Snakemake imported too."""

from __future__ import annotations

import atexit
import importlib
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "workflow" / "fork_server"
LAUNCHER = str(FOLDER / "python")
SNAKEMAKE = (
    *("snakemake.cli", "snakemake.executors.local", "snakemake.executors.dryrun", "snakemake.scheduling.milp"),
    *("snakemake.persistence.db", "snakemake.template_rendering", "jsonschema", "numpy"),
)


def start() -> None:
    """Start it, and say to all that is run from here where it is; it ends with this process."""
    path = os.path.join(tempfile.mkdtemp(prefix="aletheia-tests-"), "socket")
    server = subprocess.Popen([sys.executable, "-s", __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    os.environ |= {"ALETHEIA_FORK_SERVER": path, "ALETHEIA_INTERPRETER": sys.executable}
    atexit.register(server.stdin.close)


def imports() -> dict[str, tuple[str, ...]]:
    """Return what the project's server imports for each script."""
    return runpy.run_path(str(FOLDER / "server.py"))["IMPORTS"]


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    server = importlib.import_module("server")
    server.IMPORTS["snakemake"] = SNAKEMAKE
    server.KEPT = 8
    server.main()
