"""The products of linear maps that read one input, and of their adapters, as autograd functions that do no work twice.

A linear map with an adapter gives y = W x + b + s·B A x, with W and b frozen. What is here equals the modules of PEFT
within rounding; :mod:`aletheia.training.joined_linears` puts it in their place for a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional


class AdaptedLinears(torch.autograd.Function):
    """Several y_i = W_i x + b_i + s_i·B_i A_i x of one input.

    The narrow products with all A_i are one, and so are their weight gradients; the parts of the input's gradient are
    added up within the products.

    Inputs
    ------
    scales
        s_i.
    x
        Of shape (tokens, inputs), in the dtype of the computation, which is that of the weights.
    tensors
        All W_i, of shape (outputs, inputs); all b_i, (outputs,) or None; all A_i, (rank, inputs); all B_i,
        (outputs, rank).

    Returns
    -------
    tuple of torch.Tensor
        All y_i, of shape (tokens, outputs).
    """

    @staticmethod
    def forward(
        ctx: Any, scales: tuple[float, ...], x: torch.Tensor, *tensors: torch.Tensor | None
    ) -> tuple[torch.Tensor, ...]:
        weights, biases, lower, upper = _in_fours(tensors)
        results = tuple(functional.linear(x, w, b) for w, b in zip(weights, biases, strict=True))
        _update(ctx, results, x, scales=scales, lower=lower, upper=upper, further=weights)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, _, a, *matrices = saved = ctx.saved_tensors
        count = len(gradients)
        _, of_x, *of_tensors = ctx.needs_input_grad
        own = [dy.to(x.dtype) for dy in gradients]
        below, lower, upper = _of_updates(ctx, saved, own, of_tensors[2 * count :])
        dx = None
        if of_x:
            dx = below @ a
            for dy, w in zip(own, matrices[count:], strict=True):
                dx.addmm_(dy, w)
        return None, dx, *[None] * (2 * count), *lower, *upper


class LowRankUpdates(torch.autograd.Function):
    """Add to each of several results of one input its low-rank update, y_i += s_i·B_i A_i x, in place.

    For frozen maps that compute their own product, such as those of 4-bit weights.

    Inputs
    ------
    scales, x
        As of :class:`AdaptedLinears`.
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
        ctx.mark_dirty(*results)
        _update(ctx, results, x, scales=scales, lower=lower, upper=upper)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, _, a, *_ = saved = ctx.saved_tensors
        _, of_x, *of_tensors = ctx.needs_input_grad
        own = [dy.to(x.dtype) for dy in gradients]
        below, lower, upper = _of_updates(ctx, saved, own, of_tensors[len(own) :])
        return None, below @ a if of_x else None, *gradients, *lower, *upper


def _in_fours(tensors: Sequence[Any]) -> list[Sequence[Any]]:
    count = len(tensors) // 4
    return [tensors[first : first + count] for first in range(0, len(tensors), count)]


def _update(
    ctx: Any,
    results: Sequence[torch.Tensor],
    x: torch.Tensor,
    *,
    scales: tuple[float, ...],
    lower: Sequence[torch.Tensor],
    upper: Sequence[torch.Tensor],
    further: Sequence[torch.Tensor] = (),
) -> None:
    """Update results in place; keep for the gradients x, all A_i x, all A_i, each B_i, and ``further``."""
    ranks = [len(matrix) for matrix in lower]
    a = (torch.cat(lower) if len(lower) > 1 else lower[0]).to(x.dtype)
    b = [matrix.to(x.dtype) for matrix in upper]
    hidden = x @ a.t()
    for y, h, matrix, scale in zip(results, hidden.split(ranks, 1), b, scales, strict=True):
        if y.dtype == x.dtype:
            y.addmm_(h, matrix.t(), alpha=scale)
        else:
            y.add_(h @ matrix.t(), alpha=scale)
    ctx.save_for_backward(x, hidden, a, *b, *further)
    ctx.scales, ctx.ranks, ctx.dtypes = scales, ranks, (lower[0].dtype, upper[0].dtype)


def _of_updates(
    ctx: Any, saved: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], wanted: Sequence[bool]
) -> tuple[torch.Tensor, Sequence[torch.Tensor | None], Sequence[torch.Tensor | None]]:
    """Return the gradients of all A_i x, of shape (tokens, ranks), of the A_i and of the B_i.

    Parameters
    ----------
    ctx, saved
        Of :func:`_update`; under checkpointing what is kept may be read once, so whoever reads it hands it on.
    gradients
        Of the results, in the dtype of x.
    wanted
        Whether each A_i, then each B_i has a gradient.
    """
    count = len(gradients)
    x, hidden, _, *b = saved[: 3 + count]
    of_a, of_b = any(wanted[:count]), any(wanted[count:])
    below = torch.empty_like(hidden)
    upper: list[torch.Tensor | None] = []
    parts = zip(gradients, hidden.split(ctx.ranks, 1), below.split(ctx.ranks, 1), b, ctx.scales, strict=True)
    for dy, h, dh, matrix, scale in parts:
        torch.mul(dy @ matrix, scale, out=dh)
        # The narrow side first: the other form takes up to 1.7 times as long (CPU, fp32, 400 tokens, 1536 outputs).
        upper.append((h.t() @ dy).t().mul(scale).to(ctx.dtypes[1]) if of_b else None)
    lower = (below.t() @ x).to(ctx.dtypes[0]).split(ctx.ranks) if of_a else [None] * count
    return below, lower, upper
