"""Gradient checkpointing that leaves the layers below the lowest adapter alone, and the proof that they are.

Library defaults make the embeddings' output require a gradient once checkpointing is on, so that the backward pass runs
down to layer 0 whatever is adapted. Non-reentrant checkpointing needs no such thing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel


def checkpoint_activations(model: PeftModel) -> None:
    """Recompute activations in the backward pass instead of keeping them, from the lowest adapted layer upward.

    Parameters
    ----------
    model
        A model with adapters, attached while checkpointing was off (PEFT would add a hook of its own otherwise).

    References
    ----------
    Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
    """
    base = model.get_base_model()
    base.activation_checkpointing_enable({"use_reentrant": False})
    base.disable_input_require_grads()
    for layer in decoder_layers(model):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            break
        layer.gradient_checkpointing = False  # there is nothing to recompute, and checkpointing would keep its input


@contextlib.contextmanager
def audited_pass(model: PeftModel, placement: dict[str, Any], expected: Any) -> Iterator[None]:
    """Watch one forward pass: that no gradient enters the lowest adapted layer, and which precision computes.

    Parameters
    ----------
    model
        A model with adapters.
    placement
        Its audit (:func:`aletheia.method.adapters.audit`); gains ``frozen_layers``, the number of layers below the
        lowest adapted one, and ``compute_dtype``, that of what an adapted layer's attention gives.
    expected
        The torch dtype that the run is meant to compute in.

    Raises
    ------
    UserError
        When the hidden state that enters the lowest adapted layer has a gradient function, or another precision
        computes than the one asked for.
    """
    lowest = placement["lowest_layer"]
    layer = decoder_layers(model)[lowest]
    name = next(name for name in placement["modules"] if f".{lowest}." in name)
    module = model.get_base_model().get_submodule(name.rpartition(".experts.")[0] or name)
    seen: dict[str, Any] = {}

    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.setdefault("gradient", hidden.requires_grad)

    def leaving(_: Any, __: Any, output: Any) -> None:
        seen.setdefault("dtype", output.dtype)

    hooks = [layer.register_forward_pre_hook(entering, with_kwargs=True), module.register_forward_hook(leaving)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if seen["gradient"]:
        raise UserError(
            f"layer {lowest}: expected no gradient to enter the lowest adapted layer, found one; something below it "
            "asks for gradients (an input-grad hook on the embeddings?)"
        )
    if seen["dtype"] != expected:
        raise UserError(f"{name}: expected to compute in {expected}, found {seen['dtype']}; choose another dtype")
    placement["frozen_layers"] = lowest
    placement["compute_dtype"] = str(seen["dtype"]).removeprefix("torch.")


def decoder_layers(model: PeftModel) -> Any:
    """Return the list of decoder layers of a model with adapters."""
    from aletheia.method.layers import LAYER_PATH

    base = model.get_base_model()
    first = next(name for name, _ in base.named_modules() if LAYER_PATH.match(name + ".") and name.endswith(".0"))
    return base.get_submodule(first.rpartition(".")[0])
