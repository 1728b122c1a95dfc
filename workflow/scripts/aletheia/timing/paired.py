"""The paired mode: the standard and a selecting arm in turns in one process, for the tightest ratio of their times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aletheia.timing.rounds import Turns, interval, resampled_rounds

STD = "std"
RATIOS = ("ratio", "ratio_with_probe")
FROM_PAIR = (
    *("model", "arm", "seed", "mode", "status", "reason", "dtype", "frozen_layers", "rounds", "steps_per_round"),
    "probe_seconds",
)
COLUMNS = (
    *FROM_PAIR,
    *(f"{name}{end}" for name in RATIOS for end in ("", "_low", "_high")),
    *("std_median_step_seconds", "arm_median_step_seconds"),
)


def step_ratios(std: Turns, arm: Turns, *, extra_seconds: float = 0.0) -> np.ndarray:
    """Return t_std / (t_arm + extra) of each step, array [rounds, steps]: both did that step on the same batches.

    Parameters
    ----------
    std, arm
        Two arms that ended well.
    extra_seconds
        Of each of the arm's steps, such as its part of the probe.
    """
    return np.array(std.step_seconds) / (np.array(arm.step_seconds) + extra_seconds)


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


def ratios_payload(turns: Mapping[str, Turns], name: str, *, probe: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the ratios of a pair; None where one of its arms failed.

    Parameters
    ----------
    turns
        Both arms.
    name
        The selecting arm.
    probe
        ``seconds`` that it took, and the ``steps`` of a run of the study, among which its time is divided; None where
        the arm needs no probe.
    """
    std, arm = turns[STD], turns[name]
    if not std.status == arm.status == "ok":
        return {"ratio": None, "ratio_with_probe": None}
    share = probe["seconds"] / probe["steps"] if probe else 0.0
    return {
        "ratio": median_ratio(step_ratios(std, arm)),
        "ratio_with_probe": median_ratio(step_ratios(std, arm, extra_seconds=share)),
    }


def status_of(turns: Mapping[str, Turns]) -> tuple[str, str | None]:
    """Return the status of the first arm that failed, and its reason with the arm's name; ``ok`` where none did."""
    failed = next((name for name, own in turns.items() if own.status != "ok"), None)
    if failed is None:
        return "ok", None
    return turns[failed].status, f"arm {failed}: {turns[failed].reason}"


def summary_rows(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a pair, with :data:`COLUMNS`, from payloads of ``paired`` artifacts; what is not known is None."""
    return [_row(pair) for pair in pairs]


def _row(pair: Mapping[str, Any]) -> dict[str, Any]:
    row = {key: pair[key] for key in FROM_PAIR}
    for name in RATIOS:
        found = pair[name] or dict.fromkeys(("value", "low", "high"))
        row |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    well = pair["status"] == "ok"
    for column, name in {"std": STD, "arm": pair["arm"]}.items():
        times = pair["arms"][name]["step_seconds"] if well else None
        row[f"{column}_median_step_seconds"] = float(np.median(times)) if well else None
    return row
