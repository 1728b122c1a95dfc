"""A batch of token sequences, as probe, training, held-out loss and timing read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aletheia.method.token_loss import IGNORE, find_targets

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Sequences of tokens side by side, with the targets that are predicted in them.

    Attributes
    ----------
    input_ids
        Token ids, int64 of shape (sequences, longest).
    attention_mask
        1 for a token, 0 for padding, int64 of shape (sequences, longest); None for causal attention alone.
    positions
        The positions that predict a target, int64 of shape (targets,), in the flattened (sequences · longest);
        ascending.
    targets
        The tokens predicted there, int64 of shape (targets,).
    further
        What else the model's forward pass takes (``position_ids``), by name.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    positions: torch.Tensor
    targets: torch.Tensor
    further: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def from_labels(
        cls,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **further: torch.Tensor,
    ) -> TokenBatch:
        """Return a batch from ``input_ids``, ``labels`` and ``attention_mask``, each of shape (sequences, longest).

        The positions are found here, while the labels are on the host: on a GPU, during a step, finding them costs a
        synchronisation.
        """
        return cls(input_ids, attention_mask, *find_targets(labels), further)

    @property
    def tokens(self) -> int:
        """Number of tokens that the mask leaves in; without a mask, all."""
        return self.input_ids.numel() if self.attention_mask is None else int(self.attention_mask.sum())

    def targets_by_sequence(self) -> torch.Tensor:
        """Return the number of targets of each sequence, int64 of shape (sequences,)."""
        import torch

        sequences, longest = self.input_ids.shape
        return torch.bincount(self.positions // longest, minlength=sequences)

    def labels(self) -> torch.Tensor:
        """Return labels of shape (sequences, longest) that make a model's own loss that of the targets."""
        import torch

        labels = torch.full((self.input_ids.numel(),), IGNORE, device=self.targets.device)
        return labels.index_copy(0, self.positions + 1, self.targets).view(self.input_ids.shape)

    def inputs(self) -> dict[str, Any]:
        """Return the arguments of a model's forward pass, without labels."""
        masks = {} if self.attention_mask is None else {"attention_mask": self.attention_mask}
        return {"input_ids": self.input_ids, **masks, **self.further}

    def without_mask(self) -> TokenBatch:
        """Return the batch without its mask: correct under causal attention where all padding is on the right."""
        return replace(self, attention_mask=None)

    def to(self, device: Any) -> TokenBatch:
        """Return the batch with all its tensors on a device."""
        return TokenBatch(
            self.input_ids.to(device),
            None if self.attention_mask is None else self.attention_mask.to(device),
            self.positions.to(device),
            self.targets.to(device),
            {name: tensor.to(device) for name, tensor in self.further.items()},
        )
