"""The learning rate of a run: as its settings say, or that of the best of other arms' runs, its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import Source
from aletheia.study.recipes import RATE, trials_of

FACTS = (RATE, "eval_loss", "status")


@dataclass(frozen=True)
class ChosenRate:
    """The peak learning rate of a run, before the model's scale.

    Attributes
    ----------
    value
        None where it could not be chosen.
    trials
        By arm: ``learning_rate``, ``eval_loss`` and ``status`` of its run; None where the settings say the rate.
    reason
        Why it could not be chosen; else None.
    """

    value: float | None
    trials: dict[str, dict[str, Any]] | None = None
    reason: str | None = None


def chosen_rate(arm: Mapping[str, Any], settings: Mapping[str, Any], trials: Sequence[Source]) -> ChosenRate:
    """Return the learning rate of a run.

    Parameters
    ----------
    arm
        The arm's entry: ``learning_rate: {best_of: [ARM, …]}`` takes the rate of that one of these arms whose run has
        the lowest held-out loss at the end of its training. A run that failed loses; of equal losses the lower rate
        wins. Nothing but ``eval_loss`` chooses, which is taken over the first split, and no other row is read.
    settings
        The section ``training``, whose rate is that of any other arm.
    trials
        ``run.json`` of each of the arms that are named.

    Raises
    ------
    UserError
        When other runs are given than the arm names.
    """
    names = trials_of(arm)
    runs = {run["arm"]: run for run in (artifacts.payload(source, "run") for source in trials)}
    if set(names) != set(runs) or len(runs) != len(trials):
        raise UserError(
            f"--trials: expected run.json of {_listed(names)} (learning_rate.best_of), found that of "
            f"{_listed([artifacts.payload(source, 'run')['arm'] for source in trials])}; name just these"
        )
    if not names:
        return ChosenRate(settings[RATE])
    for name, run in runs.items():
        if run.get(RATE) is None:
            raise UserError(f"--trials: expected the learning rate of {name} in its run.json, found none; train it")
    table = {name: {fact: runs[name][fact] for fact in FACTS} for name in names}
    finished = [each for each in table.values() if each["status"] == "ok" and each["eval_loss"] is not None]
    if not finished:
        ends = ", ".join(f"{name} as {each['status']}" for name, each in table.items())
        return ChosenRate(None, table, f"learning_rate: best_of, and none of its arms ended well: {ends}")
    best = min(finished, key=lambda each: (each["eval_loss"], each[RATE]))
    return ChosenRate(best[RATE], table)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
