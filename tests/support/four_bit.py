"""Saved models in 4 bits, and the same with the values that their 4-bit weights stand for."""

import torch


def in_4_bits(folder, kind="nf4"):
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=kind == "nf4",
        bnb_4bit_compute_dtype=torch.float32,
    )
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=settings).eval()


def dequantised(folder, quantised):
    """The same model with the values that the 4-bit weights stand for."""
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    weights = dict(quantised.named_parameters())
    with torch.no_grad():
        for name, p in model.named_parameters():
            state = getattr(weights[name], "quant_state", None)
            values = weights[name] if state is None else dequantize_4bit(weights[name].data, state)
            transposed = state is not None and isinstance(model.get_submodule(name.rpartition(".")[0]), Conv1D)
            p.copy_(values.T if transposed else values)
    return model
