"""What a run of training reads beside its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import Source
from aletheia.study.selectors import COSTS, GRADIENTS, reads
from aletheia.training.prefix_choice import PrefixPlace
from aletheia.training.token_table import TokenRows, token_rows


@dataclass(frozen=True)
class RunInputs:
    """The inputs of one run beside its settings: artifacts as they were read, or their paths.

    Attributes
    ----------
    model_lock, data_lock
        Locks of the staged model and of the training data.
    seed
        Draws batches, starting values and dropout.
    precision
        Of the precision step, where the model's dtype is ``auto``.
    selection
        Of the select step; adapters in all layers without it.
    tokens
        Table of the tokens step; rows are encoded anew without it.
    probe
        The probe whose time counts for this arm.
    batches
        Of the batches step; drawn anew without it.
    std_run, ale_run
        ``run.json`` of both arms, for ``steps: measured``.
    trials
        ``run.json`` of the arms among whose rates the run's is chosen (``learning_rate: {best_of: …}``).
    prefix
        Where the states of the frozen prefix may be kept.
    """

    model_lock: Source
    data_lock: Source
    seed: int
    tokens: Path | None = None
    precision: Source | None = None
    selection: Source | None = None
    probe: Source | None = None
    batches: Source | None = None
    std_run: Source | None = None
    ale_run: Source | None = None
    trials: Sequence[Source] = ()
    prefix: PrefixPlace = field(default_factory=PrefixPlace)

    def rows(self, config: Mapping[str, Any], tokenizer: Callable[[], Any]) -> TokenRows:
        """Return the rows of the data: of the table, or encoded on access by what ``tokenizer`` returns by then."""
        locks = {"model_lock": self.model_lock, "data_lock": self.data_lock}
        return token_rows(self.tokens, **locks, encoding=config["encoding"], tokenizer=tokenizer)

    def probe_seconds(self, arm: Mapping[str, Any]) -> float:
        """Return the seconds of the probe that count for a run of an arm: of the part that its choice reads.

        0 where it needs no probe; all of the probe's where the artifact does not tell its parts apart.
        """
        if not self.probe:
            return 0.0
        observed, part = artifacts.read(self.probe, "probe")["observed"], reads(arm)
        seconds = observed.get("part_seconds", {}).get(GRADIENTS if part == COSTS else part)
        return observed["probe_seconds"] if seconds is None else seconds
