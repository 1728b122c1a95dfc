"""SLURM's daemons, and those that they need, below one folder: started in order, and ended whatever happens.

Every process of a cluster, its jobs' too, starts with ``SLURM_CONF=FOLDER/…`` in its environment. By that mark
they are found: no list of them can be out of date. A keeper, a process of its own, ends them when the program that
started them is gone. While it lives it holds the lock of this machine.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from slurm_configuration import NODES, accounts, limits, write_configuration
from slurm_machine import OWN, link, linked, machine, unlink

# In the order of their start; each needs those before it.
DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd")
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


class Refused(RuntimeError):
    """A program of SLURM failed; the message is its own."""


class Daemons:
    """The daemons of one cluster. Nothing is remembered here: another object of the same folder can stop them.

    Parameters
    ----------
    folder
        Where everything is: a new folder, an empty one, or one of an earlier cluster, whose files go at the start.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        self.configuration = self.folder / OWN
        self._keeper: subprocess.Popen | None = None

    def start(self, *, patience: float = 30, detached: bool = False) -> None:
        """Start all daemons and wait until all nodes are idle.

        Parameters
        ----------
        patience
            Seconds to wait for another cluster of this machine to stop.
        detached
            Whether the cluster is to outlive this program.

        Raises
        ------
        RuntimeError
            If another cluster has the machine, or the folder does not serve.
        Refused, TimeoutError
            If a daemon does not start; nothing is left running.
        """
        self._check_folder()
        with machine(self.folder, patience) as lock:
            if left := linked():
                Daemons(left.parent).stop()
            unlink()
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_configuration(self.configuration)
            try:
                self._keeper = _start_keeper(self.configuration, lock, detached)
                link(self.configuration)
                self._start_daemons()
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End all daemons in reverse, then what is left of their jobs; put back what was in /etc/slurm."""
        for name in reversed(DAEMONS):
            self.end(name)
        # Twice nothing: a process may start another one while the list is made.
        empty = 0
        while empty < 2:
            left = {child for process in self.processes() for child in _family(process)}
            empty = 0 if left else empty + 1
            _end(left, signal.SIGKILL)
        if self._keeper:
            self._keeper.communicate()
            self._keeper = None
        if linked() == self.configuration:
            unlink()
        shutil.rmtree(self.folder / "mariadb", ignore_errors=True)

    def processes(self, name: str | None = None) -> list[psutil.Process]:
        """Return the processes of the cluster, this one never among them, or those that run one program."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, IndexError):
                # slurmstepd writes its title over its environment, but is at home beside its log.
                stepd = process.name() == "slurmstepd" and process.cwd() == str(self.folder)
                if stepd or process.environ().get("SLURM_CONF") == str(self.configuration):
                    program = Path(process.cmdline()[0]).name
                    found += [process] * (process.pid != os.getpid() and name in (None, program))
        return found

    def end(self, name: str, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon by the name of its program, with SIGKILL if it does not go within ten seconds."""
        daemons = self.processes(name)
        _end(daemons, with_signal)
        _end(daemons, signal.SIGKILL)

    def run(self, *command: str) -> str:
        """Return what one of SLURM's programs prints; raise ``Refused`` with its complaint if it fails."""
        done = subprocess.run(
            command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refused(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until ``condition`` holds, a failing program of SLURM being as good as False.

        Raises
        ------
        TimeoutError
            With ``what`` was expected, and the last lines of the logs.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(Refused):
                if condition():
                    return
            time.sleep(0.2)
        raise TimeoutError(f"not within {seconds:g} s: {what}\n{self._last_lines()}")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": PATH,
            "HOME": os.environ.get("HOME", "/"),
            "SLURM_CONF": str(self.configuration),
            "SLURM_TIME_FORMAT": "%s",
            # Where slurmdbd finds the database.
            "MYSQL_UNIX_PORT": str(self.folder / "mariadb.socket"),
        }

    def _check_folder(self) -> None:
        # A step's socket is FOLDER/NODE/NODE_JOB.STEP, and a socket's path has at most 107 characters.
        if len(str(self.folder)) > 70:
            raise RuntimeError(f"the folder's path may have 70 characters, {self.folder} has {len(str(self.folder))}")
        if self.folder.exists() and any(self.folder.iterdir()) and not self.configuration.exists():
            raise RuntimeError(f"{self.folder} has files that are not a cluster's; name a new folder")

    def _start_daemons(self) -> None:
        self._start_munged()
        self._start_mariadbd()
        self.start_slurmdbd()
        for command in accounts():
            self.run("sacctmgr", "--immediate", *command.split())
        self.start_slurmctld()
        for node in NODES:
            self.run("slurmd", "-N", node.name)
        for command in limits():
            self.run("sacctmgr", "--immediate", *command.split())
        self.wait(lambda: set(self.run("sinfo", "-h", "-N", "-o", "%T").split()) == {"idle"}, "all nodes are idle")

    def _start_munged(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        files = [f"--{kind}-file={self.folder}/munge.{kind}" for kind in ("key", "pid", "log", "seed")]
        # --force: others may write to the folder above, /tmp.
        self.run("munged", "--force", "--num-threads=4", f"--socket={self.folder}/munge.socket", *files)

    def _start_mariadbd(self) -> None:
        data, user = f"--datadir={self.folder}/mariadb", f"--user={getpass.getuser()}"
        self.run("mariadb-install-db", "--no-defaults", data, user, "--skip-test-db")
        # Made here, since slurmdbd's library, having found no database, takes none of the one that slurmdbd makes.
        (self.folder / "mariadb.sql").write_text("create database slurm;\n")
        place = [data, user, f"--socket={self.folder}/mariadb.socket", "--skip-networking"]
        place.append(f"--init-file={self.folder}/mariadb.sql")
        # Nothing here outlives the machine: no wait for the disk.
        haste = ["--innodb-flush-log-at-trx-commit=0", "--innodb-fast-shutdown=2"]
        log = f"--log-error={self.folder}/mariadbd.log"
        self.run("setsid", "--fork", "mariadbd", "--no-defaults", *place, *haste, log)
        self.wait(lambda: _accepts(self.folder / "mariadb.socket"), "mariadbd takes connections")

    def start_slurmdbd(self) -> None:
        """Start slurmdbd and wait until it answers."""
        self.run("slurmdbd")
        self.wait(lambda: self.run("sacctmgr", "--noheader", "list", "cluster") is not None, "slurmdbd answers")

    def start_slurmctld(self) -> None:
        """Start slurmctld and wait until it answers."""
        self.run("slurmctld")
        self.wait(lambda: "UP" in self.run("scontrol", "ping"), "slurmctld answers")

    def _last_lines(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-5:])


def _start_keeper(configuration: Path, lock: int, detached: bool) -> subprocess.Popen:
    """Start a process that stops the cluster when the pipe from this program breaks."""
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    command = [sys.executable, __file__, str(configuration.parent)] + ["detached"] * detached
    with (configuration.parent / "keeper.log").open("w") as log:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )


def _keep(folder: str, detached: bool) -> None:
    if detached:
        signal.pause()
    sys.stdin.read()
    Daemons(folder).stop()


def _family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process with all that descends from it: a job's programs may have another environment."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def _end(processes: Iterable[psutil.Process], with_signal: signal.Signals) -> None:
    """Signal processes and wait, at most ten seconds, until none does anything more."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(with_signal)
    end = time.monotonic() + 10
    while any(map(_alive, processes)) and time.monotonic() < end:
        time.sleep(0.05)


def _alive(process: psutil.Process) -> bool:
    """Whether a process still runs; one that its parent has not yet asked for its end does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False


if __name__ == "__main__":
    _keep(sys.argv[1], detached="detached" in sys.argv[2:])
