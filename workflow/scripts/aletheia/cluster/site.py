"""A cluster as its profile describes it: what its nodes have, and how long jobs may run there. It decides no result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.project_files import project_file
from aletheia.study.schema import at, read_validated

# A job gets this many times the seconds of the time model, and these minutes for its start.
TIME_MARGIN_FACTOR = 2.0
START_MINUTES = 5


@dataclass(frozen=True)
class Site:
    """A cluster, as its file describes it (``workflow/schemas/site.schema.yaml``).

    Attributes
    ----------
    gpu, cpu, smoke
        For jobs that load a model, jobs that load none, and jobs that print their devices.
    """

    gpu: Mapping[str, Any]
    cpu: Mapping[str, Any]
    smoke: Mapping[str, Any]

    @property
    def longest(self) -> int:
        """Wall time of the longest quality of service, in minutes."""
        return self.gpu["qos"][-1]["minutes"]

    def most_cores(self, gpus: Iterable[int]) -> int:
        """Return the cores of the largest job; ``gpus`` are those of the jobs that load a model."""
        return max(self.cpu["cores"], self.gpu["cores"] * max([*gpus, *self.smoke["gpus"]]))

    def minutes(self, seconds: float | None) -> int:
        """Return the wall time of a job's first try in minutes; None stands for a time that is not known."""
        return self.gpu["minutes"] if seconds is None else START_MINUTES + math.ceil(TIME_MARGIN_FACTOR * seconds / 60)

    def minutes_of_attempt(self, minutes: int, attempt: int, together: int) -> int:
        """Return the wall time of a job's later try, in minutes.

        Parameters
        ----------
        minutes
            Of the first try.
        attempt
            Which try it is, from 1.
        together
            Minutes of all jobs of the same allocation in the first try. A later try grows only as far as their sum
            stays within the longest quality of service.
        """
        largest_factor = max(1.0, self.longest / together)
        return math.floor(minutes * min(attempt, largest_factor))

    def memory_mb(self, gpus: int, attempt: int) -> int:
        """Return the memory of a job in MB; each further try gets the first one's amount more, up to a node's."""
        return max(
            self.gpu["memory_mb"] * gpus, min(self.gpu["memory_mb"] * gpus * attempt, self.gpu["node_memory_mb"])
        )

    def qos(self, together: int, attempt: int = 1) -> str | None:
        """Return the shortest quality of service that is long enough for a try of an allocation, or the longest."""
        lengths, minutes = self.gpu["qos"], self.minutes_of_attempt(together, attempt, together)
        return next((entry for entry in lengths if minutes <= entry["minutes"]), lengths[-1])["name"]


def read_site(path: str | None) -> Site | None:
    """Return the site that a configuration names; None where jobs run on this machine.

    Raises
    ------
    UserError
        When the file is missing or describes no possible site.
    """
    if path is None:
        return None
    path = project_file(path)
    content = read_validated(Path(path), "site")
    lengths = [entry["minutes"] for entry in content["gpu"]["qos"]]
    if lengths != sorted(lengths):
        raise UserError(
            f"{at(Path(path), 'gpu', 'qos')}: expected the shortest quality of service first, found {_list(lengths)}"
        )
    gpu = content["gpu"]
    if gpu["memory_mb"] > gpu["node_memory_mb"]:
        raise UserError(
            f"{at(Path(path), 'gpu', 'node_memory_mb')}: expected at least gpu.memory_mb ({gpu['memory_mb']}), which "
            f"the first try of a job gets, found {gpu['node_memory_mb']}"
        )
    return Site(**content)


def _list(values: Sequence[int]) -> str:
    return ", ".join(f"{value} min" for value in values)
