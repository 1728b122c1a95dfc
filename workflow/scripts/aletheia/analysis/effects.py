"""What an effect is: one arm against another in one measure, with the values of each model and seed.

An effect is a difference on a scale on which models can be averaged: points of a benchmark, nats of a loss, the natural
logarithm of a ratio of times. Where the answers to single questions, or the losses of single rows, are known, each
model has them beside its values. :mod:`aletheia.analysis.paired_arms` takes them from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POINTS, NATS, LOG_RATIO = "points", "nats", "log_ratio"
TIME, TIME_WITH_PROBE, TIME_TO_LOSS = "time", "time_with_probe", "time_to_std_loss"
HELDOUT_LOSS, RETENTION_LOSS = "heldout_loss", "retention_loss"
PROBABILITY = "_probability"  # after the benchmark's name: the probability of the right choice


@dataclass(frozen=True)
class Items:
    """Answers to single questions, or losses of single rows, by two runs of each seed.

    Attributes
    ----------
    names
        Of the items.
    differences
        Arm − reference [seeds, items], in the effect's unit; NaN where one side has none.
    clusters
        Subject of each item, where a benchmark has subjects.
    weights
        Tokens of each item, of losses.
    discordant
        Of right and wrong answers, by seed: how many items the arm alone has right, and the reference alone.
    """

    names: tuple[str, ...]
    differences: np.ndarray
    clusters: tuple[str, ...] | None = None
    weights: np.ndarray | None = None
    discordant: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Rounds:
    """The 95 % interval of one seed's log ratio over the rounds of its measurement in turns."""

    n: int
    low: float
    high: float


@dataclass(frozen=True)
class SameArm:
    """The log ratio of std against itself, in turns, and its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ModelValues:
    """One model's share of an effect.

    Attributes
    ----------
    values
        Arm − reference, one a seed that has it.
    planned
        Seeds that the campaign plans.
    at_floor
        Whether the base model is at the level of guessing, so that a change says nothing.
    implausible
        Whether the base model's score is (:mod:`aletheia.analysis.validity`), so that a change says nothing either.
    flagged
        Whether the base model's scores, or those of either arm, are at the floor or of degenerate answers.
    clock
        How times were measured: "in turns" or "wall clock".
    same
        Std against itself, where arms were timed in turns with it.
    """

    model: str
    headline: bool
    values: tuple[float, ...]
    planned: int
    items: Items | None = None
    rounds: Rounds | None = None
    at_floor: bool = False
    implausible: bool = False
    flagged: bool = False
    clock: str | None = None
    same: SameArm | None = None


@dataclass(frozen=True)
class Effect:
    """One arm against another in one measure, over the models that have both."""

    arm: str
    reference: str
    measure: str
    unit: str
    models: tuple[ModelValues, ...]

    @property
    def higher_is_better(self) -> bool:
        """Whether a positive difference is an improvement: of scores; of losses and times it is none."""
        return self.unit == POINTS
