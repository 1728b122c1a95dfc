"""Rehearse the paper's study: all 81 rows with stand-ins for its models, through Leonardo's profile on a real SLURM.

    tests/cluster/rehearsal.py [FOLDER]      a new folder (./rehearsal), which then holds the rehearsed study

Starts a SLURM on this machine (as root; Debian's packages, see tests/support/slurm_cluster.py), stages, runs the
campaigns to ledgers, tables and figures, and writes what it measured to benchmarks/rehearsal.json: jobs, wall time, the
controller's processor time; by kind of job how long it waited and how much of its time was not the script's own work;
by step how often its script ran, which is how often a model was loaded where the step loads one. It ends with status 1
where rows are missing, a run ended otherwise than it should, a step loaded a model more often than the study needs, a
job ran twice, or something took longer than it may. The numbers that the study itself measures are those of stand-ins,
and are left in FOLDER. What is rehearsed is what is committed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow" / "scripts"), str(ROOT / "tests" / "support")]

from aletheia.provenance import machine  # noqa: E402
from aletheia.study.load import load_study  # noqa: E402
from aletheia.study.schema import read_yaml  # noqa: E402
from aletheia.study.study import Study  # noqa: E402
from slurm_cluster import Cluster, Job, lacking  # noqa: E402

STUDY = ("--configfile", "config/rehearsal.yaml")
PROFILE = ("--profile", "profiles/leonardo")
# Two threads of torch in each of several jobs on two cores are slower than one.
ONE_THREAD = ("--max-threads", "1")
# The queue is looked at as often as it answers.
FAST = ("--max-status-checks-per-second", "5", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "15")
# What the study should come to: rows of the tables, and runs that end otherwise than well (fp16 fails Pythia, as in the
# paper).
ROWS = {"RESULTS_MASTER.csv": 30, "RESULTS_CAMPAIGN2.csv": 51, "ledger.csv": 111}
FAILED = {"pythia-1.4b: diverged": 6}
# Steps that share one allocation (profiles/slurm/config.yaml, groups).
TOGETHER = ("batches", "probe", "select", "train")
# Seconds of the whole rehearsal, of a dry run, and of the controller's processor for each job.
LONGEST, LONGEST_DRY_RUN, LONGEST_A_JOB = 90 * 60, 5, 1


def main() -> None:
    """Rehearse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=ROOT / "rehearsal", help="where the study is copied to and runs"
    )
    args = parser.parse_args()
    if absent := lacking():
        parser.error(f"{absent[0]} is missing; {absent[1]}")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        parser.error("the executor is missing: pip install --constraint constraints.txt '.[slurm]'")
    if args.folder.exists():
        parser.error(f"{args.folder}: expected a folder that is not there yet")
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(Cluster(args.folder.with_name(args.folder.name + ".slurm")))
        except (RuntimeError, TimeoutError) as error:
            parser.error(str(error))
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(args.folder)], check=True)
        measured = rehearsed(args.folder, cluster)
    path = ROOT / "benchmarks" / "rehearsal.json"
    path.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
    if amiss := faults(measured, study(args.folder)):
        raise SystemExit("\n".join(amiss))


def rehearsed(folder: Path, cluster: Cluster) -> dict[str, Any]:
    """Stage, plan and run the study in a clone of the project; return what was measured."""
    environment = {**cluster.environment, "OMP_NUM_THREADS": "1", "ALETHEIA_ACCOUNT": "IscrC_test"}
    staged, _ = controller(folder, environment, "stage", *STUDY)
    planned, _ = controller(folder, environment, "-n", "-q", "host", *PROFILE, *STUDY)
    ran, processor = controller(folder, environment, *PROFILE, *ONE_THREAD, *FAST, *STUDY)
    # One record for each start of a job, so that one which SLURM put back into the queue counts again.
    jobs = cluster.records()
    return {
        "machine": machine.machine(),
        "seconds": {"stage": staged, "dry_run": planned, "campaigns": ran},
        "controller_processor_seconds": processor,
        "controller_processor_seconds_a_job": processor / len(jobs),
        "jobs": len(jobs),
        "states": collections.Counter(job.state for job in jobs),
        "rows": rows(folder),
        "kinds": kinds(folder, jobs),
        "steps": steps(folder),
    }


