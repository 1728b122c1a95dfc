"""Further columns of table 2: parameters, memory and the probe's share; where timed in turns, the wall clock too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aletheia.analysis.speed import BESIDE_TURNS
from aletheia.report.table_text import DASH, number
from aletheia.study.planned_runs import TURNS

WALL_CLOCK, SAME = "Wall clock (%)", "Std against std (%)"
COSTS = ("Faster", "Trained parameters, std → ale", "Peak memory, ale / std", "Probe's share (%)")


def costs_of(model: dict[str, Any]) -> dict[str, Any]:
    """Return further differences of a model's arms: faster pairs, trained parameters, memory, the probe's share."""
    std, ale = (model["arms"][arm] for arm in ("std", "ale"))
    memory = [arm["peak_memory_bytes"]["mean"] for arm in (std, ale)]
    probe, whole = ale["probe_seconds"]["mean"], ale["total_seconds"]["mean"]
    return {
        "faster_pairs": model["speed"]["wins"],
        "planned_pairs": min(std["runs"], ale["runs"]),
        "std_trainable_parameters": std["trainable_parameters"],
        "ale_trainable_parameters": ale["trainable_parameters"],
        "peak_memory_ratio": None if None in memory else memory[1] / memory[0],
        "probe_share_percent": None if probe is None or not whole else 100 * probe / whole,
    }


def costs_display(costs: dict[str, Any]) -> dict[str, str]:
    trained = [costs[f"{arm}_trainable_parameters"] for arm in ("std", "ale")]
    shown = (
        f"{costs['faster_pairs']} of {costs['planned_pairs']}",
        DASH if None in trained else " → ".join(f"{value:,}" for value in trained),
        number(costs["peak_memory_ratio"], 2),
        number(costs["probe_share_percent"], 1),
    )
    return dict(zip(COSTS, shown, strict=True))


def turns_numbers(block: dict[str, Any]) -> dict[str, Any]:
    """Return the further columns of a speedup from turns; none for one by the wall clock."""
    if "turns" not in block:
        return {}
    turns = block["turns"]
    flat = {f"{name}_{part}": value for name in BESIDE_TURNS for part, value in turns[name].items()}
    return {"speed": TURNS, "interval": turns["interval"], **flat}


def turns_note(speeds: Sequence[dict[str, Any]]) -> str:
    """Return the note on speedups from turns; empty where there are none."""
    blocks = [speed["turns"] for speed in speeds if "turns" in speed]
    if not blocks:
        return ""
    rounds = any(block["interval"] == "rounds" for block in blocks)
    return (
        " Speedup, ratio and Faster are taken in turns where wall clock stands beside: std, ale and once more std, "
        "alternating in one process, a step's ratio times the steps of both runs; p is then of the log ratios. Std "
        "against std is the same for two equal arms, so what cannot be told from 0. Times, wall clock and with it the "
        "busy pairs are of the ledger's runs." + (" Of one seed, the interval is a bootstrap over rounds." * rounds)
    )
