"""The console script, run by this interpreter over this checkout."""

import os
import subprocess
import sys

from conftest import SCRIPTS


def aletheia(*words, **options):
    """Return what `aletheia WORDS` has printed and how it ended; further options of subprocess.run."""
    return subprocess.run(
        [sys.executable, "-m", "aletheia.commands.main", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
