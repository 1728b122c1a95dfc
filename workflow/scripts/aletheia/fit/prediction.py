"""What a study knows before it trains, for the prediction of what choosing layers will save."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.fit.study_files import MODEL
from aletheia.provenance import artifacts
from aletheia.report.fit_prediction import predicted_saving
from aletheia.study.paths import Paths
from aletheia.study.study import Run, Study

OF_PASSES = (
    "  A step's time is that of the passes which chose the precision, without adapters and optimiser: the least."
)


def prediction(study: Study, selections: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    """Return what is predicted before training, in lines.

    Parameters
    ----------
    study
        Of the folder, with the rows that staging found.
    selections
        Payload of the selection of each arm that chooses layers, at the first seed.
    folder
        The study's.
    """
    campaign = study.campaigns[-1]
    arms, seeds = list(campaign["arms"]), campaign["seeds"]
    first = study.run(MODEL, arms[0], seeds[0])
    seconds = step_seconds(folder, first)
    text = predicted_saving(
        {arm: selections.get(arm) for arm in arms},
        epochs=_epochs(study, first),
        steps=study.nominal_steps(first),
        seeds=len(seeds),
        step_seconds=seconds,
        probe_seconds=_probe_seconds(folder, seeds[0]),
        further_runs=len(study.runs) - len(arms) * len(seeds),
        recomputed=first.settings["training"]["gradient_checkpointing"],
        prefix_cache=first.settings["training"]["prefix_cache"] not in ("off", False),
    )
    return f"{text}\n{OF_PASSES}" if seconds else text


def step_seconds(folder: Path, run: Run) -> float | None:
    """Return the least seconds of a step: its micro-batches' passes, as the choice of the precision timed them.

    None where nothing was timed, as on a GPU. A smaller shape that was timed counts by its positions.
    """
    path = folder / Paths().precision(MODEL)
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


def _probe_seconds(folder: Path, seed: int) -> float | None:
    path = folder / Paths().probe(MODEL, seed)
    return artifacts.read(path, "probe")["observed"].get("probe_seconds") if path.is_file() else None
