"""One confined interpreter: start it, send its request, wait until it is confined, read its lines, end it."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aletheia.sandbox import command

# Time for an interpreter to start, even on a busy machine; after that the sandbox counts as broken.
STARTING_SECONDS = 120.0
LINE_BYTES = 1 << 16


class SandboxError(RuntimeError):
    """The sandbox itself did not work: nothing is known about the program."""


class PipeEnd:
    """One end of a pipe, closed once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Close it, unless it is closed."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def pipe(stack: ExitStack) -> tuple[PipeEnd, PipeEnd]:
    """Return the reading and the writing end of a pipe; the stack closes what is left open."""
    ends = tuple(map(PipeEnd, os.pipe()))
    for end in ends:
        stack.callback(end.close)
    return ends


@dataclass
class Interpreter:
    """One confined interpreter.

    Attributes
    ----------
    process
        Of the interpreter, or of bwrap around it.
    status
        Descriptor of its status pipe, from which its lines are read.
    unread
        What came through that pipe after the last line.
    """

    process: subprocess.Popen[bytes]
    status: int
    unread: bytes = b""

    def line(self, deadline: float) -> tuple[bytes, bool]:
        """Return the next line, or the rest before the pipe's end, and whether the deadline passed first."""
        while b"\n" not in self.unread and len(self.unread) < LINE_BYTES:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not _readable(self.status, remaining):
                return b"", True
            block = os.read(self.status, 4096)
            if not block:
                break
            self.unread += block
        line, _, self.unread = self.unread.partition(b"\n")
        return line, False

    def wait_until_ready(self) -> None:
        """Wait until the interpreter is confined; the program starts only after that."""
        line, late = self.line(time.monotonic() + STARTING_SECONDS)
        if late:
            raise SandboxError(f"the sandbox did not start within {STARTING_SECONDS:.0f} s")
        if line != b"ready":
            self.process.wait(timeout=STARTING_SECONDS)
            complaint = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            raise SandboxError(complaint[-1] if complaint else f"it ended with status {self.process.returncode}")


@contextmanager
def confined_interpreter(
    kind: str, request: dict[str, Any], receiving: PipeEnd, sending: PipeEnd
) -> Iterator[Interpreter]:
    """Start an interpreter that confines itself, and send it its request; on leaving, all its processes are dead."""
    with ExitStack() as stack:
        status = pipe(stack)
        # The pipe of --info-fd. The sandboxed program must not inherit it, since the process that it names is killed.
        information = pipe(stack) if kind == "bubblewrap" else ()
        process = subprocess.Popen(
            command.command(kind, information=information[1].descriptor if information else None),
            stdin=subprocess.PIPE,
            # A program's output is not needed; discarded, it can fill no disk and no pipe.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            pass_fds=[end.descriptor for end in (status[1], receiving, sending, *information[1:])],
            start_new_session=True,
        )
        # The last is called first, and each of them even where another one raises.
        stack.callback(process.stderr.close)
        stack.callback(process.wait, timeout=STARTING_SECONDS)
        stack.callback(_kill_group, process)
        if information:
            stack.callback(_kill_first, process, information[0].descriptor)
            information[1].close()
        request = {
            **request,
            **command.rules(kind),
            "receiving": receiving.descriptor,
            "sending": sending.descriptor,
            "status": status[1].descriptor,
        }
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(request).encode())
        status[1].close()
        yield Interpreter(process, status[0].descriptor)


def _readable(descriptor: int, seconds: float) -> bool:
    """Wait until a descriptor can be read, at most so many seconds; return whether it can."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(math.ceil(1000 * seconds)))


def first_process(information: bytes) -> int | None:
    """Return the id of the first process in bwrap's namespace, from its ``--info-fd``; None where it names none."""
    try:
        number = json.JSONDecoder().raw_decode(information.decode())[0]["child-pid"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return number if type(number) is int and number > 1 else None


def _kill_first(process: subprocess.Popen[bytes], information: int) -> None:
    """Kill bwrap's whole process namespace, by its first process: the kernel then kills the others."""
    if process.poll() is None and _readable(information, 0):
        first = first_process(os.read(information, 4096))
        if first is not None:
            with suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
                os.kill(first, signal.SIGKILL)
                process.wait(timeout=10)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
