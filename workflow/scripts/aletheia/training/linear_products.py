"""The products of a linear map and its adapter as autograd functions that do no work twice.

A linear map with an adapter gives y = W x + s·B A x, with W frozen. What is here equals the modules of PEFT within
rounding; :mod:`aletheia.training.joined_linears` puts it in their place for a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Numbers of a frozen weight that are converted at a time, so that the head of a large vocabulary needs no second copy.
CONVERTED_AT_ONCE = 2**22


class FrozenProduct(torch.autograd.Function):
    """y = x Wᵀ + b in one dtype, multiplied in another; W and b are frozen.

    Inputs
    ------
    x
        Of shape (tokens, inputs), in the dtype of the result.
    weight, bias
        Of shape (outputs, inputs) and (outputs,); the bias may be None.
    arithmetic
        The dtype to multiply in, one of no less precision: the result is rounded once, at the end.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, arithmetic: torch.dtype
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.arithmetic = arithmetic
        y = x.new_empty(len(x), len(weight))
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(arithmetic)
            for rows in _blocks(weight):
                added = None if bias is None else bias[rows].to(arithmetic)
                y[:, rows] = functional.linear(wide, weight[rows].to(arithmetic), added)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        with torch.autocast(dy.device.type, enabled=False):
            first, *others = _blocks(weight)
            dx = dy[:, first].to(ctx.arithmetic) @ weight[first].to(ctx.arithmetic)
            for rows in others:
                dx.addmm_(dy[:, rows].to(ctx.arithmetic), weight[rows].to(ctx.arithmetic))
        return dx.to(dy.dtype), None, None, None


def _blocks(weight: torch.Tensor) -> list[slice]:
    """Return the rows of a weight in blocks of at most :data:`CONVERTED_AT_ONCE` numbers."""
    size = max(1, CONVERTED_AT_ONCE // weight.shape[1])
    return [slice(first, first + size) for first in range(0, len(weight), size)]


class LowRankUpdates(torch.autograd.Function):
    """Add to each of several results of one input its low-rank update, y_i += s_i·B_i A_i x, in place.

    The narrow products with all A_i are one, and so are their weight gradients and their part of the input's gradient.

    Inputs
    ------
    scales
        s_i.
    x
        Of shape (tokens, inputs), in the dtype of the computation.
    tensors
        All y_i, of shape (tokens, outputs); then all A_i, (rank, inputs); then all B_i, (outputs, rank).

    Returns
    -------
    tuple of torch.Tensor
        All y_i, the tensors that were given.
    """

    @staticmethod
    def forward(
        ctx: Any, scales: tuple[float, ...], x: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        count = len(scales)
        results, lower, upper = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        ranks = [len(matrix) for matrix in lower]
        a = (torch.cat(lower) if count > 1 else lower[0]).to(x.dtype)
        b = [matrix.to(x.dtype) for matrix in upper]
        hidden = x @ a.t()
        for y, h, matrix, scale in zip(results, hidden.split(ranks, 1), b, scales, strict=True):
            if y.dtype == x.dtype:
                y.addmm_(h, matrix.t(), alpha=scale)
            else:
                y.add_(h @ matrix.t(), alpha=scale)
        ctx.mark_dirty(*results)
        ctx.save_for_backward(x, hidden, a, *b)
        ctx.scales, ctx.ranks, ctx.dtypes = scales, ranks, (lower[0].dtype, upper[0].dtype)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, hidden, a, *b = ctx.saved_tensors
        count = len(b)
        _, of_x, *of_tensors = ctx.needs_input_grad
        of_a, of_b = any(of_tensors[count : 2 * count]), any(of_tensors[2 * count :])
        below = torch.empty_like(hidden)
        upper: list[torch.Tensor | None] = []
        parts = zip(gradients, hidden.split(ctx.ranks, 1), below.split(ctx.ranks, 1), b, ctx.scales, strict=True)
        for dy, h, dh, matrix, scale in parts:
            own = dy.to(x.dtype)
            torch.mul(own @ matrix, scale, out=dh)
            # The narrow side first: the other form takes up to 1.7 times as long (CPU, fp32, 400 tokens, 1536 outputs).
            upper.append((h.t() @ own).t().mul(scale).to(ctx.dtypes[1]) if of_b else None)
        lower = (below.t() @ x).to(ctx.dtypes[0]).split(ctx.ranks) if of_a else [None] * count
        return None, below @ a if of_x else None, *gradients, *lower, *upper
