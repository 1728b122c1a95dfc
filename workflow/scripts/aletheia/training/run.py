"""One training run from staged inputs to the payload of its run.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.method.adapters import save_adapter
from aletheia.method.loading import check_context, load, load_options, resolve_dtype
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts
from aletheia.training.batch_plan import planned_batches
from aletheia.training.checkpoints import Checkpoint
from aletheia.training.chosen_rate import ChosenRate, chosen_rate
from aletheia.training.encoded_rows import EncodedRows
from aletheia.training.frozen_prefix import around_heldout
from aletheia.training.heldout_loss import mean_loss, passes, row_losses
from aletheia.training.loop import Loop
from aletheia.training.measured_steps import measured_steps
from aletheia.training.model_card import base_model, model_card
from aletheia.training.placement import place_adapters
from aletheia.training.planned_length import check_length, with_steps
from aletheia.training.prefix_setup import frozen_prefix
from aletheia.training.row_counts import ROWS, in_words
from aletheia.training.run_inputs import RunInputs
from aletheia.training.token_table import TokenRows
from aletheia.training.trainer import (
    TimeRatio,
    TrainingRecord,
    failed_reference,
    planned_steps,
    reference_times,
    steps_follow_from_times,
)

# Attributes that a run sets on its way; None where it ended earlier.
RESULTS = (
    *("eval_loss", "eval_rows", "trainable_parameters", "placement"),
    *("tokens", "batch_plan_sha256", "row_counts", "active_layers"),
)


@dataclass
class TrainingRun:
    """One run: its facts, its record, and all that its artifacts need.

    Attributes
    ----------
    facts
        Known before it begins: model, arm, seed, steps, epochs, rate, dtype, quantization, gradient checkpointing.
    record
        Its status, its losses and their times.
    observed
        Times, memory and conditions, for run.json.
    model, base
        The model with its trained adapters, and the base model's public name for their configuration.
    """

    facts: Mapping[str, Any]
    record: TrainingRecord
    observed: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    base: dict[str, Any] = field(default_factory=dict)
    eval_loss: float | None = None
    eval_rows: int | None = None
    trainable_parameters: int | None = None
    placement: dict[str, Any] | None = None
    tokens: int | None = None
    batch_plan_sha256: str | None = None
    row_counts: dict[str, dict[str, int]] | None = None
    active_layers: list[dict[str, Any]] | None = None

    def train(
        self, inputs: RunInputs, config: Mapping[str, Any], selection: Any, checkpoint: Checkpoint, events: Path | None
    ) -> None:
        """Load, place, train and evaluate."""
        settings, rows = config["training"], inputs.rows(config, lambda: tokenizer)
        model, tokenizer = load(inputs.model_lock, dtype=self.facts["dtype"], **load_options(config["model"]))
        self.base = base_model(artifacts.payload(inputs.model_lock, "model_lock"))
        self.model, audited = place_adapters(model, selection, config, seed=inputs.seed)
        self.trainable_parameters = audited.pop("trainable_parameters")
        self.placement = audited
        heldout, batches = self._examples(inputs, rows, tokenizer.pad_token_id, config)
        shape = {"batch_size": settings["batch_size"] * 4, "pad_token_id": tokenizer.pad_token_id}
        prefix, choice = frozen_prefix(
            self.model,
            self.placement["lowest_layer"],
            train=batches,
            heldout=[batch for _, batch in passes(heldout, **shape)],
            config=config,
            place=inputs.prefix,
            model_lock=inputs.model_lock,
            dtype=self.facts["dtype"],
        )
        loop = Loop(
            self.model,
            batches,
            settings=settings,
            steps=self.facts["steps"],
            learning_rate=self.facts["learning_rate"] * config["model"]["learning_rate_scale"],
            dtype=self.facts["dtype"],
            seed=inputs.seed,
            placement=self.placement,
            prefix=prefix,
        )

        def heldout_loss() -> float | None:
            losses = row_losses(self.model, heldout, **shape, around=around_heldout(prefix))
            return mean_loss(chain.from_iterable(losses))

        self.observed = measured_steps(
            loop, self.record, inputs, config, checkpoint=checkpoint, events=events, heldout=heldout_loss
        )
        self.placement, self.tokens, self.active_layers = loop.placement, loop.tokens(), loop.active_layers()
        if self.record.status == "ok":
            self.eval_loss = heldout_loss()
            if self.eval_loss is None:
                self.record.fail("diverged", "the held-out loss at the end is not finite")
            if settings["curve_every"]:
                self.record.curve.append({"step": loop.done, "heldout_loss": self.eval_loss})
        self.observed["curve_seconds"] = self._curve_seconds()
        self.observed["prefix_cache"] = {**asdict(choice), **(prefix.summary() if prefix else {})}

    def _examples(
        self, inputs: RunInputs, rows: TokenRows, pad_token_id: int, config: Mapping[str, Any]
    ) -> tuple[Sequence[dict[str, Any]], list[TokenBatch]]:
        """Return held-out examples and micro-batches; record and print how many of their rows were cut or left out."""
        wanted, max_tokens = config["training"]["eval_rows"], config["encoding"]["max_tokens"]
        # Before the training, so that unusable held-out rows are refused at once.
        heldout = _heldout_examples(rows, wanted)
        self.eval_rows = len(heldout.examples)
        if self.eval_rows < wanted:
            # Only a default, or a setting by hand: too large a number in a campaign is refused when it is read.
            print(f"note: held-out loss over {self.eval_rows} rows, fewer than training.eval_rows={wanted}", flush=True)
        check_context(self.model, max_tokens)
        steps = self.facts["steps"]
        settings = config["training"]
        plan = planned_batches(rows, pad_token_id, settings, plan=inputs.batches, steps=steps, seed=inputs.seed)
        self.batch_plan_sha256 = plan.sha256
        counts = {"train": plan.row_counts, "heldout": heldout.counts()}
        self.row_counts = {name: each for name, each in counts.items() if each is not None}
        for name, each in self.row_counts.items():
            print(in_words(each, ROWS[name], max_tokens), flush=True)
        return heldout.examples, plan.batches

    def _curve_seconds(self) -> list[float]:
        """Return the training seconds at each point of the curve; what it is charged counts from the first step on."""
        steps, charged = self.record.step_seconds, self.observed["time"]["prefix_seconds"]
        done = [point["step"] for point in self.record.curve]
        return [math.fsum(steps[:step]) + (charged if step else 0.0) for step in done]

    def save_adapter(self, folder: Path, card: str | None) -> None:
        """Write the adapter in PEFT's format with its card; a run that failed leaves an empty folder."""
        folder.mkdir()
        if card is None:
            return
        save_adapter(self.model, folder, card, **self.base)

    def card(self, inputs: RunInputs, config: Mapping[str, Any], lineage: Mapping[str, Any]) -> str | None:
        """Return the adapter's model card, or None where the run left no adapter."""
        if self.record.status != "ok":
            return None
        return model_card(
            {**self._facts_and_results(), "step": len(self.record.losses)},
            self.record.losses,
            model_lock=inputs.model_lock,
            data_lock=inputs.data_lock,
            max_tokens=config["encoding"]["max_tokens"],
            settings=config["training"],
            lineage=lineage,
        )

    def about(self) -> dict[str, Any]:
        """Return the facts for the adapter's sidecar."""
        return {key: self.facts[key] for key in ("model", "arm", "seed")} | {"status": self.record.status}

    def payload(self, adapter: Path) -> dict[str, Any]:
        """Return run.json's payload; ``adapter`` is the folder that was written."""
        sidecar = artifacts.payload(artifacts.sidecar(adapter), "file")
        return {
            "status": self.record.status,
            "reason": self.record.reason,
            "step": len(self.record.losses),
            "skipped_steps": self.record.skipped_steps,
            "train_loss": self.record.losses,
            "curve": self.record.curve,
            "final_train_loss": self.record.losses[-1] if self.record.losses else None,
            "adapter": {"files": {name: entry["sha256"] for name, entry in sidecar["files"].items()}},
            **self._facts_and_results(),
        }

    def _facts_and_results(self) -> dict[str, Any]:
        return {**self.facts, **{key: getattr(self, key) for key in RESULTS}}


