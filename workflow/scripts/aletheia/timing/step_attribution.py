"""Attribution of step time: measured arms beside a cost model's predictions, and savings split into two causes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aletheia.errors import UserError
from aletheia.timing.rounds import Turns, interval, resampled_rounds
from aletheia.timing.step_cost import FORMULA, PARTS, CostModel, Shape, calibrate

ALL_LAYERS = "all"
SWITCHED = "checkpointing_switched"
BUDGET_PERCENT = 50
# The arms of figure S3. Of these only `all` calibrates the model too.
PREDICTED = {
    "all": "all layers",
    "gradient50": "gradient 50 %",
    "last50": "last 50 %",
    "last50_with_layer0": "last 50 % with layer 0",
    "every_other": "every other layer",
    "rank_halved": "all, half the rank",
}
CALIBRATING = ("all", "first_layer_alone", "last_layer_alone", "rank_doubled", SWITCHED)


@dataclass(frozen=True)
class Arm:
    """One arm: its layers, the factor of its ranks, and whether activations are recomputed (checkpointing)."""

    layers: list[int]
    rank_factor: float
    recomputed: bool


def arms(layers_total: int, gradient: Sequence[int], *, recomputed: bool) -> dict[str, Arm]:
    """Return the arms of the attribution: those of the figure, and those that calibrate the model.

    Parameters
    ----------
    layers_total
        L.
    gradient
        The ⌊L/2⌋ layers with the highest probe scores.
    recomputed
        Whether the study uses gradient checkpointing; :data:`SWITCHED` does the opposite.

    Raises
    ------
    UserError
        For a model of one layer, where there is nothing to choose.
    """
    if layers_total < 2:
        raise UserError(f"attribution: expected a model of two layers or more, found {layers_total}")
    half, every_layer = layers_total // 2, list(range(layers_total))
    layers = {
        ALL_LAYERS: every_layer,
        "gradient50": sorted(gradient),
        "last50": every_layer[-half:],
        "last50_with_layer0": [0, *every_layer[layers_total - half + 1 :]],
        "every_other": every_layer[::2][:half],
        "rank_halved": every_layer,
        "first_layer_alone": [0],
        "last_layer_alone": every_layer[-1:],
        "rank_doubled": every_layer,
        SWITCHED: every_layer,
    }
    factor = {"rank_halved": 0.5, "rank_doubled": 2}
    return {name: Arm(chosen, factor.get(name, 1), recomputed != (name == SWITCHED)) for name, chosen in layers.items()}


def scaled_rank(rank: Mapping[str, int] | int, factor: float) -> dict[str, int] | int:
    """Return a rank, or one for each kind of module, times a factor, at least 1."""
    if isinstance(rank, Mapping):
        return {group: max(1, int(value * factor)) for group, value in rank.items()}
    return max(1, int(rank * factor))


def attribution(shapes: Mapping[str, Shape], turns: Mapping[str, Turns], positions: Sequence[Sequence[int]]) -> dict:
    """Return measured, predicted and explained times of all arms.

    An arm's time is the median over rounds of its seconds a position, times the mean positions of a step; predictions
    and the parts of a saving are linear in these times, so that they add up. Intervals are of a bootstrap over rounds,
    with the same resampled rounds for all arms.

    Parameters
    ----------
    shapes, turns
        By arm (:func:`arms`).
    positions
        Positions of each counted step, by round.

    Returns
    -------
    dict
        ``cost_model`` (None where calibrating arms failed), ``fit`` over the arms it was not calibrated on, and
        ``arms``.
    """
    work = np.array(positions, dtype=float)
    step = float(work.mean())
    rates = {
        name: np.array(each.step_seconds).sum(axis=1) / work.sum(axis=1)
        for name, each in turns.items()
        if each.status == "ok"
    }
    draws = resampled_rounds(len(work))
    # First the estimate from all rounds, then one of each resample: [1 + RESAMPLES] seconds a step.
    seconds = {
        name: step * np.concatenate([[np.median(rate)], np.median(rate[draws], axis=1)]) for name, rate in rates.items()
    }
    model = _model(shapes, {name: value / step for name, value in seconds.items()})
    entries = {name: _entry(name, shapes, seconds, model, step) for name in shapes}
    return {
        "positions_per_step": step,
        "cost_model": None if model is None else _parts(model, step),
        "fit": None if model is None else _fit(seconds, shapes, model, step),
        "arms": entries,
    }


def _estimate(values: np.ndarray) -> dict[str, Any]:
    return interval(values[0], values[1:])


def _model(shapes: Mapping[str, Shape], rates: Mapping[str, np.ndarray]) -> CostModel | None:
    """Return the calibrated model; None if a calibrating arm other than :data:`SWITCHED` failed."""
    names = [name for name in CALIBRATING if name in rates]
    if not {*CALIBRATING} - {SWITCHED} <= set(names):
        return None
    return calibrate([shapes[name] for name in names], np.stack([rates[name] for name in names]))


def _parts(model: CostModel, step: float) -> dict[str, Any]:
    """Return the model's parts as seconds of a step, and the names of those that came out negative."""
    parts = {name: getattr(model, name) for name in PARTS}
    return {
        "formula": FORMULA,
        "calibrated_on": list(CALIBRATING if model.forward is not None else CALIBRATING[:-1]),
        "seconds_per_step": {name: None if v is None else _estimate(step * v) for name, v in parts.items()},
        "negative": [name for name, value in parts.items() if value is not None and value[0] < 0],
    }


