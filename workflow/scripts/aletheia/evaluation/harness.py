"""The harness's Hugging Face model, faster and with notes on each answer.

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
from aletheia.evaluation.prefix_cache import ScoredSequence, common_prefix_length, last_logits
from aletheia.method.loading import original_window
from aletheia.training.deadlines import NEVER, Deadline

# A request of the harness to ``_loglikelihood_tokens``: (context, continuation) as texts, then each as tokens.
LoglikelihoodRequest = tuple[tuple[str, str] | None, list[int], list[int]]
# Writes answers: (prompts as tokens, stop strings, longest continuation in tokens, function to call before each pass).
Writer = Callable[[list[list[int]], list[str], int, Callable[[], Any]], list[Generation]]

# It warns where a model is passed as an object, as is intended here.
logging.getLogger("lm_eval").setLevel(logging.ERROR)


class TimeLimitReached(Exception):
    """The deadline of a job's benchmarks has passed."""


class _Notes(CacheHook):
    """Joins the notes on each generated answer with its prompt; the harness calls it once an answer, in batch order.

    Attributes
    ----------
    by_prompt
        Of each generated answer: ``tokens``, ``truncated`` (cut by the limit), ``nan``.
    cut
        Prompts that were longer than the model's window and lost their beginning.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.cut: set[str] = set()
        self.pending: list[dict[str, Any]] = []
        self.by_prompt: dict[str, dict[str, Any]] = {}

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Join the next pending note with a generated answer."""
        if attr == "generate_until":
            self.by_prompt[req[0]] = self.pending.pop(0)


