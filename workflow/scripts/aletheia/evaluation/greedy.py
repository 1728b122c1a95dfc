"""Greedy generation in which a row that has ended makes room for the next prompt.

The harness lets a batch run until every row holds the *same* stop string, which most batches never do, and a step
costs nearly the same however few rows still need it. Here each row ends at its own first stop string and the next
prompt takes its place; what all prompts begin with (GSM8K's solved examples) is computed once. Texts are cut at the
first stop string either way, hence equal. One kind of stop differs: a special token that is not the end token
(``<|im_end|>`` for a base model that ends with ``<|endoftext|>``). It ends its row here; the harness drops it from the
text, where it then finds nothing to cut, and so the row goes on until all rows of its batch have stopped. With one row
at a time the harness gives the texts given here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from aletheia.evaluation.prefix_cache import WORTH, repeated, shared
from aletheia.method.loading import original_window


class Generation(NamedTuple):
    """What was written after one prompt.

    Attributes
    ----------
    tokens
        All that were written, the one that ended it among them.
    nan
        Whether scores were ever not a number.
    """

    tokens: list[int]
    nan: bool


class StopStrings:
    """Tells which continuations hold a stop string at their end; a special token may be one."""

    def __init__(self, stop: Sequence[str], tokenizer: Any) -> None:
        self.stop, self.tokenizer = stop, tokenizer
        # A token carries at least one byte of a stop string, so this window cannot miss one.
        self.window = max((len(s.encode()) for s in stop), default=0) + 1

    def __call__(self, continuations: Sequence[list[int]]) -> list[bool]:
        """Return one answer for each continuation, given as tokens without the prompt."""
        texts = self.tokenizer.batch_decode([tokens[-self.window :] for tokens in continuations])
        return [any(s in text for s in self.stop) for text in texts]


class Greedy:
    """A decoding method for ``generate(custom_generate=…)``: the likeliest token each time.

    Parameters
    ----------
    stops
        Tells which continuations have ended.
    rows
        How many are written at a time.
    tick
        Called before each pass; it raises when there is no time left.

    Attributes
    ----------
    broken
        After a call, for each row, whether its scores were ever not a number.
    """

    def __init__(self, stops: Callable[..., list[bool]], *, rows: int, tick: Callable[[], Any] = lambda: None) -> None:
        self.stops, self.rows, self.tick = stops, rows, tick
        self.broken: list[bool] = []

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        *,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> torch.Tensor:
        """Return prompts with their continuations, shape (rows, longest), padded on the right with the pad token.

        Logits processors see a row's own tokens; the criteria (end tokens) see the newest ones.
        """
        # Without padding there is no mask.
        mask = model_kwargs.get("attention_mask")
        prompts = list(input_ids) if mask is None else [row[m.bool()] for row, m in zip(input_ids, mask, strict=True)]
        limit = generation_config.max_length - input_ids.shape[1]
        texts = _Texts(prompts, limit, self.stops, logits_processor, stopping_criteria)
        self._write(model, texts)
        self.broken = texts.broken
        continued = [torch.tensor(tokens, device=input_ids.device) for tokens in texts.written]
        pad = generation_config.pad_token_id
        return torch.cat([input_ids, pad_sequence(continued, batch_first=True, padding_value=pad)], dim=1)

    def _write(self, model: Any, texts: _Texts) -> None:
        """Continue all prompts to their ends.

        A row whose next token would take it beyond the model's original window begins anew, for all its keys change
        there; rows on either side are never in one pass.
        """
        window = original_window(model.config.to_dict()) or math.inf
        begin = _Beginning(model, texts.prompts, window)
        waiting, within, beyond = list(range(len(texts.prompts)))[::-1], _States(), _States()
        while waiting or within.rows or beyond.rows:
            self.tick()
            if waiting and len(within.rows) + len(beyond.rows) < self.rows:
                row = waiting.pop()
                text = texts.whole(row)
                logits, cache = begin(text)
                ended = texts.take([row], logits)[0]
                if not ended and len(text) == window:
                    waiting.append(row)
                elif not ended:
                    (within if len(text) < window else beyond).join(row, cache, len(text))
                continue
            states = within if within.rows else beyond
            ended = texts.take(states.rows, states.step(model, texts.newest(states.rows)))
            edge = [length == window for length in states.lengths]
            waiting += [row for row, end, at in zip(states.rows, ended, edge, strict=True) if at and not end]
            if any(ended) or any(edge):
                states.keep([i for i, (end, at) in enumerate(zip(ended, edge, strict=True)) if not (end or at)])


class _Texts:
    """The prompts with what was written after each."""

    def __init__(self, prompts: list[torch.Tensor], limit: int, stops: Any, processors: Any, criteria: Any) -> None:
        self.prompts, self.limit, self.stops, self.processors, self.criteria = (
            prompts,
            limit,
            stops,
            processors,
            criteria,
        )
        self.written: list[list[int]] = [[] for _ in prompts]
        self.broken = [False] * len(prompts)
        for processor in processors:
            # A repetition penalty's count of each row's padding, which is gone here.
            if isinstance(getattr(processor, "prompt_ignore_length", None), torch.Tensor):
                processor.prompt_ignore_length = None

    def take(self, rows: list[int], logits: torch.Tensor) -> list[bool]:
        """Append each row's likeliest token; tell which rows have ended."""
        scores = logits.float()
        if self.processors:
            scores = self.processors(self._rectangle(rows), scores)
        tokens = scores.argmax(dim=-1)
        # Minus infinity is a legal mask; NaN is not, and a choice among NaN means nothing.
        bad = torch.isnan(scores.amax(dim=-1)).tolist()
        for row, token, broken in zip(rows, tokens.tolist(), bad, strict=True):
            self.written[row].append(token)
            self.broken[row] |= broken
        ended = self.criteria(tokens[:, None], scores).tolist()
        stopped = self.stops([self.written[r] for r in rows])
        return [e or s or len(self.written[r]) >= self.limit for r, e, s in zip(rows, ended, stopped, strict=True)]

    def whole(self, row: int) -> torch.Tensor:
        """Return a row's prompt with what was written after it."""
        return torch.cat([self.prompts[row], self.prompts[row].new_tensor(self.written[row])])

    def newest(self, rows: list[int]) -> torch.Tensor:
        """Return each row's last token, shape (rows, 1)."""
        return self.prompts[0].new_tensor([[self.written[row][-1]] for row in rows])

    def _rectangle(self, rows: list[int]) -> torch.Tensor:
        """Return rows as one tensor, filled up on the left with each row's own first token."""
        whole = [self.whole(row) for row in rows]
        longest = max(len(row) for row in whole)
        return torch.stack([torch.cat([row[:1].expand(longest - len(row)), row]) for row in whole])


