"""The rows of a micro-batch one after another, without padding: linear maps, norms and activations see tokens alone.

Attention is between the tokens of one row, so there rows stand side by side, padded on the right, as they would
everywhere else. Position ids restart with each row. Losses and gradients equal those of padded rows within rounding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.method.attention import FP32
from aletheia.method.token_batch import TokenBatch

if TYPE_CHECKING:
    import torch

JOINED = "aletheia_joined_rows"
# Families that reach attention through transformers' interface and take position ids, each held against padded rows by
# a test; and the kernels behind that interface that need no mask for padding on the right.
FAMILIES = ("llama", "qwen2", "mistral", "phi3", "stablelm", "olmo", "gpt_neox", "mixtral")
KERNELS = ("sdpa", FP32)
# Of a micro-batch's positions: with less padding, putting rows side by side in each layer costs more than it saves.
LEAST_PADDING = 0.03


@dataclass(frozen=True)
class Rows:
    """Where the tokens of a micro-batch stand.

    Attributes
    ----------
    count, longest
        Rows, and tokens of the longest one.
    apart
        For each position of the padded rows the token that stands there, int64 of shape (rows · longest,); any token
        in padding.
    together
        For each token its position in the padded rows, int64 of shape (tokens,).
    padding
        Positions of the padded rows that hold no token.
    """

    count: int
    longest: int
    apart: torch.Tensor
    together: torch.Tensor
    padding: torch.Tensor

    def to(self, device: Any) -> Rows:
        """Return them with all tensors on a device."""
        moved = (tensor.to(device) for tensor in (self.apart, self.together, self.padding))
        return Rows(self.count, self.longest, *moved)


def joins_rows(model: Any) -> bool:
    """Tell whether a model can take joined rows: its family's attention is known, and so is its kernel."""
    config = model.config
    return config.model_type in FAMILIES and config._attn_implementation in KERNELS


def joined(model: Any, batch: TokenBatch) -> tuple[TokenBatch, Rows | None]:
    """Return a micro-batch with its rows joined, and where they stood; as it is, without its mask, where that pays not.

    Parameters
    ----------
    model
        That it is for.
    batch
        On the host, padded on the right.
    """
    count, longest = batch.input_ids.shape
    mask = batch.attention_mask
    window = getattr(model.config, "sliding_window", None)
    if mask is None or batch.further or not joins_rows(model) or (window is not None and longest > window):
        # No mask is needed: padding is on the right, which causal attention never reads.
        return batch.without_mask(), None
    kept = mask.flatten().bool()
    together = kept.nonzero().flatten()
    if len(together) > (1 - LEAST_PADDING) * len(kept):
        return batch.without_mask(), None
    apart = (kept.cumsum(0) - 1).clamp(min=0)
    rows = Rows(count, longest, apart, together, (~kept).nonzero().flatten())
    ids = batch.input_ids.flatten()[together].unsqueeze(0)
    position_ids = (together % longest).unsqueeze(0)
    positions = apart[batch.positions]
    return TokenBatch(ids, None, positions, batch.targets, {"position_ids": position_ids}), rows


def positions_of(model: Any, batch: TokenBatch) -> int:
    """Return how many positions a pass over a micro-batch computes: its tokens, and padding of rows not joined."""
    return joined(model, batch)[0].input_ids.numel()


@contextlib.contextmanager
def attention_by_row(model: Any, rows: Rows | None) -> Iterator[None]:
    """Let attention put joined rows side by side within the context; without rows do nothing.

    Parameters
    ----------
    model
        That passes joined rows within the context, backward passes under checkpointing too.
    rows
        Of :func:`joined`, on the model's device.
    """
    if rows is None:
        yield
        return
    from transformers import AttentionInterface
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = model.config
    own = config._attn_implementation
    kernel = ALL_ATTENTION_FUNCTIONS[own]

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, None]:
        if query.shape[2] != len(rows.together):
            return kernel(module, query, key, value, mask, **options)  # another pass, of one sequence
        by_row = (_apart(tensor, rows) for tensor in (query, key, value))
        attended, _ = kernel(module, *by_row, None, **options)
        return _together(attended, rows), None

    # No mask is registered under this name, so that transformers makes none.
    AttentionInterface.register(JOINED, attend)
    config._attn_implementation = JOINED
    try:
        yield
    finally:
        config._attn_implementation = own


def _apart(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return (1, heads, tokens, size) as (rows, heads, longest, size)."""
    placed = _moved(tensor.transpose(1, 2)[0], rows, apart=True)
    return placed.view(rows.count, rows.longest, *placed.shape[1:]).transpose(1, 2)


def _together(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Return (rows, longest, heads, size) as (1, tokens, heads, size)."""
    return _moved(tensor.flatten(0, 1), rows, apart=False).unsqueeze(0)


def _moved(tensor: torch.Tensor, rows: Rows, *, apart: bool) -> torch.Tensor:
    from aletheia.training.row_moves import Moved

    rows = rows.to(tensor.device)  # a layer's own, where a model is spread over several
    if apart:
        return Moved.apply(tensor, rows.apart, rows.together, None)
    return Moved.apply(tensor, rows.together, rows.apart, rows.padding)
