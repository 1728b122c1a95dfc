"""What a run chose, from its run.json: all that another trainer needs to train the same adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.exports.adapter_files import adapter_config
from aletheia.exports.found_runs import adapter_folder
from aletheia.exports.run_inputs import encoding_of, lock_of, selection_of
from aletheia.provenance.artifacts import Artifact
from aletheia.provenance.staged_files import folder_of
from aletheia.training.model_card import base_model

TRAIN_ROWS = "train.jsonl"


@dataclass(frozen=True)
class Choice:
    """The recipe of one run.

    Attributes
    ----------
    model, arm, seed
        The run's, as the study names them.
    sources
        The artifacts that it was read from, with the sha256 of their bytes.
    base, revision
        Where another trainer gets the base model: a hub id and its commit; or the staged folder, and None.
    method
        How the layers were chosen (``gradient``, ``all``, …); ``listed`` where the arm names them.
    layers_total
        Layers of the model.
    modules
        By full name of each adapted module or parameter: ``{"rank", "alpha"}``.
    parameters
        Those of them that are parameters: fused experts.
    adapter
        The run's section ``adapter``; of it ``dropout`` and ``scaling`` count here.
    training
        The run's section ``training``.
    learning_rate
        Peak rate, the model's scale included.
    steps
        Optimiser steps.
    max_tokens, prompt, loss_on
        How a row became tokens.
    dtype, quantization
        Of the base weights: ``bf16``, ``fp16`` or ``fp32``; ``nf4`` or None.
    rows, chat
        The staged training rows, and whether they are chat messages.
    """

    model: str
    arm: str
    seed: int
    sources: Mapping[str, str]
    base: str
    revision: str | None
    method: str
    layers_total: int
    modules: Mapping[str, Mapping[str, int]]
    parameters: frozenset[str]
    adapter: Mapping[str, Any]
    training: Mapping[str, Any]
    learning_rate: float
    steps: int
    max_tokens: int
    prompt: str
    loss_on: str
    dtype: str
    quantization: str | None
    rows: Path
    chat: bool

    @property
    def templated(self) -> bool:
        """Tell whether rows go through the model's chat template, as chat messages always do."""
        return self.chat or self.prompt == "chat"


def read_choice(run: Artifact) -> Choice:
    """Return what a run chose.

    Parameters
    ----------
    run
        Its ``run.json`` (:func:`aletheia.exports.found_runs.find_run`). The files that it was made from are looked for
        where its study has them.

    Raises
    ------
    UserError
        When one of these files is gone, or is another than the run read.
    """
    payload, config = run.payload, run.envelope["lineage"]["config"]
    model_lock, data_lock, encoding = lock_of(run, "model_lock"), lock_of(run, "data_lock"), encoding_of(run)
    selection = selection_of(run)
    base = base_model(model_lock.payload)
    rows = folder_of(data_lock) / TRAIN_ROWS
    own = run.envelope["lineage"].get("output") or str(run.path)
    return Choice(
        **{key: payload[key] for key in ("model", "arm", "seed", "steps", "dtype", "quantization")},
        sources={own: run.sha256, **({selection[0]: selection[1].sha256} if selection else {})},
        base=base["base"] if base["revision"] else str(folder_of(model_lock).resolve()),
        revision=base["revision"],
        method=_method(selection[1].payload if selection else None),
        layers_total=payload["placement"]["layers_total"],
        modules=payload["placement"]["modules"],
        parameters=_parameters(run),
        adapter=config["adapter"],
        training=config["training"],
        learning_rate=payload["learning_rate"] * config["model"]["learning_rate_scale"],
        max_tokens=encoding["max_tokens"],
        prompt=encoding["prompt"],
        loss_on=encoding["loss_on"],
        rows=rows.resolve(),
        chat=_first_row_is_chat(rows),
    )


def _method(selection: Mapping[str, Any] | None) -> str:
    if selection is None:
        return "all"
    return selection["method"] if isinstance(selection["method"], str) else "listed"


def _parameters(run: Artifact) -> frozenset[str]:
    """Return the adapted parameters; PEFT's own configuration tells them from modules."""
    return frozenset(adapter_config(adapter_folder(run.path)).get("target_parameters") or [])


def _first_row_is_chat(rows: Path) -> bool:
    try:
        with rows.open(encoding="utf-8") as handle:
            return "messages" in json.loads(handle.readline())
    except FileNotFoundError:
        raise UserError(f"{rows}: expected the staged training rows here, found none; stage the data again") from None
