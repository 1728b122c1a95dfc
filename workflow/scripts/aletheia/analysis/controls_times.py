"""Times of a model's arms as shares of a standard run, and losses at equal times; never from the runs' own clocks.

A step's share is measured in turns where every arm of the model was, else predicted by the cost model
(:mod:`aletheia.timing.step_prediction`). A run takes its steps times that share; what it reads first, its probe, is
charged beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aletheia.analysis import turns
from aletheia.analysis.arms import geometric
from aletheia.analysis.controls_arms import Arms
from aletheia.analysis.controls_overlap import Selections, adapted, number_of_modules
from aletheia.analysis.frontier import IN_TURNS
from aletheia.analysis.stats import estimate
from aletheia.analysis.time_to_loss import seconds_to_loss
from aletheia.method.cost_aware import StepCosts
from aletheia.study.arms import STD
from aletheia.timing.step_prediction import step_costs

BY_COST_MODEL = "cost model"
# Keys of an arm that change a step's cost in ways that the cost model does not know.
UNKNOWN_TO_COSTS = {
    *("batch_size", "accumulation", "optimizer", "gradient_checkpointing"),
    *("modules", "dropout", "layers_active"),
}
_NONE = {"n": 0, "mean": None, "low": None, "high": None}


@dataclass(frozen=True)
class Times:
    """Times of one model's arms.

    Attributes
    ----------
    clock
        :data:`aletheia.analysis.frontier.IN_TURNS`, :data:`BY_COST_MODEL`, or None where neither has all arms.
    measured, predicted
        A step's share of the standard arm's, by arm: ``{n, mean, low, high}`` with an interval over seeds, or of one
        seed over rounds; a number.
    probe
        What a choice reads first, as a share of a standard run; 0 where it reads nothing.
    steps
        Of each arm's runs.
    """

    clock: str | None
    measured: dict[str, dict[str, Any]]
    predicted: dict[str, float]
    probe: dict[str, float]
    steps: dict[str, float]

    def step(self, arm: str) -> float | None:
        """Return a step's share by the model's clock."""
        return self.measured.get(arm, _NONE)["mean"] if self.clock == IN_TURNS else self.predicted.get(arm)

    def after(self, arm: str, steps: float) -> float | None:
        """Return the time after so many steps, the probe included, as a share of a standard run."""
        share, probe = self.step(arm), self.probe.get(arm)
        if self.clock is None or share is None or probe is None or not self.steps.get(STD):
            return None
        return probe + steps * share / self.steps[STD]

    def of_run(self, arm: str) -> float | None:
        """Return the time of a whole run, the probe included, as a share of a standard run."""
        return self.after(arm, self.steps[arm]) if arm in self.steps else None


def model_times(rows: pd.DataFrame, arms: Arms, selections: Selections, attribution: Mapping[str, Any] | None) -> Times:
    """Return the times of a model's arms.

    Parameters
    ----------
    rows
        The ledger's, of one campaign and model.
    arms
        Entries of the campaign for the model.
    selections
        Of the model.
    attribution
        Payload of the model's attribution, or None.
    """
    ended = rows[rows["status"] == "ok"]
    steps = {str(arm): float(own.max()) for arm, own in ended.groupby("arm")["steps"] if own.notna().any()}
    names = [arm for arm in arms if arm in steps and arm != STD]
    measured = _in_turns(ended, steps)
    costs = step_costs(attribution) if attribution else None
    predicted = {} if costs is None else _predicted(arms, selections, attribution, costs)
    clock = None
    if STD in steps and names and all(arm in measured for arm in names):
        clock = IN_TURNS
    elif STD in steps and STD in predicted:
        clock = BY_COST_MODEL
    if clock == IN_TURNS:
        measured[STD] = {**_NONE, "mean": 1.0}
        probe = _probe_in_turns(ended)
    else:
        probe = {} if clock is None else _probe_predicted(ended, steps, costs, attribution["arms"]["all"]["rank"])
    return Times(clock, measured, predicted, probe, steps)


def _in_turns(ended: pd.DataFrame, steps: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return each measured arm's step share, from the ratios of whole runs."""
    shares = {}
    for arm, own in ended.groupby("arm") if turns.RATIO in ended and STD in steps else ():
        timed = own[own[turns.RATIO].notna()]
        if arm == STD or timed.empty:
            continue
        per_step = steps[STD] / timed["steps"].astype("float64")
        found = geometric(per_step / timed[turns.RATIO])
        if len(timed) == 1:
            low, high = (per_step / timed[f"{turns.RATIO}_{end}"] for end in ("high", "low"))
            if low.notna().all() and high.notna().all():
                found |= {"n": int(timed[turns.ROUNDS].iloc[0]), "low": float(low.iloc[0]), "high": float(high.iloc[0])}
        shares[str(arm)] = {key: found[key] for key in _NONE} | {"unit": "round" if len(timed) == 1 else "seed"}
    return shares


