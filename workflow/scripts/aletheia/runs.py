"""One training run from staged inputs to what its run.json says."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia import artifacts, observe
from aletheia.adapters import attach, audit, placement_plan
from aletheia.data import checked_folder, collate, encode_rows, plan_batches, read_rows
from aletheia.errors import UserError
from aletheia.heldout import mean_loss, row_losses
from aletheia.layers import adaptable_layers
from aletheia.lineage import compact_json
from aletheia.models import check_context, is_out_of_memory, load, resolved_dtype
from aletheia.training import TrainingRecord, planned_steps, timing, train


@dataclass
class FinishedRun:
    """A run that ended, well or not, with all that its artifacts need."""

    facts: dict[str, Any]
    record: TrainingRecord
    observed: dict[str, Any] = field(default_factory=dict)
    model: Any = None

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter in PEFT's format; a run that failed leaves an empty folder."""
        folder.mkdir()
        if self.record.status != "ok":
            return
        for adapter in self.model.peft_config.values():
            # A set, whose order differs from process to process, and with it the bytes of adapter_config.json.
            adapter.target_modules = sorted(adapter.target_modules)
        self.model.save_pretrained(folder)
        (folder / "README.md").write_text(self._model_card(), encoding="utf-8")

    def card(self) -> dict[str, Any]:
        """Return the facts for the adapter's sidecar."""
        return {key: self.facts[key] for key in ("model", "arm", "seed")} | {"status": self.record.status}

    def _model_card(self) -> str:
        facts = self.facts
        placement = facts["placement"]
        return (
            f"---\nbase_model: {facts['model']}\nlibrary_name: peft\n---\n\n"
            f"LoRA adapter of {facts['model']}, arm {facts['arm']}, seed {facts['seed']}: "
            f"{len(placement['layers'])} of {placement['layers_total']} layers, "
            f"{facts['trainable_parameters']} trainable parameters, {len(self.record.losses)} optimiser steps, "
            f"held-out loss {facts['eval_loss']}.\n\n"
            f"Layers: {placement['layers']}\n\n"
            "`run.json` beside this folder holds every setting, and what it was made from.\n"
        )

    def payload(self, adapter: Path) -> dict[str, Any]:
        """Return run.json's payload; ``adapter`` is the folder that was written."""
        sidecar = artifacts.payload(artifacts.sidecar(adapter), "file")
        return {
            "status": self.record.status,
            "reason": self.record.reason,
            "step": len(self.record.losses),
            "train_loss": self.record.losses,
            "final_train_loss": self.record.losses[-1] if self.record.losses else None,
            "adapter": {"files": {name: entry["sha256"] for name, entry in sidecar["files"].items()}},
            **self.facts,
        }


