"""How the passes of a run compute: precision, kernels, and which products are one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.method.attention import kernel_for
from aletheia.training.joined_elementwise import JoinedElementwise
from aletheia.training.joined_linears import JoinedLinears
from aletheia.training.joined_rows import attention_by_row

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from aletheia.training.micro_batches import MicroBatch


@dataclass(frozen=True)
class Joins:
    """What a step computes as one: all of it, unless a comparison asks for less.

    Attributes
    ----------
    linears
        Linear maps and adapters of one input (:mod:`aletheia.training.joined_linears`).
    rows
        Rows of a micro-batch (:mod:`aletheia.training.joined_rows`).
    elementwise
        What a norm or a rotation does (:mod:`aletheia.training.joined_elementwise`).
    """

    linears: bool = True
    rows: bool = True
    elementwise: bool = True


DEFAULT = Joins()


class Computation:
    """The contexts that passes of a model with adapters run in.

    Parameters
    ----------
    model
        With adapters.
    device
        Where it wants its tokens.
    dtype
        That it computes in: half precision by autocast over fp32 adapters.
    joins
        What is joined.
    """

    def __init__(self, model: PeftModel, *, device: torch.device, dtype: torch.dtype, joins: Joins) -> None:

        self._model, self._device, self._dtype = model, device, dtype
        self._linears = JoinedLinears(model, join=joins.linears)
        self._elementwise = JoinedElementwise(model, join=joins.elementwise)

    def summary(self) -> dict[str, Any]:
        """Return what run.json says of what is joined, rows apart."""
        return {**self._linears.summary(), **self._elementwise.summary()}

    def autocast(self) -> Any:
        """Return the context that a forward pass computes in, within :meth:`of`."""
        import torch

        fp32 = self._dtype == torch.float32
        return contextlib.nullcontext() if fp32 else torch.autocast(self._device.type, self._dtype)

    @contextlib.contextmanager
    def of(self, micro: MicroBatch) -> Iterator[None]:
        """Compute a micro-batch within the context, its backward pass too: checkpointing computes layers again there.

        Adapters get their inputs in the dtype of the computation, as autocast leaves them; PEFT would copy them to
        fp32, and autocast back.
        """
        import torch
        from peft.helpers import disable_input_dtype_casting

        as_they_are = disable_input_dtype_casting(self._model, active=self._dtype != torch.float32)
        kernel = kernel_for(self._device, self._dtype, micro.longest)
        rows = attention_by_row(self._model, micro.rows)
        with as_they_are, self._linears.active(), self._elementwise.active(), rows, kernel:
            yield
