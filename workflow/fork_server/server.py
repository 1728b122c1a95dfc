"""Start jobs at once: processes that have imported what a script needs, and fork for each job.

Importing torch and Transformers takes longer than what many jobs do. Here that is done once for each set of packages
and each environment, before any code of the project's runs, and each job is a fork: what runs is what a new interpreter
would run, less the waiting. `client.py` asks for a fork and stands for it. For jobs that this machine's own interpreter
runs, on Linux, without a GPU (CUDA forbids forks of a process that has touched it).

The server imports nothing and hands requests on. A warm process, forked from it at the first request of a kind, imports
and then forks jobs. The server ends with its standard input, a warm process once the server and its jobs have ended, a
job at the latest with its client.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, NoReturn

# What each script imports in any case. PEFT is not among them, since a job decides whether it meets bitsandbytes
# (`aletheia.method.loading`), nor is datasets, which reads a job's own folder from its environment.
MODEL = ("torch", "transformers.modeling_utils", "transformers.models.auto.modeling_auto")
DRAWING = ("numpy", "pandas", "scipy.stats", "matplotlib.pyplot", "seaborn")
IMPORTS = {
    **dict.fromkeys(("precision.py", "probe.py", "train.py", "interleave.py", "attribution.py"), MODEL),
    "evaluate_run.py": MODEL,
    **dict.fromkeys(("figures.py", "draw_attribution.py", "stability.py", "controls.py", "replication.py"), DRAWING),
    "fit_report.py": DRAWING,
}
# What these scripts set before they import; libraries read it then, and only then.
SET = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
# Variables, or beginnings of their names, that no import reads and that differ from job to job. Whatever else differs
# makes a warm process of its own.
NOT_READ = ("PWD", "OLDPWD", "SHLVL", "_", "ALETHEIA_", "PYTEST_")
KEPT = 4  # warm processes at a time; each takes up to 400 MB, most of it shared with its jobs
LENGTH = 8  # bytes before a request that say its own
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # for jobs, which get them through their clients
PR_SET_PDEATHSIG = 1


class Server:
    """Hands each request to a warm process of its kind."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._warm: dict[str, socket.socket] = {}  # by kind, the one used last at the end

    def serve(self) -> None:
        """Run until standard input ends."""
        with selectors.DefaultSelector() as selector:
            for source in (sys.stdin.buffer, self._listener):
                selector.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is not self._listener:
                        return
                    client, _ = self._listener.accept()
                    with client, contextlib.suppress(OSError, ValueError):
                        self._hand_on(client)

    def _hand_on(self, client: socket.socket) -> None:
        """Hand one request on; a client that hears nothing runs its script itself."""
        content, files = received(client, files=3)
        try:
            request = json.loads(content)
            imports = imports_of(request)
            if imports is None:
                return
            kind = json.dumps([imports, sorted(decisive(request["env"]).items())])
            self._warm[kind] = self._warm.pop(kind, None) or self._forked(imports, request["env"], client, files)
            try:
                sent(self._warm[kind], content, [client.fileno(), *files])
            except OSError:
                # It has ended, for want of a package, which the client's own interpreter will name.
                self._warm.pop(kind).close()
        finally:
            for file in files:
                os.close(file)

    def _forked(
        self, imports: Iterable[str], environment: dict[str, str], client: socket.socket, files: Iterable[int]
    ) -> socket.socket:
        """Fork a warm process, and return the socket that it takes requests from."""
        while len(self._warm) >= KEPT:
            self._warm.pop(next(iter(self._warm))).close()
        ours, requests = socket.socketpair()
        if os.fork():
            requests.close()
            return ours
        try:
            for thing in (ours, self._listener, client, *self._warm.values()):
                thing.close()
            for file in files:
                os.close(file)
            take_environment(environment | SET)
            gc.disable()
            for name in imports:
                importlib.import_module(name)
            # What is there stays: jobs need not look through it for garbage, nor copy its pages to do so.
            gc.freeze()
            gc.enable()
            WarmProcess(requests).serve()
        finally:
            os._exit(0)


