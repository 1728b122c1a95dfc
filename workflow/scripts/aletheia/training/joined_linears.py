"""The adapted linear maps of a model in training: those that read one input share their adapters' products.

PEFT computes each adapted module by itself. Here query, key and value, or gate and up, get theirs together
(:mod:`aletheia.training.linear_products`), with scale and additions inside products. Modules,
parameters, hooks and what is saved stay PEFT's: only ``forward`` is another one while a step computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.method.adapters import adapted_modules, module_kind
from aletheia.training.replaced_forwards import replaced_forwards

if TYPE_CHECKING:
    from peft import PeftModel

# Kinds of modules that read the same input, in the order in which models call them.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
ADAPTER = "default"


class JoinedLinears:
    """The adapted linear maps of a model, as a step computes them.

    Parameters
    ----------
    model
        With adapters attached. Adapters with dropout, variants such as DoRA and those of fused experts stay as they
        are, for their inputs differ or their formula does.
    join
        Whether adapters' products are joined at all.
    """

    def __init__(self, model: PeftModel, *, join: bool = True) -> None:
        modules = {name: module for name, module in adapted_modules(model) if join and _joinable(module)}
        self._groups = [_Group([modules[name] for name in names]) for names in sibling_groups(modules)]

    def summary(self) -> dict[str, int]:
        """Return what run.json says of it."""
        sizes = [len(group.modules) for group in self._groups]
        return {"adapted": sum(sizes), "products": len(sizes)}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Compute by these products within the context; the backward pass of a checkpointed model belongs into it."""
        groups = self._groups
        with replaced_forwards((each, of.forward(i)) for of in groups for i, each in enumerate(of.modules)):
            try:
                yield
            finally:
                for group in self._groups:
                    group.forget()


class _Group:
    """Adapted modules that read one input: the first that is called computes all."""

    def __init__(self, modules: Sequence[Any]) -> None:
        self.modules = modules
        self._scales = tuple(module.scaling[ADAPTER] for module in modules)
        self._input: Any = None
        self._results: dict[int, Any] = {}

    def forget(self) -> None:
        """Let go of an input and results that nobody asked for: checkpointing may end a layer's second pass early."""
        self._input, self._results = None, {}

    def forward(self, index: int) -> Callable[[Any], Any]:
        """Return the forward pass of one of the modules."""

        def forward(x: Any) -> Any:
            if x is not self._input or index not in self._results:
                self._input, self._results = x, dict(enumerate(self._compute(x)))
            result = self._results.pop(index)
            if not self._results:
                self._input = None
            return result

        return forward

    def _compute(self, x: Any) -> list[Any]:
        from aletheia.training.linear_products import AdaptedLinears, LowRankUpdates

        dtype = _computing_dtype(x)
        flat = _flattened(x)
        bases = [module.base_layer for module in self.modules]
        lower = [module.lora_A[ADAPTER].weight for module in self.modules]
        upper = [module.lora_B[ADAPTER].weight for module in self.modules]
        if all(_is_frozen_linear(base) and base.weight.dtype == dtype for base in bases):
            frozen = [base.weight for base in bases] + [base.bias for base in bases]
            found = AdaptedLinears.apply(self._scales, flat.to(dtype), *frozen, *lower, *upper)
        else:
            # Of 4-bit weights, or watched by someone; a copy, since a result may be a view.
            results = [_flattened(base(x)).clone() for base in bases]
            found = LowRankUpdates.apply(self._scales, flat.to(dtype), *results, *lower, *upper)
        return [_unflattened(y, x) for y in found]


def sibling_groups(names: Any) -> list[list[str]]:
    """Return full module names in groups of those that read one input, each group in the order of its calls."""
    groups: dict[tuple[str, Any], list[str]] = {}
    for name in names:
        siblings = next((kinds for kinds in SIBLINGS if module_kind(name) in kinds), module_kind(name))
        groups.setdefault((name.rpartition(".")[0], siblings), []).append(name)
    return [
        sorted(group, key=lambda name, kinds=kinds: kinds.index(module_kind(name)))
        for (_, kinds), group in groups.items()
    ]


def _joinable(module: Any) -> bool:
    """Tell whether an adapter is a plain product A, B on a plain or a 4-bit linear map, without dropout."""
    import torch
    from peft.tuners.lora.layer import Linear

    if not (isinstance(module, Linear) or type(module).__name__ == "Linear4bit"):
        return False
    return (
        isinstance(module.base_layer, torch.nn.Linear)
        and isinstance(module.lora_dropout[ADAPTER], torch.nn.Identity)
        and list(module.active_adapters) == [ADAPTER]
        and not (module.lora_variant or module.lora_bias[ADAPTER] or module.merged or "forward" in vars(module))
    )


def _is_frozen_linear(module: Any) -> bool:
    """Tell whether a module is a plain linear map that nobody listens to, and that does not train."""
    import torch

    return (
        type(module) is torch.nn.Linear
        and not module.weight.requires_grad
        and not (module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))
    )


def _computing_dtype(x: Any) -> Any:
    import torch

    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _flattened(x: Any) -> Any:
    return x.reshape(-1, x.shape[-1])


def _unflattened(y: Any, x: Any) -> Any:
    return y.view(*x.shape[:-1], y.shape[-1])
