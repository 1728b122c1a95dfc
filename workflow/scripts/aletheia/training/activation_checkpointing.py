"""Gradient checkpointing that leaves the layers below the lowest adapter alone.

Library defaults make the embeddings' output require a gradient once checkpointing is on, so that the backward pass runs
down to layer 0 whatever is adapted. Non-reentrant checkpointing needs no such thing. The first pass of each run proves
that nothing does (:func:`aletheia.training.audited_pass.audited_pass`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aletheia.method.layers import decoder_layers

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
    adapted = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in decoder_layers(model)]
    recompute_from(model, adapted.index(True))


def recompute_from(model: PeftModel, lowest: int) -> None:
    """Recompute the activations of layer ``lowest`` and those above it alone; without checkpointing do nothing."""
    if not model.get_base_model().is_activation_checkpointing:
        return
    for index, layer in enumerate(decoder_layers(model)):
        # Below there is nothing to recompute, and checkpointing would keep each layer's input.
        layer.gradient_checkpointing = index >= lowest
