"""May a cell of the paper be held against ours? One answer a cell, with its reason."""

from __future__ import annotations

from collections.abc import Sequence

from aletheia.analysis.own_values import BOUND, OwnValues
from aletheia.analysis.published_cells import (
    LAYERS,
    LOSS,
    LOSS_DIFFERENCE,
    NAME,
    P_VALUE,
    POINTS,
    QUESTIONS,
    RATIO,
    SCORE,
    SECONDS,
    SIZE,
    SPEEDUP,
    WITH_PROBE,
    PublishedCell,
)
from aletheia.analysis.stats import above_floor

EXACT, COMPARABLE, INDICATIVE = "exact", "comparable", "indicative"
NO, NOT_RUN, FAILED = "no", "not run", "failed"
HAS_VERDICT = (EXACT, COMPARABLE, INDICATIVE)
_DEVICE, _MEMORY = "A100", "64GB"  # section 4.1: A100-SXM4-64GB
_NEVER = {
    NAME: "a word, no measurement",
    P_VALUE: "a p-value is of these runs, not of the method",
    SCORE: "other questions, prompts and scoring; their differences can be compared",
    LOSS: "other data; the difference of the two losses can be compared",
}


def comparability(
    cell: PublishedCell, own: OwnValues | None, devices: Sequence[str], *, base_percent: float | None
) -> tuple[str, str]:
    """Return whether a cell can be compared, and why.

    Parameters
    ----------
    cell
        The paper's.
    own
        Ours; None where this study does not measure it.
    devices
        On which ours ran, as PyTorch names them.
    base_percent
        The base model's score in the paper, where the cell is a difference of scores and it is printed.
    """
    if cell.kind in _NEVER:
        return NO, _NEVER[cell.kind]
    if own is None:
        return NOT_RUN, "not measured in this study"
    if not own.values:
        if own.failures:
            return FAILED, f"runs of ours failed: {'; '.join(own.failures)}"
        return NOT_RUN, "no value in this study"
    level, reasons = _of_kind(cell, own, devices, base_percent)
    if own.failures:
        reasons.append(f"{len(own.values)} of {own.planned} seeds, the others failed ({'; '.join(own.failures)})")
    return level, "; ".join(reasons)


def _of_kind(
    cell: PublishedCell, own: OwnValues, devices: Sequence[str], base_percent: float | None
) -> tuple[str, list[str]]:
    if cell.kind in (SIZE, LAYERS):
        return EXACT, ["a fact of the model"]
    level, reasons = COMPARABLE, []
    if cell.kind in (SECONDS, SPEEDUP, RATIO):
        level, reasons = _time(cell, own, devices)
    if cell.kind == LOSS_DIFFERENCE:
        level, reasons = INDICATIVE, ["other data"]
    if cell.kind == POINTS:
        level, reasons = _points(cell, own, base_percent)
    if level in HAS_VERDICT and len(own.values) == 1 and cell.sd is None:
        level = INDICATIVE
        reasons.append("one seed, and the paper has no SD: the spread of runs is not known")
    return level, reasons


def _time(cell: PublishedCell, own: OwnValues, devices: Sequence[str]) -> tuple[str, list[str]]:
    known = bool(devices)
    same_class = known and all(_DEVICE in device for device in devices)
    where = ", ".join(devices) or "a device that is not known"
    unknown = "the paper's batch size and length are not known"
    if cell.kind == SECONDS:
        if known and all(_DEVICE in device and _MEMORY in device for device in devices):
            return INDICATIVE, [unknown]
        return NO, [f"seconds on {where}, the paper's on an A100-SXM4-64GB"]
    if len(own.values) == 1 and not same_class:
        # The paper's spread stands for ours on a device of its class alone.
        return NO, [f"one seed on {where}, whose spread is not known"]
    reasons = [unknown] if same_class else [f"measured on {where}, the paper's on A100"]
    if cell.quantity == WITH_PROBE:
        return INDICATIVE, [*reasons, "the paper does not say whether its seconds hold the probe"]
    return (COMPARABLE if same_class else INDICATIVE), reasons


def _points(cell: PublishedCell, own: OwnValues, base_percent: float | None) -> tuple[str, list[str]]:
    if own.flagged:
        return NO, ["ours at the floor: no better than guessing, or mostly no answers"]
    reasons = [] if own.questions is None or own.questions.how != BOUND else ["answers to single questions not known"]
    asked = QUESTIONS[cell.benchmark]
    if base_percent is not None and not above_floor(base_percent / 100, asked, chance=0.25):
        return INDICATIVE, ["the paper's base model is at the level of guessing", *reasons]
    return COMPARABLE, reasons
