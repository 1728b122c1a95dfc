"""Train the adapters of one arm: the same work in every arm, timed step by step.

Batches are tokenised, padded and in memory before the clock starts. A run that stops early ends with a status.
"""

from __future__ import annotations

import math
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.loading import is_out_of_memory
from aletheia.provenance import artifacts
from aletheia.provenance.start import work_begins
from aletheia.study.recipes import MEASURED, timed_arm
from aletheia.study.run_length import lengthened
from aletheia.training.deadlines import deadline

if TYPE_CHECKING:
    from aletheia.provenance.artifacts import Source
    from aletheia.training.checkpoints import Checkpoint
    from aletheia.training.loop import Loop
    from aletheia.training.tensorboard import TrainingEvents


@dataclass
class TrainingRecord:
    """The course of one training run: status, losses, times.

    Attributes
    ----------
    status
        ``ok``, ``diverged``, ``out_of_memory``, ``timeout`` or ``crashed``.
    reason
        One sentence where the status is not ``ok``.
    losses
        Mean loss of each optimiser step.
    step_seconds
        Wall-clock seconds of each optimiser step, one device synchronisation at its end.
    skipped_steps
        Steps whose gradient overflowed in fp16, so that loss scaling left the adapters as they were.
    curve
        Held-out losses on the way: ``step``, the steps done by then, and ``heldout_loss``, None where it is not finite.
    resumed_at
        Steps that were done when the run went on from a checkpoint, once for each time.
    """

    status: str = "ok"
    reason: str | None = None
    losses: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    skipped_steps: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: list[int] = field(default_factory=list)

    def fail(self, status: str, reason: str) -> None:
        """Record the first failure; later ones are its consequences."""
        if self.status == "ok":
            self.status, self.reason = status, reason

    def fail_by(self, error: BaseException) -> None:
        """Record what torch raised: exhausted memory, or a crash, whose traceback goes to the log."""
        sentence = (str(error).strip().splitlines() or [""])[0][:200]
        if is_out_of_memory(error):
            self.fail("out_of_memory", sentence or "out of memory")
            return
        traceback.print_exception(error)
        self.fail("crashed", f"{type(error).__name__}: {sentence}")


@dataclass(frozen=True)
class TimeRatio:
    """The time of a step of the arm that ``steps: {seconds_of: ARM}`` names, over that of the run's own.

    Attributes
    ----------
    value
        None where it is not known.
    reason
        Why it is not; else None.
    """

    value: float | None
    reason: str | None = None


def planned_steps(
    settings: Mapping[str, Any],
    arm: Mapping[str, Any],
    times: Mapping[str, Any] | None = None,
    time_ratio: TimeRatio | None = None,
) -> int:
    """Return the number of optimiser steps of an arm.

    Parameters
    ----------
    settings
        The campaign's ``training`` section; ``steps`` is that of an arm without its own, and follows from ``epochs``
        where these are stated (:func:`aletheia.training.planned_length.with_steps`).
    arm
        The arm's entry: ``extra_steps_percent`` lengthens it; ``steps: measured`` takes as many steps as fit in
        the standard arm's measured time; ``steps: {seconds_of: ARM}`` as many as take the time of ARM's steps, which
        ``settings`` then has (beside epochs without what that arm adds, which ``steps.extra_steps_percent`` says).
    times
        Of :func:`reference_times`, for ``steps: measured``: ``std_seconds`` (training time of the standard arm),
        ``probe_seconds``, and ``step_seconds`` (median step of the selected layers; the mean where a frozen prefix was
        kept).
    time_ratio
        For ``steps: {seconds_of: …}``; of one that is known.

    Returns
    -------
    int
        At least 1.

    References
    ----------
    The paper's sections 3.4 (250 for 200 steps) and 5.5 (matched wall-clock time).
    """
    steps = int(settings["steps"])
    if arm.get("steps") == MEASURED:
        if not times or not times.get("std_seconds") or not times.get("step_seconds"):
            raise UserError("steps: measured needs a finished std and ale run of the same model and seed")
        # The probe's time is part of the arm's, so it is subtracted first.
        left = times["std_seconds"] - times["probe_seconds"]
        return max(1, math.floor(left / times["step_seconds"]))
    if timed_arm(arm):
        if time_ratio is None:
            raise UserError("steps: seconds_of needs the model's step costs; give its attribution (--costs)")
        return max(1, math.floor(lengthened(steps, arm["steps"].get("extra_steps_percent")) * time_ratio.value))
    return max(1, lengthened(steps, arm.get("extra_steps_percent")))


def steps_follow_from_times(arm: Mapping[str, Any]) -> bool:
    """Tell whether an arm has as many steps as fit in some time (:func:`planned_steps`)."""
    return arm.get("steps") == MEASURED or timed_arm(arm) is not None


def failed_reference(std_run: Source | None, ale_run: Source | None) -> TrainingRecord | None:
    """Return the record of an arm with ``steps: measured`` where its std or ale run failed or was resumed, else None.

    The number of steps then cannot be computed, since it follows from the times of these two runs.
    """
    for source in filter(None, (std_run, ale_run)):
        envelope = artifacts.read(source, "run")
        run = envelope["payload"]
        if run["status"] != "ok":
            return TrainingRecord("crashed", f"steps: measured, and arm {run['arm']} ended as {run['status']}")
        if not envelope["observed"]["time"]["comparable"]:
            return TrainingRecord(
                "crashed", f"steps: measured, and arm {run['arm']} was resumed: its time buys nothing"
            )
    return None


