"""Trials of a search as arms: every run that it could ever ask for, named and with whole settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aletheia.search.space import Space

FLOOR, SCAN, FULL, PUSH, CONFIRM, SHORT = "floor", "scan", "full", "push", "confirm", "short"
# First letters of the arms' names. `short`: the confirmed recipe over fewer steps, for the slope of its loss.
LETTERS = {FLOOR: "n", SCAN: "s", FULL: "f", PUSH: "p", CONFIRM: "c", SHORT: "h"}


@dataclass(frozen=True)
class Trial:
    """One run that a search may ask for.

    Attributes
    ----------
    rung
        One of :data:`LETTERS`.
    recipe, rate, seed
        What runs.
    arm_name
        :func:`trial_name`; the same for all seeds.
    arm_settings
        Keys of the arm: the recipe's, and ``learning_rate``. Steps are not among them.
    std_steps
        Steps that std has at this rung; an arm has as many as take the same seconds.
    """

    rung: str
    recipe: str
    rate: float
    seed: int
    arm_name: str
    arm_settings: Mapping[str, Any]
    std_steps: int


def trial_name(rung: str, recipe: str, rate: float) -> str:
    """Return the name of a trial's arm, such as ``s_last_half_r2em3`` (a scan of ``last_half`` at 2e-3)."""
    raise NotImplementedError


def declared(space: Space) -> list[Trial]:
    """Return every trial that a search can ask for, rung by rung.

    - floor: std in the paper's shape and at its rate, over the floor's seeds;
    - scan and full: every recipe, standard ones too, at every rate;
    - push: every recipe at every rate of its moves;
    - confirm, over its seeds: every recipe, moved ones too, as it is and in the paper's shape, and each standard one, at
      every rate that it may come with; short: the same recipes as they are, over the steps of the scan.
    """
    raise NotImplementedError
