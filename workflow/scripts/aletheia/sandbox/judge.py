"""Run generated programs in a sandbox: limits on time, memory, files, processes; no environment.

With bubblewrap (``bwrap``) a program sees no network, no home, no other process and no file but a read-only
interpreter. Where it is missing, weaker kinds remain (:mod:`aletheia.sandbox.command`), used only if the setting allows
them; each result says which it was. In all, the test runs in an interpreter of its own, to which the program can say
nothing but data (:mod:`aletheia.sandbox.runner`).
"""

from __future__ import annotations

import functools
import json
import math
import resource
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from aletheia.errors import UserError
from aletheia.sandbox import command, runner
from aletheia.sandbox.process import SandboxError, confined_interpreter, pipe

# Chosen by hand. The slowest canonical solution of HumanEval needs 2 s here; the others a few milliseconds.
SECONDS = 10.0
MEMORY_BYTES = 1 << 30
INTERPRETERS = 2  # of a program: its own and its test's, each with that limit
# MiB of the process that judges, with its tables; it takes about 100.
JUDGE_MB = 512
# File descriptors. One program takes at most 18, while its second interpreter starts; a few are the judge's own.
DESCRIPTORS_PER_PROGRAM = 20
# The line of the test's interpreter when the program's has ended.
ENDED = b'{"ended": true}'
# The verdict by the name of the exception; any other is an "error".
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
    """The result of one program."""

    verdict: str
    error: str | None
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the test returned."""
        return self.verdict == "passed"


def why_unusable(kind: str) -> str | None:
    """Return why a trial program fails in this kind of sandbox; None where it passes."""
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
    kinds = command.KINDS
    if weakest not in kinds:
        raise UserError(f"evaluation.humaneval.sandbox: expected one of {', '.join(kinds)}, found {weakest!r}")
    reasons = []
    for kind in kinds[: kinds.index(weakest) + 1]:
        reason = why_unusable(kind)
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
        When an interpreter could not be confined, or could not be ended.
    """
    if missing := command.missing_for(kind):
        raise SandboxError(missing)
    if kind == "rlimits":
        command.hide_process()
    try:
        return _run(program, kind=kind, seconds=seconds, memory_bytes=memory_bytes)
    except (OSError, subprocess.TimeoutExpired) as error:  # no process, no descriptor; none of the program's
        raise SandboxError(str(error)) from error


def _run(program: Program, *, kind: str, seconds: float, memory_bytes: int) -> Verdict:
    limits = {"cpu_seconds": math.ceil(seconds) + 1, "memory_bytes": memory_bytes}
    code = {"role": "program", "code": program.code, "entry_point": program.entry_point}
    test = {"role": "test", "test": program.test, "entry_point": program.entry_point, "helpers": program.helpers}
    with ExitStack() as stack:
        calls, answers = pipe(stack), pipe(stack)
        tester = stack.enter_context(confined_interpreter(kind, {**test, **limits}, answers[0], calls[1]))
        # A program starts as soon as it can, and finds its test confined already.
        tester.wait_until_ready()
        tested = stack.enter_context(confined_interpreter(kind, {**code, **limits}, calls[0], answers[1]))
        for end in (*calls, *answers):
            end.close()
        tested.wait_until_ready()
        started = time.monotonic()
        line, late = tester.line(started + seconds)
        elapsed = time.monotonic() - started
        if line == ENDED:
            late = elapsed >= seconds  # the processor limit ended it before the wall-clock limit
            # bwrap ends a moment after the program, with the program's exit status.
            with suppress(subprocess.TimeoutExpired):
                tested.process.wait(timeout=5)
    return _verdict(line, late=late, status=tested.process.returncode, seconds=round(elapsed, 3))


def _verdict(line: bytes, *, late: bool, status: int, seconds: float) -> Verdict:
    if late:
        return Verdict("timeout", None, seconds)
    if line != ENDED:
        try:
            error = json.loads(line)["error"]
        except ValueError:  # the test's interpreter died, of an answer too large for it
            return Verdict("crashed", None, seconds)
        verdict = _BY_ERROR.get(error, "error")
        # A program can raise an exception with any string as its name.
        plain = error is None or (error.isidentifier() and len(error) <= runner.LONGEST_NAME)
        return Verdict(verdict, error if plain else "Exception", seconds)
    # No answer: the program left the interpreter by itself, or was killed.
    return Verdict("exit" if status == 0 else "crashed", None, seconds)


def run_all(
    programs: Iterable[Program], *, kind: str, workers: int | None = None, seconds: float = SECONDS
) -> list[Verdict]:
    """Run many programs in parallel, one a usable core by default; verdicts in the order given.

    Raises
    ------
    SandboxError
        When the sandbox of one did not work twice.
    """
    from aletheia.provenance.machine import usable_cores

    def judge_one(program: Program) -> Verdict:
        try:
            return run(program, kind=kind, seconds=seconds)
        except SandboxError:
            return run(program, kind=kind, seconds=seconds)

    programs: Sequence[Program] = list(programs)
    with ThreadPoolExecutor(max_workers=workers_within_limits(workers or usable_cores())) as pool:
        return list(pool.map(judge_one, programs))


def memory_mb(workers: int) -> int:
    """Return the memory, in MiB, that judging so many programs at a time may take."""
    return JUDGE_MB + workers * INTERPRETERS * MEMORY_BYTES // 2**20


def workers_within_limits(workers: int) -> int:
    """Return the number of programs that can run in parallel within the limit on open files; at least one."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return workers if limit == resource.RLIM_INFINITY else max(1, min(workers, limit // DESCRIPTORS_PER_PROGRAM))
