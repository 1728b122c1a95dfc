"""The study through Leonardo's profile, on a real SLURM with Leonardo's partitions and qualities of service."""

from __future__ import annotations

import contextlib
import csv
import getpass
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import yaml

from aletheia.audit.inventory import read_configuration
from aletheia.cluster import limits as clusters
from aletheia.cluster.limits import Request, read_cluster, refusals
from aletheia.cluster.queue import answer
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes
from aletheia.provenance import artifacts
from aletheia.sandbox import judge
from aletheia.study.load import load_study
from aletheia.study.schema import merge, read_yaml
from aletheia.study.study import Study
from conftest import ROOT, SUPPORT, copy_project, snakemake
from hashes import payload_hashes
from slurm_configuration import ACCOUNT, QOS

pytestmark = pytest.mark.slow

DRIVER = SUPPORT / "slurm_driver.py"
# The queue is looked at as often as it answers; on a cluster the profile spares the controller.
FAST = ("--max-status-checks-per-second", "5", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "15")
# Two threads of torch on a busy machine are slower than one.
ONE_THREAD = ("--max-threads", "1")
FAMILIES = "tests/cluster/config.yaml"
ONE = "tests/cluster/one.yaml"
REGISTRY = read_yaml(ROOT / "config/models.yaml")
LEDGER, STD = "results/aggregate/ledger.csv", "results/train/tiny-neox/std/seed1/run.json"
BASE = "results/evaluate/tiny-neox/base/heldout.json"
# Not the plan of batches: by it both arms hang together, and share an allocation.
BEFORE = "results/select/tiny-neox/ale/seed1.json"
# Of the jobs of one study, those that share an allocation: what befalls it is seen in them.
TRAINED = (STD, STD.replace("/std/", "/ale/"))
# All of both nodes, in a quality of service whose jobs put others back into the queue.
PREEMPTING = ("--partition=boost_usr_prod", "--qos=urgent", "--exclusive", "--gres=gpu:4", "--time=5")
# What a run of the same work may differ in: its times, its place, its try.
MEASURED = (
    "seconds",
    "tokens_per_second",
    "memory",
    "host",
    "device",
    "speedup",
    "comparable",
    "paired",
    "started",
    "busy",
)


class Controller(subprocess.Popen):
    """Snakemake in a copy of the project, with Leonardo's profile."""

    started: ClassVar[list[Controller]] = []

    def __init__(self, folder: Path, cluster, study: str, *arguments: str, account: str | None = ACCOUNT) -> None:
        environment = {k: v for k, v in cluster.environment.items() if k != "ALETHEIA_ACCOUNT"} | {
            "OMP_NUM_THREADS": "1"
        }
        if account:
            environment["ALETHEIA_ACCOUNT"] = account
        profile = ("--profile", "profiles/leonardo")
        command = [sys.executable, str(DRIVER), *arguments, *profile, *FAST, *ONE_THREAD, "--configfile", study]
        self.log = folder / "controller.log"
        with self.log.open("a") as log:
            super().__init__(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(self)

    def ended(self, status: int = 0) -> str:
        """Wait for the end, expect this status, and return what was said."""
        found = self.wait()
        said = self.log.read_text()
        assert found == status, said[-6000:]
        return said


@pytest.fixture(scope="module", autouse=True)
def executor(tmp_path_factory):
    """Install the executor for these controllers alone: Snakemake loads each that it finds at every start."""
    before = os.environ.get("PYTHONPATH")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        target = tmp_path_factory.mktemp("executor")
        names = ["snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"]
        pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.split("==")[0] in names]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*pip, *pinned], check=True)
        os.environ["PYTHONPATH"] = str(target)
    yield
    # Later tests of this worker would find other packages than those that made their study.
    os.environ.pop("PYTHONPATH", None)
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(autouse=True)
def nothing_left(cluster):
    """End what a failed test has left, so that the next one has the cluster to itself."""
    yield
    for controller in Controller.started:
        controller.kill()
        controller.wait()
    Controller.started.clear()
    for job in cluster.squeue():
        cluster.scancel(job)
    cluster.wait_idle()


