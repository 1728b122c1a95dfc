"""Norm, gate and rotation of one layer, forward and backward: composed of torch's operators, in closed form, compiled.

Shapes of SmolLM2-135M, fp32, 400 tokens. `composed` is what transformers computes; `closed` is what the study's loop
puts in its place (RMSNorm and Rotation; the gate silu(g) · u stays composed there, since its closed form, here, gains
nothing); `compiled` is torch.compile of the composed form, for any number of tokens. `seconds_to_compile` are the
first calls of the compiled forms, forward and backward; with torch's cache of an earlier run they are fewer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

TOKENS, HIDDEN, INNER, HEADS, KEY_HEADS, HEAD = 400, 576, 1536, 9, 3, 64
EPSILON = 1e-5
REPEATS = 20  # of a side in a round


def norm(x: Any, weight: Any) -> Any:
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON))


def gate(g: Any, u: Any) -> Any:
    return functional.silu(g) * u


def rotation(q: Any, k: Any, cosine: Any, sine: Any) -> Any:
    half = HEAD // 2
    q_turned, k_turned = (torch.cat((-x[..., half:], x[..., :half]), -1) for x in (q, k))
    return q * cosine + q_turned * sine, k * cosine + k_turned * sine


class Gate(torch.autograd.Function):
    """The gate with its gradient in closed form."""

    @staticmethod
    def forward(ctx: Any, g: Any, u: Any) -> Any:
        s = functional.silu(g)
        ctx.save_for_backward(g, u, s)
        return s * u

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        g, u, s = ctx.saved_tensors
        return torch.ops.aten.silu_backward(dy * u, g), s * dy


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return seconds and ratios of each form of each formula."""
    from aletheia.training.elementwise_products import RMSNorm, Rotation

    torch.manual_seed(0)
    x, g, u = (torch.randn(1, TOKENS, size, requires_grad=True) for size in (HIDDEN, INNER, INNER))
    q, k = (torch.randn(1, TOKENS, heads, HEAD).transpose(1, 2).requires_grad_() for heads in (HEADS, KEY_HEADS))
    weight, cosine, sine = torch.randn(HIDDEN), *(torch.randn(1, 1, TOKENS, HEAD) for _ in range(2))

    def closed_rotation(q: Any, k: Any, cosine: Any, sine: Any) -> Any:
        return Rotation.apply(q, cosine, sine), Rotation.apply(k, cosine, sine)

    formulas = {
        "norm": (norm, lambda *inputs: RMSNorm.apply(*inputs, EPSILON), (x, weight)),
        "gate": (gate, Gate.apply, (g, u)),
        "rotation": (rotation, closed_rotation, (q, k, cosine, sine)),
    }
    seconds, compiling, ratios = {}, {}, {}
    for name, (composed, closed, inputs) in formulas.items():
        forms = {"composed": composed, "closed": closed, "compiled": torch.compile(composed, dynamic=True)}
        sides = {form: _side(function, inputs) for form, function in forms.items()}
        start = time.perf_counter()
        sides["compiled"]()
        compiling[name] = time.perf_counter() - start
        seconds[name] = interleaved(sides, rounds=rounds)
        ratios |= {
            f"{name}: composed / {form}": ratio(seconds[name]["composed"], seconds[name][form])
            for form in ("closed", "compiled")
        }
    medians = {name: {form: statistics.median(of) for form, of in forms.items()} for name, forms in seconds.items()}
    return {
        "what": __doc__.splitlines()[0],
        "repeats": REPEATS,
        "seconds": seconds,
        "median_seconds": medians,
        "seconds_to_compile": compiling,
        "ratios": ratios,
    }


def _side(function: Callable[..., Any], inputs: tuple[Any, ...]) -> Callable[[], float]:
    """Return what times forward and backward passes of a form."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]

    def passes() -> float:
        start = time.perf_counter()
        for _ in range(REPEATS):
            found = function(*inputs)
            results = found if isinstance(found, tuple) else (found,)
            torch.autograd.grad(results, wanted, [result.detach() for result in results])
        return time.perf_counter() - start

    return passes
