"""What SLURM's accounting says of a job, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = (
    *("JobIDRaw", "JobName", "Partition", "QOS", "Account", "State", "AllocTRES", "ReqTRES", "TimelimitRaw"),
    *("NodeList", "Submit", "Start", "End", "Restarts", "ExitCode", "Comment", "WorkDir"),
)
SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Job:
    """One record of sacct: a job, as it was started once. Times are seconds since 1970, None for what has not been."""

    id: int
    name: str
    partition: str
    qos: str
    account: str
    """In small letters, whatever the job said: SLURM keeps accounts so."""
    state: str
    """The bare word: ``CANCELLED``, not ``CANCELLED by 0``."""
    allocated: dict[str, int]
    """TRES: ``cpu``, ``mem`` (MB), ``node``, ``billing``, ``gres/gpu``; a free partition has no ``billing``."""
    requested: dict[str, int]
    limit_minutes: int
    nodes: str
    submit: float
    start: float | None
    end: float | None
    restarts: int
    exit_code: str
    comment: str
    folder: str
    """Where it was submitted."""


def parse_jobs(text: str) -> list[Job]:
    """Return the records that ``sacct --parsable2 --noheader`` printed with ``FIELDS``, times as seconds since 1970."""
    return [_job(dict(zip(FIELDS, line.split(SEPARATOR), strict=True))) for line in text.splitlines()]


def _job(fields: dict[str, str]) -> Job:
    nodes = fields["NodeList"]
    return Job(
        id=int(fields["JobIDRaw"]),
        name=fields["JobName"],
        partition=fields["Partition"],
        qos=fields["QOS"],
        account=fields["Account"],
        state=fields["State"].split()[0],
        allocated=parse_tres(fields["AllocTRES"]),
        requested=parse_tres(fields["ReqTRES"]),
        limit_minutes=int(fields["TimelimitRaw"]),
        nodes="" if nodes == "None assigned" else nodes,
        submit=float(fields["Submit"]),
        start=_time(fields["Start"]),
        end=_time(fields["End"]),
        restarts=int(fields["Restarts"]),
        exit_code=fields["ExitCode"],
        comment=fields["Comment"],
        folder=fields["WorkDir"],
    )


def parse_tres(text: str) -> dict[str, int]:
    """Return ``cpu=8,mem=123500M,gres/gpu=1`` as numbers, memory in MB."""
    pairs = (pair.split("=") for pair in text.split(",") if pair)
    return {name: _megabytes(value) if name == "mem" else int(value) for name, value in pairs}


def _megabytes(text: str) -> int:
    factor = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}[text[-1]]
    return round(float(text[:-1]) * factor)


def _time(text: str) -> float | None:
    return None if text in ("Unknown", "None") else float(text)