def observed(path: Path) -> dict:
    """What an artifact says of the job that wrote it."""
    return json.loads(path.read_text())["observed"]


def ledger(folder: Path) -> list[dict[str, str]]:
    """The ledger's rows without what was measured."""
    with (folder / "results/aggregate/ledger.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not any(part in k for part in MEASURED)} for row in rows]


def planned(folder: Path, study: str) -> Study:
    """The study as data."""
    config = yaml.safe_load((folder / study).read_text())
    return load_study(merge(read_configuration([ROOT / "config/config.yaml"]), config))


@pytest.fixture(scope="module")
def campaign(cluster, tmp_path_factory):
    """The campaign of two families, staged and run once: its folder, its study, its jobs' records by id."""
    folder = copy_project(tmp_path_factory.mktemp("families"))
    before = set(cluster.jobs())
    Controller(folder, cluster, FAMILIES).ended()
    records = {job: record for job, record in cluster.jobs().items() if job not in before}
    return folder, planned(folder, FAMILIES), records


@pytest.fixture(scope="module")
def walltimes(campaign):
    """What each job may take, by the registry and Leonardo's site."""
    return WallTimes(campaign[1], read_site(str(ROOT / "profiles/leonardo/site.yaml")))


def test_every_rule_ran_and_every_row_is_there(campaign):
    """Two families, one of which diverges: each of its runs is a row with a reason, and the report is made."""
    folder, study, records = campaign
    assert {record.state for record in records.values()} == {"COMPLETED"}
    rows = {(row["model"], row["arm"]): row for row in ledger(folder)}
    assert len(rows) == len(study.runs) == 5
    diverged = {key: row for key, row in rows.items() if row["status"] == "diverged"}
    assert set(diverged) == {("pythia-1.4b", arm) for arm in ("std", "ale")}
    assert all("not finite" in row["reason"] and row["eval_loss"] == "" for row in diverged.values())
    assert {row["status"] for key, row in rows.items() if key not in diverged} == {"ok"}
    layers = {model: int(row["layers_total"]) for (model, _), row in rows.items() if row["layers_total"]}
    assert layers == {model: REGISTRY[model]["layers"] for model in study.used_models()}
    for number in (1, 3, 5):
        assert (folder / f"results/figures/fig{number}.pdf").read_bytes().startswith(b"%PDF")


def test_a_stand_in_says_that_it_is_one(campaign):
    folder, *_ = campaign
    lock = artifacts.payload(folder / "resources/models/mixtral-8x7b.lock.json", "model_lock")
    stand_in = REGISTRY["mixtral-8x7b"]["stand_in"]
    assert lock["source"] == {"type": "random", **stand_in, "seed": 0, "tokenizer": "bytes"}
    assert lock["licence"] is None


def test_arms_of_a_model_and_seed_follow_each_other_in_one_allocation(campaign, walltimes):
    folder, study, records = campaign
    for model in study.used_models():
        arms = [run.arm for run in study.runs.values() if run.model == model]
        assert arms[:2] == ["std", "ale"]
        seen = [observed(folder / f"results/train/{model}/{arm}/seed1/run.json") for arm in arms]
        probe = observed(folder / f"results/probe/{model}/seed1.json")
        jobs = {each["slurm_job"] for each in (*seen, probe)}
        assert len(jobs) == 1, model
        spans = sorted((each["started"], each["ended"]) for each in seen)
        assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans)), spans
        record, gpus = records[int(jobs.pop())], study.models[model]["gpus"]
        asked = record.requested
        assert (record.partition, record.qos, record.account) == ("boost_usr_prod", "normal", ACCOUNT.lower())
        assert record.limit_minutes == walltimes.allocation(model, 1)
        assert (asked["gres/gpu"], asked["cpu"], asked["mem"], asked["node"]) == (gpus, 8 * gpus, 123_500 * gpus, 1)
        # One quarter of a node for each GPU: 8 of its 32 cores.
        assert record.allocated["billing"] == 8 * gpus


