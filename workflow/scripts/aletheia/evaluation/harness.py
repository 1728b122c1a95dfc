"""The harness's Hugging Face model, faster and with notes on each row.

Importing this module imports the harness (torch, transformers, datasets), so others import it late.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from torch.nn.utils.rnn import pad_sequence

from aletheia.evaluation.greedy import Generation, Greedy, StopStrings
from aletheia.evaluation.prefix_cache import Tail, shared, tail_logits
from aletheia.method.loading import original_window
from aletheia.training.deadlines import NEVER, Deadline

# (context, continuation) as texts, then each as tokens: what the harness asks of ``_loglikelihood_tokens``.
Scored = tuple[tuple[str, str] | None, list[int], list[int]]
# (prompts as tokens, stop strings, longest continuation in tokens, what to call before each pass): who writes answers.
Writer = Callable[[list[list[int]], list[str], int, Callable[[], Any]], list[Generation]]

# It warns of a model that is handed over as an object, which is meant here.
logging.getLogger("lm_eval").setLevel(logging.ERROR)


class TimeLimitReached(Exception):
    """The deadline of a job's benchmarks has passed."""


class _Notes(CacheHook):
    """Joins what is known of each generated row with its prompt; called once a row, in batch order.

    Attributes
    ----------
    by_prompt
        Of each generated row: ``tokens``, ``truncated`` (cut by the limit), ``nan``.
    cut
        Prompts that were longer than the model's window and lost their beginning.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.cut: set[str] = set()
        self.pending: list[dict[str, Any]] = []
        self.by_prompt: dict[str, dict[str, Any]] = {}

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Take the next pending note for a generated row."""
        if attr == "generate_until":
            self.by_prompt[req[0]] = self.pending.pop(0)


