"""Answers of a model, with its adapter or without it, to questions put as the study put them."""

from __future__ import annotations

import contextlib
from typing import Any

from aletheia.errors import UserError
from aletheia.exports.used_adapter import CHAT, UsedAdapter, load_base, with_adapter
from aletheia.training.prompts import render

PROBE = "x"  # an answer, to see what a template puts after one


class Conversation:
    """A conversation with a model and its adapter.

    Through a chat template each question comes after the earlier ones; in any other wording it stands alone, as the
    rows of the study did.

    Parameters
    ----------
    model
        With the adapter, in evaluation mode.
    tokenizer
        Its tokenizer.
    prompt
        One of :data:`aletheia.training.prompts.PROMPTS`.
    max_new_tokens
        Longest answer.
    temperature
        Of the draw of each token; 0 takes the likeliest.
    seed
        Of these draws.

    Attributes
    ----------
    base
        Whether the base model answers, without the adapter.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, prompt: str, max_new_tokens: int, temperature: float = 0.0, seed: int = 0
    ) -> None:
        import torch

        self.model, self.tokenizer, self.prompt = model, tokenizer, prompt
        self.base = False
        self._messages: list[dict[str, str]] = []
        self._options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
        if temperature > 0:
            self._options["temperature"] = temperature
        self._options |= {"eos_token_id": self._ends(), "pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(seed)

    def forget(self) -> None:
        """Begin anew: the next question has none before it."""
        self._messages = []

    def answer(self, question: str, *, streamer: Any = None) -> str:
        """Return the answer to a question.

        Parameters
        ----------
        question
            The user's words.
        streamer
            A ``transformers`` streamer that gets tokens as they come.

        Raises
        ------
        UserError
            When the chat template refuses the turns.
        """
        import torch

        text, special = self._asked(question)
        encoded = self.tokenizer(text, return_tensors="pt", add_special_tokens=special)
        device = self.model.get_input_embeddings().weight.device
        ids = encoded["input_ids"].to(device)
        without = self.model.disable_adapter() if self.base else contextlib.nullcontext()
        with torch.no_grad(), without:
            written = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), streamer=streamer, **self._options
            )
        answer = self.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()
        if self.prompt == CHAT:
            self._messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return answer

    def _asked(self, question: str) -> tuple[str, bool]:
        """Return the text to go on from, and whether the tokenizer adds the tokens that begin one."""
        if self.prompt == CHAT:
            turns = [*self._messages, {"role": "user", "content": question}]
            return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True), False
        if self.prompt == "text":
            return question, True
        row = {"instruction": question, "input": "", "output": PROBE}
        text, spans, _ = render(row, self.tokenizer, self.prompt)
        return text[: spans[0][0]], True

    def _ends(self) -> list[int]:
        """Return the tokens that end an answer: the model's own, and what its template puts after one."""
        named = self.model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
        if self.prompt == CHAT:
            row = {"messages": [{"role": "user", "content": PROBE}, {"role": "assistant", "content": PROBE}]}
            text, spans, _ = render(row, self.tokenizer, CHAT)
            after = text[spans[0][0] : spans[0][1]].removeprefix(PROBE).strip()
            ids = self.tokenizer(after, add_special_tokens=False)["input_ids"] if after else []
            ends |= set(ids[:1]) & set(self.tokenizer.all_special_ids)
        return sorted(end for end in ends if end is not None)


def conversation(used: UsedAdapter, *, prompt: str | None = None, **options: Any) -> Conversation:
    """Return a conversation with an adapter, loaded as its run loaded the model.

    Parameters
    ----------
    used
        The adapter.
    prompt
        Another wording than the study's. Of an adapter without its study: the chat template, or where the tokenizer has
        none, the question alone.
    options
        Of :class:`Conversation`.

    Raises
    ------
    UserError
        When a chat template is asked for and the tokenizer has none.
    """
    model, tokenizer = load_base(used, dtype=used.dtype, quantization=used.quantization)
    template = getattr(tokenizer, "chat_template", None)
    wording = prompt or used.prompt or (CHAT if template else "text")
    if wording == CHAT and not template:
        raise UserError(
            "--prompt chat: expected a tokenizer with a chat template, found none; choose alpaca, plain or text"
        )
    return Conversation(with_adapter(model, used), tokenizer, prompt=wording, **options)