def _probe_in_turns(ended: pd.DataFrame) -> dict[str, float]:
    probe = {}
    for arm, own in ended.groupby("arm"):
        charged = 1 / own[turns.WITH_PROBE] - 1 / own[turns.RATIO]
        probe[str(arm)] = 0.0 if arm == STD else max(0.0, float(charged.mean()))
    return {arm: share for arm, share in probe.items() if np.isfinite(share)}


def _probe_predicted(
    ended: pd.DataFrame, steps: Mapping[str, float], costs: StepCosts, rank: float
) -> dict[str, float]:
    standard = steps[STD] * costs.seconds(0, costs.layers_total, rank)
    probes = ended.groupby("arm")["probe_seconds"].mean().astype("float64").fillna(0.0)
    return {str(arm): float(seconds) / standard for arm, seconds in probes.items()}


def _predicted(
    arms: Arms, selections: Selections, attribution: Mapping[str, Any], costs: StepCosts
) -> dict[str, float]:
    """Return each arm's predicted step share, the mean over its seeds; without arms that the costs do not know."""
    if costs.seconds is None or STD not in arms or UNKNOWN_TO_COSTS & {*arms[STD]}:
        return {}
    depth, whole_rank, modules = costs.layers_total, attribution["arms"]["all"]["rank"], number_of_modules(selections)
    standard, shares = costs.seconds(0, depth, whole_rank), {}
    for arm, entry in arms.items():
        own = [payload for (name, _), payload in selections.items() if name == arm]
        if UNKNOWN_TO_COSTS & {*entry} or standard <= 0:
            continue
        if own and modules:
            seconds = [_seconds(payload, costs, whole_rank, modules / depth) for payload in own]
        elif entry["layers"] == "all" and isinstance(entry.get("rank", 0), int):
            seconds = [costs.seconds(0, depth, entry.get("rank", whole_rank))]
        else:
            continue
        shares[arm] = float(np.mean(seconds)) / standard
    return shares


def _seconds(payload: Mapping[str, Any], costs: StepCosts, whole_rank: float, per_layer: float) -> float:
    """Return the predicted seconds of a selection's step; single modules count as the layers that they would fill."""
    ranks = list(payload["rank_pattern"].values())
    rank = float(np.mean(ranks)) if ranks else whole_rank
    return costs.seconds(payload["lowest_layer"], len(adapted(payload)) / per_layer, rank)


def loss_at(curve: pd.DataFrame, steps: float) -> tuple[float | None, bool]:
    """Return the held-out loss of a curve after so many steps, and whether the run had ended by then.

    Interpolated linearly between points; None before the first one and beside a loss that was not finite.

    Parameters
    ----------
    curve
        With ``step`` ascending and ``heldout_loss``.
    """
    at, values = curve["step"].to_numpy(dtype=float), curve["heldout_loss"].to_numpy(dtype=float)
    if not len(at) or steps < at[0]:
        return None, False
    # A time that equals a run's own up to rounding is its end.
    ended = steps >= at[-1] * (1 - 1e-9)
    loss = float(values[-1]) if ended else float(np.interp(steps, at, values))
    return (loss if np.isfinite(loss) else None), bool(steps > at[-1] * (1 + 1e-9))


def at_equal_time(times: Times, curves: pd.DataFrame | None, arm: str, budget: float | None) -> dict[str, Any] | None:
    """Return an arm's losses when it has spent a time, a share of a standard run; None where that is not known.

    Returns
    -------
    dict
        The estimate over seeds, and ``ended``: whether its runs take less time in all, so that this is their end.
    """
    share, charged = times.step(arm), times.probe.get(arm)
    if None in (budget, share, charged) or curves is None or not share:
        return None
    steps = (budget - charged) * times.steps[STD] / share
    found = [loss_at(own, steps) for _, own in curves[curves["arm"] == arm].groupby("seed")]
    known = [loss for loss, _ in found if loss is not None]
    return {**estimate(known), "ended": any(ended for _, ended in found)} if known else None


def time_to_std_loss(times: Times, curves: pd.DataFrame | None, rows: pd.DataFrame, arm: str) -> dict[str, Any] | None:
    """Return the time until an arm's curve first reaches std's last loss of that seed, as a share of a standard run.

    Returns
    -------
    dict or None
        The estimate over the seeds that reach it, and ``planned``: the seeds that could. None where no time is known.
    """
    if curves is None or times.step(arm) is None or times.after(arm, 0) is None:
        return None
    standard = rows[(rows["arm"] == STD) & (rows["status"] == "ok")].set_index("seed")["eval_loss"]
    reached, planned = [], 0
    for seed, own in curves[curves["arm"] == arm].groupby("seed"):
        if seed not in standard.index or pd.isna(standard[seed]):
            continue
        planned += 1
        losses = [None if pd.isna(loss) else float(loss) for loss in own["heldout_loss"]]
        reached.append(seconds_to_loss(losses, [times.after(arm, step) for step in own["step"]], standard[seed]))
    known = [share for share in reached if share is not None]
    return {**estimate(known), "planned": planned} if planned else None
