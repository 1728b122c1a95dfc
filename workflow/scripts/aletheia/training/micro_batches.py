"""The micro-batches of a run as its steps pass them: rows joined where that pays, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aletheia.training.frozen_prefix import TRAIN, Visit, visit_of
from aletheia.training.joined_rows import Rows, joined

if TYPE_CHECKING:
    from aletheia.method.token_batch import TokenBatch


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """What one forward and one backward pass read.

    Attributes
    ----------
    batch
        Without a mask.
    rows
        Where its tokens stand, of joined rows; else None.
    visit
        To the states of its frozen prefix; None where none are kept.
    tokens
        Its tokens, padding left out.
    """

    batch: TokenBatch
    rows: Rows | None
    visit: Visit | None
    tokens: int

    @property
    def longest(self) -> int:
        """Tokens of a row in attention."""
        return self.batch.input_ids.shape[1] if self.rows is None else self.rows.longest

    @property
    def positions(self) -> int:
        """Positions that a pass computes."""
        return self.batch.input_ids.numel()


def laid_out(
    model: Any, batches: Sequence[TokenBatch], *, device: Any, prefix_kept: bool, join: bool = True
) -> list[MicroBatch]:
    """Return micro-batches as steps pass them.

    Parameters
    ----------
    model
        That they are for.
    batches
        On the host, padded on the right.
    device
        Where the model wants its tokens.
    prefix_kept
        Whether the states of the frozen prefix are kept.
    join
        Whether rows may be joined.
    """
    found = []
    for padded in batches:
        batch, rows = joined(model, padded) if join else (padded.without_mask(), None)
        visit = visit_of(padded, TRAIN, joined=rows is not None) if prefix_kept else None
        found.append(MicroBatch(batch.to(device), rows if rows is None else rows.to(device), visit, padded.tokens))
    return found
