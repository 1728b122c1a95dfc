"""Run generated programs apart from everything: limits on time, memory, files, processes; no environment.

With bubblewrap (``bwrap``) a program sees no network, no home, no other process and no file but a read-only
interpreter. Where it is missing, weaker kinds remain (:mod:`aletheia.confinement`), used only if the setting allows
them; each result says which it was. In all, the test runs in an interpreter of its own, to which the program can say
nothing but data (:mod:`aletheia.code_runner`).
"""

from __future__ import annotations

import functools
import json
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aletheia import confinement
from aletheia.errors import UserError

# Chosen by hand. The slowest canonical solution of HumanEval needs 2 s here; the others a few milliseconds.
SECONDS = 10.0
# For the two interpreters to start, on a machine however busy; later it is the sandbox that does not work.
STARTING_SECONDS = 120.0
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
    """A program, the test that defines ``check``, and the name of the function that ``check`` is given.

    ``helpers`` is code that the test may use besides: HumanEval's tests call functions of the prompt. It comes from
    the benchmark, never from a model, since it runs beside the test.
    """

    code: str
    test: str
    entry_point: str
    helpers: str = ""


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


class SandboxError(RuntimeError):
    """The sandbox itself did not start: nothing is known about the program."""


def _works(kind: str) -> str | None:
    """Return None where a trial program passes in this kind of sandbox, else why it does not."""
    if lacking := confinement.lacks(kind):
        return lacking
    trial = Program("def f():\n    return 1\n", "def check(f):\n    assert f() == 1\n", "f")
    try:
        verdict = run(trial, kind=kind)
    except SandboxError as error:
        return str(error)
    return None if verdict.passed else f"a trial program ended as {verdict.verdict}"


@functools.cache
def resolve(weakest: str = "bubblewrap") -> str:
    """Return the strongest sandbox that works on this machine and is no weaker than the one that the setting names.

    Raises
    ------
    UserError
        When there is none.
    """
    kinds = confinement.KINDS
    if weakest not in kinds:
        raise UserError(f"evaluation.humaneval.sandbox: expected one of {', '.join(kinds)}, found {weakest!r}")
    reasons = []
    for kind in kinds[: kinds.index(weakest) + 1]:
        reason = _works(kind)
        if reason is None:
            return kind
        reasons.append(f"{kind}: {reason}")
    weaker = " or ".join(kinds[kinds.index(weakest) + 1 :])
    advice = f", or allow a weaker sandbox by its name ({weaker})" if weaker else ""
    raise UserError(
        f"evaluation.humaneval.sandbox is {weakest}, and generated code cannot be confined so here "
        f"({'; '.join(reasons)}); install bubblewrap on a machine that allows namespaces{advice}"
    )


def run(program: Program, *, kind: str, seconds: float = SECONDS, memory_bytes: int = MEMORY_BYTES) -> Verdict:
    """Run one program and its test, each in a sandbox of its own.

    Parameters
    ----------
    program
        What to run.
    kind
        Kind of sandbox, as :func:`resolve` returns it.
    seconds
        Wall-clock limit, from when both interpreters are ready; the processor limit is the next whole second.
    memory_bytes
        Limit of each address space.

    Raises
    ------
    SandboxError
        When an interpreter did not get so far as to be confined.
    """
    limits = {"cpu_seconds": math.ceil(seconds) + 1, "memory_bytes": memory_bytes, "file_bytes": FILE_BYTES}
    code = {"role": "program", "code": program.code, "entry_point": program.entry_point}
    test = {"role": "test", "test": program.test, "entry_point": program.entry_point, "helpers": program.helpers}
    with ExitStack() as stack:
        calls, answers = _pipe(stack), _pipe(stack)
        tested = stack.enter_context(_sandboxed(kind, {**code, **limits}, calls[0], answers[1]))
        tester = stack.enter_context(_sandboxed(kind, {**test, **limits}, answers[0], calls[1]))
        for end in (*calls, *answers):
            end.close()
        latest = time.monotonic() + STARTING_SECONDS
        for side in (tested, tester):
            side.wait_until_ready(latest)
        started = time.monotonic()
        said, late = tester.line(started + seconds)
        if not late:
            # A moment for the program to end by itself, so that its own exit status is seen.
            with suppress(subprocess.TimeoutExpired):
                tested.process.wait(timeout=1)
        elapsed = time.monotonic() - started
    return _verdict(said, late=late, status=tested.process.returncode, seconds=round(elapsed, 3))


