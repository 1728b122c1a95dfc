"""The first module or gradient of a diverged run that is not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel

    from aletheia.training.micro_batches import MicroBatch


class _Found(Exception):
    pass


def first_nonfinite_module(
    model: PeftModel, batches: Iterable[MicroBatch], forward: Callable[[MicroBatch], Any]
) -> str | None:
    """Return the first module whose output is not finite when ``batches`` pass again; None where there is none.

    Parameters
    ----------
    model
        The model as it was when the loss became non-finite.
    batches
        The micro-batches of that step.
    forward
        Passes a micro-batch forward as the step did.

    Returns
    -------
    str or None
        Its full name in the base model: of nested modules the innermost, which ends first.
    """
    import torch

    def watch(name: str) -> Any:
        def check(_: Any, __: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple | list) else (output,)
            for tensor in tensors:
                if isinstance(tensor, torch.Tensor) and not torch.isfinite(tensor).all():
                    raise _Found(name)

        return check

    hooks = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n]
    try:
        for batch in batches:
            with torch.no_grad():
                forward(batch)
    except _Found as name:
        return str(name).removeprefix("base_model.model.").replace(".base_layer", "")
    finally:
        for hook in hooks:
            hook.remove()
    return None


def first_nonfinite_gradient(model: PeftModel) -> str | None:
    """Return the adapter nearest to the output whose gradient is not finite; None where all gradients are finite."""
    import torch

    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return name.removeprefix("base_model.model.")
    return None
