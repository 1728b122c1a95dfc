"""Rehearse the paper's study: all 81 rows with stand-ins for its models, through Leonardo's profile on a real SLURM.

    benchmarks/rehearsal.py [FOLDER]      a new folder (./rehearsal), which then holds the rehearsed study

Starts a SLURM on this machine (as root; Debian's packages, see tests/slurm_cluster.py), stages, runs the campaigns to
ledgers, tables and figures, and writes what it measured to rehearsal.json: jobs, wall time, the controller's processor
time, by kind of job how much of it was not the script's own work, and by step how often its script ran, which is how
often a model was loaded where the step loads one. The numbers that the study itself measures are
those of stand-ins, and are left in FOLDER. What is rehearsed is what is committed.
"""

from __future__ import annotations

import argparse
import collections
import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "workflow" / "scripts"), str(ROOT / "tests")]

from aletheia import observe  # noqa: E402
from slurm_cluster import Cluster, Job, lacking  # noqa: E402

STUDY = ("--configfile", "config/rehearsal.yaml")
PROFILE = ("--profile", "profiles/leonardo")
# Two threads of torch in each of several jobs on two cores are slower than one.
ONE_THREAD = ("--max-threads", "1")
# The queue is looked at as often as it answers.
FAST = ("--max-status-checks-per-second", "5", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15")


def main() -> None:
    """Rehearse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=ROOT / "rehearsal", help="where the study is copied to and runs"
    )
    args = parser.parse_args()
    if absent := lacking():
        parser.error(f"{absent} is missing")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        parser.error("the executor is missing: pip install --constraint constraints.txt '.[slurm]'")
    if args.folder.exists():
        parser.error(f"{args.folder}: expected a folder that is not there yet")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(args.folder)], check=True)
    with Cluster(args.folder.with_name(args.folder.name + ".slurm")) as cluster:
        environment = {**cluster.environment, "OMP_NUM_THREADS": "1", "ALETHEIA_ACCOUNT": "IscrC_test"}
        staged, _ = controller(args.folder, environment, "stage", *STUDY)
        planned, _ = controller(args.folder, environment, "-n", "-q", "host", *PROFILE, *STUDY)
        ran, processor = controller(args.folder, environment, *PROFILE, *ONE_THREAD, *FAST, *STUDY)
        jobs = list(cluster.jobs().values())
    measured = {
        "machine": observe.machine(),
        "seconds": {"stage": staged, "dry_run": planned, "campaigns": ran},
        "controller_processor_seconds": processor,
        "controller_processor_seconds_a_job": processor / len(jobs),
        "jobs": len(jobs),
        "states": collections.Counter(job.state for job in jobs),
        "rows": rows(args.folder),
        "kinds": kinds(args.folder, jobs),
        "steps": steps(args.folder),
    }
    path = HERE / "rehearsal.json"
    path.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


def controller(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Run Snakemake to its end; return its seconds, and its processor's."""
    command = [sys.executable, str(ROOT / "tests" / "slurm_driver.py"), *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def rows(folder: Path) -> dict[str, object]:
    """Return how many rows each ledger has, and how the runs ended."""
    counts: dict[str, object] = {}
    for name in ("RESULTS_MASTER.csv", "RESULTS_CAMPAIGN2.csv", "ledger.csv"):
        with (folder / "results/aggregate" / name).open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        counts[name] = len(read)
        if name == "ledger.csv":
            counts["status"] = collections.Counter(f"{row['model']}: {row['status']}" for row in read)
    return counts


def scripts(folder: Path) -> dict[tuple[str, str, str], float]:
    """Return the seconds of each script that ran in a job: by the job, the script's start, and its step.

    A script may write several artifacts, each with the script's own start and seconds.
    """
    found: dict[tuple[str, str, str], float] = {}
    for path in folder.glob("results/*/**/*.json"):
        envelope = json.loads(path.read_text(encoding="utf-8"))
        seen = envelope.get("observed", {})
        if seen.get("slurm_job"):
            key = seen["slurm_job"], seen["started"], envelope["lineage"]["step"]
            found[key] = max(found.get(key, 0.0), seen["seconds"])
    return found


def steps(folder: Path) -> dict[str, dict[str, float]]:
    """Return, by step, how often its script ran, and its seconds."""
    found: dict[str, dict[str, float]] = {}
    for (_, _, step), seconds in scripts(folder).items():
        counted = found.setdefault(step, {"scripts": 0, "script_seconds": 0.0})
        counted["scripts"] += 1
        counted["script_seconds"] += seconds
    return found


def kinds(folder: Path, jobs: list[Job]) -> dict[str, dict[str, float]]:
    """Return, by kind of job, how many there were, their seconds in SLURM, and those of the scripts in them."""
    work = collections.Counter()
    for (job, _, _), seconds in scripts(folder).items():
        work[job] += seconds
    found: dict[str, dict[str, float]] = {}
    for job in jobs:
        kind = found.setdefault(job.comment.split("_wildcards")[0], {"jobs": 0, "seconds": 0.0, "script_seconds": 0.0})
        kind["jobs"] += 1
        kind["seconds"] += (job.end or 0) - (job.start or 0)
        kind["script_seconds"] += work[str(job.id)]
    return found


if __name__ == "__main__":
    main()
