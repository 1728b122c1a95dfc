"""Name the modules of each layer: what can carry adapters, in every family.

Names follow the field: a layer is one transformer block, counted from 0; a module is one linear map in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

# Module paths of the decoder layers: of most families · OPT · GPT-2, GPT-J, Falcon, BLOOM · MPT · GPT-NeoX · BioGPT.
LAYER_PATH = re.compile(
    r"^(?:model\.(?:decoder\.)?layers|transformer\.(?:h|blocks)|gpt_neox\.layers|biogpt\.layers)\.(\d+)\."
)
# Attention, or what mixes tokens in its place: the linear attention of Qwen3.5, the short convolution of LFM2.
ATTENTION = re.compile(r"\.(?:self_attn|self_attention|attn|attention|linear_attn|conv)\.")
# OPT, XGLM and BioGPT have the two maps of their MLP in the layer itself.
MLP = re.compile(r"\.(?:mlp|feed_forward|ffn|shared_mlp)\.|\.\d+\.fc[12]$")
# Linear maps of a Mixture of Experts that choose experts, or weigh the shared one; the paper adapts attention and MLP.
ROUTER = re.compile(r"\.(?:gate|router|shared_expert_gate)(?:\.\w+)?$")
# transformers 5 keeps all experts of a layer in two 3-D parameters.
EXPERT = re.compile(r"\.(?:mlp|feed_forward|block_sparse_moe)\.experts\.(?:gate_up_proj|down_proj)$")

# In these, PEFT 0.21 moves an adapter on any module called gate_proj, up_proj or down_proj, its full name given, to the
# experts of all layers (peft/utils/transformers_weight_conversion.py, `_convert_peft_config_moe`). So their shared
# experts and dense MLPs carry none; attention and experts do.
EXPERTS_ALONE = {
    *("deepseek_v2", "deepseek_v3", "dots1", "ernie4_5_moe", "exaone_moe", "glm4_moe", "hunyuan_v1_moe", "qwen3_next"),
}
_NO_ATTENTION = "its layers have no attention"
_STATE_SPACE = "in some of its layers a state-space mixer stands in the place of attention"
# Families that cannot be served, and why; each reason is a clause.
REFUSED = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"), _NO_ATTENTION),
    **dict.fromkeys(("bamba", "jamba", "nemotron_h", "zamba", "zamba2"), _STATE_SPACE),
    "recurrent_gemma": "in some of its layers a recurrence stands in the place of attention",
    "falcon_h1": "its layers hold a state-space mixer beside attention, whose kernels read weights past their modules",
    "dbrx": "its experts are stacked in two-dimensional weights, which adapters would not tell apart",
    "gemma3n_text": "its layers keep several hidden states side by side, and maps of theirs run twice in a pass",
    "jetmoe": "its attention is a mixture of experts in parameters of its own kind",
    **dict.fromkeys(
        ("gemma3", "gemma3n", "gemma4"),
        "it wraps a language model together with one of images; stage its text model alone",
    ),
}


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


def is_linear(module: Any) -> bool:
    """Tell whether a module is a linear map: torch's, of which bitsandbytes' are too, or GPT-2's."""
    import torch

    return isinstance(module, torch.nn.Linear) or keeps_transposed(module)


def keeps_transposed(module: Any) -> bool:
    """Tell whether a module is a linear map whose weight is kept as Wᵀ [in, out], as GPT-2's are."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def adaptable_layers(model: PreTrainedModel) -> list[Layer]:
    """Return each layer with its attention and MLP linears and its fused experts, in order.

    Parameters
    ----------
    model
        A causal language model of transformers, not yet wrapped by PEFT.

    Raises
    ------
    UserError
        When the family is one of :data:`REFUSED`; when the model has adapters; when no layer is found, or a layer lacks
        attention or MLP linears.
    """
    family = getattr(model.config, "model_type", "unknown")
    if family in REFUSED:
        raise UserError(f"model family {family!r} is not supported: {REFUSED[family]}")
    layers: dict[int, Layer] = {}
    for name, module in model.named_modules():
        if name.endswith(".base_layer"):
            raise UserError(
                f"{name}: expected a model without adapters, found PEFT's, which changes the model that it is given; "
                "load it anew, or take the adapters out with unload()"
            )
        index = layer_index(name + ".")
        if index is None:
            continue
        layer = layers.setdefault(index, Layer(index))
        if is_linear(module) and not ROUTER.search(name):
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
        raise UserError(
            f"model family {family!r}: expected layers with attention and MLP linears, found "
            f"{f'none in layers {bare}' if ordered else 'no known layer list'}; this family is not supported"
        )
    return [replace(layer, mlp=[]) for layer in ordered] if family in EXPERTS_ALONE else ordered
