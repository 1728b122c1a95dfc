"""One confined interpreter: start it, hand it its request, wait until it is confined, read what it says, end it."""

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

# For the two interpreters to start, on a machine however busy; later it is the sandbox that does not work.
STARTING_SECONDS = 120.0
LINE_BYTES = 1 << 16


class SandboxError(RuntimeError):
    """The sandbox itself did not work: nothing is known about the program."""


class End:
    """One end of a pipe, closed once."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Close it, unless it is closed."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def pipe(stack: ExitStack) -> tuple[End, End]:
    """Return the reading and the writing end of a pipe; the stack closes what is left open."""
    ends = tuple(map(End, os.pipe()))
    for end in ends:
        stack.callback(end.close)
    return ends


@dataclass
class Side:
    """One confined interpreter, and what came through its status pipe."""

    process: subprocess.Popen[bytes]
    status: int
    unread: bytes = b""

    def line(self, deadline: float) -> tuple[bytes, bool]:
        """Return the next line, or what came instead, and whether the time ran out first."""
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
        """Return once the interpreter is confined; the program has not run before."""
        said, late = self.line(time.monotonic() + STARTING_SECONDS)
        if late:
            raise SandboxError(f"the sandbox did not start within {STARTING_SECONDS:.0f} s")
        if said != b"ready":
            self.process.wait(timeout=STARTING_SECONDS)
            complaint = self.process.stderr.read().decode(errors="replace").strip().splitlines()
            raise SandboxError(complaint[-1] if complaint else f"it ended with status {self.process.returncode}")


@contextmanager
def confined(kind: str, request: dict[str, Any], receiving: End, sending: End) -> Iterator[Side]:
    """Start an interpreter that will be confined, hand it its request; on leaving, nothing of it runs any more."""
    with ExitStack() as stack:
        status = pipe(stack)
        # Only bwrap writes there, and only bwrap gets it: what it says is acted upon.
        information = pipe(stack) if kind == "bubblewrap" else ()
        process = subprocess.Popen(
            command.command(kind, information=information[1].descriptor if information else None),
            stdin=subprocess.PIPE,
            # Nothing a program prints is needed, and so nothing can fill a disk or a pipe.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            pass_fds=[end.descriptor for end in (status[1], receiving, sending, *information[1:])],
            start_new_session=True,
        )
        # Each is called, the last first, whatever becomes of the others.
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
        yield Side(process, status[0].descriptor)


def _readable(descriptor: int, seconds: float) -> bool:
    """Wait until a descriptor, whatever its number, can be read; return whether it can."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(math.ceil(1000 * seconds)))


def first_process(said: bytes) -> int | None:
    """Return the number of the first process of bwrap's process namespace, from what bwrap said; None if it did not."""
    try:
        found = json.JSONDecoder().raw_decode(said.decode())[0]["child-pid"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if type(found) is int and found > 1 else None


def _kill_first(process: subprocess.Popen[bytes], information: int) -> None:
    """Kill all of bwrap's process namespace: the kernel ends the others with the first, before bwrap is told."""
    if process.poll() is None and _readable(information, 0):
        first = first_process(os.read(information, 4096))
        if first is not None:
            with suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
                os.kill(first, signal.SIGKILL)
                process.wait(timeout=10)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
