"""Greedy generation in which the next prompt takes the slot of a text that has ended.

A slot is one row of the running batch. The harness runs a batch until every row holds the *same* stop string, which
most batches never do, and a step takes nearly as long for one row as for all. Here each text ends at its first stop
string and the next prompt takes its slot; the prefix that all prompts share (GSM8K's solved examples) is computed once.
Both cut texts at the first stop string, so they are equal. One kind of stop differs: a special token that is not the
end token (``<|im_end|>`` for a base model that ends with ``<|endoftext|>``). It ends the text here; the harness drops
it, finds nothing to cut, and continues until all rows of the batch have stopped. With a batch of one the
harness writes the same texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from aletheia.evaluation.prefix_cache import MIN_SHARED_PREFIX_TOKENS, common_prefix_length, repeat_cache
from aletheia.method.loading import original_window


class Generation(NamedTuple):
    """The continuation of one prompt.

    Attributes
    ----------
    tokens
        Including the one that ended it.
    nan
        Whether any of its scores was not a number.
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
        """Return whether each continuation, given as tokens without the prompt, has ended."""
        texts = self.tokenizer.batch_decode([tokens[-self.window :] for tokens in continuations])
        return [any(s in text for s in self.stop) for text in texts]


class Greedy:
    """A decoding method for ``generate(custom_generate=…)``: the likeliest token each time.

    Parameters
    ----------
    stops
        Tells which continuations have ended.
    slots
        Texts that are written at a time.
    tick
        Called before each pass; it raises when there is no time left.

    Attributes
    ----------
    broken
        After a call: for each prompt, whether any of its scores was not a number.
    """

    def __init__(self, stops: Callable[..., list[bool]], *, slots: int, tick: Callable[[], Any] = lambda: None) -> None:
        self.stops, self.slots, self.tick = stops, slots, tick
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
        """Return prompts with their continuations, shape (prompts, longest), padded on the right with the pad token.

        Logits processors get the tokens of each text, and the criteria (end tokens) the newest ones.
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

        A text whose next token lies beyond the model's original window is computed again from its beginning, since all
        its keys change there; texts within and beyond the window are never in one pass.
        """
        window = original_window(model.config.to_dict()) or math.inf
        begin = _PromptPass(model, texts.prompts, window)
        waiting, within, beyond = list(range(len(texts.prompts)))[::-1], _Slots(), _Slots()
        while waiting or within.indices or beyond.indices:
            self.tick()
            if waiting and len(within.indices) + len(beyond.indices) < self.slots:
                index = waiting.pop()
                text = texts.whole(index)
                logits, cache = begin(text)
                ended = texts.append_likeliest([index], logits)[0]
                if not ended and len(text) == window:
                    waiting.append(index)
                elif not ended:
                    (within if len(text) < window else beyond).join(index, cache, len(text))
                continue
            slots = within if within.indices else beyond
            ended = texts.append_likeliest(slots.indices, slots.step(model, texts.newest(slots.indices)))
            at_edge = [length == window for length in slots.lengths]
            waiting += [i for i, end, edge in zip(slots.indices, ended, at_edge, strict=True) if edge and not end]
            if any(ended) or any(at_edge):
                slots.keep([k for k, (end, edge) in enumerate(zip(ended, at_edge, strict=True)) if not (end or edge)])


