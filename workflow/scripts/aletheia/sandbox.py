"""Run generated programs apart from everything: limits on time, memory, files, processes; no environment.

With bubblewrap (``bwrap``) a program sees no network, no home, no other process and no file but a read-only
interpreter. Without it, a plain subprocess under resource limits remains: enough against accidents, not
against intent, and each result says which it was.
"""

from __future__ import annotations

import functools
import json
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aletheia import code_runner
from aletheia.errors import UserError

KINDS = ("auto", "bubblewrap", "rlimits")
# Chosen by hand. The slowest canonical solution of HumanEval needs 2 s here; the others a few milliseconds.
SECONDS = 10.0
MEMORY_BYTES = 1 << 30
FILE_BYTES = 1 << 20
VERDICT_BYTES = 1 << 16
# How an exception's name reads as a verdict; any other is an "error".
_BY_ERROR = {
    None: "passed",
    "AssertionError": "wrong",
    "MemoryError": "memory",
    "SystemExit": "exit",
    "SyntaxError": "syntax",
    "IndentationError": "syntax",
    "TabError": "syntax",
}


@dataclass(frozen=True)
class Program:
    """A program, the test that defines ``check``, and the name of the function that ``check`` is given."""

    code: str
    test: str
    entry_point: str


@dataclass(frozen=True)
class Verdict:
    """What became of one program."""

    verdict: str
    error: str | None
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the test returned."""
        return self.verdict == "passed"


def _interpreter() -> list[str]:
    """Return the command of a bare interpreter: no site packages, no current folder, UTF-8.

    The executable behind a virtual environment is called, since that is what the sandbox binds.
    """
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    source = Path(code_runner.__file__).read_text(encoding="utf-8")
    return [python, "-s", "-S", "-B", "-P", "-X", "utf8", "-c", source]


def _readable_by_nobody(path: Path) -> bool:
    return all(p.stat().st_mode & 0o005 == 0o005 for p in [path, *path.parents])


def _bubblewrap() -> list[str]:
    """Return bwrap and its options; as root, behind setpriv, because process limits do not bind root."""
    prefix = Path(sys.base_prefix).resolve()
    command = []
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv and _readable_by_nobody(prefix):
        nobody = str(code_runner.NOBODY)
        command = [setpriv, "--reuid", nobody, "--regid", nobody, "--clear-groups", "--"]
    command += [
        shutil.which("bwrap") or "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ]
    for folder in ("/usr", "/lib", "/lib64", "/bin"):
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    if not prefix.is_relative_to("/usr"):
        command += ["--ro-bind", str(prefix), str(prefix)]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(FILE_BYTES * 16), "--tmpfs", "/tmp"]
    return command + ["--chdir", "/tmp", "--cap-drop", "ALL", "--setenv", "PYTHONHASHSEED", "0", "--"]


def _bubblewrap_works() -> bool:
    if shutil.which("bwrap") is None:
        return False
    trial = Program("def f():\n    return 1\n", "def check(f):\n    assert f() == 1\n", "f")
    return run(trial, kind="bubblewrap").passed


@functools.cache
def resolve(kind: str = "auto") -> str:
    """Return the sandbox that ``kind`` means on this machine.

    Raises
    ------
    UserError
        When bubblewrap is asked for and is missing, or cannot make a sandbox here.
    """
    if kind not in KINDS:
        raise UserError(f"evaluation.humaneval.sandbox: expected one of {', '.join(KINDS)}, found {kind!r}")
    if kind == "rlimits" or (kind == "auto" and not _bubblewrap_works()):
        return "rlimits"
    if kind == "bubblewrap" and not _bubblewrap_works():
        raise UserError(
            "evaluation.humaneval.sandbox is bubblewrap, and bwrap is not installed or cannot make "
            "namespaces here; install bubblewrap, or choose rlimits (resource limits only)"
        )
    return "bubblewrap"


def run(program: Program, *, kind: str, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> Verdict:
    """Run one program and its test.

    Parameters
    ----------
    program
        What to run.
    kind
        ``bubblewrap`` or ``rlimits`` (see :func:`resolve`).
    seconds
        Wall-clock limit; the processor limit is the next whole second.
    memory_bytes
        Limit of the address space.
    """
    token = secrets.token_hex(16)
    started = time.monotonic()
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        os.chmod(folder, 0o777)  # the program may run as nobody
        process = subprocess.Popen(
            [*(_bubblewrap() if kind == "bubblewrap" else []), *_interpreter()],
            stdin=subprocess.PIPE,
            # Nothing a program prints is needed, and so nothing can fill a disk or a pipe.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PYTHONHASHSEED": "0"},
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        try:
            _send(
                process,
                {
                    "code": program.code,
                    "test": program.test,
                    "entry_point": program.entry_point,
                    "token": token,
                    "fd": writing,
                    "cpu_seconds": math.ceil(seconds) + 1,
                    "memory_bytes": memory_bytes,
                    "file_bytes": FILE_BYTES,
                },
            )
            answer, late = _receive(reading, started + seconds)
            if not late:
                # It has nothing more to say; a moment to end by itself, so that its own exit status is seen.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
        finally:
            os.close(reading)
            # The whole session goes, whatever it started.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    return _verdict(answer, token, late=late, status=status, seconds=time.monotonic() - started)


def _send(process: subprocess.Popen[bytes], request: dict[str, object]) -> None:
    with suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(json.dumps(request).encode())


def _receive(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    """Return what came through the verdict pipe, and whether the time ran out first."""
    answer = b""
    while len(answer) < VERDICT_BYTES and not answer.endswith(b"\n"):
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([descriptor], [], [], remaining)[0]:
            return answer, True
        block = os.read(descriptor, 4096)
        if not block:
            break
        answer += block
    return answer, False


def _verdict(answer: bytes, token: str, *, late: bool, status: int, seconds: float) -> Verdict:
    seconds = round(seconds, 3)
    try:
        said = json.loads(answer)
        if secrets.compare_digest(str(said["token"]), token):
            error = said["error"]
            return Verdict(_BY_ERROR.get(error, "error"), error, seconds)
    except (ValueError, KeyError, TypeError):
        pass
    if late or status == -signal.SIGXCPU:
        return Verdict("timeout", None, seconds)
    # No signed verdict: the program left the interpreter by itself, or was killed.
    return Verdict("exit" if status == 0 else "crashed", None, seconds)


def run_all(
    programs: Iterable[Program], *, kind: str, workers: int | None = None, seconds: float = SECONDS
) -> list[Verdict]:
    """Run many programs, as many at a time as this process may use cores; verdicts in the order given."""
    from aletheia.observe import usable_cores

    programs: Sequence[Program] = list(programs)
    with ThreadPoolExecutor(max_workers=workers or usable_cores()) as pool:
        return list(pool.map(lambda program: run(program, kind=kind, seconds=seconds), programs))
