"""Loss against time: each arm's held-out loss and its time, both relative to the standard arm's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aletheia.analysis.arms import LOSS, TURNS_WITH_PROBE, WALL_CLOCK_WITH_PROBE
from aletheia.study.arms import STD

IN_TURNS, BY_CLOCK = "in turns", "wall clock"
_STD = {"n": 0, "mean": 0.0, "sd": None, "low": None, "high": None}


def relative_time(measures: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the estimate of t_arm / t_std, probe included, and how the time was measured.

    Parameters
    ----------
    measures
        An arm's comparisons with std (:func:`aletheia.analysis.arms.against_std`).

    Returns
    -------
    tuple
        The estimate, in turns where the arm was timed so, and "in turns" or "wall clock".
    """
    how = clock([measures])
    speedup = measures[TURNS_WITH_PROBE if how == IN_TURNS else WALL_CLOCK_WITH_PROBE]
    return _share(speedup), how


def clock(arms: Iterable[Mapping[str, Any]]) -> str:
    """Return the clock by which the times of some arms compare: in turns only if each was timed in turns."""
    turns = [measures.get(TURNS_WITH_PROBE) for measures in arms]
    return IN_TURNS if turns and all(speedup and speedup["mean"] is not None for speedup in turns) else BY_CLOCK


def _share(speedup: Mapping[str, Any]) -> dict[str, Any]:
    """Return the estimate of t_arm / t_std = 1 − speedup / 100; the upper bound of one is the lower of the other."""
    low, mean, high = (None if speedup[k] is None else 1 - speedup[k] / 100 for k in ("high", "mean", "low"))
    sd = None if speedup["sd"] is None else speedup["sd"] / 100
    return {"n": speedup["n"], "mean": mean, "sd": sd, "low": low, "high": high}


def points(model: Mapping[str, Any]) -> tuple[dict[str, tuple[dict[str, Any], dict[str, Any]]], str]:
    """Return ``{arm: (relative time, loss difference)}`` of the arms that have both, and how time was measured.

    The standard arm is at (1, 0), without an interval; the result is empty where no other arm has a point.

    Parameters
    ----------
    model
        Of the summary, with ``against_std``.
    """
    others = {arm: measures for arm, measures in model["against_std"].items() if arm != STD}
    others = {arm: measures for arm, measures in others.items() if measures[LOSS]["mean"] is not None}
    how = clock(others.values())
    measure = TURNS_WITH_PROBE if how == IN_TURNS else WALL_CLOCK_WITH_PROBE
    shown = {arm: (_share(measures[measure]), measures[LOSS]) for arm, measures in others.items()}
    shown = {arm: point for arm, point in shown.items() if point[0]["mean"] is not None}
    return ({STD: ({**_STD, "mean": 1.0}, _STD), **shown} if shown else {}), how


def pareto_set(arm_points: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """Return the arms on the Pareto frontier of mean time and mean loss: no other is at least equal in both and better
    in one.

    Returns
    -------
    list of str
        From the least time to the most, so with falling losses.
    """
    means = {arm: (time["mean"], loss["mean"]) for arm, (time, loss) in arm_points.items()}
    best = [
        arm
        for arm, (time, loss) in means.items()
        if not any(t <= time and v <= loss and (t, v) != (time, loss) for t, v in means.values())
    ]
    return sorted(best, key=lambda arm: means[arm])
