"""Run a script in a fork of the server's as if it ran here: same output, same status, same signals."""

# Imports cost what this saves: only what takes a millisecond.
import contextlib
import json
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    """Ask for a fork and wait for its end; where none is to be had, become the interpreter."""
    arguments = sys.argv[1:]
    # A signal that comes before the job's process is known waits here, and is then told to the job.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    answers = _asked(arguments)
    started = answers.readline() if answers else b""
    if not started:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        interpreter = os.environ["ALETHEIA_INTERPRETER"]
        os.execv(interpreter, [interpreter, *arguments])
    job = int(started)
    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _tell(job, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    ended = answers.readline()
    # No status: the server was killed, and with it what it forked.
    _end(int(ended) if ended else -signal.SIGKILL)


def _asked(arguments):
    """Send the request; return the file of its answers, or None where nobody listens."""
    umask = os.umask(0)
    os.umask(umask)
    request = {"argv": arguments, "cwd": os.getcwd(), "env": dict(os.environ), "umask": umask, "started": _started()}
    content = json.dumps(request).encode()
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(os.environ["ALETHEIA_FORK_SERVER"])
        socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(content)
    except OSError:
        return None
    return server.makefile("rb")


def _started():
    """Return when this process began, in clock ticks from the system's start: field 22 of proc(5)."""
    with open("/proc/self/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[19])


def _tell(job, number):
    with contextlib.suppress(ProcessLookupError):  # it has ended, and its status is on the way
        os.kill(job, number)


def _end(status):
    """End as the job did: with its status, or by the signal that ended it."""
    if status < 0:
        with contextlib.suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
