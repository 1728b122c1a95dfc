"""The optimisation of one arm, a step at a time, with the paper's optimiser (section 3.4).

A loop of its own and not Trainer's, since a measured comparison needs what Trainer has no place for: arms that take
turns in one process, one synchronisation at the end of a step, fp16 with loss scaling on any device, no logits where
nothing is predicted, no padding and no product done twice. A test compares its losses with Trainer's. (On a GPU,
transformers reads the position ids of padded rows back once in each pass, to see whether sequences are packed.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.method.token_loss import token_losses
from aletheia.training.active_layers import ActiveLayers
from aletheia.training.audited_pass import audited_pass
from aletheia.training.computation import DEFAULT, Computation, Joins
from aletheia.training.frozen_prefix import FrozenPrefix, prefix_block
from aletheia.training.micro_batches import MicroBatch, laid_out
from aletheia.training.nonfinite import first_nonfinite_gradient, first_nonfinite_module
from aletheia.training.optimizer import adamw, schedule

if TYPE_CHECKING:
    from peft import PeftModel

    from aletheia.method.token_batch import TokenBatch

MAX_SKIPPED_STEPS = 20  # fp16 steps in a row without a finite gradient; the loss scale, 2^16 at first, is then below 1


@dataclass(frozen=True)
class Step:
    """The result of one optimiser step.

    Attributes
    ----------
    loss
        Mean cross-entropy a target of the whole step, in nats.
    gradient_norm
        L2 norm over all adapters, before clipping.
    learning_rate
        That the step used.
    failure
        Why the run cannot go on, or None.
    """

    loss: float
    gradient_norm: float
    learning_rate: float
    failure: str | None = None


class Loop:
    """One arm's model, batches and optimiser.

    Parameters
    ----------
    model
        Base model with adapters attached; trained in place, and left in training mode.
    batches
        Micro-batches in order, padded on the right, ``steps * accumulation`` of them.
    settings
        The campaign's ``training`` section.
    steps
        Optimiser steps.
    learning_rate
        Peak learning rate, the model's scale included: that of A where B has another.
    dtype
        ``bf16`` or ``fp16`` (autocast over fp32 adapters; fp16 with loss scaling) or ``fp32``.
    seed
        Seeds the dropout masks; batches and starting values do not depend on this generator.
    placement
        The adapters' audit; without it the first pass is not watched.
    prefix
        Keeps what the layers below the lowest adapter give for each micro-batch; they compute it anew without it.
    joins
        What its steps join.

    Attributes
    ----------
    placement
        That audit, after the first pass with the results of :func:`aletheia.training.audited_pass.audited_pass`. Where
        layers take turns, ``frozen_layers`` is the least number of all periods so far.
    """

    def __init__(
        self,
        model: PeftModel,
        batches: Sequence[TokenBatch],
        *,
        settings: Mapping[str, Any],
        steps: int,
        learning_rate: float,
        dtype: str,
        seed: int,
        placement: Mapping[str, Any] | None = None,
        prefix: FrozenPrefix | None = None,
        joins: Joins = DEFAULT,
    ) -> None:
        import torch

        from aletheia.method.loading import torch_dtype

        self.model, self.steps, self.done = model.train(), steps, 0
        self._device = model.get_input_embeddings().weight.device
        self._prefix = prefix
        self._micros = laid_out(model, batches, device=self._device, prefix_kept=prefix is not None, join=joins.rows)
        self._accumulation, self._clip = settings["accumulation"], settings["max_grad_norm"] or float("inf")
        self._dtype = torch_dtype(dtype)
        self.placement = None if placement is None else dict(placement)
        self._audited = placement is None
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        active = settings["layers_active"]
        self._active = None if active is None else ActiveLayers(model, active, seed=seed)
        self._computation = Computation(model, device=self._device, dtype=self._dtype, joins=joins)
        self._gpus = sorted({p.device for p in self._parameters if p.device.type == "cuda"}, key=str)
        self._optimizer = adamw(model, learning_rate, settings["optimizer"])
        self._schedule = schedule(self._optimizer, settings, steps)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=dtype == "fp16")
        self._skipped = 0  # in a row
        torch.manual_seed(seed)

    def computation(self) -> dict[str, Any]:
        """Return how steps compute, for run.json: what is joined, and in how many micro-batches rows are."""
        joined_rows = sum(micro.rows is not None for micro in self._micros)
        return {**self._computation.summary(), "joined_rows": joined_rows}

    def tokens(self) -> int:
        """Return the number of tokens in the steps done so far, without padding."""
        return sum(micro.tokens for micro in self._micros[: self.done * self._accumulation])

    def prefix_seconds(self) -> float:
        """Return what other runs needed for the states of the frozen prefix that this one has read, in seconds."""
        return 0.0 if self._prefix is None else self._prefix.summary()["charged_seconds"]

    def positions(self) -> list[int]:
        """Return the number of token positions that each step computes, padding included."""
        sizes, width = [micro.positions for micro in self._micros], self._accumulation
        return [sum(sizes[first : first + width]) for first in range(0, self.steps * width, width)]

    def computing(self) -> list[bool]:
        """Tell of each step whether it computes the frozen prefix: all do but those that read what was kept."""
        if self._prefix is None:
            return [True] * self.steps
        seen: set[str] = set()
        found = []
        for first in range(0, self.steps * self._accumulation, self._accumulation):
            keys = {micro.visit.key for micro in self._micros[first : first + self._accumulation]}
            found.append(not keys <= seen)
            seen |= keys
        return found

    def step(self) -> Step:
        """Do the next step; where its loss or gradient is not finite, leave the adapters as they were."""
        import torch

        first = self.done * self._accumulation
        micros = self._micros[first : first + self._accumulation]
        self._optimizer.zero_grad(set_to_none=True)
        if self._active is not None and self._active.switch(self.done):
            self._audited = self.placement is None
        loss = self._passes(micros)
        # Adding 0 · loss turns a loss of NaN or infinity into a gradient norm of NaN, so the optimiser skips this step.
        gradient = next(p.grad for p in self._parameters if p.grad is not None)
        gradient.add_((0 * loss).to(gradient.device))
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        rate = self._schedule.get_last_lr()[0]
        self._update(norm)
        # The step's one synchronisation, once the update is queued too.
        for device in self._gpus:
            torch.cuda.synchronize(device)
        done = Step(float(loss), float(norm), rate)
        failure = self._failure(done, micros)
        if failure:
            return Step(done.loss, done.gradient_norm, rate, failure)
        self.done += 1
        return done

    def _passes(self, micros: Sequence[MicroBatch], scale: Any = None) -> Any:
        """Do a step's forward and backward passes; return the mean loss a target.

        Parameters
        ----------
        micros
            The step's micro-batches.
        scale
            A loss scale of its own; the scaler's when None.
        """
        targets = sum(len(micro.batch.targets) for micro in micros)
        total = None
        for micro in micros:
            with self._computation.of(micro):
                first, self._audited = not self._audited, True
                prefix = prefix_block(self._prefix, micro.visit)
                with self._watched(first) as seen, self._computation.autocast(), prefix:
                    loss = token_losses(self.model, micro.batch, reduction="sum") / targets
                if first:
                    self._record(seen)
                (self._scaler.scale(loss) if scale is None else scale * loss).backward()
            total = loss.detach() if total is None else total + loss.detach()
        return total

    def _watched(self, first: bool) -> Any:
        """Return the context that watches the first pass of a run, or of a period of active layers."""
        if not first:
            return contextlib.nullcontext()
        lowest = self.placement["lowest_layer"] if self._active is None else self._active.lowest
        return audited_pass(self.model, self.placement, self._dtype, lowest=lowest)

    def _record(self, seen: Mapping[str, Any]) -> None:
        earlier = self.placement.get("frozen_layers", seen["frozen_layers"])
        self.placement = {**self.placement, **seen, "frozen_layers": min(earlier, seen["frozen_layers"])}

    def active_layers(self) -> list[dict[str, Any]] | None:
        """Return which layers trained in the steps done so far (:meth:`ActiveLayers.periods`); None where all did."""
        return None if self._active is None else self._active.periods(self.done)

    def _update(self, norm: Any) -> None:
        import torch

        if not self._scaler.is_enabled():
            # The fused AdamW leaves weights and moments as they are where this is 1, as loss scaling uses it.
            self._optimizer.found_inf = (~torch.isfinite(norm)).float()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._schedule.step()

    def _failure(self, done: Step, micros: Sequence[MicroBatch]) -> str | None:
        """Return the reason why the run cannot go on, with the first non-finite module or parameter; else None."""
        import math

        number = self.done + 1
        if not math.isfinite(done.loss):

            def forward(micro: MicroBatch) -> None:
                with self._computation.of(micro), self._computation.autocast():
                    token_losses(self.model, micro.batch)

            module = first_nonfinite_module(self.model, micros, forward)
            where = f"; first not finite: the output of {module}" if module else "; no module's output shows it alone"
            return f"the loss of step {number} is not finite{where}"
        if math.isfinite(done.gradient_norm):
            self._skipped = 0
            return None
        self._skipped += 1
        if self._scaler.is_enabled() and self._skipped < MAX_SKIPPED_STEPS:
            return None
        # The passes run again, since clipping has made every gradient non-finite; the loss scale was halved meanwhile.
        scale = self._scaler.get_scale() / self._scaler.get_backoff_factor() if self._scaler.is_enabled() else 1.0
        self._optimizer.zero_grad(set_to_none=True)
        self._passes(micros, scale)
        parameter = first_nonfinite_gradient(self.model)
        where = f"first not finite: {parameter}" if parameter else "no single one shows it, their norm overflows"
        return f"the gradient of step {number} is not finite; {where}"

    def state(self) -> dict[str, Any]:
        """Return the state from which :meth:`restore` continues with the same bits."""
        import torch

        return {
            "done": self.done,
            "skipped": self._skipped,
            # With the audit of the first pass: a run that resumes after its last step has no pass of its own.
            "placement": self.placement,
            "prefix": None if self._prefix is None else self._prefix.state(),
            "adapters": [parameter.detach().cpu() for parameter in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state_all() if self._gpus else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        import torch

        self.done, self._skipped = state["done"], state["skipped"]
        if self.placement is not None:
            self.placement = {**self.placement, **state["placement"]}
        if self._prefix is not None:
            self._prefix.restore(state["prefix"])
        with torch.no_grad():
            for parameter, value in zip(self._parameters, state["adapters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if state["device_rng"] is not None:
            torch.cuda.set_rng_state_all(state["device_rng"])
