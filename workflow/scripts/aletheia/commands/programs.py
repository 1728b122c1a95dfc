"""Run a program of workflow/scripts over a study's folder, with that study's configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aletheia.errors import UserError

OF_A_STUDY = ("config.yaml", "config", "results", "resources")


def run_program(name: str, folder: str, *, as_json: bool, search: bool = False) -> None:
    """Run a program in a folder, and end with its status.

    Parameters
    ----------
    name
        File name below ``workflow/scripts``.
    folder
        Where the study ran.
    as_json
        Whether the program prints JSON.
    search
        Whether it is run for the search beside a study too, over what decided it. The lines of each then stand below
        the name of its configuration, and as JSON both are one object by that name; the status is the higher one.

    Raises
    ------
    UserError
        When there is no such folder, or nothing of a study in it.
    """
    if not Path(folder).is_dir():
        raise UserError(f"DIR: expected the folder of a study, found none at {folder}")
    if not any(Path(folder, name).exists() for name in OF_A_STUDY):
        raise UserError(f"DIR: expected the folder of a study, found none of {', '.join(OF_A_STUDY)} in {folder}")
    options = ["--json"] if as_json else []
    runs = _runs(Path(folder), search=search)
    if len(runs) == 1:
        raise SystemExit(_program(name, folder, [*options, *runs.popitem()[1]]).returncode)
    texts, statuses = {}, []
    for config, words in runs.items():
        if not as_json:
            print(f"{config}:", flush=True)
        done = _program(name, folder, [*words[:-2], *options, *words[-2:]], captured=as_json)
        texts[config] = done.stdout
        statuses.append(done.returncode)
    if as_json:
        print(json.dumps({config: json.loads(text) for config, text in texts.items() if text}, indent=1))
    raise SystemExit(max(statuses))


def _runs(folder: Path, *, search: bool) -> dict[str, list[str]]:
    """Return a program's words by configuration, as ``aletheia fit`` writes them; others it finds by itself."""
    from aletheia.fit.study_files import CONFIG, SEARCH_CONFIG, SEARCH_RESULTS

    runs = {CONFIG: ["--configfile", CONFIG] if (folder / CONFIG).is_file() else []}
    decided = [str(path.relative_to(folder)) for path in folder.glob(f"{SEARCH_RESULTS}/search/*/decision.json")]
    if search and decided and (folder / SEARCH_CONFIG).is_file():
        runs[SEARCH_CONFIG] = [*decided, "--configfile", SEARCH_CONFIG]
    return runs


def _program(
    name: str, folder: str, arguments: Sequence[str], *, captured: bool = False
) -> subprocess.CompletedProcess:
    from aletheia.provenance.lineage import SCRIPTS

    words = [sys.executable, "-s", SCRIPTS / name, *arguments]
    return subprocess.run(words, cwd=folder, check=False, text=True, stdout=subprocess.PIPE if captured else None)
