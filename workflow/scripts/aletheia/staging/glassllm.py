"""The one model of PyPI's ``glassllm`` (NumPy arrays, 0.85 M parameters) as a Llama model of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.staging.convert import save_model


def half_split(weight: Any, heads: int) -> Any:
    """Reorder the rows of a q or k projection from interleaved to half-split rotary pairs.

    Interleaved rotates rows (2i, 2i+1) of a head together; Llama in transformers rotates (i, i + d/2).

    Parameters
    ----------
    weight
        Shape (heads * d, hidden).
    heads
        How many heads the rows hold.
    """
    rows, hidden = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, hidden).swapaxes(1, 2).reshape(rows, hidden)


def glass_to_safetensors(weights: Path, vocabulary: Path, folder: Path) -> None:
    """Write a ``glassllm`` model (NumPy arrays) as a Llama model: the same logits, the same token ids.

    Parameters
    ----------
    weights
        ``.npz`` with ``__config__`` and one array a parameter, matrices as (in, out).
    vocabulary
        ``.tokenizer.json`` with ``alphabet`` and ``merges``.
    folder
        Where the converted model goes.
    """
    import numpy
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with numpy.load(weights, allow_pickle=False) as arrays:
        shape = json.loads(str(arrays["__config__"]))
        state = glass_state({k: arrays[k].astype("float32") for k in arrays.files if k != "__config__"}, shape)
    tokenizer = glass_tokenizer(json.loads(vocabulary.read_text(encoding="utf-8")), shape["max_len"])
    config = LlamaConfig(
        vocab_size=shape["vocab_size"],
        hidden_size=shape["d_model"],
        intermediate_size=int(8 * shape["d_model"] / 3),
        num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"],
        num_key_value_heads=shape["n_kv_heads"],
        max_position_embeddings=shape["max_len"],
        rms_norm_eps=shape["eps"],
        rope_parameters={"rope_type": "default", "rope_theta": shape["rope_base"]},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        raise UserError(f"{weights.name}: not the arrays that glassllm 0.1.0 has ({missing})")
    save_model(model, tokenizer, folder)


def glass_state(arrays: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """Return ``glassllm`` arrays under Llama's names, transposed to (out, in), rotary pairs half-split."""
    state = {"model.embed_tokens.weight": arrays["E"], "model.norm.weight": arrays["norm_f.gamma"]}
    names = {"W_Q": "q_proj", "W_K": "k_proj", "W_V": "v_proj", "W_O": "o_proj"}
    heads = {"W_Q": shape["n_heads"], "W_K": shape["n_kv_heads"]}
    for layer in range(shape["n_layers"]):
        theirs, ours = f"blocks.{layer}.", f"model.layers.{layer}."
        state[ours + "input_layernorm.weight"] = arrays[theirs + "norm1.gamma"]
        state[ours + "post_attention_layernorm.weight"] = arrays[theirs + "norm2.gamma"]
        for theirs_name, name in names.items():
            weight = arrays[f"{theirs}attn.{theirs_name}"].T
            rotary = theirs_name in heads
            state[f"{ours}self_attn.{name}.weight"] = half_split(weight, heads[theirs_name]) if rotary else weight
        for theirs_name, name in {"W1": "gate_proj", "W3": "up_proj", "W2": "down_proj"}.items():
            state[f"{ours}mlp.{name}.weight"] = arrays[f"{theirs}ffn.{theirs_name}"].T
    return state


def glass_tokenizer(vocabulary: dict[str, Any], max_len: int) -> Any:
    """Return a fast tokenizer with the ids of ``glassllm``'s own: NFC, "▁" for space, BPE over characters."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    merges = [tuple(pair) for pair in vocabulary["merges"]]
    tokens = ["<pad>", "<unk>", "<bos>", "<eos>", *vocabulary["alphabet"], *(a + b for a, b in merges)]
    # Where one text can be merged in two ways it stands twice; theirs uses the last number.
    bpe = models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, unk_token="<unk>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁*[^▁\n]+|▁+"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=max_len,
        split_special_tokens=True,  # "<eos>" in a text is text to theirs
        clean_up_tokenization_spaces=False,
    )