def study(folder: Path) -> Study:
    """Return the rehearsed study of a clone."""
    with contextlib.chdir(folder):
        return load_study(read_yaml(Path(STUDY[1])))


def loads(rehearsal: Study) -> dict[str, int]:
    """Return how often each step has to load a model: once for each run, each base model, and each seed's probe."""
    runs, models = len(rehearsal.runs), len(rehearsal.used_models())
    return {"train": runs, "evaluate": runs + models, "probe": len(rehearsal.probe_keys())}


def faults(measured: dict[str, Any], rehearsal: Study) -> list[str]:
    """Return one sentence for each thing that is otherwise than it should be."""
    rows, seconds, steps = measured["rows"], measured["seconds"], measured["steps"]
    failed = {name: n for name, n in rows["status"].items() if not name.endswith(": ok")}
    pairs = {
        **{f"rows of {name}": (wanted, rows[name]) for name, wanted in ROWS.items()},
        "runs that did not end well": (FAILED, failed),
        **{f"starts of {step}": (wanted, steps[step]["starts"]) for step, wanted in loads(rehearsal).items()},
        "scripts that were started again": ([], [step for step, s in steps.items() if s["starts"] != s["scripts"]]),
        # One allocation for all arms of a model and a seed, one job for each other script: one more has run twice.
        "jobs": (
            len(rehearsal.batches) + sum(s["scripts"] for step, s in steps.items() if step not in TOGETHER),
            measured["jobs"],
        ),
    }
    found = [f"{what}: expected {wanted}, found {came}" for what, (wanted, came) in pairs.items() if wanted != came]
    bounds = {
        "seconds of the rehearsal": (LONGEST, sum(seconds.values())),
        "seconds of the dry run": (LONGEST_DRY_RUN, seconds["dry_run"]),
        "seconds of the controller's processor for each job": (
            LONGEST_A_JOB,
            measured["controller_processor_seconds_a_job"],
        ),
    }
    return found + [
        f"{what}: expected at most {most}, found {came:.2f}" for what, (most, came) in bounds.items() if came > most
    ]


def controller(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Run Snakemake to its end; return its seconds, and its processor's."""
    command = [sys.executable, str(ROOT / "tests" / "support" / "slurm_driver.py"), *arguments]
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


def scripts(folder: Path) -> dict[tuple[str, str, str], tuple[float, int]]:
    """Return the seconds of each script that ran in a job, and which try it was: by job, script's start, and step.

    A script may write several artifacts, each with the script's own start and seconds.
    """
    found: dict[tuple[str, str, str], tuple[float, int]] = {}
    for path in folder.glob("results/*/**/*.json"):
        envelope = json.loads(path.read_text(encoding="utf-8"))
        seen = envelope.get("observed", {})
        if seen.get("slurm_job"):
            key = seen["slurm_job"], seen["started"], envelope["lineage"]["step"]
            found[key] = max(found.get(key, (0.0, 0)), (seen["seconds"], seen["attempt"]))
    return found


def steps(folder: Path) -> dict[str, dict[str, float]]:
    """Return, by step, how many scripts ended, how often they were started (retries too), and their seconds."""
    found: dict[str, dict[str, float]] = {}
    for (_, _, step), (seconds, attempt) in scripts(folder).items():
        counted = found.setdefault(step, {"scripts": 0, "starts": 0, "script_seconds": 0.0})
        counted["scripts"] += 1
        counted["starts"] += attempt
        counted["script_seconds"] += seconds
    return found


def kinds(folder: Path, jobs: list[Job]) -> dict[str, dict[str, float]]:
    """Return by kind of job: how many, their seconds in the queue and on a node, and those of the scripts in them."""
    work = collections.Counter()
    for (job, _, _), (seconds, _) in scripts(folder).items():
        work[job] += seconds
    found: dict[str, dict[str, float]] = {}
    for job in jobs:
        names = ("jobs", "waiting_seconds", "seconds", "script_seconds")
        kind = found.setdefault(job.comment.split("_wildcards")[0], dict.fromkeys(names, 0))
        kind["jobs"] += 1
        kind["script_seconds"] += work[str(job.id)]
        if job.start and job.end:
            kind["waiting_seconds"] += job.start - job.submit
            kind["seconds"] += job.end - job.start
    return found


if __name__ == "__main__":
    main()
