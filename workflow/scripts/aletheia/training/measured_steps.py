"""A run's steps on the clock, and what run.json says of the machine while they ran."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.provenance import artifacts, machine
from aletheia.provenance.machine_load import LoadMeter, step_spread
from aletheia.training.tensorboard import TrainingEvents
from aletheia.training.trainer import TrainingRecord, resume, timing, train

if TYPE_CHECKING:
    from aletheia.training.checkpoints import Checkpoint
    from aletheia.training.loop import Loop
    from aletheia.training.run_inputs import RunInputs


def measured_steps(
    loop: Loop,
    record: TrainingRecord,
    inputs: RunInputs,
    config: Mapping[str, Any],
    *,
    checkpoint: Checkpoint,
    events: Path | None,
    heldout: Callable[[], float | None],
) -> dict[str, Any]:
    """Run the loop, from its checkpoint where there is one; return times, memory and conditions.

    Parameters
    ----------
    loop, record
        The run's; the record takes its losses and its status.
    inputs
        Of the run, whose probe counts.
    config
        Of the campaign.
    checkpoint
        Where the run is kept on its way.
    events
        Folder for TensorBoard; none without it.
    heldout
        Returns the held-out loss, for the curve.
    """
    settings, conditions = config["training"], {}
    resume(loop, record, checkpoint)
    with contextlib.closing(TrainingEvents(events, resumed=loop.done)) as writer:
        conditions["before"] = machine.conditions()
        machine.reset_peak_memory()
        meter = LoadMeter()
        train(
            loop,
            record,
            time_limit=settings["time_limit_seconds"],
            checkpoint=checkpoint,
            events=writer,
            halfway=lambda: conditions.update(halfway=machine.conditions()),
            heldout=heldout,
            curve_every=settings["curve_every"],
        )
    load, warmup = meter.shares(), settings["timing_warmup_steps"]
    load["step_spread"] = _settled_spread(loop, record, warmup)
    if inputs.probe:
        load["probe"] = artifacts.read(inputs.probe, "probe")["observed"].get("load", {})
    probe_seconds = inputs.probe_seconds(config["arm"])
    time = timing(record, warmup=warmup, probe_seconds=probe_seconds, prefix_seconds=loop.prefix_seconds())
    return {
        "time": time,
        "tokens_per_second": loop.tokens() / time["training_seconds"] if time["training_seconds"] else None,
        "peak_memory_bytes": machine.peak_memory_bytes(),
        "conditions": conditions,
        "load": load,
        "computation": loop.computation(),
    }


def _settled_spread(loop: Loop, record: TrainingRecord, warmup: int) -> float | None:
    """Return the spread after the warm-up of steps that do the same work: read the frozen prefix, where most do."""
    computing = loop.computing()
    usual = computing.count(True) > len(computing) / 2
    steps = [*zip(record.step_seconds, loop.positions(), computing, strict=False)][warmup:]
    settled = [(seconds, size) for seconds, size, all_layers in steps if all_layers is usual]
    return step_spread([seconds for seconds, _ in settled], [size for _, size in settled])
