"""Tokens moved from one order to another, and their gradients moved back."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


class Moved(torch.autograd.Function):
    """Take tokens by an index; the gradient is taken by the index of the way back, and nothing is added up.

    Inputs
    ------
    tokens
        Of shape (positions, …).
    forth
        For each position of the result the one it comes from.
    back
        For each position of ``tokens`` the one of the result that it went to.
    padding
        Positions of ``tokens`` that went nowhere, whose gradient is 0; None where there are none.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: torch.Tensor, forth: torch.Tensor, back: torch.Tensor, padding: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(back, padding)
        return tokens.index_select(0, forth)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        back, padding = ctx.saved_tensors
        moved = gradient.index_select(0, back)
        return moved if padding is None else moved.index_fill_(0, padding, 0), None, None, None
