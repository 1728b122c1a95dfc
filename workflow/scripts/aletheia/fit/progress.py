"""Where a running study is, read from what Snakemake says and from the logs of its trainings."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

STARTS = re.compile(r"^(?:local)?(?:rule|checkpoint) (?P<rule>\w+):$")
WILDCARDS = re.compile(r"^    wildcards: (?P<pairs>.+)$")
JOB = re.compile(r"^    jobid: (?P<job>\d+)$")
ENDS = re.compile(r"^Finished jobid: (?P<job>\d+) ")
COUNT = re.compile(r"^(?P<rule>\w+) +(?P<count>\d+)$")
TOTAL = re.compile(r"^\d+ of (?P<total>\d+) steps \(")
STEP = re.compile(r"^step (?P<step>\d+)/(?P<steps>\d+) loss (?P<loss>\S+) (?P<seconds>\S+) s$")
TRAINS = "train_"
# Seconds of steps that the time of the next ones follows from.
RECENT = 20
ENOUGH_JOBS = 3  # that have ended, before their times say anything of the others


@dataclass
class Job:
    """A job that has started: its rule, what it is about, and when."""

    rule: str
    started: float
    about: dict[str, str] = field(default_factory=dict)


@dataclass
class Training:
    """Where a training is."""

    step: int
    steps: int
    loss: str
    seconds: list[float]


class Progress:
    """What is known of a running study.

    Parameters
    ----------
    folder
        The study's.
    log
        What Snakemake has written so far; it grows.
    clock
        Returns seconds.
    """

    def __init__(self, folder: Path, log: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._log, self._clock = folder, log, clock
        self._position, self._counting, self._opened = 0, False, False
        self._starting: Job | None = None
        self.planned: dict[str, int] = {}
        self._total = 0  # with what checkpoints have added
        self.running: dict[str, Job] = {}
        self.ended = 0
        self._durations: dict[str, list[float]] = {}
        self._step_seconds: list[float] = []
        self._steps: int | None = None

    def look(self) -> None:
        """Read what was written since the last look."""
        try:
            with self._log.open("rb") as file:
                file.seek(self._position)
                content = file.read()
        except OSError:
            return
        whole = content.rfind(b"\n") + 1
        self._position += whole
        for line in content[:whole].decode("utf-8", errors="replace").splitlines():
            self._read(line)

    def _read(self, line: str) -> None:
        if line.startswith("Job stats"):
            # Said once: what a checkpoint adds comes without a new table.
            self._counting = True
        elif self._counting and not line:
            self._counting = False
        elif self._counting and (found := COUNT.match(line)) and found["rule"] != "total":
            self.planned[found["rule"]] = int(found["count"])
        elif found := STARTS.match(line):
            self._starting = Job(found["rule"], self._clock())
        elif self._starting and (found := JOB.match(line)):
            self.running[found["job"]] = self._starting
        elif self._starting and (found := WILDCARDS.match(line)):
            self._starting.about = dict(pair.split("=", 1) for pair in found["pairs"].split(", ") if "=" in pair)
        elif found := TOTAL.match(line):
            self._total = int(found["total"])
        elif found := ENDS.match(line):
            self._end(found["job"])

    def _end(self, number: str) -> None:
        job = self.running.pop(number, None)
        if job is None:
            return
        training = self.training(job)
        if training:
            self._step_seconds += training.seconds
            self._steps = training.steps
        self._durations.setdefault(job.rule, []).append(self._clock() - job.started)
        self.ended += 1

    def training(self, job: Job) -> Training | None:
        """Return where a job is that trains; None for any other, and before its first step."""
        if not job.rule.startswith(TRAINS):
            return None
        name = f"{job.about.get('model')}-{job.about.get('arm')}-seed{job.about.get('seed')}.log"
        try:
            lines = (self._folder / "logs" / "train" / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        steps = [found for line in lines if (found := STEP.match(line))]
        if not steps:
            return None
        last = steps[-1]
        return Training(int(last["step"]), int(last["steps"]), last["loss"], [float(step["seconds"]) for step in steps])

    def seconds_left(self) -> float | None:
        """Return an estimate of what is left; None before a step was timed while trainings are to come.

        Trainings by their steps; other jobs by the time of those of their rule that have ended, else of any.
        """
        done = {rule: len(times) for rule, times in self._durations.items()}
        now = {id(job): self.training(job) for job in self.running.values()}
        timed = [*self._step_seconds, *(s for each in now.values() if each for s in each.seconds)][-RECENT:]
        steps = next((each.steps for each in now.values() if each), self._steps)
        typical = [
            seconds for rule, times in self._durations.items() if not rule.startswith(TRAINS) for seconds in times
        ]
        left = 0.0
        for rule, count in self.planned.items():
            open_jobs = count - done.get(rule, 0)
            if open_jobs <= 0 or rule in ("all", "fit"):
                continue
            if rule.startswith(TRAINS):
                if not timed or not steps:
                    return None
                gone = sum(each.step for job in self.running.values() if job.rule == rule and (each := now[id(job)]))
                left += (open_jobs * steps - gone) * statistics.fmean(timed)
            else:
                known = self._durations.get(rule, typical)
                left += open_jobs * (statistics.fmean(known) if known else 0)
        return left

    def sentence(self) -> str:
        """Return one line: what runs, how many jobs of how many have ended, and what is left."""
        planned = sum(self.planned.values())
        total = max(planned, self._total)
        said = [self._job(job) for job in self.running.values()] or ["planning"]
        # Of which rules the jobs are that a checkpoint has added is not told.
        left = self.seconds_left() if self.ended >= ENOUGH_JOBS and total == planned else None
        parts = ["; ".join(said), f"{self.ended} of {total} jobs" if total else ""]
        parts.append(f"about {in_words(left)} left" if left else "")
        return " · ".join(filter(None, parts))

    def _job(self, job: Job) -> str:
        about = " ".join(
            f"seed {value}" if key == "seed" else value
            for key, value in job.about.items()
            if key in ("model", "arm", "seed", "run")
        )
        training = self.training(job)
        step = f": step {training.step}/{training.steps}, loss {training.loss}" if training else ""
        return f"{job.rule.partition('_')[0] if job.rule.startswith(TRAINS) else job.rule} {about}".strip() + step


def in_words(seconds: float) -> str:
    """Return a time in the unit that reads best."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