def _entry(
    name: str, shapes: Mapping[str, Shape], seconds: Mapping[str, np.ndarray], model: CostModel | None, step: float
) -> dict[str, Any]:
    """Return one arm's measured and predicted time and its saving against all layers."""
    shape, measured = shapes[name], seconds.get(name)
    predicted = None if model is None or not _predictable(model, shape, shapes) else model.seconds(shape, step)
    comparable = measured is not None and predicted is not None
    return {
        "calibrates": name in CALIBRATING,
        "shown": name in PREDICTED,
        "measured_seconds": None if measured is None else _estimate(measured),
        "predicted_seconds": None if predicted is None else _estimate(predicted),
        "error_percent": _estimate(100 * (predicted / measured - 1)) if comparable else None,
        "saving": _saving(name, shapes, seconds, model, step) if name in PREDICTED and name != ALL_LAYERS else None,
    }


def _predictable(model: CostModel, shape: Shape, shapes: Mapping[str, Shape]) -> bool:
    return model.forward is not None or shape.recomputed == shapes[ALL_LAYERS].recomputed


def _saving(
    name: str, shapes: Mapping[str, Shape], seconds: Mapping[str, np.ndarray], model: CostModel | None, step: float
) -> dict[str, Any] | None:
    """Return an arm's saving against all layers, in seconds and percent, by cause; None without both times."""
    whole = seconds.get(ALL_LAYERS)
    if whole is None or name not in seconds:
        return None
    causes = {"measured": whole - seconds[name]}
    if model is not None:
        causes |= model.saving(shapes[ALL_LAYERS], shapes[name], step)
        causes["unexplained"] = causes["measured"] - causes["truncated_backward"] - causes["absent_adapters"]
    return {
        cause: {"seconds": _estimate(value), "percent": _estimate(100 * value / whole)}
        for cause, value in causes.items()
    }


def _fit(
    seconds: Mapping[str, np.ndarray], shapes: Mapping[str, Shape], model: CostModel, step: float
) -> dict[str, Any] | None:
    """Return the errors of the predictions over the arms that did not calibrate the model."""
    names = [name for name in PREDICTED if name not in CALIBRATING and name in seconds]
    if not names:
        return None
    errors = np.stack([100 * (model.seconds(shapes[name], step) / seconds[name] - 1) for name in names])
    worst = int(np.abs(errors[:, 0]).argmax())
    return {
        "arms": names,
        "mean_absolute_error_percent": _estimate(np.abs(errors).mean(axis=0)),
        "largest_error_percent": float(errors[worst, 0]),
        "largest_error_arm": names[worst],
    }
