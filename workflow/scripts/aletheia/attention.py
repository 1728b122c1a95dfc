"""Attention in single precision, for models whose scores leave the range of fp16 (GPT-NeoX is known for it)."""

from __future__ import annotations

from typing import Any

FP32 = "sdpa_fp32"


def register_fp32_attention() -> None:
    """Make ``attn_implementation="sdpa_fp32"`` known to transformers.

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
        # Autocast would bring them back to half precision.
        with torch.autocast(query.device.type, enabled=False):
            found, _ = sdpa_attention_forward(
                module, query.float(), key.float(), value.float(), attention_mask, **options
            )
        return found.to(value.dtype), None

    AttentionInterface.register(FP32, attend)
    AttentionMaskInterface.register(FP32, sdpa_mask)
