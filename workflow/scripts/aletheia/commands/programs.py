"""Run a program of workflow/scripts over a study's folder, with that study's configuration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aletheia.errors import UserError

CONFIG = "config.yaml"  # what `aletheia fit` writes; other studies have config/config.yaml, which programs know


def run_program(name: str, folder: str, arguments: Sequence[str]) -> None:
    """Run a program in a folder, and end with its status.

    Parameters
    ----------
    name
        File name below ``workflow/scripts``.
    folder
        Where the study ran.
    arguments
        Of the program.

    Raises
    ------
    UserError
        When there is no such folder.
    """
    from aletheia.provenance.lineage import SCRIPTS

    if not Path(folder).is_dir():
        raise UserError(f"DIR: expected the folder of a study, found none at {folder}")
    own = ["--configfile", CONFIG] if (Path(folder) / CONFIG).is_file() else []
    done = subprocess.run([sys.executable, "-s", SCRIPTS / name, *arguments, *own], cwd=folder, check=False)
    raise SystemExit(done.returncode)
