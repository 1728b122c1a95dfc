"""The linear maps of a model in training: those that read one input share their adapters' products.

PEFT computes each adapted module by itself. Here query, key and value, or gate and up, get theirs together
(:class:`aletheia.training.linear_products.LowRankUpdates`), with scale and addition inside a product. Modules,
parameters, hooks and what is saved stay PEFT's: only ``forward`` is another one while a step computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aletheia.method.adapters import adapted_modules, module_kind

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

# Kinds of modules that read the same input, in the order in which models call them.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
ADAPTER = "default"


class JoinedLinears:
    """The linear maps of a model with adapters, as a step computes them.

    Parameters
    ----------
    model
        With adapters attached. Adapters with dropout, variants such as DoRA and those of fused experts stay as they
        are, for their inputs differ or their formula does.
    arithmetic
        The dtype that frozen products are multiplied in; that of the computation when None.
    join
        Whether adapters' products are joined at all.

    Attributes
    ----------
    arithmetic
        As given.
    """

    def __init__(self, model: PeftModel, *, arithmetic: torch.dtype | None = None, join: bool = True) -> None:
        self.arithmetic = arithmetic
        modules = {name: module for name, module in adapted_modules(model) if join and _joinable(module)}
        self._groups = [_Group([modules[name] for name in names], self) for names in sibling_groups(modules)]
        bases = {id(module.base_layer) for module in modules.values()}
        self._frozen = [module for module in model.modules() if _is_frozen_linear(module) and id(module) not in bases]

    def summary(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        sizes = [len(group.modules) for group in self._groups]
        own = None if self.arithmetic is None else str(self.arithmetic).removeprefix("torch.")
        return {"adapted": sum(sizes), "products": len(sizes), "arithmetic": own}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Compute by these products within the context; the backward pass of a checkpointed model belongs into it."""
        replaced: list[Any] = []
        try:
            for group in self._groups:
                for index, module in enumerate(group.modules):
                    _replace(module, group.forward(index), replaced)
            if self.arithmetic is not None:
                for module in self._frozen:
                    _replace(module, self._frozen_forward(module), replaced)
            yield
        finally:
            for module in replaced:
                del module.forward
            for group in self._groups:
                group.forget()

    def _frozen_forward(self, module: Any) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            return _unflattened(self.product(module, _flattened(x)), x)

        return forward

    def product(self, module: Any, x: Any) -> Any:
        """Return W x + b of a frozen linear map, for ``x`` of shape (tokens, inputs)."""
        from torch.nn import functional

        if self.arithmetic is None:
            return functional.linear(x, module.weight, module.bias)
        from aletheia.training.linear_products import FrozenProduct

        return FrozenProduct.apply(x.to(_computing_dtype(x)), module.weight, module.bias, self.arithmetic)


class _Group:
    """Adapted modules that read one input: the first that is called computes all."""

    def __init__(self, modules: Sequence[Any], owner: JoinedLinears) -> None:
        self.modules = modules
        self._owner = owner
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
        from aletheia.training.linear_products import LowRankUpdates

        flat = _flattened(x)
        results = [self._frozen(module.base_layer, x, flat) for module in self.modules]
        lower = [module.lora_A[ADAPTER].weight for module in self.modules]
        upper = [module.lora_B[ADAPTER].weight for module in self.modules]
        updated = LowRankUpdates.apply(self._scales, flat.to(_computing_dtype(x)), *results, *lower, *upper)
        return [_unflattened(y, x) for y in updated]

    def _frozen(self, base: Any, x: Any, flat: Any) -> Any:
        """Return a base module's result, of shape (tokens, outputs), that may be changed in place."""
        if _is_frozen_linear(base):
            return self._owner.product(base, flat)
        # Of 4-bit weights, or watched by someone; a copy, since it may be a view.
        return _flattened(base(x)).clone()


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


def _replace(module: Any, forward: Callable[[Any], Any], replaced: list[Any]) -> None:
    # Into the instance's own attributes at once: torch's setattr looks for parameters and modules first.
    vars(module)["forward"] = forward
    replaced.append(module)
