"""What a search knows of a trial once it has run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

OK = "ok"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One trial's run, failed ones too.

    Attributes
    ----------
    arm, recipe, rate, seed
        As of its :class:`aletheia.search.trials.Trial`.
    status
        The run's: ``ok``, or how it ended.
    loss
        Held-out loss at its end, nats a target token; None where there is none.
    seconds
        Of the run by ``cost.json``, with what its choice of layers takes; None where not known.
    steps
        Of the run.
    retention
        Loss on general text over the base model's, nats; None where not measured.
    """

    arm: str
    recipe: str
    rate: float
    seed: int
    status: str = OK
    loss: float | None = None
    seconds: float | None = None
    steps: int | None = None
    retention: float | None = None

    @property
    def usable(self) -> bool:
        """Whether it ended well, with a finite loss; nothing else can win."""
        return self.status == OK and self.loss is not None and math.isfinite(self.loss)


def losses_by_seed(results: Sequence[Result]) -> dict[int, float | None]:
    """Return the losses of one recipe's runs by seed; None for one that failed."""
    return {each.seed: each.loss if each.usable else None for each in results}
