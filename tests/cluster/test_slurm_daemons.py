"""The tests' SLURM leaves nothing behind: after a kill, a failed start, a stop; one at a time has the machine."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from conftest import SUPPORT, missing
from slurm_cluster import Cluster, lacking
from slurm_configuration import ACCOUNT
from slurm_machine import CONFIGURATION, KEPT, linked, machine

pytestmark = pytest.mark.slow

# Another worker's module may have the machine: its tests take minutes.
PATIENCE = 3600
# By this number the job's last process is known, which has none of the cluster's environment.
NAP = "611.25"
PROGRAM = f"""
import sys, time
from slurm_cluster import Cluster
cluster = Cluster(sys.argv[1])
cluster.start(patience={PATIENCE})
cluster.wait_for(cluster.submit("env -i sleep {NAP}", "--account={ACCOUNT}", "--partition=boost_usr_prod"), "RUNNING")
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path_factory):
    """Return a folder with a short name, and stop whatever is left below it."""
    if absent := lacking():
        missing(*absent)
    folder = tmp_path_factory.mktemp("slurm")
    yield folder
    Cluster(folder).stop()


def parent(folder):
    """Start a program that starts a cluster and a job."""
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def command_line(*arguments, **environment):
    program = [sys.executable, str(SUPPORT / "slurm_cluster.py"), *map(str, arguments)]
    return subprocess.run(program, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def napping():
    return any(NAP in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))


def assert_nothing_is_left(folder):
    assert Cluster(folder).processes() == []
    assert linked() != Cluster(folder).configuration


@pytest.mark.parametrize("keeper_too", [False, True])
def test_a_cluster_whose_program_was_killed_is_gone_before_the_next_one(folder, tmp_path_factory, keeper_too):
    first = Cluster(folder)
    program = parent(folder)
    assert program.stdout.readline() == "up\n"
    first.wait(napping, "the job's last process")
    before = first.processes()
    assert {"slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd"} <= {process.name() for process in before}
    for process in before:
        if keeper_too and any(part.endswith("slurm_daemons.py") for part in process.cmdline()):
            process.kill()
    program.kill()
    program.wait()
    program.stdout.close()
    with Cluster(tmp_path_factory.mktemp("slurm")) as second:
        assert set(second.nodes().values()) == {"idle"}
        assert not second.squeue()
        assert_nothing_is_left(folder)
        assert not [process for process in before if process.is_running() and process.status() != "zombie"]
        assert not napping()


@pytest.mark.parametrize("daemon", ["munged", "mariadbd", "slurmctld"])
def test_a_start_that_was_killed_half_way_leaves_nothing(folder, daemon):
    cluster, program = Cluster(folder), parent(folder)
    cluster.wait(lambda: bool(cluster.processes(daemon)), f"{daemon} starts", PATIENCE)
    program.kill()
    program.wait()
    program.stdout.close()
    cluster.wait(lambda: not cluster.processes(), "the keeper ends all")
    cluster.wait(lambda: linked() != cluster.configuration, "the link is gone")


def test_a_start_that_fails_says_why_and_leaves_nothing(folder, tmp_path):
    broken = tmp_path / "slurmctld"
    broken.write_text("#!/bin/sh\necho 'no state today' >&2\nexit 1\n")
    broken.chmod(0o755)
    done = command_line("start", folder, f"--wait={PATIENCE}", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (1, "error: slurmctld: no state today\n")
    assert (folder / "slurmdbd.log").exists()
    assert_nothing_is_left(folder)


def test_a_cluster_of_the_command_line_outlives_it_until_its_stop(folder, tmp_path_factory):
    done = command_line("start", folder, f"--wait={PATIENCE}")
    assert done.returncode == 0, done.stderr
    assert ACCOUNT in done.stdout
    # A shell of somebody who knows nothing of the cluster's folder.
    bare = {"PATH": "/usr/sbin:/usr/bin:/bin"}
    assert b"boost_usr_prod" in subprocess.run(["sinfo"], env=bare, capture_output=True, check=True).stdout
    with pytest.raises(RuntimeError, match=f"another cluster runs below {folder}; stop it first"):
        Cluster(tmp_path_factory.mktemp("slurm")).start(patience=0)
    assert command_line("stop", folder).returncode == 0
    assert_nothing_is_left(folder)
    # The same folder serves again.
    with Cluster(folder) as again:
        assert set(again.nodes().values()) == {"idle"}


def test_a_configuration_that_was_there_comes_back(folder):
    with machine(folder, PATIENCE):
        if left := linked():
            Cluster(left.parent).stop()
        there = CONFIGURATION.read_bytes() if CONFIGURATION.exists() else None
        CONFIGURATION.write_text("# somebody's own\n")
    cluster = Cluster(folder)
    try:
        cluster.start(patience=PATIENCE)
        assert CONFIGURATION.resolve() == cluster.configuration
        cluster.stop()
        with machine(folder, PATIENCE):
            assert CONFIGURATION.read_text() == "# somebody's own\n"
            assert not KEPT.exists()
    finally:
        cluster.stop()
        with machine(folder, PATIENCE):
            CONFIGURATION.unlink() if there is None else CONFIGURATION.write_bytes(there)


def test_a_folder_with_other_files_is_refused_and_kept(folder):
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(RuntimeError, match="has files that are not a cluster's; name a new folder"):
        Cluster(folder).start()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_folder_with_a_long_path_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="the folder's path may have 70 characters"):
        Cluster(Path(tmp_path, "x" * 70)).start()
