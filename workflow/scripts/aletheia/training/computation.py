"""How the passes of a run compute: precision, kernels, and which products are one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.method.attention import kernel_for
from aletheia.training.joined_linears import JoinedLinears
from aletheia.training.joined_rows import attention_by_row

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from aletheia.training.micro_batches import MicroBatch


@dataclass(frozen=True)
class Joins:
    """How a step computes: all joined, unless a comparison asks for less, or for products in fp32.

    Attributes
    ----------
    linears
        Adapters' products of one input (:mod:`aletheia.training.joined_linears`).
    rows
        Rows of a micro-batch (:mod:`aletheia.training.joined_rows`).
    fp32_products
        Whether frozen products in half precision are multiplied in fp32. On a CPU that is slower in bf16 it saves time;
        which CPU that is, a short measurement on a busy machine told once this way and once that, so no run decides it.
    """

    linears: bool = True
    rows: bool = True
    fp32_products: bool = False


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

    Attributes
    ----------
    linears
        Its linear maps.
    """

    def __init__(self, model: PeftModel, *, device: torch.device, dtype: torch.dtype, joins: Joins) -> None:
        import torch

        self._model, self._device, self._dtype = model, device, dtype
        arithmetic = torch.float32 if joins.fp32_products and dtype != torch.float32 else None
        self.linears = JoinedLinears(model, arithmetic=arithmetic, join=joins.linears)

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
        with as_they_are, self.linears.active(), attention_by_row(self._model, micro.rows), kernel:
            yield
