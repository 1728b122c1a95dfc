"""The stage step run as a rule runs it, for the tests of what it stages from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from aletheia import artifacts, data
from conftest import SCRIPTS

STAGE = [sys.executable, "-s", str(SCRIPTS / "stage.py")]
# No index at all, so that a test which reaches for the network fails at once.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, "HF_HUB_OFFLINE": "1"}


def stage(
    what: str, name: str, entry: dict, folder: Path, *, offline: bool = True, **env: str
) -> tuple[subprocess.CompletedProcess, Path]:
    """Stage an entry of a registry into ``folder``; return how the process ended, and where its lock goes."""
    out = folder / "resources" / {"model": "models", "data": "data"}[what] / f"{name}.lock.json"
    done = subprocess.run(
        [*STAGE, what, name, "--out", str(out), "--lineage", f"config:{what}={json.dumps(entry)}"],
        cwd=folder,
        env={**os.environ, **(OFFLINE if offline else {}), "HF_HOME": str(folder / "hf"), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done, out


def staged(what: str, name: str, entry: dict, folder: Path, **options: object) -> dict:
    """Stage what can be staged; return the lock's payload."""
    done, out = stage(what, name, entry, folder, **options)
    assert done.returncode == 0, done.stderr
    return artifacts.payload(out, f"{what}_lock")


def refused(what: str, name: str, entry: dict, folder: Path, *, patient: bool = False, **env: str) -> str:
    """Stage what cannot be staged; return the one sentence.

    With ``patient`` other lines may stand before it: the hub's client says that it waits, and tries again.
    """
    done, out = stage(what, name, entry, folder, **env)
    assert done.returncode == 2, done.stderr
    assert not out.exists()
    assert not data.folder_of(out).exists()
    *before, line = done.stderr.strip().splitlines()
    assert patient or not before, done.stderr
    assert not [told for told in before if told.startswith(("error: ", "Traceback"))]
    return line.removeprefix("error: ")
