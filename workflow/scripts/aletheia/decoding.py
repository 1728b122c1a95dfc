"""Greedy generation in batches, in which a row that has ended costs nothing more.

The harness lets a batch run until every row holds the *same* stop string, which most batches never do. Texts are cut at the
first stop string either way, hence equal.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria


class AnyStop(StoppingCriteria):
    """Ends each row at its first stop string."""

    def __init__(self, stop: list[str], tokenizer: Any, width: int) -> None:
        self.stop, self.tokenizer, self.width = stop, tokenizer, width
        # A token carries at least one byte of a stop string, so this window cannot miss one.
        self.window = max((len(s.encode()) for s in stop), default=0) + 1

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return, for each row, whether its end holds a stop string."""
        tail = input_ids[:, self.width :][:, -self.window :]
        texts = self.tokenizer.batch_decode(tail)
        return torch.tensor([any(s in text for s in self.stop) for text in texts], device=input_ids.device)


class FiniteWatch(LogitsProcessor):
    """Notes whether the rows' scores were finite at each step; a greedy choice among NaN means nothing."""

    def __init__(self) -> None:
        self.bad: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores as they are."""
        # Minus infinity is a legal mask; NaN is not. amax carries NaN along without a copy of the scores.
        self.bad = torch.isnan(scores.amax(dim=-1))
        return scores


class Greedy:
    """A decoding method for ``generate(custom_generate=…)``: the likeliest token each time, ended rows taken out.

    Attributes
    ----------
    watch
        Belongs into the list of logits processors.
    broken
        After a call, for each row, whether its scores were ever not a number.
    """

    def __init__(self) -> None:
        self.watch, self.broken = FiniteWatch(), []

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Return prompts with their continuations, shape (rows, longest), padded with the pad token."""
        # Without padding there is no mask.
        mask, cache = model_kwargs.get("attention_mask"), model_kwargs["past_key_values"]
        rows = torch.arange(len(input_ids), device=input_ids.device)
        self.broken = [False] * len(input_ids)
        finished: dict[int, torch.Tensor] = {}
        # A left-padded row's positions count from its own first token; what padding has matters to nobody.
        counted = torch.ones_like(input_ids) if mask is None else mask
        positions = (counted.cumsum(-1) - 1).clamp(min=0)
        ids, new = input_ids, input_ids
        while len(rows):
            logits = model(
                input_ids=new,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
            scores = logits_processor(ids, logits[:, -1].float())
            for row in rows[self.watch.bad].tolist():
                self.broken[row] = True
            new = scores.argmax(dim=-1, keepdim=True)
            ids = torch.cat([ids, new], dim=1)
            done = stopping_criteria(ids, scores)
            positions = positions[:, -1:] + 1
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            if done.any():
                finished |= dict(zip(rows[done].tolist(), ids[done], strict=True))
                stay = ~done
                rows, ids, new, positions = (x[stay] for x in (rows, ids, new, positions))
                mask = None if mask is None else mask[stay]
                if len(rows):
                    cache.batch_select_indices(stay.nonzero()[:, 0])
        pad = generation_config.pad_token_id
        ordered = [finished[row] for row in range(len(input_ids))]
        return torch.nn.utils.rnn.pad_sequence(ordered, batch_first=True, padding_value=pad)
