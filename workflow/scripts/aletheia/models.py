"""Load a staged model, and name the modules of its layers.

Names follow the field: a layer is one transformer block, counted from 0; a module is one linear map in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia import artifacts
from aletheia.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("bf16", "fp16", "fp32")
# Where the decoder layers stand: llama, qwen2, mistral, mixtral, phi3, stablelm, olmo · gptj · gpt_neox.
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


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of ``bf16``, ``fp16`` or ``fp32``."""
    import torch

    try:
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]
    except KeyError:
        raise UserError(f"dtype {name!r}: expected one of {', '.join(DTYPES)}") from None


def layer_index(name: str) -> int | None:
    """Return the layer that a module or parameter name belongs to, or None (embeddings, final norm, head)."""
    found = LAYER_PATH.match(name)
    return int(found.group(1)) if found else None


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
    found = [layers[i] for i in sorted(layers)]
    bare = [layer.index for layer in found if not (layer.attention and (layer.mlp or layer.experts))]
    if not found or bare:
        family = getattr(model.config, "model_type", "unknown")
        raise UserError(
            f"model family {family!r}: expected layers with attention and MLP linears, found "
            f"{f'none in layers {bare}' if found else 'no known layer list'}; this family is not supported"
        )
    return found


def load_config(folder: Path) -> Any:
    """Return the transformers config of a staged model."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return a staged model's tokenizer; where it has no pad token, the end token pads."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load(
    lock: Path, *, dtype: str, quantization: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a staged model after checking its files against its lock.

    Parameters
    ----------
    lock
        ``resources/models/NAME.lock.json``.
    dtype
        ``bf16``, ``fp16`` or ``fp32``.
    quantization
        ``nf4`` for QLoRA's 4-bit weights (double quantisation, compute in ``dtype``), or None.

    Returns
    -------
    tuple
        Model (in evaluation mode, weights frozen as loaded, on the GPU where there is one) and tokenizer.

    Raises
    ------
    UserError
        When a file differs from the lock, or the quantisation is unknown.

    References
    ----------
    Dettmers et al., "QLoRA", arXiv:2305.14314.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from aletheia.data import checked_folder

    folder = checked_folder(lock)
    options: dict[str, Any] = {}
    if quantization == "nf4":
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch_dtype(dtype),
        )
    elif quantization is not None:
        raise UserError(f"quantization {quantization!r}: expected nf4 or nothing")
    if torch.cuda.is_available():
        options["device_map"] = "auto"
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch_dtype(dtype), local_files_only=True, trust_remote_code=False, **options
    )
    return model.eval(), load_tokenizer(folder)


def resolved_dtype(model: Mapping[str, Any], precision: Path | None) -> str:
    """Return a model's dtype; ``auto`` is what the precision step measured.

    Raises
    ------
    UserError
        When the dtype is auto and no measurement is given.
    """
    if model["dtype"] != "auto":
        return model["dtype"]
    if precision is None:
        raise UserError("model.dtype is auto: expected --precision with the measured choice, found none")
    return artifacts.payload(precision, "precision")["dtype"]


def use_threads(threads: int) -> int:
    """Let torch use ``threads`` threads, but never more than the cores this process may run on."""
    import torch

    from aletheia.observe import usable_cores

    torch.set_num_threads(max(1, min(threads, usable_cores())))
    return torch.get_num_threads()
