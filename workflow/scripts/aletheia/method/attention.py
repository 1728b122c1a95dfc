"""Attention in single precision, where fp16 would overflow, and the choice among torch's kernels."""

from __future__ import annotations

import contextlib
from typing import Any

FP32 = "sdpa_fp32"
# Up to about this length torch's fused kernel is slower than separate products, on a CPU in half precision: with
# 9 heads of 64, forward and backward of 4 × 100 tokens 13.7 against 6.8 ms, of 2 × 128 6.0 against 4.1 ms, of 4 × 512
# 105 against 205 ms (one thread, torch 2.13, AVX-512 bf16). In fp32 the fused one is never slower.
MAX_UNFUSED_TOKENS = 256


def kernel_for(device: Any, dtype: Any, tokens: int) -> Any:
    """Return the context in which a pass over sequences of ``tokens`` tokens computes scaled dot-product attention.

    It must hold for the backward pass too, which computes attention again under checkpointing.

    Parameters
    ----------
    device, dtype
        Where and in what the model computes.
    tokens
        Length of the padded sequences.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if device.type == "cpu" and dtype != torch.float32 and tokens <= MAX_UNFUSED_TOKENS:
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


def register_fp32_attention() -> None:
    """Make ``attn_implementation="sdpa_fp32"`` known to transformers, for models whose scores leave fp16's range.

    Queries, keys and values are cast to fp32 before the scores are computed, and the result back. The linear maps
    around them stay in the model's precision.
    """
    import torch
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
        if attention_mask is not None and attention_mask.is_floating_point():
            attention_mask = attention_mask.float()
        # Autocast would cast them back to half precision.
        with torch.autocast(query.device.type, enabled=False):
            attended, _ = sdpa_attention_forward(
                module, query.float(), key.float(), value.float(), attention_mask, **options
            )
        return attended.to(value.dtype), None

    AttentionInterface.register(FP32, attend)
    AttentionMaskInterface.register(FP32, sdpa_mask)
