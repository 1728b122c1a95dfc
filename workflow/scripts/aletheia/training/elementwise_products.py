"""RMS norm and rotary position embedding as autograd functions, each with its gradient in closed form.

Composed of torch's operators they read and write their input many times, most of all in the backward pass. What is here
equals them within rounding; :mod:`aletheia.training.joined_elementwise` puts it in their place for a step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


class RMSNorm(torch.autograd.Function):
    """y = w · x r, with r = (mean(x²) + ε)^(-1/2); w is frozen.

    Inputs
    ------
    x
        Of shape (…, size).
    weight
        Of shape (size,).
    epsilon
        ε.

    Notes
    -----
    With n = x r and g = w · dy the gradient is dx = r (g - n mean(g n)). Computed in fp32, and rounded to the dtype of
    ``x`` before the weight, as transformers does.

    References
    ----------
    Zhang and Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467, 2019.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        wide = x.float()
        r = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(epsilon).rsqrt_().unsqueeze(-1)
        ctx.save_for_backward(x, r, weight)
        return weight * (wide * r).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, r, weight = ctx.saved_tensors
        n, g = x.float() * r, (dy * weight).float()
        mean = torch.linalg.vecdot(g, n).div_(x.shape[-1]).unsqueeze(-1)
        return g.addcmul_(n, mean, value=-1).mul_(r).to(x.dtype), None, None


class Rotation(torch.autograd.Function):
    """Rotary position embedding of queries or keys: (a, b) to (a c - b s, b c + a s), a and b their halves.

    Inputs
    ------
    x
        Of shape (rows, heads, tokens, size).
    cosine, sine
        Of a shape that spreads over that of ``x``, its last side ``size``.

    References
    ----------
    Su and others, "RoFormer", arXiv:2104.09864, 2021; the halves are those of GPT-NeoX and Llama.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cosine, sine)
        (a, b), (c, c_of_b), (s, s_of_a) = (each.chunk(2, -1) for each in (x, cosine, sine))
        y = torch.empty_like(x)
        first, second = y.chunk(2, -1)
        torch.mul(a, c, out=first).addcmul_(b, s, value=-1)
        torch.mul(b, c_of_b, out=second).addcmul_(a, s_of_a)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        (da, db), (c, c_of_b), (s, s_of_a) = (each.chunk(2, -1) for each in (dy, cosine, sine))
        dx = torch.empty_like(dy)
        first, second = dx.chunk(2, -1)
        torch.mul(da, c, out=first).addcmul_(db, s_of_a)
        torch.mul(db, c_of_b, out=second).addcmul_(da, s, value=-1)
        return dx, None, None
