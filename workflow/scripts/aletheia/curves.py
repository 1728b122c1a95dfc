"""Training curves while a run goes on, as TensorBoard's event files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any


class Curves:
    """Loss, gradient norm, learning rate and seconds of each optimiser step.

    Parameters
    ----------
    folder
        Of this run's events, which replace older ones; None writes nothing.
    resumed
        Steps that are done already: their events stay.
    """

    def __init__(self, folder: Path | None, *, resumed: int = 0) -> None:
        self._writer = None
        if folder is None:
            return
        from tensorboardX import SummaryWriter

        if not resumed:
            shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder), purge_step=resumed + 1 if resumed else None, flush_secs=5)

    def add(self, number: int, step: Any, seconds: float) -> None:
        """Add a step; outside its clock."""
        if self._writer is None:
            return
        values = {
            "train/loss": step.loss,
            "train/gradient_norm": step.gradient_norm,
            "train/learning_rate": step.learning_rate,
            "train/step_seconds": seconds,
        }
        for name, value in values.items():
            self._writer.add_scalar(name, value, number)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