class _End:
    """One end of a pipe, closed once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _pipe(stack: ExitStack) -> tuple[_End, _End]:
    ends = tuple(map(_End, os.pipe()))
    for end in ends:
        stack.callback(end.close)
    return ends


@dataclass
class _Side:
    """One confined interpreter, and what came through its status pipe."""

    process: subprocess.Popen[bytes]
    status: int
    unread: bytes = b""

    def line(self, deadline: float) -> tuple[bytes, bool]:
        """Return the next line, or what came instead, and whether the time ran out first."""
        while b"\n" not in self.unread and len(self.unread) < VERDICT_BYTES:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self.status], [], [], remaining)[0]:
                return b"", True
            block = os.read(self.status, 4096)
            if not block:
                break
            self.unread += block
        line, _, self.unread = self.unread.partition(b"\n")
        return line, False

    def wait_until_ready(self, deadline: float) -> None:
        """Return once the interpreter is confined; the program has not run before."""
        said, late = self.line(deadline)
        if late:
            raise SandboxError(f"the sandbox did not start within {STARTING_SECONDS:.0f} s")
        if said != b"ready":
            self.process.wait(timeout=STARTING_SECONDS)
            complaint = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            raise SandboxError(complaint[-1] if complaint else f"it ended with status {self.process.returncode}")


@contextmanager
def _sandboxed(kind: str, request: dict[str, Any], receiving: _End, sending: _End) -> Iterator[_Side]:
    """Start an interpreter that will be confined, hand it its request; on leaving, nothing of it runs any more."""
    with ExitStack() as stack:
        status, information = _pipe(stack), _pipe(stack)
        process = subprocess.Popen(
            confinement.command(kind, information=information[1].descriptor),
            stdin=subprocess.PIPE,
            # Nothing a program prints is needed, and so nothing can fill a disk or a pipe.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            pass_fds=[end.descriptor for end in (status[1], information[1], receiving, sending)],
            start_new_session=True,
        )
        stack.callback(process.stderr.close)
        information[1].close()
        try:
            request = {
                **request,
                **confinement.rules(kind),
                "receiving": receiving.descriptor,
                "sending": sending.descriptor,
                "status": status[1].descriptor,
            }
            with suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(request).encode())
            status[1].close()
            yield _Side(process, status[0].descriptor)
        finally:
            _end(process, information[0].descriptor)


def _end(process: subprocess.Popen[bytes], information: int) -> None:
    """Kill an interpreter and all that it started, and return when they are gone."""
    if process.poll() is None:
        # The first process of bubblewrap's process namespace: the kernel ends all others with it before bwrap is told.
        with suppress(ValueError, KeyError, ProcessLookupError, subprocess.TimeoutExpired):
            first, _ = json.JSONDecoder().raw_decode(os.read(information, 4096).decode())
            os.kill(first["child-pid"], signal.SIGKILL)
            process.wait(timeout=10)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _verdict(said: bytes, *, late: bool, status: int, seconds: float) -> Verdict:
    if late:
        return Verdict("timeout", None, seconds)
    try:
        message = json.loads(said)
    except ValueError:  # the test's interpreter died, of an answer too large for it
        return Verdict("crashed", None, seconds)
    if "error" in message:
        error = message["error"]
        verdict = _BY_ERROR.get(error, "error")
        # A program can raise an exception of any name.
        return Verdict(verdict, error if error is None or error.isidentifier() else "Exception", seconds)
    if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return Verdict("timeout", None, seconds)
    # No answer: the program left the interpreter by itself, or was killed.
    return Verdict("exit" if status == 0 else "crashed", None, seconds)


def run_all(
    programs: Iterable[Program], *, kind: str, workers: int | None = None, seconds: float = SECONDS
) -> list[Verdict]:
    """Run many programs, as many at a time as this process may use cores; verdicts in the order given."""
    from aletheia.observe import usable_cores

    programs: Sequence[Program] = list(programs)
    with ThreadPoolExecutor(max_workers=workers or usable_cores()) as pool:
        return list(pool.map(lambda program: run(program, kind=kind, seconds=seconds), programs))
