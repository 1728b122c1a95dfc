"""Taps in a model: each layer's modules hand over what they read and their output's gradient; then all is as before."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from aletheia.method.four_bit import differentiable
from aletheia.method.gradient_norms import Norms, Scale, Tap, squares

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NORM = re.compile(r"(?:RMS|Layer)Norm")  # classes of modules y = w ∘ x̂ + b: torch's, and each family's own


@contextlib.contextmanager
def tapped(model: PreTrainedModel, probed: Mapping[str, torch.Tensor], norms: Norms) -> Iterator[bool]:
    """Let every backward pass put the norms of ``probed`` into ``norms``.

    Within, the model is in evaluation mode and no other parameter requires a gradient.

    Yields
    ------
    bool
        Whether all parameters are tapped, so that batches may go through together; else those that are not have
        their gradient computed, its norm taken and it freed.
    """
    handles: list[Any] = []
    with _as_found(model), _evaluation(model), differentiable(model):
        for p in model.parameters():
            p.requires_grad_(False)
            p.grad = None
        plain = dict(probed)
        anchor = torch.zeros((), requires_grad=True)
        for path, module in model.named_modules():
            names = {own: f"{path}.{own}" for own, _ in module.named_parameters(recurse=False)}
            names = {own: name for own, name in names.items() if name in probed}
            if names and set(names) <= {"weight", "bias"} and (_is_linear(module) or _is_norm(module)):
                handles.append(module.register_forward_hook(_tap(path, module, names, norms, anchor)))
                for name in names.values():
                    del plain[name]
        handles += [_take_gradient(p, name, norms) for name, p in plain.items()]
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            # Reentrant checkpointing gives no gradient to a block whose inputs require none.
            handles.append(model.get_input_embeddings().register_forward_hook(_require_gradient))
        try:
            yield not plain
        finally:
            for handle in handles:
                handle.remove()


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear)


def _is_norm(module: torch.nn.Module) -> bool:
    return bool(NORM.search(type(module).__name__)) and module.weight.dim() == 1


def _tap(path: str, module: torch.nn.Module, names: Mapping[str, str], norms: Norms, anchor: torch.Tensor) -> Any:
    """Return the forward hook of a module whose parameters, by their own names, are ``names``."""
    scale = None if _is_linear(module) else Scale(module)
    take = functools.partial(norms.take_scale, scale, names) if scale else functools.partial(norms.take_linear, names)

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor | None:
        if not torch.is_grad_enabled():
            return None  # the first of reentrant checkpointing's two forward passes, or one of Scale's own
        (x,) = inputs
        if scale and scale.divides:
            x = output.detach()
        return Tap.apply(output, anchor, x if scale else norms.linear_note(path, x), take)

    return hook


def _require_gradient(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.detach().requires_grad_()


def _take_gradient(parameter: torch.nn.Parameter, name: str, norms: Norms) -> Any:
    """Make one parameter require its gradient; keep the norm and free the gradient as soon as it is complete."""
    parameter.requires_grad_(True)

    def take(p: torch.Tensor) -> None:
        norms.put(name, squares(torch.atleast_2d(p.grad)).sum().reshape(1))
        p.grad = None

    return parameter.register_post_accumulate_grad_hook(take)


@contextlib.contextmanager
def _as_found(model: PreTrainedModel) -> Iterator[None]:
    """Leave ``requires_grad`` flags and gradients of the model as they are now."""
    flags = {p: (p.requires_grad, p.grad) for p in model.parameters()}
    try:
        yield
    finally:
        for p, (requires_grad, grad) in flags.items():
            p.requires_grad_(requires_grad)
            p.grad = grad


@contextlib.contextmanager
def _evaluation(model: PreTrainedModel) -> Iterator[None]:
    """Put all modules into evaluation mode, but for the blocks that checkpoint: they do so in training mode only."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modes:
        if isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            module.training = True
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
