"""lm-evaluation-harness on a loaded model and staged questions: no hub, no network, no shared cache.

Importing this module imports the harness (torch, transformers, datasets), so others import it late.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from lm_eval import simple_evaluate
from lm_eval.api.model import CacheHook
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import LogitsProcessorList, StoppingCriteriaList

from aletheia.decoding import AnyStop, Greedy
from aletheia.errors import UserError
from aletheia.lineage import TASKS
from aletheia.prefixes import Tail, tail_logits

# (context, continuation) as texts, then each as tokens: what the harness asks of ``_loglikelihood_tokens``.
Scored = tuple[tuple[str, str] | None, list[int], list[int]]

# It warns of a model that is handed over as an object, which is meant here.
logging.getLogger("lm_eval").setLevel(logging.ERROR)


class TimeLimitReached(Exception):
    """The soft time limit of a job's benchmarks has passed."""


class OwnSubject(ContextSampler):
    """Few-shot examples: the first n of the question's own subject, in file order, as MMLU has it."""

    subject: str | None = None

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **_: Any) -> list[dict[str, Any]]:
        """Return the first ``n`` rows of ``subject``."""
        shots = [row for row in self.df if row.get("subject") == self.subject][:n]
        if len(shots) < n:
            raise UserError(f"expected {n} few-shot rows of subject {self.subject}, found {len(shots)}; stage more")
        return shots


class _SubjectTask(ConfigurableTask):
    """Tells the sampler which question is next; the harness does so only for examples from the test split."""

    def fewshot_context(self, doc: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.sampler.subject = doc.get("subject")
        return super().fewshot_context(doc, *args, **kwargs)


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

    Prompts, tokens and formulas are the harness's; in fp32 so are the outcomes. Prefixes are computed once
    (:mod:`aletheia.prefixes`), and rows that have ended leave their batch (:mod:`aletheia.decoding`).

    Parameters
    ----------
    model, tokenizer
        Loaded.
    batch_size
        Rows a pass.
    deadline
        Value of ``time.monotonic()`` after which the next pass raises :class:`TimeLimitReached`.
    reuse
        Whether prefixes are shared; without it each question is computed whole.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int, deadline: float | None = None, reuse: bool = True
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, backend="causal")
        self.deadline, self.reuse = deadline, reuse
        self.notes = _Notes()
        self.set_cache_hook(self.notes)

    def _remaining(self) -> float | None:
        if self.deadline is None:
            return None
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeLimitReached
        return remaining

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """Decode a continuation, its leading spaces kept.

        SentencePiece tokenizers drop one space at the start of a text. A completion is no start of a text, and
        Python code that lost one space of its first indentation does not compile.
        """
        anchor = self.tokenizer.encode("a", add_special_tokens=False)
        options = {"skip_special_tokens": skip_special_tokens, "clean_up_tokenization_spaces": False}
        head = self.tokenizer.decode(anchor, **options)
        text = self.tokenizer.decode([*anchor, *torch.as_tensor(tokens).reshape(-1).tolist()], **options)
        return text.removeprefix(head)

    def _forward(self, **inputs: Any) -> Any:
        self._remaining()
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
            self._forward, tails, batch_size=override_bs or self.batch_size, device=self.device, reuse=self.reuse
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

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        greedy, width = Greedy(), context.shape[1]
        settings = {k: v for k, v in settings.items() if k not in ("temperature", "do_sample")}
        tokens = self.model.generate(
            input_ids=context,
            max_length=max_length,
            max_time=self._remaining(),
            do_sample=False,
            custom_generate=greedy,
            stopping_criteria=StoppingCriteriaList([AnyStop(stop, self.tokenizer, width)]),
            logits_processor=LogitsProcessorList([greedy.watch]),
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **settings,
        )
        self._remaining()
        for row, bad in zip(tokens[:, width:], greedy.broken, strict=True):
            self.notes.pending.append({**self._length(row, stop, max_length - width), "nan": bad})
        return tokens

    def _length(self, row: torch.Tensor, stop: list[str], limit: int) -> dict[str, Any]:
        """Return how many tokens a row has, and whether the limit cut it before any stop."""
        ids = row.tolist()
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = self.tokenizer.decode(ids[:length])
        return {"tokens": length, "truncated": length >= limit and not any(s in text for s in stop)}


def task_config(
    name: str,
    questions: Path,
    *,
    cache: Path,
    num_fewshot: int = 0,
    fewshot: list[dict[str, Any]] | None = None,
    max_new_tokens: int | None = None,
) -> dict[str, Any]:
    """Return the harness's configuration of a local task.

    Parameters
    ----------
    name
        A file of ``workflow/tasks`` without its suffix.
    questions
        JSON Lines, the test split.
    cache
        Folder for the datasets library's files.
    num_fewshot, fewshot
        How many examples stand before a question, and the rows they are drawn from.
    max_new_tokens
        Limit of a generation.
    """
    config = yaml.safe_load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"))
    config["dataset_kwargs"] = {"data_files": {"test": str(questions)}, "cache_dir": str(cache)}
    config["num_fewshot"] = num_fewshot
    if num_fewshot:
        own = any(row.get("subject") for row in fewshot or [])
        config["fewshot_config"] = {"sampler": OwnSubject if own else "first_n", "samples": fewshot}
    if max_new_tokens is not None:
        config["generation_kwargs"]["max_gen_toks"] = max_new_tokens
    return config


def run_task(lm: HFLM, config: dict[str, Any], *, chat: bool = False) -> dict[str, Any]:
    """Run one task.

    Returns
    -------
    dict
        ``samples``: for each filter of the task, its rows in question order; ``version``; ``results``, the
        harness's own numbers.
    """
    own_subject = config.get("fewshot_config", {}).get("sampler") is OwnSubject
    outcome = simple_evaluate(
        lm,
        tasks=[_SubjectTask(config=config) if own_subject else config],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        batch_size=lm.batch_size,
        bootstrap_iters=0,
        apply_chat_template=chat,
    )
    name = config["task"]
    samples: dict[str, list[dict[str, Any]]] = {}
    for sample in sorted(outcome["samples"][name], key=lambda s: s["doc_id"]):
        samples.setdefault(sample["filter"], []).append(sample)
    return {
        "samples": samples,
        "version": str(outcome["versions"][name]),
        "results": outcome["results"][name],
    }