class _Beginning:
    """Computes texts, one at a time: without padding, and what all within the window begin with only once."""

    def __init__(self, model: Any, prompts: Sequence[torch.Tensor], window: float) -> None:
        self.model, self.window, self.cache, self.common = model, window, None, 0
        tokens = [prompt.tolist() for prompt in prompts if len(prompt) <= window]
        if len(tokens) < 2:
            return
        # What the first and the last in order share, all share.
        first = min(tokens)
        common = min(shared(first, max(tokens)), min(map(len, tokens)) - 1)
        if common > WORTH:
            out = model(input_ids=prompts[0].new_tensor([first[:common]]), use_cache=True, logits_to_keep=1)
            self.cache, self.common = out.past_key_values, common

    def __call__(self, text: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Return the logits that follow a text, shape (1, vocabulary), and its keys and values."""
        known, cache = (self.common, self.cache) if len(text) <= self.window else (0, None)
        out = self.model(
            input_ids=text[None, known:],
            past_key_values=repeated(cache, 1),
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.past_key_values


class _States:
    """Keys and values of several rows of unequal length, aligned on the right."""

    def __init__(self) -> None:
        self.cache: Any = None
        self.rows: list[int] = []
        self.lengths: list[int] = []

    def join(self, row: int, cache: Any, length: int) -> None:
        """Add one row."""
        self.rows.append(row)
        self.lengths.append(length)
        if len(self.lengths) == 1:
            self.cache = cache
            return
        for mine, other in zip(self.cache.layers, cache.layers, strict=True):
            width = max(mine.keys.shape[-2], other.keys.shape[-2])
            for name in ("keys", "values"):
                both = [_wide(getattr(layer, name), width) for layer in (mine, other)]
                setattr(mine, name, torch.cat(both))
            if mine.is_sliding:
                mine.cumulative_length = max(self.lengths)

    def keep(self, places: list[int]) -> None:
        """Keep the rows at these places, and no wider than the longest of them."""
        self.rows, self.lengths = ([each[i] for i in places] for each in (self.rows, self.lengths))
        if not places:
            return
        self.cache.batch_select_indices(torch.tensor(places, device=self.cache.layers[0].keys.device))
        width = max(self.lengths)
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[..., -width:, :], layer.values[..., -width:, :]
            if layer.is_sliding:
                layer.cumulative_length = width

    def step(self, model: Any, new: torch.Tensor) -> torch.Tensor:
        """Feed each row its newest token, shape (rows, 1); return the logits that follow, shape (rows, vocabulary)."""
        lengths = torch.tensor(self.lengths, device=new.device)[:, None]
        width = max(self.lengths) + 1
        mask = (torch.arange(width, device=new.device) >= width - 1 - lengths).long()
        out = model(
            input_ids=new,
            attention_mask=None if bool(mask.all()) else mask,
            position_ids=lengths,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.lengths = [length + 1 for length in self.lengths]
        return out.logits[:, -1]


def _wide(states: torch.Tensor, width: int) -> torch.Tensor:
    """Return states (rows, heads, tokens, size) with masked places before them, ``width`` tokens in all."""
    return functional.pad(states, (0, 0, width - states.shape[-2], 0))
