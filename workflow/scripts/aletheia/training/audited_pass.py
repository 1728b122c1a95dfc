"""A forward pass that proves where the backward pass will end, and in which precision a run computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.method.layers import decoder_layers

if TYPE_CHECKING:
    from peft import PeftModel


@contextlib.contextmanager
def audited_pass(
    model: PeftModel, placement: Mapping[str, Any], expected: Any, *, lowest: int
) -> Iterator[dict[str, Any]]:
    """Check in one forward pass that no gradient enters the lowest layer that trains, and what precision computes.

    Parameters
    ----------
    model
        A model with adapters.
    placement
        Its audit (:func:`aletheia.method.adapters.audit`).
    expected
        The torch dtype that the run is meant to compute in.
    lowest
        The lowest layer that trains: the lowest adapted one, or of those that are active.

    Yields
    ------
    dict
        Filled when the pass has ended well: ``frozen_layers``, the number of layers below ``lowest``, and
        ``compute_dtype``, that of the output of one of its adapted modules.

    Raises
    ------
    UserError
        When the hidden state that enters that layer requires a gradient, or the output has another dtype than
        ``expected``.
    """
    layer = decoder_layers(model)[lowest]
    name = next(name for name in placement["modules"] if f".{lowest}." in name)
    module = model.get_base_model().get_submodule(name.rpartition(".experts.")[0] or name)
    seen: dict[str, Any] = {}
    result: dict[str, Any] = {}

    def entering(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.setdefault("gradient", hidden.requires_grad)

    def leaving(_: Any, __: Any, output: Any) -> None:
        seen.setdefault("dtype", output.dtype)

    hooks = [layer.register_forward_pre_hook(entering, with_kwargs=True), module.register_forward_hook(leaving)]
    try:
        yield result
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
    result |= {"frozen_layers": lowest, "compute_dtype": str(seen["dtype"]).removeprefix("torch.")}