class _Texts:
    """The prompts with their continuations so far."""

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
            # Prompts are unpadded here, so the repetition penalty's length of each row's padding is reset.
            if isinstance(getattr(processor, "prompt_ignore_length", None), torch.Tensor):
                processor.prompt_ignore_length = None

    def append_likeliest(self, indices: list[int], logits: torch.Tensor) -> list[bool]:
        """Append the likeliest token to each text.

        Parameters
        ----------
        indices
            The prompts whose texts grow.
        logits
            Of their next tokens, shape (indices, vocabulary).

        Returns
        -------
        list of bool
            Whether each of these texts has ended.
        """
        scores = logits.float()
        if self.processors:
            scores = self.processors(self._rectangle(indices), scores)
        tokens = scores.argmax(dim=-1)
        # Minus infinity is a legal mask; NaN is not, and the largest of NaN means nothing.
        has_nan = torch.isnan(scores.amax(dim=-1)).tolist()
        for i, token, nan in zip(indices, tokens.tolist(), has_nan, strict=True):
            self.written[i].append(token)
            self.broken[i] |= nan
        ended = self.criteria(tokens[:, None], scores).tolist()
        stopped = self.stops([self.written[i] for i in indices])
        return [e or s or len(self.written[i]) >= self.limit for i, e, s in zip(indices, ended, stopped, strict=True)]

    def whole(self, index: int) -> torch.Tensor:
        """Return a prompt with its continuation, shape (tokens,)."""
        return torch.cat([self.prompts[index], self.prompts[index].new_tensor(self.written[index])])

    def newest(self, indices: list[int]) -> torch.Tensor:
        """Return the last token of each of these texts, shape (indices, 1)."""
        return self.prompts[0].new_tensor([[self.written[i][-1]] for i in indices])

    def _rectangle(self, indices: list[int]) -> torch.Tensor:
        """Return texts as one tensor (indices, longest), padded on the left with each text's first token."""
        texts = [self.whole(i) for i in indices]
        longest = max(map(len, texts))
        return torch.stack([torch.cat([text[:1].expand(longest - len(text)), text]) for text in texts])


class _PromptPass:
    """Computes prompts one at a time, without padding; the prefix that all within the window share, once."""

    def __init__(self, model: Any, prompts: Sequence[torch.Tensor], window: float) -> None:
        self.model, self.window, self.cache, self.common = model, window, None, 0
        tokens = [prompt.tolist() for prompt in prompts if len(prompt) <= window]
        if len(tokens) < 2:
            return
        # In sorted order the prefix that the first and the last share is shared by all.
        first = min(tokens)
        common = min(common_prefix_length(first, max(tokens)), min(map(len, tokens)) - 1)
        if common > MIN_SHARED_PREFIX_TOKENS:
            out = model(input_ids=prompts[0].new_tensor([first[:common]]), use_cache=True, logits_to_keep=1)
            self.cache, self.common = out.past_key_values, common

    def __call__(self, text: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Return the logits that follow a text, shape (1, vocabulary), and its keys and values."""
        computed, cache = (self.common, self.cache) if len(text) <= self.window else (0, None)
        out = self.model(
            input_ids=text[None, computed:],
            past_key_values=repeat_cache(cache, 1),
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1], out.past_key_values


class _Slots:
    """Keys and values of the texts in one batch, of unequal length and aligned on the right.

    Attributes
    ----------
    cache
        Keys and values, each layer's of shape (slots, heads, longest, size).
    indices
        The prompt in each slot.
    lengths
        Its tokens in the cache.
    """

    def __init__(self) -> None:
        self.cache: Any = None
        self.indices: list[int] = []
        self.lengths: list[int] = []

    def join(self, index: int, cache: Any, length: int) -> None:
        """Add a slot for one prompt, with the cache of its ``length`` tokens."""
        self.indices.append(index)
        self.lengths.append(length)
        if len(self.lengths) == 1:
            self.cache = cache
            return
        for layer, new_layer in zip(self.cache.layers, cache.layers, strict=True):
            width = max(layer.keys.shape[-2], new_layer.keys.shape[-2])
            for name in ("keys", "values"):
                parts = [_pad_left(getattr(each, name), width) for each in (layer, new_layer)]
                setattr(layer, name, torch.cat(parts))
            if layer.is_sliding:
                layer.cumulative_length = max(self.lengths)

    def keep(self, slots: list[int]) -> None:
        """Keep these slots, and cut the cache to the longest of them."""
        self.indices, self.lengths = ([each[k] for k in slots] for each in (self.indices, self.lengths))
        if not slots:
            return
        self.cache.batch_select_indices(torch.tensor(slots, device=self.cache.layers[0].keys.device))
        width = max(self.lengths)
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[..., -width:, :], layer.values[..., -width:, :]
            if layer.is_sliding:
                layer.cumulative_length = width

    def step(self, model: Any, new: torch.Tensor) -> torch.Tensor:
        """Feed each slot its newest token, shape (slots, 1); return the next logits, shape (slots, vocabulary)."""
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


def _pad_left(states: torch.Tensor, width: int) -> torch.Tensor:
    """Return keys or values (slots, heads, tokens, size) with zeros, to be masked, on the left: ``width`` tokens."""
    return functional.pad(states, (0, 0, width - states.shape[-2], 0))
