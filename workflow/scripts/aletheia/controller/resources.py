"""The resources that each job requests.

On this machine a timed job gets all cores; on a cluster the profile names a site, whose file states the resources. A
change of resources triggers no rerun.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from aletheia.cluster.site import Site
from aletheia.cluster.wall_time import WallTimes
from aletheia.controller.binding import Binder
from aletheia.sandbox.judge import memory_mb
from aletheia.study.study import Study

Resources = dict[str, Any]
Minutes = Callable[..., int]  # of what a rule's wildcards name
ACCOUNT = "ALETHEIA_ACCOUNT"
NO_SMOKE = {"gpus": [1], "minutes": None, "qos": None}


def attempt_number(wildcards: Any, attempt: int) -> int:
    """Return the number of a job's try, which its artifacts record."""
    return attempt


def checkpoint_seconds(study: Study, model: str, arm: str, seed: int) -> int:
    """Return the whole seconds between the checkpoints of a run, -1 for none."""
    seconds = study.run(model, arm, seed).settings["training"]["checkpoint_seconds"]
    return -1 if seconds is None else round(seconds)


def prefix_mib(study: Study, model: str, arm: str, seed: int) -> int:
    """Return what the states of a run's frozen prefix may take, in MiB (resources are whole numbers)."""
    return math.ceil(1024 * study.run(model, arm, seed).settings["training"]["prefix_cache_gib"])


def tensorboard(study: Study, model: str, arm: str, seed: int) -> int:
    """Return 1 where a run writes training curves, else 0."""
    return int(study.run(model, arm, seed).settings["training"]["tensorboard"])


class JobResources:
    """The threads and resources of every rule.

    Parameters
    ----------
    study
        Whose jobs.
    site
        The cluster; None where jobs run on this machine.
    bind
        Gives the functions of minutes what the wildcards name.
    cores
        Returns the cores that Snakemake has; jobs of a local run get them.
    """

    def __init__(self, study: Study, site: Site | None, bind: Binder, cores: Callable[[], int | None]) -> None:
        self._study, self._site, self._bind, self._cores = study, site, bind, cores
        self.wall_times = WallTimes(study, site)
        self.smoke = site.smoke if site else NO_SMOKE

    def gpus(self, wildcards: Any) -> int:
        """Return the GPUs of a job: those of the model that it loads, or of a job that asks for a number."""
        named = "model" in wildcards.keys()  # noqa: SIM118  Snakemake's wildcards are a list
        return self._study.models[wildcards.model]["gpus"] if named else int(wildcards.gpus)

    def all_cores(self, wildcards: Any) -> int:
        """Return every core that Snakemake has, so that a timed job runs alone; on a cluster those of its GPUs."""
        return self._site.gpu["cores"] * self.gpus(wildcards) if self._site else self._cores() or 1

    def several_cores(self, wildcards: Any) -> int:
        """Return the cores of a job that can use several and loads no model."""
        return self._site.cpu["cores"] if self._site else self._cores() or 1

    def gpu_resources(self, minutes: Minutes, allocation: Minutes | None = None, qos: str | None = None) -> Resources:
        """Return the resources of a rule that loads a model, or shares an allocation with one that does.

        Parameters
        ----------
        minutes
            Wall time of the job.
        allocation
            Wall time of all jobs that share its allocation; the job's own when None. They run one after another, since
            nothing may run beside a timed job: each takes the resource ``turn``, of which the profile has one in each
            allocation.
        qos
            Quality of service; when None, the shortest that is long enough.
        """
        site = self._site
        if site is None:
            return {"attempt": attempt_number}
        job_minutes = self._bind(minutes)
        together = self._bind(allocation) if allocation else job_minutes
        gres = {"gres": lambda wildcards: f"gpu:{self.gpus(wildcards)}"}
        return {
            "attempt": attempt_number,
            "turn": 1,
            "nodes": 1,
            # Threads may be cut on the command line (--max-threads); this is not.
            "cpus_per_task": lambda wildcards: site.gpu["cores"] * self.gpus(wildcards),
            "mem_mb": lambda wildcards, attempt: site.memory_mb(self.gpus(wildcards), attempt),
            "runtime": lambda wildcards, attempt: site.minutes_of_attempt(
                job_minutes(wildcards), attempt, together(wildcards)
            ),
            "qos": lambda wildcards, attempt: qos or site.qos(together(wildcards), attempt),
            **_account(),
            **self._partition("gpu"),
            **(gres if site.gpu["request"] == "gres" else {"gpu": self.gpus}),
        }

    def gpu_resources_in_allocation(self, minutes: Minutes) -> Resources:
        """Return the resources of a rule whose jobs share an allocation with the arms of their model and seed."""
        return self.gpu_resources(minutes, self.wall_times.allocation)

    def cpu_resources(self, *, programs: bool = False) -> Resources:
        """Return the resources of a rule that loads no model, or of the one that runs programs, one on each core."""
        site = self._site
        if site is None:
            return {"attempt": attempt_number}
        return {
            "attempt": attempt_number,
            "nodes": 1,
            "cpus_per_task": site.cpu["cores"] if programs else 1,
            **_account(),
            "mem_mb": memory_mb(site.cpu["cores"]) if programs else site.cpu["memory_mb"],
            "runtime": site.cpu["minutes"],
            **self._partition("cpu"),
        }

    def _partition(self, kind: str) -> Resources:
        name = getattr(self._site, kind)["partition"]
        return {"slurm_partition": name} if name else {}


def _account() -> Resources:
    """Return the account of jobs, from the environment, so that the repository names nobody's."""
    name = os.environ.get(ACCOUNT)
    # By a function, since Snakemake would take a bare 123456 for a number.
    return {"slurm_account": lambda wildcards: name} if name else {}
