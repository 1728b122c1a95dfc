"""Run a program of workflow/scripts over a study's folder, with that study's configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aletheia.errors import UserError

OF_A_STUDY = ("config.yaml", "config", "results", "resources")


def run_program(name: str, folder: str, *, as_json: bool) -> None:
    """Run a program in a folder, for its study and for the search beside it, and end with the highest status.

    Of two studies each one's lines stand below the name of its configuration; as JSON they are one object by that name.

    Parameters
    ----------
    name
        File name below ``workflow/scripts``.
    folder
        Where the study ran.
    as_json
        Whether the program prints JSON.

    Raises
    ------
    UserError
        When there is no such folder, or nothing of a study in it.
    """
    if not Path(folder).is_dir():
        raise UserError(f"DIR: expected the folder of a study, found none at {folder}")
    if not any(Path(folder, name).exists() for name in OF_A_STUDY):
        raise UserError(f"DIR: expected the folder of a study, found none of {', '.join(OF_A_STUDY)} in {folder}")
    configs = _configs(Path(folder))
    options = ["--json"] if as_json else []
    if len(configs) < 2:
        raise SystemExit(_program(name, folder, [*options, *_stated(configs)]).returncode)
    texts, statuses = {}, []
    for config in configs:
        if not as_json:
            print(f"{config}:", flush=True)
        done = _program(name, folder, [*options, *_stated([config])], captured=as_json)
        texts[config] = done.stdout
        statuses.append(done.returncode)
    if as_json:
        print(json.dumps({config: json.loads(text) for config, text in texts.items() if text}, indent=1))
    raise SystemExit(max(statuses))


def _configs(folder: Path) -> list[str]:
    """Return the configurations that ``aletheia fit`` has written; others are in config/, where programs look."""
    from aletheia.fit.study_files import CONFIG, SEARCH_CONFIG, SEARCH_RESULTS

    found = [CONFIG] if (folder / CONFIG).is_file() else []
    searched = (folder / SEARCH_CONFIG).is_file() and (folder / SEARCH_RESULTS).is_dir()
    return [*found, SEARCH_CONFIG] if searched else found


def _stated(configs: Sequence[str]) -> list[str]:
    return [word for config in configs for word in ("--configfile", config)]


def _program(
    name: str, folder: str, arguments: Sequence[str], *, captured: bool = False
) -> subprocess.CompletedProcess:
    from aletheia.provenance.lineage import SCRIPTS

    words = [sys.executable, "-s", SCRIPTS / name, *arguments]
    return subprocess.run(words, cwd=folder, check=False, text=True, stdout=subprocess.PIPE if captured else None)
