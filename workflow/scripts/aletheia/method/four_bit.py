"""Norms of bitsandbytes' 4-bit weights, and gradients through them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from aletheia.errors import UserError
from aletheia.method.gradient_norms import squares

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def dequantised(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Return a parameter's values; of a 4-bit one a dequantised copy.

    Raises
    ------
    UserError
        When the parameter is offloaded, or quantised otherwise than to 4 bits.
    """
    if parameter.is_meta:
        raise UserError(
            f"{name} is offloaded; the probe needs all weights on devices: spread the model over more, or quantise it"
        )
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        from bitsandbytes.functional import dequantize_4bit

        values = dequantize_4bit(*_plain_layout(parameter))
    else:
        values = parameter
    if not values.is_floating_point():
        raise UserError(
            f"{name} is {parameter.dtype}; the probe expects fp32, bf16, fp16, or bitsandbytes' 4-bit weights"
        )
    return values.detach()


def weight_norm(name: str, parameter: torch.Tensor) -> float:
    """Return the L2 norm of a parameter; of a 4-bit one, that of its dequantised values (:func:`dequantised`)."""
    return float(squares(torch.atleast_2d(dequantised(name, parameter))).sum().sqrt())


@contextlib.contextmanager
def differentiable(model: PreTrainedModel) -> Iterator[None]:
    """Let gradients pass through 4-bit modules that are in evaluation mode.

    On CPUs with AVX-512 bf16, bitsandbytes packs a weight at the first evaluation whose input needs no gradient, and
    has no backward pass for the packed layout. Training mode, in which such a module computes the same, prevents the
    packing. Weights that are packed already are unpacked here, and packed again on leaving.
    """
    quantised = [module for module in model.modules() if getattr(getattr(module, "weight", None), "quant_state", None)]
    saved: list[tuple[Any, dict[str, Any]]] = []
    for module in quantised:
        weight = module.weight
        saved.append(
            (module, {"compute_dtype": module.compute_dtype, "compute_type_is_set": module.compute_type_is_set})
        )
        saved.append((weight, {"data": weight.data, "quant_state": weight.quant_state}))
        weight.data, weight.quant_state = _plain_layout(weight)
        module.training = True
    try:
        yield
    finally:
        for owner, attributes in saved:
            for name, value in attributes.items():
                setattr(owner, name, value)


def _plain_layout(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Return a 4-bit weight's data and quantisation state, unpacked (as copies) where they are packed."""
    state = weight.quant_state
    if not getattr(state, "packing_format_for_cpu", False):
        return weight.data, state
    from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

    state = copy.copy(state)
    # The packed layout stores absmax dequantised already, so the nested state is dropped.
    state.original_nested, state.absmax = False, state.absmax.T.reshape(-1).float()
    return _convert_weight_packed_for_cpu_inverse(weight.data, state)
