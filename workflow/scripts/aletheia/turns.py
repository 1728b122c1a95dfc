"""The times of an arm that takes turns with others in one process."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Turns:
    """What one arm did in its turns.

    Attributes
    ----------
    status, reason
        As a run's: ``ok``, ``diverged``, ``out_of_memory`` or ``crashed``, and one sentence where it is not ``ok``.
    step_seconds
        Wall-clock seconds of each step, by round; the warm-up is left out. Whole rounds only.
    """

    status: str = "ok"
    reason: str | None = None
    step_seconds: list[list[float]] = field(default_factory=list)
