"""A synthetic study of controls: ledger, curves, selections and step costs whose answers are known."""

from typing import Any

import pandas as pd

from aletheia.analysis.controls_summary import Evidence
from aletheia.analysis.curves import curve_table
from aletheia.analysis.ledger import build_ledger
from ledgers import LAYERS, run

DRAWS = 20
MODULES = ("q_proj", "down_proj")


def entries(draws: int = DRAWS, **further: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arms of a campaign: std, ale, as many draws, then ``further`` ones."""
    plain = {"budget_percent": 50, "score": "l2", "draw": 0}
    arms = {"std": {"layers": "all"}, "ale": {"layers": "gradient"}}
    arms |= {f"random{draw}": {"layers": "random", "draw": draw} for draw in range(draws)}
    return {arm: {**plain, **entry} for arm, entry in {**arms, **further}.items()}


def selection(layers: list[int], **changes: Any) -> dict[str, Any]:
    """Return the payload of a selection of whole layers."""
    modules = [f"layers.{layer}.{name}" for layer in layers for name in MODULES]
    return {
        **{"status": "ok", "layers": layers, "lowest_layer": min(layers), "layers_total": LAYERS},
        **{"target_modules": modules, "target_parameters": [], "rank_pattern": dict.fromkeys(modules, 8)},
        **{"alpha_pattern": dict.fromkeys(modules, 16), "reason": None, "method": "gradient"},
        **{"reads": "gradients", "unit": "layer", "score": None},
        **dict.fromkeys(
            ("budget_percent", "predicted_step_percent", "held_norm_share", "held_squared_share", "margin_at_cut")
        ),
    } | changes


def attribution() -> dict[str, Any]:
    """Return step costs of 48 s with all layers: 12 fixed, and 1 for each layer's forward, backward and adapters."""
    parts = {"fixed": 12.0, "forward": 1.0, "backward": 1.0, "adapter": 1.0, "adapter_rank": 0.0}
    seconds = {name: {"value": value, "low": value, "high": value} for name, value in parts.items()}
    arms = {"all": {"rank": 8.0}}
    whole = {"status": "ok", "reason": None, "layers_total": LAYERS, "gradient_checkpointing": False, "arms": arms}
    return {**whole, "cost_model": {"seconds_per_step": seconds}}


def evidence(
    losses: dict[str, dict[str, Any]],
    *,
    seeds: tuple[int, ...] = (1,),
    changes: dict[str, dict[str, Any]] | None = None,
    curves: dict[str, list[tuple[int, float]]] | None = None,
    selections: dict[tuple[str, str, int], Any] | None = None,
    costs: bool = True,
) -> Evidence:
    """Return what a study measured.

    Parameters
    ----------
    losses
        By model, then by arm: a loss, or one a seed.
    changes
        Of the runs' payloads, by arm.
    curves
        Points (step, loss) by arm.
    """
    planned, runs = [], {}
    for model, by_arm in losses.items():
        for arm, loss in by_arm.items():
            for i, seed in enumerate(seeds):
                value = loss[i] if isinstance(loss, tuple) else loss
                own = {"eval_loss": value, **(changes or {}).get(arm, {})}
                if curves and arm in curves:
                    own["curve"] = [{"step": step, "heldout_loss": at} for step, at in curves[arm]]
                made = run(model, arm, seed, probe=4.8 if arm == "ale" else 0.0, **own)
                made["observed"]["curve_seconds"] = [float(step) for step, _ in (curves or {}).get(arm, [])]
                runs[model, arm, seed] = made
                planned.append({"model": model, "arm": arm, "seed": seed, "headline": True, "benchmarks": []})
    campaigns = [{"name": "half", "reports": [], "runs": planned}]
    table: pd.DataFrame | None = curve_table(campaigns, runs) if curves else None
    attributions = {model: attribution() for model in losses} if costs else {}
    return Evidence(build_ledger(campaigns, runs, {}), table, selections or {}, attributions)


def section(arms: dict[str, dict[str, Any]], *models: str) -> list[dict[str, Any]]:
    """Return the settings section `controls` of one campaign."""
    return [{"name": "half", "models": {model: {"headline": True, "arms": arms} for model in models}}]
