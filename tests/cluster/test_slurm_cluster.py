"""The tests' SLURM is one: it accounts, charges, limits, refuses, and survives as a cluster does."""

import contextlib
import os
import signal
import time

import psutil
import pytest

from slurm_accounting import parse_tres
from slurm_cluster import Refused
from slurm_configuration import ACCOUNT, PARTITIONS, QOS

pytestmark = pytest.mark.slow

MINE = f"--account={ACCOUNT}"
BOOST = (MINE, "--partition=boost_usr_prod")


@pytest.fixture(autouse=True)
def _tidy(cluster):
    yield
    cluster.tidy()


def running(cluster, *options, command="sleep 600"):
    """Submit a job and wait until it runs."""
    job = cluster.submit(command, *options)
    cluster.wait_for(job, "RUNNING")
    return job


def test_a_new_cluster_is_idle_and_has_leonardos_partitions_and_qos(cluster):
    assert cluster.nodes() == dict.fromkeys(("lrdn0001", "lrdn0002", "lrdn3001", "serial01"), "idle")
    assert not cluster.squeue()
    rows = cluster.run("sinfo", "--noheader", "--format=%R %l %c %m %G", "--partition=boost_usr_prod").splitlines()
    assert rows == ["boost_usr_prod 1-00:00:00 32 494000 gpu:a100:4"]
    assert set(cluster.run("sinfo", "--noheader", "--format=%R").split()) == set(PARTITIONS)
    listed = cluster.run("sacctmgr", "--noheader", "--parsable2", "list", "qos", "format=name,maxwall").split()
    assert {row.split("|")[0] for row in listed} == set(QOS)
    assert "boost_qos_dbg|00:30:00" in listed
    assert "boost_qos_lprod|4-00:00:00" in listed


def test_accounting_knows_what_a_job_asked_for_and_got(cluster):
    asked = ("--qos=boost_qos_dbg", "--gres=gpu:1", "--cpus-per-task=8", "--mem=123500", "--time=10")
    before = time.time()
    job = cluster.wait_for(cluster.submit("sleep 2", *BOOST, *asked, "--comment=a rule|its, wildcards"), "COMPLETED")
    assert (job.partition, job.qos, job.account) == ("boost_usr_prod", "boost_qos_dbg", "iscrc_test")
    tres = {"billing": 8, "cpu": 8, "gres/gpu": 1, "mem": 123500, "node": 1}
    assert (job.requested, job.allocated) == (tres, tres)
    assert job.limit_minutes == 10
    assert job.nodes in {"lrdn0001", "lrdn0002"}
    assert (job.restarts, job.exit_code, job.comment) == (0, "0:0", "a rule|its, wildcards")
    assert before - 1 <= job.submit <= job.start
    assert 1 <= job.end - job.start <= 10


@pytest.mark.parametrize(
    ("cpus", "mem", "gpus", "billing"),
    [(8, 123500, 1, 8), (8, 123500, 2, 16), (16, 1000, 1, 16), (1, 247000, 0, 16), (32, 494000, 4, 32)],
)
def test_the_charge_is_the_largest_share_of_a_node(cluster, cpus, mem, gpus, billing):
    options = (f"--cpus-per-task={cpus}", f"--mem={mem}", *([f"--gres=gpu:{gpus}"] if gpus else []))
    job = cluster.wait_for(cluster.submit("true", *BOOST, *options), "COMPLETED")
    assert job.allocated["billing"] == billing


def test_the_serial_partition_is_the_default_and_free_of_charge(cluster):
    job = cluster.wait_for(cluster.submit("true", MINE), "COMPLETED")
    assert (job.partition, job.qos) == ("lrd_all_serial", "normal")
    assert job.allocated == {"cpu": 1, "mem": 1000, "node": 1}


@pytest.mark.parametrize("count", [1, 4])
def test_a_job_sees_as_many_devices_as_it_asked_for(cluster, count):
    job = cluster.submit("echo $CUDA_VISIBLE_DEVICES", *BOOST, f"--gres=gpu:{count}")
    cluster.wait_for(job, "COMPLETED")
    assert cluster.printed(job).strip() == ",".join(map(str, range(count)))


def test_two_jobs_on_one_node_have_devices_of_their_own(cluster):
    here = (*BOOST, "--gres=gpu:2", "--nodelist=lrdn0001")
    jobs = [running(cluster, *here, command="echo $CUDA_VISIBLE_DEVICES; sleep 600") for _ in range(2)]
    cluster.wait(lambda: all(cluster.printed(job) for job in jobs), "both jobs print their devices")
    assert sorted(",".join(cluster.printed(job).strip() for job in jobs).split(",")) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Invalid account"),
        (["--account=nobody"], "Invalid account"),
        ([MINE, "--partition=nowhere"], "Invalid partition name"),
        ([*BOOST, "--qos=nothing"], "Invalid qos"),
        ([MINE, "--partition=lrd_all_serial", "--qos=boost_qos_dbg"], "Invalid qos"),
        ([*BOOST, "--qos=boost_qos_dbg", "--time=31"], "QOSMaxWallDurationPerJobLimit"),
        ([*BOOST, "--qos=boost_qos_lprod", "--time=4-01:00:00"], "QOSMaxWallDurationPerJobLimit"),
        ([*BOOST, "--qos=boost_qos_bprod"], "QOSMinNode"),
        ([*BOOST, "--time=24:01:00"], "time limit is invalid"),
        ([MINE, "--time=04:01:00"], "time limit is invalid"),
        ([MINE, "--mem=30801"], "Memory required by task is not available"),
        ([MINE, "--cpus-per-task=5"], "More processors requested than permitted"),
        ([MINE, "--gres=gpu:1"], "node configuration is not available"),
        ([*BOOST, "--gres=gpu:5"], "node configuration is not available"),
    ],
)
def test_an_impossible_job_is_refused_with_slurms_own_words(cluster, options, words):
    with pytest.raises(Refused, match=words):
        cluster.submit("true", *options)
    assert not cluster.squeue()


