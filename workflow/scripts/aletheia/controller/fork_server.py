"""The server that starts this machine's jobs at once (workflow/fork_server), for as long as Snakemake runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from aletheia.provenance.lineage import ROOT

FOLDER = ROOT / "workflow" / "fork_server"
# Called in place of the interpreter, also where no server runs.
LAUNCHER = FOLDER / "python"
SOCKET = "ALETHEIA_FORK_SERVER"
# CUDA, ROCm and the GPU of a Windows host: a process that has touched them cannot be forked.
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class ForkServer:
    """Runs until it is collected, or this process ends; jobs that are still running then go on to their end.

    Jobs find it by the variable ``ALETHEIA_FORK_SERVER``: another value there, such as ``off``, starts none, and each
    job gets an interpreter of its own.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and tell jobs where it is; nothing where a fork would not do as a new interpreter does."""
        gpu = any(Path(device).exists() for device in GPUS)
        if not sys.platform.startswith("linux") or gpu or os.environ.get(SOCKET):
            return
        # Not in the study's folder: a socket's path has at most 107 bytes.
        try:
            folder = tempfile.mkdtemp(prefix="aletheia-")
        except OSError:
            return  # nowhere to put it, and jobs do without
        path = os.path.join(folder, "socket")
        with open(".snakemake/fork_server.log", "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-s", FOLDER / "server.py", path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if self._process.stdout.readline():
            os.environ[SOCKET] = path
        else:
            # It said why in its log: a temporary folder of too long a name, say.
            shutil.rmtree(folder, ignore_errors=True)