class WarmProcess:
    """Forks jobs and tells their clients how they ended, until the server has gone and no job is left."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests, self._selector = requests, selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ, self._begin)

    def serve(self) -> None:
        """Run until the server has gone and no job is left."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        while self._selector.get_map():
            for key, _ in self._selector.select():
                # Of a job and its client that are both ready, the first may have ended the second.
                if key.fileobj in self._selector.get_map():
                    key.data()

    def _begin(self) -> None:
        """Take one request, and fork its job."""
        try:
            content, (connection, *files) = received(self._requests, files=4)
        except (OSError, ValueError):
            self._selector.unregister(self._requests)
            return
        client, warm = socket.socket(fileno=connection), os.getpid()
        # A signal waits until the job, which its client may tell at once, does not ignore it any more.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        process = os.fork()
        if process:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        else:
            # Copies of what belongs to other jobs would keep their clients waiting.
            for key in [*self._selector.get_map().values()]:
                os.close(key.fd)
            client.close()
            run(json.loads(content), files, parent=warm)
        for file in files:
            os.close(file)
        watched = os.pidfd_open(process)
        self._selector.register(watched, selectors.EVENT_READ, lambda: self._end(process, watched, client))
        self._selector.register(client, selectors.EVENT_READ, lambda: self._kill(process, client))
        with contextlib.suppress(OSError):
            client.sendall(b"%d\n" % process)

    def _kill(self, process: int, client: socket.socket) -> None:
        """End a job whose client was killed."""
        self._selector.unregister(client)
        os.kill(process, signal.SIGKILL)

    def _end(self, process: int, watched: int, client: socket.socket) -> None:
        """Tell a job's client its status, negative where a signal ended it."""
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        self._selector.unregister(watched)
        os.close(watched)
        if client in self._selector.get_map():
            self._selector.unregister(client)
        with client, contextlib.suppress(OSError):
            client.sendall(b"%d\n" % status)


def imports_of(request: dict[str, Any]) -> tuple[str, ...] | None:
    """Return what to import for a request; None for one that needs an interpreter of its own."""
    flag, script = (*request["argv"], "", "")[:2]
    # Python reads its variables when it starts, which was long ago.
    own, given = ({k: v for k, v in env.items() if k.startswith("PYTHON")} for env in (os.environ, request["env"]))
    return IMPORTS.get(os.path.basename(script)) if flag == "-s" and own == given else None


def decisive(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that an import may read."""
    return {name: value for name, value in environment.items() if not name.startswith(NOT_READ)}


def take_environment(environment: dict[str, str]) -> None:
    """Put an environment in the place of this process's."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()


def received(sender: socket.socket, *, files: int) -> tuple[bytes, list[int]]:
    """Return a request's bytes, and the file descriptors that came with it.

    Raises
    ------
    ValueError
        Where the sender has gone.
    """
    length, found, *_ = socket.recv_fds(sender, LENGTH, files)
    missing, parts = int.from_bytes(length, "big"), []
    if len(length) < LENGTH:
        raise ValueError("no request")
    while missing:
        parts.append(sender.recv(min(missing, 1 << 20)))
        if not parts[-1]:
            raise ValueError("half a request")
        missing -= len(parts[-1])
    return b"".join(parts), list(found)


def sent(receiver: socket.socket, content: bytes, files: list[int]) -> None:
    """Send a request and file descriptors."""
    socket.send_fds(receiver, [len(content).to_bytes(LENGTH, "big")], files)
    receiver.sendall(content)


def run(request: dict[str, Any], files: list[int], *, parent: int) -> NoReturn:
    """In a fork: be the interpreter that the client would have been."""
    status = 1
    try:
        os.setpgid(0, 0)  # signals come from the client, once
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return  # type: ignore[misc]  killed before it could be asked for
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.umask(request["umask"])
        os.chdir(request["cwd"])
        take_environment(request["env"] | {"ALETHEIA_STARTED": f"{os.getpid()}:{request['started']}"})
        sys.argv = request["argv"][1:]
        sys.orig_argv = [sys.executable, *request["argv"]]
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = _status(end.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # An interpreter's end, but for taking apart what is about to vanish.
        with contextlib.suppress(BaseException):
            threading._shutdown()
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)


def _status(code: object) -> int:
    """Return the status of a process that exits with this code, as Python has it."""
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def main() -> None:
    """Serve at the path that the command line names, until standard input ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # warm processes end when they will
    path = sys.argv[1]
    server = Server(path)
    print("ready", flush=True)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        server.serve()
    finally:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


if __name__ == "__main__":
    main()
