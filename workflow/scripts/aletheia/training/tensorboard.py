"""Loss and timing of a run while it goes on, as TensorBoard's event files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

PREFIX = "events"


class TrainingEvents:
    """Loss, gradient norm, learning rate and seconds of each optimiser step.

    Written by the calling thread, so that a full disk ends the events with one line and not the training.

    Parameters
    ----------
    folder
        For this run's events, which replace those of an earlier run; None writes nothing.
    resumed
        Steps that are done already: their events stay, and those of later steps, from a killed run, no longer count.
    """

    def __init__(self, folder: Path | None, *, resumed: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not resumed:
                for old in folder.glob(f"{PREFIX}.out.tfevents.*"):
                    old.unlink()
            # Of two files of one second the later would replace the earlier.
            self._writer = EventsWriter(str(folder / PREFIX), f".{resumed}")
            if resumed:
                start = SessionLog(status=SessionLog.START)
                self._write(Event(wall_time=time.time(), step=resumed + 1, session_log=start))
        except OSError as error:
            self._stop(error)

    def add(self, number: int, step: Any, seconds: float) -> None:
        """Add a step; called outside its clock."""
        if self._writer is None:
            return
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = {
            "train/loss": step.loss,
            "train/gradient_norm": step.gradient_norm,
            "train/learning_rate": step.learning_rate,
            "train/step_seconds": seconds,
        }
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._write(Event(wall_time=time.time(), step=number, summary=summary))

    def close(self) -> None:
        """End the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._stop(error)

    def _write(self, event: Any) -> None:
        try:
            self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            self._stop(error)

    def _stop(self, error: OSError) -> None:
        self._writer = None
        print(f"training curves end here: {error.strerror}", flush=True)
