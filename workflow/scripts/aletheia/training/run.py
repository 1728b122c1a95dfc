"""One training run from staged inputs to what its run.json says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.method.adapters import attach, audit, placement_plan, save_adapter
from aletheia.method.layers import adaptable_layers
from aletheia.method.loading import check_context, load, loading, resolved_dtype
from aletheia.method.token_batch import TokenBatch
from aletheia.provenance import artifacts, machine
from aletheia.provenance.lineage import compact_json
from aletheia.provenance.machine_load import LoadMeter, step_spread
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.training.activation_checkpointing import checkpoint_activations
from aletheia.training.batch_plan import batches_payload, first_batches
from aletheia.training.checkpoints import Checkpoint
from aletheia.training.encoding import Encoded, collate, encode_rows
from aletheia.training.heldout_loss import mean_loss, row_losses
from aletheia.training.loop import Loop
from aletheia.training.model_card import base_model, model_card
from aletheia.training.row_counts import ROWS, in_words
from aletheia.training.tensorboard import Curves
from aletheia.training.trainer import TrainingRecord, planned_steps, resume, timing, train


@dataclass
class FinishedRun:
    """A run that ended, well or not, with all that its artifacts need."""

    facts: dict[str, Any]
    record: TrainingRecord
    observed: dict[str, Any] = field(default_factory=dict)
    model: Any = None
    base: dict[str, Any] = field(default_factory=dict)

    def save_adapter(self, folder: Path, card: str | None) -> None:
        """Write the adapter in PEFT's format with its card; a run that failed leaves an empty folder."""
        folder.mkdir()
        if card is None:
            return
        save_adapter(self.model, folder, card, **self.base)

    def card(self, args: Any, config: Mapping[str, Any], lineage: Mapping[str, Any]) -> str | None:
        """Return the adapter's model card, or None where the run left no adapter."""
        if self.record.status != "ok":
            return None
        return model_card(
            {**self.facts, "step": len(self.record.losses)},
            self.record.losses,
            model_lock=args.model_lock,
            data_lock=args.data_lock,
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
            "final_train_loss": self.record.losses[-1] if self.record.losses else None,
            "adapter": {"files": {name: entry["sha256"] for name, entry in sidecar["files"].items()}},
            **self.facts,
        }


def checkpoint_of(args: Any, fingerprint: str) -> Checkpoint:
    """Return a run's checkpoint, beside its ``run.json``.

    Parameters
    ----------
    args
        Arguments of ``train.py``.
    fingerprint
        Of the job (:attr:`aletheia.provenance.job.Job.fingerprint`); threads and device join it, on which bits depend.
    """
    import torch

    parts = (fingerprint, str(torch.get_num_threads()), "cuda" if torch.cuda.is_available() else "cpu")
    digest = hashlib.sha256(":".join(parts).encode()).hexdigest()
    seconds = None if args.checkpoint_seconds < 0 else args.checkpoint_seconds
    return Checkpoint(args.out.with_name(".checkpoint"), digest, seconds)


def execute(args: Any, config: Mapping[str, Any], checkpoint: Checkpoint) -> FinishedRun:
    """Train one run.

    Parameters
    ----------
    args
        Arguments of ``train.py`` (paths of inputs, seed).
    config
        Sections ``run`` (model, arm), ``model``, ``encoding``, ``adapter``, ``arm``, ``training``.
    checkpoint
        The run's; the caller removes it once the artifacts are there.

    Returns
    -------
    FinishedRun
        Also when the run failed; its status says how.
    """
    settings = config["training"]
    selection = artifacts.payload(args.selection, "selection") if args.selection else None
    dtype = resolved_dtype(config["model"], args.precision)
    unpaid = _unpaid(args)
    steps = settings["steps"] if unpaid else planned_steps(settings, config["arm"], _measured(args))
    facts: dict[str, Any] = {
        # A rule names the run; by hand the lock names the model.
        "model": config["run"]["model"] or artifacts.payload(args.model_lock, "model_lock")["model"],
        "arm": config["run"]["arm"],
        "seed": args.seed,
        "steps": steps,
        "dtype": dtype,
        "quantization": config["model"]["quantization"],
        "gradient_checkpointing": settings["gradient_checkpointing"],
        "eval_loss": None,
        "eval_rows": None,
        "trainable_parameters": None,
        "placement": None,
        "tokens": None,
        "batch_plan_sha256": None,
        "row_counts": None,
    }
    if selection and selection["status"] != "ok":
        return FinishedRun(facts, TrainingRecord("diverged", f"probe: {selection['reason']}"))
    if unpaid is not None:
        return FinishedRun(facts, unpaid)
    finished = FinishedRun(facts, TrainingRecord())
    try:
        _train(args, config, selection, finished, checkpoint)
    except (RuntimeError, MemoryError) as error:
        # While loading or in the held-out loss; training itself reports on its own.
        finished.record.fail_by(error)
    return finished