class StudyLM(HFLM):
    """The harness's Hugging Face model, faster, with a deadline and with notes on each row.

    Prompts, tokens and formulas are the harness's; in fp32 so are the outcomes, but for three cases: SentencePiece
    tokenizers' texts keep their leading space (:meth:`tok_decode`), a special token as stop string ends each row
    (:mod:`aletheia.evaluation.greedy`), and a choice that melts into its context is scored (:meth:`_encode_pair`).
    Prefixes are computed once (:mod:`aletheia.evaluation.prefix_cache`), and a row that has ended makes room for the
    next.

    Parameters
    ----------
    model, tokenizer
        Loaded.
    batch_size
        Rows a pass.
    deadline
        After it the next pass raises :class:`TimeLimitReached`.
    reuse
        Whether prefixes are shared; without it each question is computed whole.
    writer
        Writes the answers that are generated, instead of the model, which then needs no weights.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int,
        deadline: Deadline = NEVER,
        reuse: bool = True,
        writer: Writer | None = None,
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, backend="causal")
        self.deadline, self.reuse, self.writer, self._rows = deadline, reuse, writer, batch_size
        if writer is not None:
            self._device = torch.device("cpu")  # where prompts are prepared; the model may be on none
        self.notes = _Notes()
        self.set_cache_hook(self.notes)

    def _in_time(self) -> None:
        if self.deadline.passed():
            raise TimeLimitReached

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Decode a continuation, its leading spaces kept.

        SentencePiece tokenizers drop one space at the start of a text, and the harness with them. A completion is no
        start of a text, and Python code that lost one space of its first indentation does not compile.
        """
        anchor = self.tokenizer.encode("a", add_special_tokens=False)
        options = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        head = self.tokenizer.decode(anchor, **options)
        text = self.tokenizer.decode([*anchor, *torch.as_tensor(tokens).reshape(-1).tolist()], **options)
        return text.removeprefix(head)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode context and continuation as the harness does, also where a tokenizer merges the two.

        When the continuation melts into the context's last token, the harness has nothing left to score and stops.
        Here it begins at the first token that the continuation changes.
        """
        before, after = super()._encode_pair(context, continuation)
        if after:
            return before, after
        whole = self.tok_encode(context + continuation)
        start = shared(whole, before)
        return whole[:start] or [self.prefix_token_id], whole[start:]

    def _forward(self, **inputs: Any) -> Any:
        self._in_time()
        with torch.no_grad():
            return self.model(**inputs)

    def _loglikelihood_tokens(
        self, requests: list[Scored], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Return (log-likelihood, whether greedy) of each continuation.

        A continuation's last token is never fed, so all choices of one token share one pass, as in the harness.
        """
        asked: dict[tuple[int, ...], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            asked.setdefault((*context, *continuation[:-1]), []).append(number)
        tails, window = [], self.max_length
        for tokens, numbers in asked.items():
            keep = max(len(requests[number][2]) for number in numbers)
            tails.append(Tail(list(tokens[-window:]), keep))
            if len(tokens) > window:
                self.notes.cut |= {requests[number][0][0] for number in numbers if requests[number][0]}
        members, answers = list(asked.values()), [(math.nan, False)] * len(requests)
        rows = tail_logits(
            self._forward,
            tails,
            batch_size=override_bs or self.batch_size,
            device=self.device,
            window=original_window(self.model.config.to_dict()),
            reuse=self.reuse,
        )
        for which, logits in rows:
            scores = torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype)
            likeliest = scores.argmax(dim=-1)
            for number in members[which]:
                wanted = torch.tensor(requests[number][2], device=scores.device)
                own = scores[-len(wanted) :].gather(1, wanted[:, None])
                answers[number] = float(own.sum()), bool((likeliest[-len(wanted) :] == wanted).all())
        return answers

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode prompts as the harness does, and note those that lose their beginning."""
        ids, mask = super().tok_batch_encode(strings, padding_side, None, truncation)
        if left_truncate_len is None:
            return ids, mask
        self.notes.cut |= {s for s, n in zip(strings, mask.sum(dim=1).tolist(), strict=True) if n > left_truncate_len}
        return ids[:, -left_truncate_len:], mask[:, -left_truncate_len:]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return each request's continuation; all prompts of a benchmark wait for the ``batch_size`` rows at once."""
        self.batch_size_per_gpu = max(1, len(requests))
        try:
            return super().generate_until(requests, disable_tqdm=disable_tqdm)
        finally:
            self.batch_size_per_gpu = self._rows

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        write = self._decoded if self.writer is None else self._written
        tokens, broken = write(context, max_length, stop, **settings)
        width = context.shape[1]
        for row, bad in zip(tokens[:, width:], broken, strict=True):
            self.notes.pending.append({**self._length(row, stop, max_length - width), "nan": bad})
        return tokens

    def _decoded(
        self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any
    ) -> tuple[torch.Tensor, list[bool]]:
        """Return prompts with the model's continuations, and whose scores were ever not a number."""
        greedy = Greedy(StopStrings(stop, self.tokenizer), rows=self._rows, tick=self._in_time)
        settings = {k: v for k, v in settings.items() if k not in ("temperature", "do_sample")}
        tokens = self.model.generate(
            input_ids=context,
            # As new tokens, which outrank what a model's own generation settings say (Qwen2.5 brings 2048).
            max_new_tokens=max_length - context.shape[1],
            do_sample=False,
            custom_generate=greedy,
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **settings,
        )
        return tokens, greedy.broken

    def _written(
        self, context: torch.Tensor, max_length: int, stop: list[str], *, attention_mask: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, list[bool]]:
        """Return the same of the writer's continuations."""
        prompts = [row[mask.bool()].tolist() for row, mask in zip(context, attention_mask, strict=True)]
        answers = self.writer(prompts, stop, max_length - context.shape[1], self._in_time)
        continued = [torch.tensor(answer.tokens, dtype=context.dtype) for answer in answers]
        tail = pad_sequence(continued, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return torch.cat([context, tail], dim=1), [answer.nan for answer in answers]

    def _length(self, row: torch.Tensor, stop: list[str], limit: int) -> dict[str, Any]:
        """Return how many tokens a row has, and whether the limit cut it before any stop."""
        ids = row.tolist()
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = self.tokenizer.decode(ids[:length])
        return {"tokens": length, "truncated": length >= limit and not any(s in text for s in stop)}