def execute(
    inputs: RunInputs,
    config: Mapping[str, Any],
    checkpoint: Checkpoint,
    *,
    time_ratio: TimeRatio | None = None,
    events: Path | None = None,
) -> TrainingRun:
    """Train one run.

    Parameters
    ----------
    inputs
        What it reads, and its seed.
    config
        Sections ``run`` (model, arm), ``model``, ``encoding``, ``adapter``, ``arm``, ``training``.
    checkpoint
        The run's; the caller removes it once the artifacts are there.
    time_ratio
        For ``steps: {seconds_of: …}`` (:func:`aletheia.timing.equal_time.time_ratio`).
    events
        Folder for TensorBoard events; none without it.

    Returns
    -------
    TrainingRun
        Of a failed run too, with its status.
    """
    config = with_steps(inputs, config)
    check_length(config)
    settings = config["training"]
    rate = chosen_rate(config["arm"], settings, inputs.trials)
    selection = artifacts.payload(inputs.selection, "selection") if inputs.selection else None
    dtype = resolve_dtype(config["model"], inputs.precision)
    failed = failed_reference(inputs.std_run, inputs.ale_run) or _undecided(rate, time_ratio)
    times = reference_times(inputs.std_run, inputs.ale_run, probe_seconds=inputs.probe_seconds(config["arm"]))
    steps = settings["steps"] if failed else planned_steps(settings, config["arm"], times, time_ratio)
    failed = failed or (_all_warmup(steps, settings) if steps_follow_from_times(config["arm"]) else None)
    facts = {
        # A rule names the run; by hand the lock names the model.
        "model": config["run"]["model"] or artifacts.payload(inputs.model_lock, "model_lock")["model"],
        "arm": config["run"]["arm"],
        "seed": inputs.seed,
        "steps": steps,
        "epochs": settings.get("epochs"),
        "learning_rate": rate.value,
        "rate_chosen_from": rate.trials,
        "dtype": dtype,
        "quantization": config["model"]["quantization"],
        "gradient_checkpointing": settings["gradient_checkpointing"],
    }
    if selection and selection["status"] != "ok":
        return TrainingRun(facts, TrainingRecord(selection["status"], selection["reason"]))
    if failed is not None:
        return TrainingRun(facts, failed)
    run = TrainingRun(facts, TrainingRecord())
    try:
        run.train(inputs, config, selection, checkpoint, events)
    except (RuntimeError, MemoryError) as error:
        # Raised by loading or by the held-out loss; training records its own failures.
        run.record.fail_by(error)
    return run


def _undecided(*decided: ChosenRate | TimeRatio | None) -> TrainingRecord | None:
    """Return the record of a run whose rate or steps could not be decided; None where all are."""
    reason = next((each.reason for each in decided if each and each.reason), None)
    return TrainingRecord("crashed", reason) if reason else None


def _all_warmup(steps: int, settings: Mapping[str, Any]) -> TrainingRecord | None:
    """Return the record of a run whose steps follow from times and all warm up; None where some have the arm's rate."""
    warmup = settings["warmup_steps"]
    if steps > warmup:
        return None
    fit = "1 step fits" if steps == 1 else f"{steps} steps fit"
    reason = f"only {fit} in the time that it may take, and training.warmup_steps={warmup} takes them all"
    return TrainingRecord("crashed", reason)


def _heldout_examples(rows: TokenRows, wanted: int) -> EncodedRows:
    """Return the first held-out rows, encoded; refuse data that has none."""
    available = rows.count("heldout")
    if not available:
        path = rows.folder / "heldout.jsonl"
        raise UserError(f"{path}: expected held-out rows and found none; give the data held_out rows in its registry")
    return rows.encoded_rows("heldout", range(min(wanted, available)))