def _train(args: Any, config: Mapping[str, Any], selection: Any, finished: FinishedRun, checkpoint: Checkpoint) -> None:
    """Load, place, train and evaluate; fill in ``finished`` on the way."""
    settings, facts, record = config["training"], finished.facts, finished.record
    model, tokenizer = load(args.model_lock, dtype=facts["dtype"], **loading(config["model"]))
    finished.base = base_model(artifacts.payload(args.model_lock, "model_lock"))
    finished.model, facts["placement"] = placed(model, selection, config, seed=args.seed)
    facts["trainable_parameters"] = facts["placement"].pop("trainable_parameters")
    folder = checked_folder(args.data_lock, "data_lock")
    # Encoded before the training, so that rows which cannot be evaluated do not cost a run.
    heldout = _heldout_examples(folder, tokenizer, config)
    facts["eval_rows"] = len(heldout.examples)
    if len(heldout.examples) < settings["eval_rows"]:
        # A number that a campaign states is refused before; this is a default, or a setting by hand.
        found = f"{len(heldout.examples)} rows, fewer than training.eval_rows={settings['eval_rows']}"
        print(f"note: held-out loss over {found}", flush=True)
    check_context(model, config["encoding"]["max_tokens"])
    batches = planned_batches(args, folder, tokenizer, config, facts)
    facts["row_counts"]["heldout"] = heldout.counts()
    for name, counts in facts["row_counts"].items():
        print(in_words(counts, ROWS[name], config["encoding"]["max_tokens"]), flush=True)
    loop = Loop(
        finished.model,
        batches,
        settings=settings,
        steps=facts["steps"],
        learning_rate=settings["learning_rate"] * config["model"]["learning_rate_scale"],
        dtype=facts["dtype"],
        seed=args.seed,
        placement=facts["placement"],
    )
    conditions, machine_load = _clocked(loop, record, args, checkpoint, time_limit=settings["time_limit_seconds"])
    warmup = settings["timing_warmup_steps"]
    settled = record.step_seconds[warmup:]
    machine_load["step_spread"] = step_spread(settled, loop.positions()[warmup:][: len(settled)])
    if args.probe:
        machine_load["probe"] = artifacts.read(args.probe, "probe")["observed"].get("load", {})
    time = timing(record, warmup=warmup, probe_seconds=_probe_seconds(args))
    facts["tokens"] = loop.tokens()
    finished.observed |= {
        "time": time,
        "tokens_per_second": facts["tokens"] / time["training_seconds"] if time["training_seconds"] else None,
        "peak_memory_bytes": machine.peak_memory_bytes(),
        "conditions": conditions,
        "load": machine_load,
    }
    if record.status == "ok":
        size = settings["batch_size"] * 4
        rows = row_losses(finished.model, heldout.examples, batch_size=size, pad_token_id=tokenizer.pad_token_id)
        facts["eval_loss"] = mean_loss(chain.from_iterable(rows))
        if facts["eval_loss"] is None:
            record.fail("diverged", "the held-out loss at the end is not finite")


