"""Train the adapters of one arm: the same work in every arm, timed step by step.

The loop is ``transformers.Trainer`` with the paper's optimiser (section 3.4). Batches are tokenised, padded and in
memory before the clock starts, in an order that depends on the seed alone.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.models import is_out_of_memory

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass
class TrainingRecord:
    """What one training run did and how long it took.

    Attributes
    ----------
    status
        ``ok``, ``diverged``, ``out_of_memory`` or ``timeout``.
    reason
        One sentence where the status is not ``ok``.
    losses
        Mean loss of each optimiser step.
    step_seconds
        Wall-clock seconds of each optimiser step, one device synchronisation at its end.
    """

    status: str = "ok"
    reason: str | None = None
    losses: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    def fail(self, status: str, reason: str) -> None:
        """Record the first failure; later ones are its consequences."""
        if self.status == "ok":
            self.status, self.reason = status, reason


def planned_steps(
    settings: Mapping[str, Any], arm: Mapping[str, Any], measured: Mapping[str, Any] | None = None
) -> int:
    """Return the number of optimiser steps of an arm.

    Parameters
    ----------
    settings
        The campaign's ``training`` section; ``steps`` is the matched number.
    arm
        The arm's entry: ``extra_steps_percent`` lengthens it; ``steps: measured`` buys as many steps as the standard
        arm's measured time pays for.
    measured
        For ``steps: measured``: ``std_seconds`` (training time of the standard arm), ``probe_seconds``, and
        ``step_seconds`` (median step of the selected layers).

    Returns
    -------
    int
        At least 1.

    References
    ----------
    The paper's sections 3.4 (250 for 200 steps) and 5.5 (matched wall-clock time).
    """
    steps = int(settings["steps"])
    if arm.get("steps") == "measured":
        if not measured or not measured.get("std_seconds") or not measured.get("step_seconds"):
            raise UserError("steps: measured needs a finished std and ale run of the same model and seed")
        # The probe is part of what the arm costs, so it is paid first.
        left = measured["std_seconds"] - measured["probe_seconds"]
        return max(1, math.floor(left / measured["step_seconds"]))
    return max(1, round(steps * (1 + arm.get("extra_steps_percent", 0) / 100)))


def train(
    model: PeftModel,
    batches: Sequence[Mapping[str, Any]],
    *,
    settings: Mapping[str, Any],
    steps: int,
    learning_rate: float,
    dtype: str,
    seed: int,
    scratch: str,
    record: TrainingRecord | None = None,
) -> TrainingRecord:
    """Train the adapters of ``model`` on ``batches``.

    Parameters
    ----------
    model
        Base model with adapters attached; trained in place.
    batches
        Collated micro-batches in order, ``steps * accumulation`` of them.
    settings
        The campaign's ``training`` section.
    steps
        Optimiser steps.
    learning_rate
        Peak learning rate, the model's scale included.
    dtype
        ``bf16``, ``fp16`` (GPU only) or ``fp32``.
    seed
        Seeds the dropout masks; batches and starting values do not depend on this generator.
    scratch
        A folder for Trainer's own use; nothing in it is kept.
    record
        Where to keep what happens; a new one when absent.

    Returns
    -------
    TrainingRecord
        A non-finite loss, exhausted memory or a passed time limit is a status, not an exception.
    """
    record = TrainingRecord() if record is None else record
    arguments = _arguments(settings, steps, learning_rate=learning_rate, dtype=dtype, seed=seed, scratch=scratch)
    trainer = _trainer_class()(
        model=model,
        args=arguments,
        train_dataset=list(batches),
        data_collator=lambda items: dict(items[0]),
    )
    trainer.watch(record, time_limit=settings.get("time_limit_seconds"))
    try:
        trainer.train()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        record.fail("out_of_memory", str(error).splitlines()[0][:200] or "out of memory")
    return record


def _arguments(
    settings: Mapping[str, Any],
    steps: int,
    *,
    learning_rate: float,
    dtype: str,
    seed: int,
    scratch: str,
) -> Any:
    """Return Trainer's arguments for the paper's optimiser and schedule."""
    import torch
    from transformers import TrainingArguments

    gpu = torch.cuda.is_available()
    if dtype == "fp16" and not gpu:
        # Trainer would train in fp32 and say nothing.
        raise UserError("dtype fp16: expected a GPU for loss scaling, found none; use bf16 or fp32 on a CPU")
    optimizer = settings["optimizer"]
    return TrainingArguments(
        output_dir=scratch,
        max_steps=steps,
        per_device_train_batch_size=1,  # an item of the data set is a whole, padded micro-batch
        gradient_accumulation_steps=settings["accumulation"],
        learning_rate=learning_rate,
        lr_scheduler_type=settings["schedule"],
        warmup_steps=min(settings["warmup_steps"], steps),
        optim="adamw_torch",
        adam_beta1=optimizer["beta1"],
        adam_beta2=optimizer["beta2"],
        adam_epsilon=optimizer["epsilon"],
        weight_decay=optimizer["weight_decay"],
        max_grad_norm=settings["max_grad_norm"],
        bf16=dtype == "bf16",
        fp16=dtype == "fp16",
        use_cpu=not gpu,
        train_sampling_strategy="sequential",
        dataloader_drop_last=False,
        dataloader_num_workers=0,
        remove_unused_columns=False,
        logging_strategy="no",
        # On by default it would log a NaN loss as 0.
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )


def _trainer_class() -> type:
    """Return the Trainer that keeps each step's loss and time (built here, so that importing stays light)."""
    import torch
    from transformers import Trainer, TrainerCallback

    class Watch(TrainerCallback):
        def __init__(self, trainer: Any, record: TrainingRecord, time_limit: float | None) -> None:
            self.trainer, self.record, self.time_limit = trainer, record, time_limit
            self.start = self.begun = time.perf_counter()

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.begun = time.perf_counter()

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # Reading the loss is the step's one synchronisation; on a GPU all queued work ends before the clock.
            loss = float(torch.stack(self.trainer.micro_losses).sum())
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.trainer.micro_losses.clear()
            self.record.step_seconds.append(now - self.start)
            if not math.isfinite(loss):
                self.record.fail("diverged", f"the loss of step {state.global_step} is not finite")
                control.should_training_stop = True
                return
            self.record.losses.append(loss)
            print(
                f"step {state.global_step}/{state.max_steps} loss {loss:.4f} {now - self.start:.2f} s",
                flush=True,
            )
            if self.time_limit and now - self.begun > self.time_limit and state.global_step < state.max_steps:
                self.record.fail("timeout", f"past the limit of {self.time_limit} s")
                control.should_training_stop = True

    class WatchedTrainer(Trainer):
        def watch(self, record: TrainingRecord, *, time_limit: float | None) -> None:
            self.micro_losses: list[Any] = []
            self.add_callback(Watch(self, record, time_limit))

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            self.micro_losses.append(loss.detach())
            return loss

    return WatchedTrainer


def timing(record: TrainingRecord, *, warmup: int, probe_seconds: float) -> dict[str, Any]:
    """Return the ``time`` section of a run: all in seconds.

    Parameters
    ----------
    record
        The finished run.
    warmup
        First steps that are timed apart (memory pools and caches fill there); the median leaves them out.
    probe_seconds
        What the probe took; 0 for arms that need none.
    """
    steps = record.step_seconds
    settled = steps[warmup:] or steps
    training = math.fsum(steps)
    return {
        "total_seconds": training + probe_seconds,
        "training_seconds": training,
        "median_step_seconds": statistics.median(settled) if settled else None,
        "step_seconds": steps,
        "warmup_seconds": math.fsum(steps[:warmup]),
        "probe_seconds": probe_seconds,
    }
