"""A real SLURM on this machine, below one folder: Leonardo's partitions and QOS, an account, nodes with dummy GPUs.

By hand: ``python tests/support/slurm_cluster.py start FOLDER``, then sbatch, squeue, sacct as anywhere, then ``stop
FOLDER``.
A machine has one at a time, since SLURM's programs look for ``/etc/slurm/slurm.conf``; what was there comes back at the
stop. It needs root's rights and Debian's packages.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

from slurm_accounting import FIELDS, SEPARATOR, Job, parse_jobs
from slurm_configuration import ACCOUNT, PARTITIONS
from slurm_daemons import PATH, Daemons, Refused

PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd", "mariadb-install-db")
PACKAGES = "slurmctld slurmd slurmdbd slurm-client munge mariadb-server-core mariadb-client-core"
USABLE = ("idle", "mixed", "allocated")


def lacking() -> tuple[str, str] | None:
    """Return what a cluster lacks on this machine and what to do, or None."""
    if os.geteuid() != 0:
        return "the right to start SLURM", "do it as root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    return (f"SLURM ({', '.join(absent)})", f"install Debian's packages {PACKAGES}") if absent else None


class Cluster(Daemons):
    """A running cluster as its users and its administrator see it; a context manager that starts and stops it."""

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a login node: this program's, with SLURM's programs and none of its variables."""
        prefixes = ("SLURM", "SBATCH", "SRUN", "SACCT", "SQUEUE", "SCANCEL", "SINFO")
        return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | {"PATH": PATH}

    def submit(self, command: str, *options: str) -> int:
        """Submit a shell command with sbatch's options as a user does; return the job's id.

        Raises
        ------
        Refused
            With sbatch's own words.
        """
        call = ["sbatch", "--parsable", f"--output={self.folder}/job-%j.log", *options, "--wrap", command]
        done = subprocess.run(call, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Refused(done.stderr.strip())
        return int(done.stdout)

    def printed(self, job: int) -> str:
        """Return what a job of ``submit`` has printed."""
        return (self.folder / f"job-{job}.log").read_text()

    def records(self) -> list[Job]:
        """Return accounting's records in the order of submission; a job that was requeued has one for each start."""
        form = ("--noheader", "--parsable2", f"--delimiter={SEPARATOR}", f"--format={','.join(FIELDS)}")
        return parse_jobs(
            self.run("sacct", *form, "--allusers", "--allocations", "--duplicates", "--starttime=now-1week")
        )

    def jobs(self) -> dict[int, Job]:
        """Return accounting's last record of each job, by its id."""
        return {job.id: job for job in self.records()}

    def squeue(self) -> dict[int, str]:
        """Return the state of each job that waits or runs, by its id."""
        rows = self.run("squeue", "--noheader", "--format=%A %T").splitlines()
        return {int(job): state for job, state in map(str.split, rows)}

    def nodes(self) -> dict[str, str]:
        """Return the state of each node (``idle``, ``mixed``, ``allocated``, ``down``, …) by its name."""
        return dict(map(str.split, self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()))

    def scancel(self, job: int, *options: str) -> None:
        """Cancel a job."""
        self.run("scancel", *options, str(job))

    def node_down(self, name: str) -> None:
        """Set a node down, as an administrator does with a broken one."""
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=test")

    def node_up(self, name: str) -> None:
        """Bring a node back, and wait until it takes jobs."""
        self.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
        self.wait(lambda: self.nodes()[name] in USABLE, f"node {name} takes jobs")

    def restart_controller(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End slurmctld and start it again. With SIGKILL it forgets what happened in the last five seconds."""
        self.end("slurmctld", with_signal)
        self.start_slurmctld()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Be without slurmdbd, so that sacct fails, and have it again afterwards."""
        self.end("slurmdbd")
        try:
            yield
        finally:
            self.start_slurmdbd()

    def tidy(self) -> None:
        """Cancel all jobs, bring all nodes back, and wait until all are idle."""
        self.run("scancel", f"--user={getpass.getuser()}")
        for name, state in self.nodes().items():
            if state.startswith(("down", "drain")):
                self.node_up(name)
        self.wait_idle()

    def wait_idle(self, seconds: float = 60) -> None:
        """Wait until no job waits or runs and each node is idle or down."""

        def idle() -> bool:
            return not self.squeue() and set(self.nodes().values()) <= {"idle", "down"}

        self.wait(idle, "no job waits or runs", seconds)

    def wait_for(self, job: int, *states: str, seconds: float = 60) -> Job:
        """Wait until accounting has a job in one of ``states``; return its record."""

        def there() -> bool:
            return job in (jobs := self.jobs()) and jobs[job].state in states

        self.wait(there, f"job {job} is {' or '.join(states)}", seconds)
        return self.jobs()[job]


def main() -> None:
    """Start or stop a cluster from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", help="where its files are; a new folder, or one of an earlier cluster")
    parser.add_argument("--wait", type=float, default=30, help="seconds that start waits for another cluster to stop")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.folder)
    if arguments.action == "stop":
        cluster.stop()
        return
    if absent := lacking():
        parser.exit(1, f"error: {absent[0]} is missing; {absent[1]}\n")
    try:
        cluster.start(patience=arguments.wait, detached=True)
    except (RuntimeError, TimeoutError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"SLURM runs; account {ACCOUNT}, partitions {', '.join(PARTITIONS)}; logs are in {cluster.folder}")


if __name__ == "__main__":
    main()