def _clocked(
    loop: Loop, record: TrainingRecord, args: Any, checkpoint: Checkpoint, *, time_limit: float | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a loop, from its checkpoint where there is one.

    Returns
    -------
    tuple
        The machine's conditions before and halfway, and what else it did meanwhile
        (:mod:`aletheia.provenance.machine_load`).
    """
    resume(loop, record, checkpoint)
    curves = Curves(args.events if args.tensorboard else None, resumed=loop.done)
    conditions = {"before": machine.conditions()}
    machine.reset_peak_memory()
    meter = LoadMeter()
    try:
        train(
            loop,
            record,
            time_limit=time_limit,
            checkpoint=checkpoint,
            curves=curves,
            halfway=lambda: conditions.update(halfway=machine.conditions()),
        )
    finally:
        curves.close()
    return conditions, meter.shares()


def placed(model: Any, selection: Any, config: Mapping[str, Any], *, seed: int) -> tuple[Any, dict[str, Any]]:
    """Return a loaded model with the adapters of an arm, and their audit.

    Parameters
    ----------
    model
        A base model.
    selection
        Payload of a selection; None for all layers.
    config
        Sections ``adapter``, ``arm`` and ``training``.
    seed
        Of the adapters' starting values.
    """
    plan = selection or placement_plan(adaptable_layers(model), range(model.config.num_hidden_layers), **_ranks(config))
    model = attach(model, plan, dropout=config["adapter"]["dropout"], seed=seed)
    if config["training"]["gradient_checkpointing"]:
        checkpoint_activations(model)
    return model, audit(model, plan)


def _ranks(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return rank and alpha: the arm's own, else the campaign's."""
    return {key: config["arm"].get(key, config["adapter"][key]) for key in ("rank", "alpha")}


def _unpaid(args: Any) -> TrainingRecord | None:
    """Return the record of an arm with ``steps: measured`` whose std or ale run failed: nothing buys its steps."""
    for path in filter(None, (args.std_run, args.ale_run)):
        envelope = artifacts.read(path, "run")
        run = envelope["payload"]
        if run["status"] != "ok":
            return TrainingRecord("crashed", f"steps: measured, and arm {run['arm']} ended as {run['status']}")
        if not envelope["observed"]["time"]["comparable"]:
            return TrainingRecord(
                "crashed", f"steps: measured, and arm {run['arm']} was resumed: its time buys nothing"
            )
    return None


def _measured(args: Any) -> dict[str, Any] | None:
    """Return the times that ``steps: measured`` buys from, where both runs are given."""
    if not (args.std_run and args.ale_run):
        return None
    std, ale = (artifacts.read(path, "run")["observed"].get("time", {}) for path in (args.std_run, args.ale_run))
    return {
        "std_seconds": std.get("training_seconds"),
        "step_seconds": ale.get("median_step_seconds"),
        "probe_seconds": _probe_seconds(args),
    }


def _probe_seconds(args: Any) -> float:
    """Return what the probe cost this run: 0 where the arm needed none."""
    return artifacts.read(args.probe, "probe")["observed"]["probe_seconds"] if args.probe else 0.0


def planned_batches(
    args: Any, folder: Path, tokenizer: Any, config: Mapping[str, Any], facts: dict[str, Any]
) -> list[TokenBatch]:
    """Return the micro-batches of a run; note in ``facts`` the hash of which rows they hold, and the counts.

    The plan is the one that all arms of the model and seed read; by hand, without one, it is drawn here.
    """
    settings, steps = config["training"], facts["steps"]
    rows = read_rows(folder / "train.jsonl")
    if args.batches:
        payload = artifacts.payload(args.batches, "batches")
        plan = first_batches(payload, steps=steps, seed=args.seed, settings=settings)
        wanted = sorted({row for micro in plan for row in micro})
        if wanted[-1] >= len(rows):
            raise UserError(
                f"{args.batches}: row {wanted[-1]} is not in {folder}, which has {len(rows)}; draw one anew"
            )
        encoded = encode_rows([rows[row] for row in wanted], tokenizer, **config["encoding"])
        examples = {wanted[example["row"]]: example for example in encoded.examples}
        # A plan of an earlier version has none.
        facts["row_counts"] = {"train": payload["row_counts"]["train"]} if "row_counts" in payload else {}
        lost = next((row for row in wanted if row not in examples), None)
        if lost is not None:
            raise UserError(f"{args.batches}: row {lost} keeps no target with these encoding settings; draw one anew")
    else:
        encoded = encode_rows(rows, tokenizer, what="training rows", **config["encoding"])
        drawn = batches_payload(encoded.examples, model=facts["model"], seed=args.seed, steps=steps, settings=settings)
        plan = first_batches(drawn, steps=steps, seed=args.seed, settings=settings)
        examples = {example["row"]: example for example in encoded.examples}
        facts["row_counts"] = {"train": encoded.counts()}
    facts["batch_plan_sha256"] = hashlib.sha256(compact_json(plan).encode()).hexdigest()
    return [collate([examples[row] for row in micro], tokenizer.pad_token_id) for micro in plan]


def _heldout_examples(folder: Path, tokenizer: Any, config: Mapping[str, Any]) -> Encoded:
    """Return the first held-out rows, encoded; refuse data that has none."""
    path = folder / "heldout.jsonl"
    rows = read_rows(path)[: config["training"]["eval_rows"]] if path.is_file() else []
    if not rows:
        raise UserError(f"{path}: expected held-out rows and found none; give the data held_out rows in its registry")
    return encode_rows(rows, tokenizer, what="held-out rows", **config["encoding"])
