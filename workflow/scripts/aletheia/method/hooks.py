"""Hooks on a model's modules that give the probe each module's input and the gradient of its output; all temporary."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from aletheia.method.four_bit import differentiable
from aletheia.method.gradient_norms import GradientNorms, NormLayerInput, OutputGradientHook, squares
from aletheia.method.layers import is_linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Classes of modules y = w ∘ x̂ + b: torch's, and each family's own; a gated one has a second input.
NORM = re.compile(r"(?:RMS|Layer)Norm(?!.*Gated)")


@contextlib.contextmanager
def gradient_hooks(model: PreTrainedModel, probed: Mapping[str, torch.Tensor], norms: GradientNorms) -> Iterator[bool]:
    """Add the gradient norms of ``probed`` to ``norms`` in every backward pass.

    Within the context the model is in evaluation mode, and no parameter requires a gradient except probed ones that no
    hook covers; afterwards the model is as it was.

    Parameters
    ----------
    model
        A causal language model.
    probed
        The parameters by full name.
    norms
        Where the norms go.

    Yields
    ------
    bool
        Whether all parameters are in hooked linear or norm layers, so that one pass may hold several batches. The
        others get their gradient, of which the norm is taken before it is freed.
    """
    handles: list[Any] = []
    with _gradients_restored(model), _evaluation_mode(model, checkpointing=True), differentiable(model):
        for p in model.parameters():
            p.requires_grad_(False)
            p.grad = None
        unhooked = dict(probed)
        anchor = torch.zeros((), requires_grad=True)
        for path, module in model.named_modules():
            names = {short: f"{path}.{short}" for short, _ in module.named_parameters(recurse=False)}
            names = {short: name for short, name in names.items() if name in probed}
            if names and set(names) <= {"weight", "bias"} and _is_hooked(module):
                handles.append(module.register_forward_hook(_output_hook(path, module, names, norms, anchor)))
                for name in names.values():
                    del unhooked[name]
        handles += [_add_when_complete(p, name, norms) for name, p in unhooked.items()]
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            # Reentrant checkpointing gives no gradient to a block whose inputs require none.
            handles.append(model.get_input_embeddings().register_forward_hook(_require_gradient))
        try:
            yield not unhooked
        finally:
            for handle in handles:
                handle.remove()


def _is_hooked(module: torch.nn.Module) -> bool:
    """Tell whether a module is a linear or norm layer; a router's own class may be a linear one, and returns more."""
    return (is_linear(module) and "Router" not in type(module).__name__) or _is_norm(module)


def _is_norm(module: torch.nn.Module) -> bool:
    return bool(NORM.search(type(module).__name__)) and module.weight.dim() == 1


def _output_hook(
    path: str, module: torch.nn.Module, names: Mapping[str, str], norms: GradientNorms, anchor: torch.Tensor
) -> Any:
    """Return the forward hook that adds the gradient norms of one linear or norm layer to ``norms``.

    Parameters
    ----------
    path
        The module's full name.
    module
        It has one input and one output, both of shape (sequences, tokens, size).
    names
        Full parameter names by ``weight`` and ``bias``.
    norms
        Where the norms go.
    anchor
        A scalar that requires a gradient (:meth:`OutputGradientHook.forward`).
    """
    norm_layer = None if is_linear(module) else NormLayerInput(module)
    if norm_layer is None:
        callback = functools.partial(norms.add_linear, names)
    else:
        callback = functools.partial(norms.add_norm_layer, norm_layer, names)

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor | None:
        if not torch.is_grad_enabled():
            return None  # the first of reentrant checkpointing's two forward passes, or one of NormLayerInput
        (x,) = inputs
        if norm_layer is None:
            x = norms.saved_input(path, x)
        elif norm_layer.from_output:
            x = output.detach()
        return OutputGradientHook.apply(output, anchor, x, callback)

    return hook


def _require_gradient(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.detach().requires_grad_()


def _add_when_complete(parameter: torch.nn.Parameter, name: str, norms: GradientNorms) -> Any:
    """Hook one parameter: as soon as its gradient is complete, add the norm and free the gradient."""
    parameter.requires_grad_(True)

    def add(p: torch.Tensor) -> None:
        norms.add(name, squares(torch.atleast_2d(p.grad)).sum().reshape(1))
        p.grad = None

    return parameter.register_post_accumulate_grad_hook(add)


@contextlib.contextmanager
def _gradients_restored(model: PreTrainedModel) -> Iterator[None]:
    """Restore the model's ``requires_grad`` flags and gradients on leaving."""
    flags = {p: (p.requires_grad, p.grad) for p in model.parameters()}
    try:
        yield
    finally:
        for p, (requires_grad, grad) in flags.items():
            p.requires_grad_(requires_grad)
            p.grad = grad


@contextlib.contextmanager
def forward_alone(model: PreTrainedModel) -> Iterator[None]:
    """Put the model into evaluation mode for passes without gradients; afterwards it is as it was."""
    with torch.no_grad(), _evaluation_mode(model, checkpointing=False), differentiable(model):
        yield


@contextlib.contextmanager
def _evaluation_mode(model: PreTrainedModel, *, checkpointing: bool) -> Iterator[None]:
    """Put all modules into evaluation mode; on request not checkpointing blocks, which checkpoint in training only."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    modes = {module: module.training for module in model.modules()}
    model.eval()
    for module in modes:
        if checkpointing and isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing:
            module.training = True
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
