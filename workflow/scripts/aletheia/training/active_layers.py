"""Layers that train in turns (LISA): a few of the adapted ones for some steps, then a few others.

The adapters of all other layers are frozen meanwhile, so that the backward pass ends at the lowest active layer. They
keep their values and their moments: AdamW leaves a parameter without a gradient alone, its weight decay too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layers import layer_index
from aletheia.seeded_order import seeded_order
from aletheia.training.activation_checkpointing import recompute_from

if TYPE_CHECKING:
    from peft import PeftModel


class ActiveLayers:
    """Which of the adapted layers train in which steps.

    The draw of a period depends on nothing but the seed and the period's number, so that a resumed run goes on with
    the layers of the run that was killed.

    Parameters
    ----------
    model
        With adapters, all of them trainable.
    settings
        ``training.layers_active``: ``every`` (steps of a period), ``count`` (layers), ``draw`` (0 when absent).
    seed
        The run's.

    Attributes
    ----------
    lowest
        The lowest active layer, once :meth:`switch` was called.

    Raises
    ------
    UserError
        When the model does not have more adapted layers than are to be active.

    References
    ----------
    Pan et al., "LISA: Layerwise Importance Sampling for Memory-Efficient Large Language Model Fine-Tuning",
    arXiv:2403.17919. There whole layers train, with embeddings and head, and lose their moments at a switch; here
    adapters do, and keep them.
    """

    def __init__(self, model: PeftModel, settings: Mapping[str, Any], *, seed: int) -> None:
        self._model, self._every, self._count = model, settings["every"], settings["count"]
        self._seed = f"{seed}:active{settings.get('draw', 0)}"
        self._adapters: dict[int, list[Any]] = {}
        for name, parameter in model.get_base_model().named_parameters():
            if parameter.requires_grad:
                self._adapters.setdefault(layer_index(name), []).append(parameter)
        if self._count >= len(self._adapters):
            raise UserError(
                f"training.layers_active.count: expected less than {len(self._adapters)}, the adapted layers of this "
                f"run, found {self._count}: all would train all the time; lower it, or write layers_active: null"
            )
        self._period: int | None = None
        self.lowest: int | None = None

    def layers(self, period: int) -> list[int]:
        """Return the layers of a period, counted from 0, in ascending order."""
        return sorted(seeded_order(sorted(self._adapters), seed=f"{self._seed}:{period}")[: self._count])

    def switch(self, done: int) -> bool:
        """Freeze and thaw adapters for the step after ``done`` steps; tell whether that changed the period."""
        period = done // self._every
        if period == self._period:
            return False
        active = self.layers(period)
        for layer, parameters in self._adapters.items():
            for parameter in parameters:
                parameter.requires_grad_(layer in active)
        self._period, self.lowest = period, active[0]
        recompute_from(self._model, active[0])
        return True

    def periods(self, done: int) -> list[dict[str, Any]]:
        """Return ``{step, layers}`` of each period of the first ``done`` steps: the steps before it, and its layers."""
        return [{"step": step, "layers": self.layers(step // self._every)} for step in range(0, done, self._every)]
