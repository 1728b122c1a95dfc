"""What a study knows before it trains, for the prediction of what choosing layers will save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.fit.study_run import FolderStudy
from aletheia.method.adapters import ALL, placement_plan
from aletheia.method.layers import Layer
from aletheia.provenance import artifacts
from aletheia.report.fit_prediction import predicted_saving
from aletheia.study.study import Run, Study

OF_PASSES = (
    "  A step's time is that of the passes which chose the precision, without adapters and optimiser: the least."
)


def prediction(of: FolderStudy, selections: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    """Return what is predicted before training, in lines.

    Parameters
    ----------
    of
        The study of the folder, with the rows that staging found.
    selections
        Payload of the selection of each arm that chooses layers, at the first seed.
    folder
        The study's.
    """
    study, arms, seeds = of.study, list(of.campaign["arms"]), of.campaign["seeds"]
    first = study.run(of.model, arms[0], seeds[0])
    seconds = step_seconds(folder / of.paths.precision(of.model), first)
    layers = _layers(folder / of.paths.model_lock(of.model))
    adapters = {arm: study.run(of.model, arm, seeds[0]).settings["adapter"] for arm in arms}
    text = predicted_saving(
        {arm: selections.get(arm) or _some_modules(adapters[arm], layers) for arm in arms},
        epochs=_epochs(study, first),
        steps=study.nominal_steps(first),
        seeds=len(seeds),
        step_seconds=seconds,
        probe_seconds=_probe_seconds(folder / of.paths.probe(of.model, seeds[0])),
        further_runs=len(study.runs) - len(arms) * len(seeds),
        recomputed=first.settings["training"]["gradient_checkpointing"],
        prefix_cache=first.settings["training"]["prefix_cache"] not in ("off", False),
        modules_total=sum(len(names) for layer in layers for names in layer.names().values()),
    )
    return f"{text}\n{OF_PASSES}" if seconds else text


def _layers(lock: Path) -> list[Layer]:
    """Return the layers of a staged model, with the modules that can have adapters."""
    return [Layer(i, **names) for i, names in enumerate(artifacts.payload(lock, "model_lock").get("adaptable", ()))]


def _some_modules(adapter: Mapping[str, Any], layers: Sequence[Layer]) -> dict[str, Any] | None:
    """Return what would be the selection of an arm with adapters in some modules of all layers; None of all modules."""
    modules = adapter.get("modules", ALL)
    if modules in (ALL, [ALL]) or not layers:
        return None
    plan = placement_plan(layers, range(len(layers)), modules=modules)
    names = {key: plan[key] for key in ("target_modules", "target_parameters")}
    return {
        **{"status": "ok", "reason": None, "unit": "module", "layers": plan["layers"], "lowest_layer": 0},
        **{"layers_total": len(layers), **names},
    }


def step_seconds(path: Path, run: Run) -> float | None:
    """Return the least seconds of a step: its micro-batches' passes, as the choice of the precision timed them.

    None where nothing was timed, as on a GPU. A smaller shape that was timed counts by its positions.
    """
    if not path.is_file():
        return None
    envelope = artifacts.read(path, "precision")
    timed, wanted = envelope["observed"], envelope["payload"].get("shape")
    if not wanted or "pass_seconds" not in timed:
        return None
    measured = timed["shape"]
    larger = wanted["sequences"] * wanted["tokens"] / (measured["sequences"] * measured["tokens"])
    return timed["pass_seconds"][envelope["payload"]["dtype"]] * larger * run.settings["training"]["accumulation"]


def _epochs(study: Study, run: Run) -> float:
    training = run.settings["training"]
    if training["epochs"] is not None:
        return training["epochs"]
    rows = study.train_rows.get(run.settings["data"])
    return training["steps"] * training["batch_size"] * training["accumulation"] / rows if rows else 1.0


def _probe_seconds(path: Path) -> float | None:
    return artifacts.read(path, "probe")["observed"].get("probe_seconds") if path.is_file() else None