class StudyLM(HFLM):
    """The harness's Hugging Face model, faster, with a deadline and with notes on each answer.

    Prompts, tokens and formulas are the harness's; in fp32 so are the outcomes, but for three cases: SentencePiece
    tokenizers' texts keep their leading space (:meth:`tok_decode`), a special token as stop string ends each answer
    (:mod:`aletheia.evaluation.greedy`), and a choice that a token merges with its context is scored
    (:meth:`_encode_pair`). Prefixes are computed once (:mod:`aletheia.evaluation.prefix_cache`), and the next prompt
    takes the slot of an answer that has ended.

    Parameters
    ----------
    model, tokenizer
        Loaded.
    batch_size
        Sequences a pass, and slots of a generation.
    deadline
        After it the next pass raises :class:`TimeLimitReached`.
    reuse
        Whether prefixes are shared; without it each question is computed whole.
    writer
        Writes generated answers instead of the model, which then needs no weights.
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
        self.deadline, self.reuse, self.writer, self._slots = deadline, reuse, writer, batch_size
        if writer is not None:
            self._device = torch.device("cpu")  # of the prompts; the model without weights is on no device
        self.notes = _Notes()
        self.set_cache_hook(self.notes)

    def _check_deadline(self) -> None:
        if self.deadline.passed():
            raise TimeLimitReached

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Decode a continuation with its leading spaces.

        SentencePiece tokenizers drop one space at the start of a text, and so does the harness. But a completion does
        not start a text, and Python code without one space of its first indentation does not compile.
        """
        anchor = self.tokenizer.encode("a", add_special_tokens=False)
        options = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        head = self.tokenizer.decode(anchor, **options)
        text = self.tokenizer.decode([*anchor, *torch.as_tensor(tokens).reshape(-1).tolist()], **options)
        return text.removeprefix(head)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Encode context and continuation as the harness does, also where a tokenizer merges the two.

        When one token covers the end of the context and the whole continuation, the harness has no token to score and
        stops. Here the continuation begins at the first token that differs from those of the context alone.
        """
        before, after = super()._encode_pair(context, continuation)
        if after:
            return before, after
        whole = self.tok_encode(context + continuation)
        start = common_prefix_length(whole, before)
        return whole[:start] or [self.prefix_token_id], whole[start:]

    def _forward(self, **inputs: Any) -> Any:
        self._check_deadline()
        with torch.no_grad():
            return self.model(**inputs)

    def _loglikelihood_tokens(
        self, requests: list[LoglikelihoodRequest], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Return (log-likelihood in nats, whether greedy) of each continuation.

        A continuation's last token is never an input, so choices of one token share one sequence, as in the harness.
        """
        by_tokens: dict[tuple[int, ...], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            by_tokens.setdefault((*context, *continuation[:-1]), []).append(number)
        sequences, window = [], self.max_length
        for tokens, numbers in by_tokens.items():
            keep = max(len(requests[number][2]) for number in numbers)
            sequences.append(ScoredSequence(list(tokens[-window:]), keep))
            if len(tokens) > window:
                self.notes.cut |= {requests[number][0][0] for number in numbers if requests[number][0]}
        members, answers = list(by_tokens.values()), [(math.nan, False)] * len(requests)
        outputs = last_logits(
            self._forward,
            sequences,
            batch_size=override_bs or self.batch_size,
            device=self.device,
            window=original_window(self.model.config.to_dict()),
            reuse=self.reuse,
        )
        for index, logits in outputs:
            scores = torch.log_softmax(logits, dim=-1, dtype=self.softmax_dtype)
            likeliest = scores.argmax(dim=-1)
            for number in members[index]:
                wanted = torch.tensor(requests[number][2], device=scores.device)
                chosen = scores[-len(wanted) :].gather(1, wanted[:, None])
                answers[number] = float(chosen.sum()), bool((likeliest[-len(wanted) :] == wanted).all())
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
        """Return each request's continuation; one call gets all prompts, for its ``batch_size`` slots."""
        self.batch_size_per_gpu = max(1, len(requests))
        try:
            return super().generate_until(requests, disable_tqdm=disable_tqdm)
        finally:
            self.batch_size_per_gpu = self._slots

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        write = self._write_by_model if self.writer is None else self._write_by_writer
        tokens, broken = write(context, max_length, stop, **settings)
        width = context.shape[1]
        for row, nan in zip(tokens[:, width:], broken, strict=True):
            self.notes.pending.append({**self._length(row, stop, max_length - width), "nan": nan})
        return tokens

    def _write_by_model(
        self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any
    ) -> tuple[torch.Tensor, list[bool]]:
        """Return prompts with the model's continuations, and whether any score of each was not a number."""
        greedy = Greedy(StopStrings(stop, self.tokenizer), slots=self._slots, tick=self._check_deadline)
        settings = {k: v for k, v in settings.items() if k not in ("temperature", "do_sample")}
        tokens = self.model.generate(
            input_ids=context,
            # As new tokens: this takes precedence over a model's own generation settings (2048 in Qwen2.5).
            max_new_tokens=max_length - context.shape[1],
            do_sample=False,
            custom_generate=greedy,
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **settings,
        )
        return tokens, greedy.broken

    def _write_by_writer(
        self, context: torch.Tensor, max_length: int, stop: list[str], *, attention_mask: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, list[bool]]:
        """Return the same as :meth:`_write_by_model`, with the writer's continuations."""
        prompts = [row[mask.bool()].tolist() for row, mask in zip(context, attention_mask, strict=True)]
        answers = self.writer(prompts, stop, max_length - context.shape[1], self._check_deadline)
        continued = [torch.tensor(answer.tokens, dtype=context.dtype) for answer in answers]
        tail = pad_sequence(continued, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return torch.cat([context, tail], dim=1), [answer.nan for answer in answers]

    def _length(self, row: torch.Tensor, stop: list[str], limit: int) -> dict[str, Any]:
        """Return the tokens of an answer, and whether the limit cut it before any stop."""
        ids = row.tolist()
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = self.tokenizer.decode(ids[:length])
        return {"tokens": length, "truncated": length >= limit and not any(s in text for s in stop)}