def execute(args: Any, config: Mapping[str, Any]) -> FinishedRun:
    """Train one run.

    Parameters
    ----------
    args
        Arguments of ``train.py`` (paths of inputs, seed).
    config
        Sections ``run`` (model, arm), ``model``, ``encoding``, ``adapter``, ``arm``, ``training``.

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
        "eval_loss": None,
        "trainable_parameters": None,
        "placement": None,
        "tokens": None,
        "batch_plan_sha256": None,
    }
    if selection and selection["status"] != "ok":
        return FinishedRun(facts, TrainingRecord("diverged", f"probe: {selection['reason']}"))
    if unpaid is not None:
        return FinishedRun(facts, unpaid)
    record = TrainingRecord()
    try:
        return _trained(args, config, selection, facts, record)
    except (RuntimeError, MemoryError) as error:
        # Loading or the held-out loss ran out of memory; training itself reports on its own.
        if not is_out_of_memory(error):
            raise
        record.fail("out_of_memory", str(error).splitlines()[0][:200] or "out of memory")
        return FinishedRun(facts, record)


def _trained(
    args: Any, config: Mapping[str, Any], selection: Any, facts: dict[str, Any], record: TrainingRecord
) -> FinishedRun:
    """Load, place, train and evaluate; fill in ``facts`` and ``record`` on the way."""
    settings, dtype, steps = config["training"], facts["dtype"], facts["steps"]
    model, tokenizer = load(args.model_lock, dtype=dtype, quantization=config["model"]["quantization"])
    plan = selection or placement_plan(adaptable_layers(model), range(model.config.num_hidden_layers), **_ranks(config))
    model = attach(model, plan, dropout=config["adapter"]["dropout"], seed=args.seed)
    facts["placement"] = audit(model, plan)
    facts["trainable_parameters"] = facts["placement"].pop("trainable_parameters")
    folder = checked_folder(args.data_lock)
    # Encoded before the training, so that rows which cannot be evaluated do not cost a run.
    heldout = _heldout_examples(folder, tokenizer, config)
    check_context(model, config["encoding"]["max_tokens"])
    batches, tokens = _batches(folder, tokenizer, config, steps=steps, seed=args.seed, facts=facts)
    with tempfile.TemporaryDirectory() as scratch:
        train(
            model,
            batches,
            record=record,
            settings=settings,
            steps=steps,
            learning_rate=settings["learning_rate"] * config["model"]["learning_rate_scale"],
            dtype=dtype,
            seed=args.seed,
            scratch=scratch,
        )
    time = timing(record, warmup=settings["timing_warmup_steps"], probe_seconds=_probe_seconds(args))
    done = len(record.step_seconds) * settings["accumulation"]
    facts["tokens"] = sum(tokens[:done])
    observed = {
        "time": time,
        "tokens_per_second": facts["tokens"] / time["training_seconds"] if time["training_seconds"] else None,
        "peak_memory_bytes": observe.peak_memory_bytes(),
    }
    if record.status == "ok":
        size = settings["batch_size"] * 4
        rows = row_losses(model, heldout, batch_size=size, pad_token_id=tokenizer.pad_token_id)
        facts["eval_loss"] = mean_loss(rows)
        if facts["eval_loss"] is None:
            record.fail("diverged", "the held-out loss at the end is not finite")
    return FinishedRun(facts, record, observed, model)


def _ranks(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return rank and alpha: the arm's own, else the campaign's."""
    return {key: config["arm"].get(key, config["adapter"][key]) for key in ("rank", "alpha")}


def _unpaid(args: Any) -> TrainingRecord | None:
    """Return the record of an arm with ``steps: measured`` whose std or ale run failed: nothing buys its steps."""
    for path in filter(None, (args.std_run, args.ale_run)):
        run = artifacts.payload(path, "run")
        if run["status"] != "ok":
            return TrainingRecord("crashed", f"steps: measured, and arm {run['arm']} ended as {run['status']}")
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


def _batches(
    folder: Path, tokenizer: Any, config: Mapping[str, Any], *, steps: int, seed: int, facts: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the collated micro-batches and the non-pad tokens of each; note the plan's hash in ``facts``."""
    settings = config["training"]
    examples = encode_rows(read_rows(folder / "train.jsonl"), tokenizer, **config["encoding"])
    plan = plan_batches(
        examples,
        steps=steps,
        batch_size=settings["batch_size"],
        accumulation=settings["accumulation"],
        seed=seed,
    )
    facts["batch_plan_sha256"] = hashlib.sha256(compact_json(plan).encode()).hexdigest()
    batches = [collate([examples[i] for i in micro], tokenizer.pad_token_id) for micro in plan]
    return batches, [int(batch["attention_mask"].sum()) for batch in batches]


def _heldout_examples(folder: Path, tokenizer: Any, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the first held-out rows, encoded; refuse data that has none."""
    path = folder / "heldout.jsonl"
    rows = read_rows(path)[: config["training"]["eval_rows"]] if path.is_file() else []
    if not rows:
        raise UserError(f"{path}: expected held-out rows and found none; give the data held_out rows in its registry")
    return encode_rows(rows, tokenizer, **config["encoding"])
