"""The controls' answer in numbers, by campaign and model: is it the gradient, or would any half of the layers do?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from aletheia.analysis import controls_losses as losses
from aletheia.analysis.controls_arms import RANDOM, Arms, choice, draws_for, named_selector
from aletheia.analysis.controls_claims import claims
from aletheia.analysis.controls_overlap import Selections, between_arms, between_seeds
from aletheia.analysis.controls_times import Times, at_equal_time, model_times, time_to_std_loss
from aletheia.analysis.stats import estimate
from aletheia.errors import UserError
from aletheia.study.arms import STD
from aletheia.study.selectors import NOTHING, SELECTORS


@dataclass(frozen=True)
class Evidence:
    """What the answer is computed from, of a whole study.

    Attributes
    ----------
    ledger
        One row a run.
    curves
        Held-out losses on the way, or None.
    selections
        Payloads by (model, arm, seed).
    attributions
        Payloads by model.
    rates
        Learning rates of arms that chose one, by (model, arm, seed).
    """

    ledger: pd.DataFrame
    curves: pd.DataFrame | None = None
    selections: Mapping[tuple[str, str, int], Mapping[str, Any]] = field(default_factory=dict)
    attributions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rates: Mapping[tuple[str, str, int], float | None] = field(default_factory=dict)


def summarise_controls(campaigns: Sequence[Mapping[str, Any]], evidence: Evidence) -> dict[str, Any]:
    """Return the payload of the artifact ``controls``.

    Parameters
    ----------
    campaigns
        The settings section ``controls``: of each campaign its ``name`` and its ``models``, each ``{headline, arms}``
        with the arms' entries.
    evidence
        What was measured.

    Raises
    ------
    UserError
        When the ledger has no run of one of the models.
    """
    found = []
    for campaign in campaigns:
        ledger = evidence.ledger[evidence.ledger["campaign"] == campaign["name"]]
        models = []
        for model, facts in campaign["models"].items():
            rows = ledger[ledger["model"] == model]
            if rows.empty:
                raise UserError(
                    f"controls: expected runs of {model} in campaign {campaign['name']} in the ledger, found none; run "
                    "aggregate again"
                )
            about = {"model": model, "headline": facts["headline"]}
            models.append({**about, **_model(model, facts["arms"], rows, evidence)})
        found.append({"name": campaign["name"], "models": models, "combined": losses.combined(models)})
    return {"campaigns": found}


def _model(model: str, arms: Arms, rows: pd.DataFrame, evidence: Evidence) -> dict[str, Any]:
    selections = {
        (arm, seed): payload
        for (name, arm, seed), payload in evidence.selections.items()
        if name == model and arm in arms and payload["status"] == "ok"
    }
    curves = evidence.curves
    if curves is not None:
        curves = curves[(curves["campaign"] == rows["campaign"].iloc[0]) & (curves["model"] == model)]
    times = model_times(rows, arms, selections, evidence.attributions.get(model))
    which, table = losses.losses(rows)
    selector = named_selector(arms)
    budget = None if selector is None else times.of_run(selector)
    draws = [arm for arm, entry in arms.items() if choice(arm, entry).kind == RANDOM]
    told = {
        arm: {
            **_facts(arm, entry, rows[rows["arm"] == arm], selections),
            **_rate(model, arm, entry, evidence),
            **_losses(table, arm, selector, _own_draws(arms, arm, rows, draws)),
            **_times(times, curves, rows, arm, budget),
        }
        for arm, entry in arms.items()
    }
    return {
        **{"loss": which, "selector": selector, "clock": times.clock, "draws": draws, "arms": told},
        "tests": losses.against_draws(table, arms, rows),
        "claims": claims(arms, rows, table, times),
        "overlap": {"arms": between_arms(arms, selections), "seeds": between_seeds(arms, selections)},
    }


def _own_draws(arms: Arms, arm: str, rows: pd.DataFrame, draws: Sequence[str]) -> list[str]:
    """Return the draws that an arm's loss is held against: those of its own settings, else of all."""
    adapted = rows.groupby("arm")["layers_adapted"].max().astype("float64").to_dict()
    return draws_for(arms, arm, RANDOM, adapted) or list(draws)


def _facts(arm: str, entry: Mapping[str, Any], rows: pd.DataFrame, selections: Selections) -> dict[str, Any]:
    made = choice(arm, entry)
    counts = {key: rows[key].max() for key in ("steps", "layers_adapted", "trainable_parameters")}
    lowest = [payload["lowest_layer"] for (name, _), payload in selections.items() if name == arm]
    failed = rows[rows["status"] != "ok"]
    return {
        **asdict(made),
        "reads": SELECTORS[made.layers].reads if made.layers in SELECTORS else NOTHING,
        "runs": len(rows),
        "ok": len(rows) - len(failed),
        "failures": [f"seed {row.seed}: {row.status}" for row in failed.itertuples()],
        **{key: None if pd.isna(value) else int(value) for key, value in counts.items()},
        "lowest_layers": sorted(set(lowest)),
    }


def _rate(model: str, arm: str, entry: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    """Return an arm's stated rate, or the one that it chose among others; None where it has its campaign's."""
    stated = entry.get("learning_rate")
    if not isinstance(stated, Mapping):
        return {"learning_rate": stated, "rate_chosen": False}
    chosen = {rate for key, rate in evidence.rates.items() if key[:2] == (model, arm) and rate is not None}
    return {"learning_rate": chosen.pop() if len(chosen) == 1 else None, "rate_chosen": True}


def _losses(table: pd.DataFrame, arm: str, selector: str | None, draws: Sequence[str]) -> dict[str, Any]:
    others = [draw for draw in draws if draw != arm and draw in table and table[draw].notna().any()]
    to_draws = table[arm] - table[others].mean(axis=1, skipna=False) if others and arm in table else []
    return {
        "loss": estimate(table.get(arm, [])),
        "to_std": losses.difference(table, arm, STD if arm != STD else None),
        "to_selector": losses.difference(table, arm, selector if arm != selector else None),
        "to_draws": estimate(to_draws),
    }


def _times(
    times: Times, curves: pd.DataFrame | None, rows: pd.DataFrame, arm: str, budget: float | None
) -> dict[str, Any]:
    charged = times.probe.get(arm)
    measured = times.measured.get(arm)
    return {
        "step_predicted": times.predicted.get(arm),
        "step_measured": None if arm == STD else measured,
        "probe_percent": None if charged is None or times.clock is None else 100 * charged,
        "run_time": times.of_run(arm),
        "at_equal_time": at_equal_time(times, curves, arm, budget),
        "time_to_std_loss": time_to_std_loss(times, curves, rows, arm),
    }