def test_a_long_qos_goes_beyond_the_partitions_day(cluster):
    job = cluster.wait_for(cluster.submit("true", *BOOST, "--qos=boost_qos_lprod", "--time=4-00:00:00"), "COMPLETED")
    assert (job.qos, job.limit_minutes) == ("boost_qos_lprod", 4 * 24 * 60)


def test_the_debug_qos_runs_two_jobs_at_a_time(cluster):
    debug = (*BOOST, "--qos=boost_qos_dbg", "--time=30")
    for _ in range(2):
        running(cluster, *debug)
    third = cluster.submit("true", *debug)
    reason = ("squeue", "--noheader", f"--jobs={third}", "--format=%r")
    cluster.wait(lambda: cluster.run(*reason).strip() == "QOSMaxJobsPerUserLimit", "the third job waits for the QOS")


def test_jobs_of_a_node_set_down_end_and_are_requeued_unless_they_said_no(cluster, tmp_path):
    note = f"echo $$ > {tmp_path}/$SLURM_JOB_ID; sleep 600"
    again = running(cluster, *BOOST, "--nodes=1", "--exclude=lrdn0002", "--requeue", command=note)
    never = running(cluster, *BOOST, "--nodes=1", "--exclude=lrdn0002", "--no-requeue", command=note)
    cluster.wait(lambda: all((tmp_path / str(job)).exists() for job in (again, never)), "both jobs noted their process")
    shells = [int((tmp_path / str(job)).read_text()) for job in (again, never)]
    cluster.node_down("lrdn0001")
    failed = cluster.wait_for(never, "NODE_FAIL")
    assert failed.nodes == "lrdn0001"
    cluster.wait(lambda: not any(map(alive, shells)), "the jobs' processes ended")
    assert cluster.nodes()["lrdn0001"].startswith("down")
    assert never not in cluster.squeue()
    assert again in cluster.squeue()
    cluster.node_up("lrdn0001")
    assert cluster.wait_for(again, "RUNNING").restarts == 1
    states = [record.state for record in cluster.records() if record.id == again]
    assert states[0] == "NODE_FAIL"
    assert [record.state for record in cluster.records() if record.id == never] == ["NODE_FAIL"]


def alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_goes_on_while_the_controller_starts_again(cluster, how):
    job = running(cluster, *BOOST, "--gres=gpu:1", command="sleep 14; echo done")
    # What a killed controller has not yet written down, it forgets.
    time.sleep(7)
    cluster.restart_controller(how)
    after = cluster.wait_for(job, "COMPLETED")
    assert after.restarts == 0
    assert 13 <= after.end - after.start <= 20
    assert cluster.printed(job) == "done\n"
    assert [record.id for record in cluster.records()].count(job) == 1


def test_a_job_that_ends_while_accounting_is_out_is_known_afterwards(cluster):
    job = running(cluster, *BOOST, command="sleep 3")
    with cluster.outage():
        with pytest.raises(Refused, match="Connection refused"):
            cluster.jobs()
        cluster.wait_idle()
    assert cluster.wait_for(job, "COMPLETED").exit_code == "0:0"


def test_a_cancelled_job_is_cancelled_with_its_processes(cluster, tmp_path):
    job = running(cluster, *BOOST, command=f"echo $$ > {tmp_path}/pid; sleep 600")
    cluster.wait((tmp_path / "pid").exists, "the job noted its process")
    cluster.scancel(job)
    assert cluster.wait_for(job, "CANCELLED").end is not None
    cluster.wait_idle()
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_job_past_its_time_is_killed(cluster):
    job = cluster.submit("sleep 600", *BOOST, "--time=1")
    late = cluster.wait_for(job, "TIMEOUT", seconds=150)
    assert 60 <= late.end - late.start <= 120


def test_a_job_beyond_its_memory_is_killed(cluster):
    # Two hundred megabytes of a shell's own.
    job = cluster.submit("x=$(head -c 200M /dev/zero | tr '\\0' x); sleep 60", MINE, "--mem=50")
    assert cluster.wait_for(job, "FAILED", "OUT_OF_MEMORY").end is not None
    assert "exceeded memory limit" in cluster.printed(job)


def test_an_urgent_job_puts_another_back_into_the_queue(cluster):
    victim = running(cluster, *BOOST, "--nodes=2", "--gres=gpu:4", "--requeue")
    urgent = cluster.submit("true", *BOOST, "--nodes=2", "--gres=gpu:4", "--qos=urgent")
    cluster.wait_for(urgent, "COMPLETED")
    assert cluster.wait_for(victim, "RUNNING").restarts == 1
    states = [record.state for record in cluster.records() if record.id == victim]
    assert (states[0], states[-1]) == ("PREEMPTED", "RUNNING")


def test_a_login_nodes_environment_has_nothing_of_a_job(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SBATCH_PARTITION", "nowhere")
    assert not [name for name in cluster.environment if name.startswith(("SLURM", "SBATCH"))]
    assert cluster.environment["HOME"] == os.environ["HOME"]
    assert cluster.wait_for(cluster.submit("true", MINE), "COMPLETED").partition == "lrd_all_serial"


def test_tres_are_read_as_numbers():
    assert parse_tres("billing=8,cpu=8,gres/gpu=1,mem=1.5G,node=1") == {
        "billing": 8,
        "cpu": 8,
        "gres/gpu": 1,
        "mem": 1536,
        "node": 1,
    }
    assert parse_tres("") == {}
