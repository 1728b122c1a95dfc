"""The limits that a SLURM cluster states, and which of a study's jobs it would refuse."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aletheia.cluster.queue import answer
from aletheia.errors import UserError

UNLIMITED = ("", "UNLIMITED", "INFINITE", "NOT_SET", "Partition_Limit")
# `squeue` has to show ended jobs for so long: the executor looks every 180 s where none ends for a while, and a look
# may be late. Below 120 s it asks sacct, which hides that a job was cancelled.
MIN_JOB_AGE_SECONDS = 240


@dataclass(frozen=True)
class Request:
    """The resources that some jobs of one kind request; None leaves one to the cluster.

    Attributes
    ----------
    job
        Their name in error messages.
    account, partition, qos
        Names on the cluster.
    minutes
        Wall time, in minutes.
    longest
        Wall time of the longest quality of service that the site's file has for such jobs, in minutes.
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
        ``{name: qualities of service}`` of the user; None where jobs need no account.
    partitions
        ``{name: longest minutes or None}``.
    qos
        ``{name: longest minutes or None}``; empty where the cluster keeps none.
    lifting
        Qualities of service whose limit replaces the partition's (SLURM's flag PartitionTimeLimit).
    admitted
        ``{partition: qualities of service}`` of the partitions that do not admit all.
    default
        The partition of jobs that name none.
    """

    accounts: Mapping[str, Sequence[str]] | None
    partitions: Mapping[str, int | None]
    qos: Mapping[str, int | None]
    lifting: Sequence[str] = ()
    admitted: Mapping[str, Sequence[str]] = field(default_factory=dict)
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
    shown = answer(["scontrol", "--oneliner", "show", "partition"])
    lines = [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in shown.splitlines()]
    lines = [line for line in lines if "PartitionName" in line]
    settings = _settings()
    accounts, qos = _accounting(settings)
    return Cluster(
        accounts=accounts,
        partitions={line["PartitionName"]: minutes_of(line["MaxTime"]) for line in lines},
        qos={row[0]: minutes_of(row[1]) for row in qos},
        lifting=[row[0] for row in qos if "PartitionTimeLimit" in row[2]],
        admitted={
            line["PartitionName"]: line["AllowQos"].lower().split(",")
            for line in lines
            if line.get("AllowQos", "ALL") != "ALL"
        },
        default=next((line["PartitionName"] for line in lines if line.get("Default") == "YES"), None),
    )


def _settings() -> dict[str, str]:
    """Return SLURM's configuration by name; warn where it forgets ended jobs too soon."""
    pairs = [line.split("=", 1) for line in answer(["scontrol", "show", "config"]).splitlines() if "=" in line]
    settings = {name.strip(): value.strip() for name, value in pairs}
    kept = re.match(r"\d+", settings.get("MinJobAge", ""))
    if kept and int(kept[0]) < MIN_JOB_AGE_SECONDS:
        print(
            f"this cluster forgets ended jobs after {kept[0]} s (MinJobAge; expected at least {MIN_JOB_AGE_SECONDS}), "
            "so it may not be noticed that one was cancelled: where the controller seems to wait for "
            "ever, stop and start it",
            file=sys.stderr,
        )
    return settings


def _accounting(settings: Mapping[str, str]) -> tuple[dict[str, list[str]] | None, list[list[str]]]:
    """Return the user's accounts on this cluster, and the table of its qualities of service (name, limit, flags).

    The accounts are None where jobs need none, and, with a warning, where the accounting does not answer: jobs are
    accepted even so. The table is empty in these cases, and where no quality of service is enforced.
    """
    enforced = settings.get("AccountingStorageEnforce", "")
    if "associations" not in enforced:
        return None, []
    # Other clusters may share this accounting database.
    user, cluster = answer(["id", "-un"]).strip(), settings["ClusterName"]
    show = ["sacctmgr", "--noheader", "--parsable2", "show"]
    accounts: dict[str, list[str]] = {}
    try:
        for name, qos in _table([*show, "assoc", f"user={user}", f"cluster={cluster}", "format=account,qos"]):
            accounts.setdefault(name, []).extend(filter(None, qos.split(",")) if "qos" in enforced else ())
        return accounts, _table([*show, "qos", "format=name,maxwall,flags"]) if "qos" in enforced else []
    except UserError as error:
        print(f"account and qos are not checked, for SLURM's accounting does not answer: {error}", file=sys.stderr)
        return None, []


def _table(command: list[str]) -> list[list[str]]:
    return [line.split("|") for line in answer(command).splitlines() if line]


def refusals(requests: Iterable[Request], cluster: Cluster) -> list[str]:
    """Return a sentence for each request that the cluster would refuse, each sentence once."""
    return list(dict.fromkeys(sentence for request in requests for sentence in _refusals(request, cluster)))


def _refusals(request: Request, cluster: Cluster) -> Iterable[str]:
    # SLURM stores the names of qualities of service in lower case, and accepts either case.
    partition, qos = request.partition, request.qos and request.qos.lower()
    unknown = qos is not None and bool(cluster.qos) and qos not in cluster.qos
    yield from _of_account(request.account, None if unknown else qos, cluster.accounts)
    if partition is not None and partition not in cluster.partitions:
        yield (
            f"partition: expected one of this cluster ({', '.join(sorted(cluster.partitions))}), found {partition!r}; "
            "mend the profile's site.yaml"
        )
    within = partition or cluster.default
    if unknown:
        yield (
            f"qos: expected one of this cluster ({', '.join(sorted(cluster.qos))}), found {qos!r}; "
            "mend the profile's site.yaml"
        )
    elif qos is not None and within in cluster.admitted and qos not in cluster.admitted[within]:
        yield (
            f"qos: expected one that partition {within} takes ({', '.join(cluster.admitted[within])}), found {qos!r}; "
            "mend the profile's site.yaml"
        )
    yield from _of_time(request, qos, within, cluster)


def _of_account(account: str | None, qos: str | None, accounts: Mapping[str, Sequence[str]] | None) -> Iterable[str]:
    if accounts is None:
        return
    # SLURM stores the names of accounts in lower case, and accepts either case.
    allowed_qos = {name.lower(): names for name, names in accounts.items()}
    if not accounts:
        yield "account: you have none on this cluster; ask for one, or for the project to be opened to you"
    elif (account or "").lower() not in allowed_qos:
        given = "none" if account is None else repr(account)
        yield (
            f"account: expected one of yours ({', '.join(accounts)}), found {given}; "
            "set ALETHEIA_ACCOUNT in the shell that runs snakemake"
        )
    elif qos is not None and (allowed := allowed_qos[account.lower()]) and qos not in allowed:
        yield (
            f"qos: expected one that account {account} may use ({', '.join(allowed)}), found {qos!r}; "
            "mend the profile's site.yaml"
        )


def _of_time(request: Request, qos: str | None, within: str | None, cluster: Cluster) -> Iterable[str]:
    limits = {} if qos in cluster.lifting else {f"partition {within}": cluster.partitions.get(within or "")}
    limits |= {f"qos {qos}": cluster.qos.get(qos or ""), "the site's file": request.longest}
    bounds = {origin: minutes for origin, minutes in limits.items() if minutes is not None}
    strictest = min(bounds, key=bounds.__getitem__, default=None)
    if strictest is not None and request.minutes is not None and request.minutes > bounds[strictest]:
        yield (
            f"{request.job}: needs {request.minutes} minutes, and {strictest} allows {bounds[strictest]}; "
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