def reference_times(std_run: Source | None, ale_run: Source | None, *, probe_seconds: float) -> dict[str, Any] | None:
    """Return the seconds that decide ``steps: measured`` (:func:`planned_steps`); None unless both runs are given."""
    if not (std_run and ale_run):
        return None
    std, ale = (artifacts.read(source, "run")["observed"] for source in (std_run, ale_run))
    time = ale.get("time", {})
    # Steps that compute the frozen prefix and steps that read it are of two kinds, so that no median speaks for both.
    kept = ale.get("prefix_cache", {}).get("store", "off") != "off"
    mean = time["training_seconds"] / len(time["step_seconds"]) if kept and time.get("step_seconds") else None
    return {
        "std_seconds": std.get("time", {}).get("training_seconds"),
        "step_seconds": mean or time.get("median_step_seconds"),
        "probe_seconds": probe_seconds,
    }


def train(
    loop: Loop,
    record: TrainingRecord,
    *,
    time_limit: float | None = None,
    checkpoint: Checkpoint | None = None,
    events: TrainingEvents | None = None,
    halfway: Callable[[], None] | None = None,
    heldout: Callable[[], float | None] | None = None,
    curve_every: int | None = None,
) -> TrainingRecord:
    """Run a loop to its end.

    Parameters
    ----------
    loop
        Model, batches and optimiser; restored already where the run goes on from a checkpoint.
    record
        Updated with losses, times and status.
    time_limit
        Seconds of training after which the run stops; within a SLURM job it also stops before the job's own limit.
    checkpoint
        Where to save the state; it decides how often.
    events
        Where to write the events of each step.
    halfway
        Called once between two steps in mid-run, outside their clocks.
    heldout, curve_every
        Function that returns the held-out loss, called before the first step and then after every so many, outside
        their clocks. The loss after the last step is the caller's.

    Returns
    -------
    TrainingRecord
        ``record``. A non-finite loss, exhausted memory, a passed time limit or a crash is a status.
    """
    work_begins()
    if curve_every and not record.curve:
        record.curve.append({"step": loop.done, "heldout_loss": heldout()})
    end = deadline(time_limit, spent=math.fsum(record.step_seconds))
    while loop.done < loop.steps and record.status == "ok":
        start = time.perf_counter()
        try:
            step = loop.step()
        except UserError:
            raise
        except Exception as error:  # a crash of torch, whatever its class
            record.fail_by(error)
            break
        seconds = time.perf_counter() - start
        record.step_seconds.append(seconds)
        if step.failure:
            record.fail("diverged", step.failure)
            break
        record.losses.append(step.loss)
        record.skipped_steps += not math.isfinite(step.gradient_norm)
        print(f"step {loop.done}/{loop.steps} loss {step.loss:.4f} {seconds:.2f} s", flush=True)
        if events is not None:
            events.add(loop.done, step, seconds)
        if curve_every and loop.done % curve_every == 0 and loop.done < loop.steps:
            record.curve.append({"step": loop.done, "heldout_loss": heldout()})
            # The limit is on training.
            end = deadline(time_limit, spent=math.fsum(record.step_seconds))
        if loop.done < loop.steps and end.passed():
            record.fail("timeout", end.reason)
        elif checkpoint is not None and (checkpoint.due() or (checkpoint.enabled() and loop.done == loop.steps)):
            # Also after the last step: the job may be killed, or the disk fill, before the artifacts are written.
            checkpoint.save({"loop": loop.state(), "record": asdict(record)})
        if halfway is not None and loop.done == (loop.steps + 1) // 2:
            halfway()
    return record


def resume(loop: Loop, record: TrainingRecord, checkpoint: Checkpoint) -> None:
    """Restore loop and record from the checkpoint, if there is one."""
    saved = checkpoint.load()
    if saved is None:
        return
    loop.restore(saved["loop"])
    for name, value in saved["record"].items():
        setattr(record, name, value)
    record.resumed_at.append(loop.done)
    print(f"resumed after step {loop.done}", flush=True)


def timing(record: TrainingRecord, *, warmup: int, probe_seconds: float, prefix_seconds: float = 0.0) -> dict[str, Any]:
    """Return the ``time`` section of a run: all in seconds.

    Parameters
    ----------
    record
        The finished run.
    warmup
        First steps that are timed apart (memory pools and caches fill there); the median leaves them out.
    probe_seconds
        What the probe took; 0 for arms that need none.
    prefix_seconds
        What other runs needed for the states of the frozen prefix that this one read: work of its own training that
        was done elsewhere, so part of ``training_seconds``. Those that it computed itself are part of its steps.

    Returns
    -------
    dict
        ``comparable`` is false where the run was killed and resumed: its steps ran at different times, and caches
        filled twice.
    """
    steps = record.step_seconds
    settled = steps[warmup:] or steps
    training = math.fsum(steps) + prefix_seconds
    return {
        "total_seconds": training + probe_seconds,
        "training_seconds": training,
        "median_step_seconds": statistics.median(settled) if settled else None,
        "step_seconds": steps,
        "warmup_seconds": math.fsum(steps[:warmup]),
        "probe_seconds": probe_seconds,
        "prefix_seconds": prefix_seconds,
        "resumed_at": record.resumed_at,
        "comparable": not record.resumed_at,
    }
