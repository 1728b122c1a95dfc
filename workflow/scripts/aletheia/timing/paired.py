"""The paired mode: the standard arm, twice, and another one in turns in one process, for the tightest ratio of times.

Both standard arms have the same settings, so their ratio (A/A) shows the differences that are noise. The other arm's
ratio is over the mean of both in each step: over the balanced orders a drift within a round affects that mean and the
arm equally, and the mean varies less than either (for noise of equal size the ratio has √1.5 against √2 of one step's).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aletheia.timing.rounds import Turns, interval, resampled_rounds

STD = "std"
STD_AGAIN = "std-again"  # no arm of a campaign can have this name
RATIOS = ("ratio", "ratio_with_probe", "same_ratio")
FROM_PAIR = (
    *("model", "arm", "seed", "mode", "status", "reason", "dtype", "frozen_layers", "rounds", "steps_per_round"),
    "probe_seconds",
)
COLUMNS = (
    *FROM_PAIR,
    *(f"{name}{end}" for name in RATIOS for end in ("", "_low", "_high")),
    *("std_median_step_seconds", "arm_median_step_seconds"),
)


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of each counted step of the three arms of a measurement, arrays [rounds, steps].

    Attributes
    ----------
    std, again
        The standard arm, and a second one with the same settings.
    arm
        The other arm, on the same rows.
    """

    @classmethod
    def read(cls, step_seconds: Mapping[str, Sequence[Sequence[float]]], name: str, *, steps: int) -> StepSeconds:
        """Return the seconds by arm; of one that takes several steps for the rows of one of another, their mean.

        Parameters
        ----------
        step_seconds
            By arm and round; ``name`` is the arm beside the standard ones.
        steps
            Of a round, of the arm that has the fewest.
        """
        times = (np.array(step_seconds[each]) for each in (STD, STD_AGAIN, name))
        return cls(*(each.reshape(len(each), steps, -1).mean(axis=2) for each in times))

    std: np.ndarray
    again: np.ndarray
    arm: np.ndarray

    def ratio(self, *, extra_seconds: float = 0.0) -> dict[str, Any]:
        """Return t_std / (t_arm + extra), the mean of both standard arms over the arm, with its interval.

        Parameters
        ----------
        extra_seconds
            Of each of the arm's steps, such as its part of the probe.
        """
        return median_ratio((self.std + self.again) / 2 / (self.arm + extra_seconds))

    def same_ratio(self) -> dict[str, Any]:
        """Return the standard arm's seconds over those of the second one (A/A), with the interval."""
        return median_ratio(self.std / self.again)


def median_ratio(ratios: np.ndarray) -> dict[str, Any]:
    """Return the median over all steps, with a 95 % bootstrap interval over rounds.

    Parameters
    ----------
    ratios
        Array [rounds, steps].
    """
    resamples = ratios[resampled_rounds(len(ratios))]
    replicates = np.median(resamples.reshape(len(resamples), -1), axis=1)
    return {**interval(np.median(ratios), replicates), "rounds": ratios.shape[0], "steps": ratios.size}


def ratios_payload(
    turns: Mapping[str, Turns], name: str, *, probe: Mapping[str, Any] | None, steps: int
) -> dict[str, Any]:
    """Return the ratios of a measurement, of one step; None where one of its arms failed.

    Parameters
    ----------
    turns
        All three arms.
    name
        The arm beside the standard ones.
    probe
        ``seconds`` that it took, and the ``steps`` of a run of the study, among which its time is divided; None where
        the arm needs no probe.
    steps
        Of a round (:meth:`StepSeconds.read`).
    """
    if any(turns[each].status != "ok" for each in (STD, STD_AGAIN, name)):
        return dict.fromkeys(RATIOS)
    seconds = StepSeconds.read({arm: each.step_seconds for arm, each in turns.items()}, name, steps=steps)
    share = probe["seconds"] / probe["steps"] if probe else 0.0
    return {
        "ratio": seconds.ratio(),
        "ratio_with_probe": seconds.ratio(extra_seconds=share),
        "same_ratio": seconds.same_ratio(),
    }


def run_ratios(pair: Mapping[str, Any], *, std_steps: int, arm_steps: int) -> dict[str, Any]:
    """Return the ratios of two whole runs, t_std / t_arm, from a measurement of their steps.

    A run's time is its steps times a step's, so that an arm of more steps counts them all:

        ratio            = S_std · t_std / (S_arm · t_arm)
        ratio_with_probe = S_std · t_std / (S_arm · t_arm + t_probe)

    and the median and the interval are of these. The steps come from the runs, since those of an arm with ``steps:
    measured`` stand in its ``run.json`` alone.

    Parameters
    ----------
    pair
        Payload of a ``paired`` artifact that ended well.
    std_steps, arm_steps
        S of both runs.

    Returns
    -------
    dict
        ``ratio`` and ``ratio_with_probe``, each ``{value, low, high, rounds, steps}``.
    """
    times = {name: each["step_seconds"] for name, each in pair["arms"].items()}
    seconds, steps_ratio = StepSeconds.read(times, pair["arm"], steps=pair["steps_per_round"]), std_steps / arm_steps
    share = (pair["probe_seconds"] or 0.0) / arm_steps
    ratios = {"ratio": seconds.ratio(), "ratio_with_probe": seconds.ratio(extra_seconds=share)}
    ends = ("value", "low", "high")
    return {name: ratio | {end: steps_ratio * ratio[end] for end in ends} for name, ratio in ratios.items()}


def status_of(turns: Mapping[str, Turns]) -> tuple[str, str | None]:
    """Return the status of the first arm that failed, and its reason with the arm's name; ``ok`` where none did."""
    failed = next((name for name, each in turns.items() if each.status != "ok"), None)
    if failed is None:
        return "ok", None
    return turns[failed].status, f"arm {failed}: {turns[failed].reason}"


def summary_rows(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a pair, with :data:`COLUMNS`, from payloads of ``paired`` artifacts; missing values are None."""
    return [_row(pair) for pair in pairs]


def _row(pair: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: pair[key] for key in FROM_PAIR}
    for name in RATIOS:
        ratio = pair[name] or dict.fromkeys(("value", "low", "high"))
        row |= {name: ratio["value"], f"{name}_low": ratio["low"], f"{name}_high": ratio["high"]}
    ok = pair["status"] == "ok"
    for column, name in {"std": STD, "arm": pair["arm"]}.items():
        times = pair["arms"][name]["step_seconds"] if ok else None
        row[f"{column}_median_step_seconds"] = float(np.median(times)) if ok else None
    return row
