"""What a SLURM cluster says of itself: whether it would take a study's jobs, and which outlived their controller."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aletheia.errors import UserError

# What ends the name of each job that the executor submits.
RUN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
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
    longest
        Minutes of the longest quality of service that the site's file has for such jobs.
    """

    job: str
    account: str | None
    partition: str | None
    qos: str | None
    minutes: int | None
    longest: int | None = None


@dataclass(frozen=True)
class Cluster:
    """Names and limits of a cluster, and the accounts of the user who asks.

    Attributes
    ----------
    accounts
        Accounts of the user; empty where the cluster keeps none.
    partitions
        ``{name: longest minutes or None}``.
    qos
        ``{name: longest minutes or None}``; empty where the cluster keeps none.
    lifting
        Qualities of service whose limit stands in the place of the partition's (SLURM's flag PartitionTimeLimit).
    default
        The partition of jobs that name none.
    """

    accounts: Sequence[str]
    partitions: Mapping[str, int | None]
    qos: Mapping[str, int | None]
    lifting: Sequence[str] = ()
    default: str | None = None


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
    accounts, qos = _accounting()
    return Cluster(
        accounts=list(dict.fromkeys(row[0] for row in accounts)),
        partitions=partitions,
        qos={row[0]: minutes_of(row[1]) for row in qos},
        lifting=[row[0] for row in qos if "PartitionTimeLimit" in row[2]],
        default=next((line["PartitionName"] for line in lines if line.get("Default") == "YES"), None),
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
        came = "none" if account is None else repr(account)
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
    within = partition or cluster.default
    limits = {} if qos in cluster.lifting else {f"partition {within}": cluster.partitions.get(within or "")}
    limits |= {f"qos {qos}": cluster.qos.get(qos or ""), "the site's file": request.longest}
    bounds = {place: minutes for place, minutes in limits.items() if minutes is not None}
    place = min(bounds, key=bounds.__getitem__, default=None)
    if place is not None and request.minutes is not None and request.minutes > bounds[place]:
        yield (
            f"{request.job}: needs {request.minutes} minutes, and {place} allows {bounds[place]}; "
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


def submitted_here(folder: Path, *states: str) -> list[str]:
    """Return the ids of the jobs that some controller has submitted from a folder, by its own account.

    The executor names each job after a controller's run (a UUID) and submits it in the controller's folder.

    Parameters
    ----------
    folder
        Where the controller runs.
    states
        Of SLURM's; those that pend or run when there is none.

    Raises
    ------
    UserError
        When SLURM does not answer: then nobody can tell.
    """
    if shutil.which("squeue") is None:
        return []
    chosen = [f"--states={','.join(states)}"] if states else []
    rows = _answer(["squeue", "--me", "--noheader", "--format=%i|%j|%Z", *chosen]).splitlines()
    jobs = [row.split("|", 2) for row in rows]
    return [number for number, name, place in jobs if RUN.search(name) and Path(place) == folder]


def wait_for_orphans(folder: Path, *, seconds: float = 10) -> bool:
    """Wait until no job of an earlier controller of this folder is left; return whether there was any.

    A controller that was killed leaves its jobs on the cluster. Submitted again beside them, the same job would run
    twice; waited for, what they finish counts.

    Parameters
    ----------
    folder
        Where the controller runs.
    seconds
        Between two looks.
    """
    waited = False
    while left := submitted_here(folder):
        if not waited:
            print(
                f"{len(left)} jobs of an earlier snakemake in this folder are still on the cluster "
                f"({', '.join(left)}); waiting for them to end (to give them up: scancel {' '.join(left)})",
                file=sys.stderr,
                flush=True,
            )
        waited = True
        time.sleep(seconds)
    return waited


def watch_for_preemption(folder: Path, again: Callable[[], None], *, seconds: float = 20) -> None:
    """Call ``again`` when a job of this controller was pre-empted, which the executor takes for one that comes back.

    Meant for a thread of its own; it never returns otherwise.

    Parameters
    ----------
    folder
        Where the controller runs.
    again
        Starts the controller again; what still runs then outlives its controller, and is waited for.
    seconds
        Between two looks.
    """
    known: set[str] | None = None
    while True:
        with contextlib.suppress(UserError):
            found = set(submitted_here(folder, "PREEMPTED"))
            # SLURM shows ended jobs for some minutes: those of an earlier controller are no news.
            new = found - (found if known is None else known)
            known = found if known is None else known
            if new:
                jobs = ", ".join(sorted(new))
                print(f"pre-empted: {jobs}; the executor would wait for ever, so all is planned anew", file=sys.stderr)
                again()
        time.sleep(seconds)


def _accounting() -> tuple[list[list[str]], list[list[str]]]:
    """Return the user's accounts on this cluster and the qualities of service, by row and column.

    Both are empty where the cluster keeps none, and with a warning where its accounting does not answer, for jobs are
    taken even so.
    """
    pairs = [line.split("=", 1) for line in _answer(["scontrol", "show", "config"]).splitlines() if "=" in line]
    settings = {name.strip(): value.strip() for name, value in pairs}
    if not settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        return [], []
    # Other clusters may keep their accounts at the same place.
    user, cluster = _answer(["id", "-un"]).strip(), settings["ClusterName"]
    show = ["sacctmgr", "--noheader", "--parsable2", "show"]
    try:
        accounts = _table([*show, "assoc", f"user={user}", f"cluster={cluster}", "format=account"])
        return accounts, _table([*show, "qos", "format=name,maxwall,flags"])
    except (UserError, FileNotFoundError) as error:
        print(f"account and qos are not checked, for SLURM's accounting does not answer: {error}", file=sys.stderr)
        return [], []


def _table(command: list[str]) -> list[list[str]]:
    return [line.split("|") for line in _answer(command).splitlines() if line]


def _answer(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(f"{command[0]} failed ({said[-1] if said else done.returncode}); is SLURM up? Try again later")
    return done.stdout
