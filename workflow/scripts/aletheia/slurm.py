"""What a SLURM cluster says of itself: whether it would take a study's jobs, and which outlived their controller."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aletheia.errors import UserError

RUN_ID = re.compile(r"SLURM run ID: (\S+)")
# The executor says its run's id among the first lines of a log.
HEAD = 100_000
UNLIMITED = ("", "UNLIMITED", "INFINITE", "NOT_SET", "Partition_Limit")


@dataclass(frozen=True)
class Request:
    """What some jobs of one kind ask for; None leaves a part to the cluster.

    Attributes
    ----------
    job
        Which they are, for sentences.
    account, partition, qos
        Names on the cluster.
    minutes
        Wall time.
    """

    job: str
    account: str | None
    partition: str | None
    qos: str | None
    minutes: int | None


@dataclass(frozen=True)
class Cluster:
    """Names and limits of a cluster, as the user who asks may use them.

    Attributes
    ----------
    accounts
        Accounts of the user; empty where the cluster keeps none.
    partitions
        ``{name: longest minutes or None}``.
    qos
        ``{name: longest minutes or None}``; empty where the cluster keeps none.
    """

    accounts: Sequence[str]
    partitions: Mapping[str, int | None]
    qos: Mapping[str, int | None]


def read_cluster() -> Cluster:
    """Ask SLURM for its partitions, and where it keeps accounts, for those and the qualities of service.

    Raises
    ------
    UserError
        When there is no SLURM here, or it does not answer.
    """
    if shutil.which("sbatch") is None:
        raise UserError("sbatch was not found: expected a machine that submits to SLURM; run this on a login node")
    shown = _answer(["scontrol", "--oneliner", "show", "partition"])
    lines = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in shown.splitlines()]
    partitions = {line["PartitionName"]: minutes_of(line["MaxTime"]) for line in lines if "PartitionName" in line}
    user = _answer(["id", "-un"]).strip()
    show = ["sacctmgr", "--noheader", "--parsable2", "show"]
    accounts = _table([*show, "assoc", f"user={user}", "format=account"])
    qos = _table([*show, "qos", "format=name,maxwall"])
    return Cluster(
        accounts=list(dict.fromkeys(row[0] for row in accounts)),
        partitions=partitions,
        qos={row[0]: minutes_of(row[1]) for row in qos},
    )


def refusals(requests: Iterable[Request], cluster: Cluster) -> list[str]:
    """Return one sentence for each thing that the cluster would refuse; none where it would take all jobs."""
    found: dict[str, None] = {}
    for request in requests:
        for sentence in _refusals(request, cluster):
            found.setdefault(sentence)
    return list(found)


def _refusals(request: Request, cluster: Cluster) -> Iterable[str]:
    account, partition, qos = request.account, request.partition, request.qos
    # SLURM keeps the names of accounts in lower case, and takes any.
    if cluster.accounts and (account or "").lower() not in map(str.lower, cluster.accounts):
        came = "none" if account is None or account.startswith("$") else repr(account)
        yield (
            f"account: expected one of yours ({', '.join(cluster.accounts)}), found {came}; "
            "set ALETHEIA_ACCOUNT in the shell that runs snakemake"
        )
    if partition is not None and partition not in cluster.partitions:
        yield (
            f"partition: expected one of this cluster ({', '.join(sorted(cluster.partitions))}), found {partition!r}; "
            "mend the profile's site.yaml"
        )
    if qos is not None and cluster.qos and qos not in cluster.qos:
        yield (
            f"qos: expected one of this cluster ({', '.join(sorted(cluster.qos))}), found {qos!r}; "
            "mend the profile's site.yaml"
        )
    limits = {
        f"partition {partition}": cluster.partitions.get(partition or ""),
        f"qos {qos}": cluster.qos.get(qos or ""),
    }
    # A quality of service of its own may lift the partition's limit, as a long one does.
    binding = limits.get(f"qos {qos}") or limits[f"partition {partition}"]
    if binding is not None and request.minutes is not None and request.minutes > binding:
        place = next(name for name, minutes in limits.items() if minutes == binding)
        yield (
            f"{request.job}: needs {request.minutes} minutes, and {place} allows {binding}; "
            "give the site a longer qos, or the model a shorter time in the registry"
        )


def minutes_of(text: str) -> int | None:
    """Return the minutes of a SLURM time limit (``[days-]hours:minutes:seconds``); None without a limit."""
    if text in UNLIMITED:
        return None
    days, _, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days and len(parts) < 3:  # days-hours[:minutes]
        parts += [0] * (3 - len(parts))
    elif not days and len(parts) < 3:  # minutes[:seconds]
        parts = [0, *parts, *[0] * (2 - len(parts))]
    hours, minutes, _ = parts
    return (int(days or 0) * 24 + hours) * 60 + minutes


def earlier_runs(logs: Path) -> list[str]:
    """Return the ids under which earlier controllers of a folder submitted jobs, from Snakemake's own logs."""
    heads = (path.open(encoding="utf-8", errors="replace").read(HEAD) for path in sorted(logs.glob("*.snakemake.log")))
    return [identifier for head in heads for identifier in RUN_ID.findall(head)]


def alive(runs: Sequence[str]) -> list[str]:
    """Return the SLURM ids of the jobs of earlier runs that pend or run.

    Raises
    ------
    UserError
        When SLURM does not answer: then nobody can tell.
    """
    if not runs or shutil.which("squeue") is None:
        return []
    return _answer(["squeue", "--noheader", "--format=%i", f"--name={','.join(runs)}"]).split()


def wait_for_orphans(logs: Path, *, seconds: float = 10) -> bool:
    """Wait until no job of an earlier controller of this folder is left; return whether there was any.

    A controller that was killed leaves its jobs on the cluster. Submitted again beside them, the same job would run
    twice; waited for, what they finish counts.

    Parameters
    ----------
    logs
        Folder of Snakemake's logs.
    seconds
        Between two looks.
    """
    runs = earlier_runs(logs)
    waited = False
    while left := alive(runs):
        if not waited:
            print(
                f"{len(left)} jobs of an earlier snakemake in this folder are still on the cluster "
                f"({', '.join(left)}); waiting for them to end (to give them up: scancel {' '.join(left)})",
                flush=True,
            )
        waited = True
        time.sleep(seconds)
    return waited


def watch_for_preemption(run: str, again: Callable[[], None], *, seconds: float = 20) -> None:
    """Call ``again`` when a job of a run was pre-empted, which the executor takes for one that will come back.

    Meant for a thread of its own; it never returns otherwise.

    Parameters
    ----------
    run
        The run's id.
    again
        Starts the controller again; what still runs then outlives its controller, and is waited for.
    seconds
        Between two looks.
    """
    look = ["squeue", "--noheader", "--format=%i", "--states=PREEMPTED", f"--name={run}"]
    while True:
        time.sleep(seconds)
        with contextlib.suppress(UserError):
            if jobs := _answer(look).split():
                print(
                    f"pre-empted: {', '.join(jobs)}; the executor would wait for ever, so all is planned anew",
                    flush=True,
                )
                again()


def _table(command: list[str]) -> list[list[str]]:
    """Return what sacctmgr shows, by row and column; nothing where the cluster keeps no accounts."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.split("|") for line in done.stdout.splitlines() if line] if done.returncode == 0 else []


def _answer(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{command[0]} failed ({said[-1] if said else done.returncode}); is SLURM up? Try again later")
    return done.stdout
