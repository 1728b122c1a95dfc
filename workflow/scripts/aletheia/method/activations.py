r"""How a layer changes its input, measured during forward passes: block influence, and the norm of its output.

For the hidden states h_in and h_out of a layer at token t, over the tokens that the attention mask keeps:

- block influence, 1 − mean_t cos(h_in, h_out) (ShortGPT, arXiv:2403.03853);
- activation norm, mean_t ‖h_out‖₂.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from aletheia.method.layers import LAYER_PATH
from aletheia.method.probe_pass import input_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from aletheia.method.token_batch import TokenBatch


class ActivationMeter:
    """Measures every layer during forward passes, batch by batch; it keeps sums, and no activations.

    Attributes
    ----------
    block_influence, activation_norm
        ``[b][l]``: of batch b and layer l, of all passes so far.
    seconds
        Of the forward passes, the measurement included.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.block_influence: list[list[float]] = []
        self.activation_norm: list[list[float]] = []
        self.seconds = 0.0
        self._input_device = input_device(model)
        self._layers = [module for name, module in model.named_modules() if LAYER_PATH.fullmatch(f"{name}.")]
        self._devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
        self._kept = torch.empty(0)
        self._means: dict[int, torch.Tensor] = {}
        self._began = 0.0

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Listen to the layers within the context."""
        handles = [
            layer.register_forward_hook(self._hook(index), with_kwargs=True) for index, layer in enumerate(self._layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin_pass(self, batch: TokenBatch, batches: int) -> None:
        """Start a forward pass of so many batches of equal numbers of sequences, one after another in ``batch``."""
        mask = torch.ones_like(batch.input_ids) if batch.attention_mask is None else batch.attention_mask
        self._kept, self._means = mask.to(self._input_device).bool().view(batches, -1), {}
        self._synchronise()
        self._began = time.perf_counter()

    def end_forward(self) -> None:
        """End the forward pass, and take its means."""
        self._synchronise()
        self.seconds += time.perf_counter() - self._began
        # [layers, 2, batches]; each layer's device may be another.
        means = [self._means[index].tolist() for index in range(len(self._layers))]
        self.block_influence += map(list, zip(*(influence for influence, _ in means), strict=True))
        self.activation_norm += map(list, zip(*(norm for _, norm in means), strict=True))

    def _synchronise(self) -> None:
        for device in self._devices:
            torch.cuda.synchronize(device)

    def _hook(self, index: int) -> Any:
        def hook(_: torch.nn.Module, inputs: Sequence[Any], named: dict[str, Any], output: Any) -> None:
            if index in self._means:
                return  # a checkpointed layer's second forward pass, in the backward pass
            before = inputs[0] if inputs else named["hidden_states"]
            self._means[index] = _token_means(before, output[0] if isinstance(output, tuple) else output, self._kept)

        return hook


@torch.no_grad()
def _token_means(before: torch.Tensor, after: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Return block influence and activation norm of a layer, fp32 of shape (2, batches).

    Parameters
    ----------
    before, after
        Hidden states, of shape (sequences, tokens, size).
    kept
        Which tokens count, of shape (batches, sequences of a batch · tokens).
    """
    from torch.nn.functional import cosine_similarity

    # A layer on another device takes its input from the one before.
    before, after, kept = before.to(after.device).float(), after.float(), kept.to(after.device)
    influence = 1 - cosine_similarity(before, after, dim=-1).clamp(-1, 1)
    values = torch.stack([influence, after.norm(dim=-1)]).view(2, *kept.shape)
    # Padding may hold anything, NaN too, which a product with the mask would keep.
    return torch.where(kept, values, 0).sum(dim=-1) / kept.sum(dim=-1)