def test_pairs_of_one_allocation_are_known_as_such(campaign):
    folder, _, _ = campaign
    with (folder / "results/aggregate/ledger.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["paired"] for row in rows if row["status"] == "ok"} == {"device"}


def test_each_evaluation_is_one_gpu_job_of_its_own_length(campaign, walltimes):
    folder, study, records = campaign
    jobs = {}
    runs = [(model, run, run.partition("/")[0]) for model, run in study.evaluated_runs()]
    asked = [(f"{model}/{run}", name) for model, run, arm in runs for name in study.benchmarks_of(model, arm)]
    for place, benchmark in asked:
        suffix = "json" if benchmark != "humaneval" else "generations.parquet.lineage.json"
        jobs.setdefault(place, set()).add(
            observed(folder / f"results/evaluate/{place}/{benchmark}.{suffix}")["slurm_job"]
        )
    assert all(len(each) == 1 for each in jobs.values()), jobs
    for place, (job,) in jobs.items():
        model, record = place.split("/")[0], records[int(job)]
        assert (record.partition, record.qos) == ("boost_usr_prod", "normal")
        assert record.requested["gres/gpu"] == study.models[model]["gpus"]
        assert record.limit_minutes == walltimes.evaluation(model)


def test_what_needs_no_gpu_runs_where_it_is_free(campaign):
    folder, _, records = campaign
    paths = ["aggregate/ledger.csv.lineage.json", "stats/summary.json", "evaluate/mixtral-8x7b/base/humaneval.json"]
    paths.append("tokens/mixtral-8x7b.safetensors.lineage.json")
    for path in paths:
        record = records[int(observed(folder / "results" / path)["slurm_job"])]
        assert record.partition == "lrd_all_serial"
        assert record.limit_minutes == 60
        judges = path.endswith("humaneval.json")
        assert record.requested["mem"] == (judge.memory_mb(3) if judges else 15_400)
        assert "gres/gpu" not in record.requested


def test_each_job_asked_for_what_its_kind_is_given(campaign):
    _, study, records = campaign
    for record in records.values():
        asked = record.requested
        assert (record.account, record.qos, asked["node"]) == (ACCOUNT.lower(), "normal", 1), record
        if record.partition == "boost_usr_prod":
            assert asked["gres/gpu"] in {entry["gpus"] for entry in study.models.values()}
            assert (asked["cpu"], asked["mem"]) == (8 * asked["gres/gpu"], 123_500 * asked["gres/gpu"]), record
        else:
            cores, mb = (3, judge.memory_mb(3)) if "score_code" in record.comment else (1, 15_400)
            assert (record.partition, asked["cpu"], asked["mem"]) == ("lrd_all_serial", cores, mb), record
            assert (record.limit_minutes, "gres/gpu" in asked) == (60, False), record
    partitions = [record.partition for record in records.values()]
    assert min(partitions.count(name) for name in ("boost_usr_prod", "lrd_all_serial")) > 3
    assert any("score_code" in record.comment for record in records.values())


def test_a_finished_campaign_asks_nothing_more_of_the_cluster(campaign, cluster):
    folder, _, _ = campaign
    before = set(cluster.jobs())
    assert "Nothing to be done" in Controller(folder, cluster, FAMILIES).ended()
    assert set(cluster.jobs()) == before


def test_smoke_prints_the_devices_that_jobs_of_one_and_four_gpus_see(campaign, cluster):
    folder, _, _ = campaign
    before = set(cluster.jobs())
    Controller(folder, cluster, FAMILIES, "leonardo_smoke").ended()
    said = (folder / "logs/smoke.log").read_text()
    devices = [line.split()[-1] for line in said.splitlines() if line.startswith("CUDA_VISIBLE_DEVICES")]
    assert sorted(len(each.split(",")) for each in devices) == [1, 4]
    new = [record for job, record in cluster.jobs().items() if job not in before]
    assert sorted((record.requested["gres/gpu"], record.qos, record.limit_minutes) for record in new) == [
        (1, "boost_qos_dbg", 10),
        (4, "boost_qos_dbg", 10),
    ]


def wait_until(found: Callable[[], object], seconds: float = 600) -> object:
    """Wait until something is found; return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.2)
    raise AssertionError("did not happen in time")


def in_training(folder: Path, *arms: str) -> int:
    """Wait until one of some arms, the standard one when none is named, has a checkpoint; return its job's id."""
    wait_until(lambda: any((folder / arm).with_name(".checkpoint").exists() for arm in arms or (STD,)))
    (log,) = folder.glob(".snakemake/slurm_logs/group_arms_*/*.log")
    return int(log.stem)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """A copy of the project with what comes before training in the small study; the larger one's is made by jobs."""
    folder = copy_project(tmp_path_factory.mktemp("staged"))
    ran = snakemake(folder, BEFORE, "--configfile", ONE, *ONE_THREAD)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return folder


@pytest.fixture
def folder(staged, tmp_path):
    """The small study before its training, in a place of its own."""
    return Path(shutil.copytree(staged, tmp_path / "study", symlinks=True))


# What befalls one study alone: each of these runs in a folder of its own, all at the same time.


def undisturbed(folder: Path, cluster) -> None:
    """Run the small study while nothing happens."""
    Controller(folder, cluster, ONE, LEDGER).ended()


def cancelled(folder: Path, cluster) -> None:
    """Cancel the job that trains."""
    controller = Controller(folder, cluster, ONE, *TRAINED)
    cluster.scancel(in_training(folder))
    controller.ended()


def killed_controller(folder: Path, cluster) -> tuple[int, str]:
    """Kill the controller, start it again; return the job that was in training and what the second one said."""
    controller = Controller(folder, cluster, ONE, *TRAINED)
    # The first of both: the job is to be there still when the second controller has started.
    job = in_training(folder, *TRAINED)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    return job, Controller(folder, cluster, ONE, *TRAINED).ended()


def out_of_memory(folder: Path, cluster) -> None:
    """Give training too little memory at first: it takes 430 MiB, and the two Snakemakes above it 240.

    SLURM adds up what each process has. While a training starts a program it counts for two, which twice this holds.
    """
    site = yaml.safe_load((ROOT / "profiles/leonardo/site.yaml").read_text())
    site["gpu"]["memory_mb"] = 560
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    Controller(folder, cluster, ONE, STD, "--config", "site=site.yaml").ended()


def past_wall_time(folder: Path, cluster) -> int:
    """Let an evaluation hang until SLURM kills it, after a minute; return its job. The second try gets ten."""
    times = "evaluate_heldout:runtime=1 if attempt == 1 else 10"
    controller = Controller(folder, cluster, ONE, BASE, "--set-resources", times)
    job = wait_until(lambda: suspended(folder))
    controller.ended()
    return job


ALONE = (undisturbed, cancelled, killed_controller, out_of_memory, past_wall_time)


@pytest.fixture(scope="module")
def happened(cluster, staged, tmp_path_factory) -> dict[str, tuple[Path, Future]]:
    """Let all of ``ALONE`` happen at the same time, since they mostly wait; return, by name, the folder and the end."""
    place = tmp_path_factory.mktemp("alone")
    folders = {each: Path(shutil.copytree(staged, place / each.__name__, symlinks=True)) for each in ALONE}
    with ThreadPoolExecutor(len(ALONE)) as pool:
        ends = {each: pool.submit(each, folder, cluster) for each, folder in folders.items()}
    cluster.wait_idle()
    return {each.__name__: (folders[each], end) for each, end in ends.items()}


@pytest.fixture
def undisturbed_folder(happened) -> Path:
    """The small study when nothing happened."""
    folder, end = happened["undisturbed"]
    end.result()
    return folder


def ended_alike(folder: Path, undisturbed_folder: Path, *targets: str) -> None:
    """What was asked for, and all that was made on the way, is as in an undisturbed study."""
    found, expected = payload_hashes(folder), payload_hashes(undisturbed_folder)
    assert set(targets) <= set(found)
    assert found == {path: expected[path] for path in found}


def never_twice_at_once(cluster, folder: Path) -> None:
    """No two jobs with the same work of a folder's ran at the same time."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for record in cluster.records():
        if record.comment and record.folder == str(folder) and record.start is not None:
            spans.setdefault(record.comment, []).append((record.start, record.end or float("inf")))
    assert spans
    for comment, times in spans.items():
        times.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(times)), comment


def disturbed(folder: Path, cluster, undisturbed_folder, disturb: Callable[[int], None], *targets: str) -> dict:
    """Train the standard arm of the small study or both, disturb that, hold its end against an undisturbed one's.

    Returns what was observed of the standard arm's run.
    """
    controller = Controller(folder, cluster, ONE, *targets)
    disturb(in_training(folder))
    controller.ended()
    ended_alike(folder, undisturbed_folder, *targets)
    cluster.wait_idle()
    never_twice_at_once(cluster, folder)
    return observed(folder / STD)


def test_a_cancelled_job_is_tried_again(cluster, happened, undisturbed_folder):
    folder, end = happened["cancelled"]
    end.result()
    ended_alike(folder, undisturbed_folder, *TRAINED)
    never_twice_at_once(cluster, folder)
    assert observed(folder / STD)["attempt"] == 2


def test_a_node_set_down_is_left_for_another(cluster, folder, undisturbed_folder):
    down = []

    def disturb(job: int) -> None:
        down.append(cluster.jobs()[job].nodes)
        cluster.node_down(down[0])

    try:
        run = disturbed(folder, cluster, undisturbed_folder, disturb, STD)
    finally:
        cluster.node_up(down[0])
    assert run["attempt"] == 2
    assert cluster.jobs()[int(run["slurm_job"])].nodes not in down


def test_a_restarted_slurmctld_and_an_outage_of_accounting_disturb_nobody(cluster, folder, undisturbed_folder):
    def disturb(_: int) -> None:
        cluster.restart_controller()
        with cluster.outage():
            time.sleep(8)

    assert disturbed(folder, cluster, undisturbed_folder, disturb, STD)["attempt"] == 1


def test_a_preempted_job_goes_on(cluster, folder, undisturbed_folder):
    victims = []

    def disturb(job: int) -> None:
        victims.append(job)
        urgent = [cluster.submit("sleep 5", f"--account={ACCOUNT}", *PREEMPTING) for _ in range(2)]
        for other in urgent:
            cluster.wait_for(other, "COMPLETED")

    disturbed(folder, cluster, undisturbed_folder, disturb, *TRAINED)
    assert cluster.jobs()[victims[0]].state == "PREEMPTED"
    assert f"pre-empted: {victims[0]};" in (folder / "controller.log").read_text()


def test_a_killed_controller_is_started_again_and_takes_what_its_jobs_made(cluster, happened, undisturbed_folder):
    folder, end = happened["killed_controller"]
    job, said = end.result()
    assert f"still on the cluster ({job})" in said
    ended_alike(folder, undisturbed_folder, *TRAINED)
    assert cluster.jobs()[job].state == "COMPLETED"
    run = observed(folder / STD)
    assert (run["slurm_job"], run["attempt"]) == (str(job), 1)
    never_twice_at_once(cluster, folder)


def test_a_job_that_runs_out_of_memory_gets_more(cluster, happened, undisturbed_folder):
    folder, end = happened["out_of_memory"]
    end.result()
    ended_alike(folder, undisturbed_folder, STD)
    run = observed(folder / STD)
    assert run["attempt"] == 2
    assert cluster.jobs()[int(run["slurm_job"])].requested["mem"] == 1120
    never_twice_at_once(cluster, folder)


def suspended(folder: Path) -> int | None:
    """The job of an evaluation that runs in a folder, and that stands still from now on."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, KeyError):
            if process.cwd() == str(folder) and any(
                part.endswith("/evaluate_run.py") for part in process.cmdline()[:4]
            ):
                job = int(process.environ()["SLURM_JOB_ID"])
                process.suspend()
                return job
    return None


def test_an_evaluation_past_its_wall_time_is_killed_and_gets_more(cluster, happened, undisturbed_folder):
    folder, end = happened["past_wall_time"]
    job = end.result()
    ended_alike(folder, undisturbed_folder, BASE)
    records = cluster.jobs()
    assert (records[job].state, records[job].limit_minutes) == ("TIMEOUT", 1)
    again = observed(folder / BASE)
    assert (again["attempt"], records[int(again["slurm_job"])].limit_minutes) == (2, 10)
    never_twice_at_once(cluster, folder)


def test_a_run_near_its_wall_time_is_a_row(cluster, folder):
    # A run ends two minutes before its allocation does; beside other studies it might not get that far.
    shorter = ("batches:runtime=0", "train_std:runtime=2", "train_ale:runtime=0")
    Controller(folder, cluster, ONE, LEDGER, "--set-resources", *shorter).ended()
    assert {row["status"] for row in ledger(folder)} == {"timeout"}
    cluster.wait_idle()
    never_twice_at_once(cluster, folder)


REFUSED = {
    "no account": ({}, None, "account: expected one of yours (iscrc_test), found none; set ALETHEIA_ACCOUNT"),
    "unknown partition": ({"partition": "boost"}, ACCOUNT, "partition: expected one of this cluster"),
    "short qos": ({"qos": [{"name": "boost_qos_dbg", "minutes": 5760}]}, ACCOUNT, "and qos boost_qos_dbg allows 30"),
    "unknown qos": ({"qos": [{"name": "long", "minutes": 5760}]}, ACCOUNT, "qos: expected one of this cluster"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_cluster_would_refuse_is_said_before_anything_is_submitted(cluster, folder, case):
    change, account, sentence = REFUSED[case]
    site = yaml.safe_load((ROOT / "profiles/leonardo/site.yaml").read_text())
    site["gpu"] |= change
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    before = set(cluster.jobs())
    said = Controller(folder, cluster, ONE, "--config", "site=site.yaml", account=account).ended(1)
    assert sentence in said
    assert "Traceback" not in said
    assert set(cluster.jobs()) == before


def test_accounts_of_another_cluster_of_one_accounting_are_not_taken_for_this_ones(cluster):
    user, change = getpass.getuser(), ("sacctmgr", "--immediate")
    cluster.run(*change, "add", "cluster", "other")
    cluster.run(*change, "add", "account", "elsewhere", "cluster=other")
    cluster.run(*change, "add", "user", user, "account=elsewhere", "cluster=other")
    try:
        listed = cluster.run("sacctmgr", "--noheader", "show", "assoc", f"user={user}", "format=account").split()
        assert {"elsewhere", ACCOUNT.lower()} <= set(listed)
        found = read_cluster().accounts
        assert {name: set(qos) for name, qos in found.items()} == {ACCOUNT.lower(): set(QOS)}
    finally:
        cluster.run(*change, "delete", "cluster", "other")


def test_a_partition_says_which_qualities_of_service_it_takes(cluster):
    found = read_cluster()
    assert set(found.admitted["boost_usr_prod"]) == set(QOS)
    assert found.admitted["lrd_all_serial"] == ["normal"]


def test_qualities_of_service_that_are_not_enforced_refuse_nothing(cluster, monkeypatch):
    """SLURM then takes a job whatever quality of service it names; only the setting is another than this cluster's."""
    monkeypatch.setattr(clusters, "answer", lambda command: answer(command).replace("limits,qos", "limits"))
    found = read_cluster()
    assert (found.qos, {name: list(qos) for name, qos in found.accounts.items()}) == ({}, {ACCOUNT.lower(): []})
    assert refusals([Request("job", ACCOUNT, "boost_usr_prod", None, 10)], found) == []


def test_an_accounting_that_does_not_answer_is_a_warning(cluster, capsys):
    known = read_cluster()
    assert capsys.readouterr().err == ""
    with cluster.outage():
        found = read_cluster()
    assert capsys.readouterr().err.startswith("account and qos are not checked, for SLURM's accounting does not answer")
    assert (known.qos.keys(), found.accounts, found.qos) == (QOS.keys(), None, {})
    assert found.partitions == known.partitions
