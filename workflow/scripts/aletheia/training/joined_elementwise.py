"""The RMS norms and rotations of a model in training, each one operation in either direction.

Which modules and functions these are, no list of families says: each is held against the closed form on random numbers
when a run begins, and stays as it is where they differ, as a norm does that adds 1 to its weight, or one that trains.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from aletheia.training.replaced_forwards import replaced_forwards

if TYPE_CHECKING:
    import torch
    from torch import nn

EPSILONS = ("variance_epsilon", "eps")  # names that norms have for it
ROTATION = "apply_rotary_pos_emb"  # transformers' name for the function, in the module of each family
TOLERANCE = 1e-5  # of fp32 on numbers near 1


class JoinedElementwise:
    """The norms and rotations of a model, as a step computes them.

    Parameters
    ----------
    model
        A transformers model, with or without adapters.
    join
        Whether any is replaced.
    """

    def __init__(self, model: nn.Module, *, join: bool = True) -> None:
        import torch

        # In a generator of its own, so that a run draws the same numbers whatever is tried here.
        random = torch.Generator().manual_seed(0)
        self._norms = [module for module in model.modules() if join and _is_rms_norm(module, random)]
        named = {sys.modules[type(module).__module__] for module in model.modules()} if join else set()
        self._rotating = [source for source in named if _rotates(getattr(source, ROTATION, None), random)]

    def summary(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        return {"norms": len(self._norms), "rotations": bool(self._rotating)}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Compute by the closed forms within the context."""
        before = {source: getattr(source, ROTATION) for source in self._rotating}
        with replaced_forwards((module, _norm(module)) for module in self._norms):
            try:
                for source, function in before.items():
                    setattr(source, ROTATION, _rotation(function))
                yield
            finally:
                for source, function in before.items():
                    setattr(source, ROTATION, function)


def _epsilon(module: Any) -> float | None:
    return next((found for name in EPSILONS if isinstance(found := getattr(module, name, None), float)), None)


def _norm(module: Any) -> Callable[..., Any]:
    """Return what takes a norm's place; what it cannot do the norm does."""
    from aletheia.training.elementwise_products import RMSNorm

    weight, epsilon, own = module.weight, _epsilon(module), type(module).forward

    def forward(x: Any, *further: Any, **named: Any) -> Any:
        return own(module, x, *further, **named) if further or named else RMSNorm.apply(x, weight, epsilon)

    return forward


def _rotation(own: Callable[..., Any]) -> Callable[..., Any]:
    """Return what takes a rotation's place; what it cannot do the function itself does."""
    from aletheia.training.elementwise_products import Rotation

    def rotate(q: Any, k: Any, cos: Any, sin: Any, *further: Any, **named: Any) -> Any:
        parts = (q, k, cos, sin)
        if further or named or len({each.dtype for each in parts}) > 1 or len({each.shape[-1] for each in parts}) > 1:
            return own(q, k, cos, sin, *further, **named)
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        return Rotation.apply(q, cos, sin), Rotation.apply(k, cos, sin)

    return rotate


def _is_rms_norm(module: Any, random: torch.Generator) -> bool:
    """Tell whether a frozen module, whose class is called so, computes an RMS norm."""
    if not type(module).__name__.endswith("RMSNorm") or "forward" in vars(module) or _epsilon(module) is None:
        return False
    weight = getattr(module, "weight", None)
    if weight is None or weight.requires_grad or weight.dim() != 1 or weight.is_meta:
        return False
    x = _random(random, 2, 3, len(weight)).to(weight.device)
    return _equal(lambda: module(x), lambda: _norm(module)(x))


def _rotates(function: Any, random: torch.Generator) -> bool:
    """Tell whether a function rotates the halves of queries and keys."""
    if function is None:
        return False
    q, k, cos, sin = (_random(random, *shape) for shape in ((2, 4, 3, 8), (2, 2, 3, 8), (2, 3, 8), (2, 3, 8)))
    return _equal(lambda: function(q, k, cos, sin), lambda: _rotation(function)(q, k, cos, sin))


def _random(random: torch.Generator, *shape: int) -> torch.Tensor:
    import torch

    return torch.randn(shape, generator=random)


def _equal(own: Callable[[], Any], other: Callable[[], Any]) -> bool:
    """Tell whether two computations give the same tensors within rounding; one that fails does not."""
    import torch

    try:
        with torch.no_grad():
            found, expected = other(), own()
        torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    except (AssertionError, RuntimeError, TypeError, ValueError, IndexError):
        return False
    return True
