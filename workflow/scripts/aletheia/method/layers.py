"""Name the modules of each layer: what can carry adapters, in every family.

Names follow the field: a layer is one transformer block, counted from 0; a module is one linear map in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Module paths of the decoder layers: llama, qwen2, mistral, mixtral, phi3, stablelm, olmo · gptj · gpt_neox.
LAYER_PATH = re.compile(r"^(?:model\.layers|transformer\.h|gpt_neox\.layers)\.(\d+)\.")
ATTENTION = re.compile(r"\.(?:self_attn|attn|attention)\.")
MLP = re.compile(r"\.mlp\.")
# A Mixture-of-Experts router is a linear map that chooses experts; the paper adapts attention and MLP only.
ROUTER = re.compile(r"\.mlp\.gate$")
# transformers 5 keeps all experts of a layer in two 3-D parameters.
EXPERT = re.compile(r"\.mlp\.experts\.(?:gate_up_proj|down_proj)$")


@dataclass(frozen=True)
class Layer:
    """The adaptable names of one layer: full dotted names, as PEFT takes them."""

    index: int
    attention: list[str] = field(default_factory=list)
    mlp: list[str] = field(default_factory=list)
    experts: list[str] = field(default_factory=list)

    def names(self) -> dict[str, list[str]]:
        """Return its names by kind, as artifacts hold them."""
        return {"attention": self.attention, "mlp": self.mlp, "experts": self.experts}


def layer_index(name: str) -> int | None:
    """Return the layer that a module or parameter name belongs to, or None (embeddings, final norm, head)."""
    match = LAYER_PATH.match(name)
    return int(match.group(1)) if match else None


def decoder_layers(model: PeftModel) -> Any:
    """Return the module list of the decoder layers of a model with adapters."""
    base = model.get_base_model()
    first = next(name for name, _ in base.named_modules() if LAYER_PATH.match(name + ".") and name.endswith(".0"))
    return base.get_submodule(first.rpartition(".")[0])


def adaptable_layers(model: PreTrainedModel) -> list[Layer]:
    """Return each layer with its attention and MLP linears and its fused experts, in order.

    Parameters
    ----------
    model
        A causal language model of transformers, not yet wrapped by PEFT.

    Raises
    ------
    UserError
        When no layer is found, or a layer has neither attention nor MLP linears.
    """
    import torch

    layers: dict[int, Layer] = {}
    for name, module in model.named_modules():
        index = layer_index(name + ".")
        if index is None:
            continue
        layer = layers.setdefault(index, Layer(index))
        # bitsandbytes' Linear4bit and Linear8bitLt are torch.nn.Linear too.
        if isinstance(module, torch.nn.Linear) and not ROUTER.search(name):
            if ATTENTION.search(name):
                layer.attention.append(name)
            elif MLP.search(name):
                layer.mlp.append(name)
    for name, _ in model.named_parameters():
        if EXPERT.search(name):
            layers[layer_index(name)].experts.append(name)
    ordered = [layers[i] for i in sorted(layers)]
    bare = [layer.index for layer in ordered if not (layer.attention and (layer.mlp or layer.experts))]
    if not ordered or bare:
        family = getattr(model.config, "model_type", "unknown")
        raise UserError(
            f"model family {family!r}: expected layers with attention and MLP linears, found "
            f"{f'none in layers {bare}' if ordered else 'no known layer list'}; this family is not supported"
        )
    return ordered
