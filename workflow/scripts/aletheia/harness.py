"""lm-evaluation-harness on a loaded model and staged questions: no hub, no network, no shared cache.

Importing this module imports the harness (torch, transformers, datasets), so others import it late.
"""

from __future__ import annotations

import logging
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
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from aletheia.errors import UserError
from aletheia.lineage import TASKS

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


class _AnyStop(StoppingCriteria):
    """Ends each row at its first stop string.

    The harness's own criterion ends a batch only when every row holds the *same* string, so that most batches
    run to the token limit. Texts are cut at the first stop string either way, hence equal.
    """

    def __init__(self, stop: list[str], tokenizer: Any, width: int) -> None:
        self.stop, self.tokenizer, self.width = stop, tokenizer, width
        # A token carries at least one byte of a stop string, so this window cannot miss one.
        self.window = max((len(s.encode()) for s in stop), default=0) + 1

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        tail = input_ids[:, self.width :][:, -self.window :]
        texts = self.tokenizer.batch_decode(tail)
        return torch.tensor([any(s in text for s in self.stop) for text in texts], device=input_ids.device)


class _FiniteWatch(LogitsProcessor):
    """Notes the rows whose scores were not finite at some step; a greedy choice among NaN means nothing."""

    def __init__(self) -> None:
        self.broken: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # Minus infinity is a legal mask; NaN is not. amax carries NaN along without a copy of the scores.
        bad = torch.isnan(scores.amax(dim=-1))
        self.broken = bad if self.broken is None else self.broken | bad
        return scores


class _Notes(CacheHook):
    """Joins what is known of each generated row with its prompt; called once a row, in batch order."""

    def __init__(self) -> None:
        super().__init__(None)
        self.pending: list[dict[str, Any]] = []
        self.by_prompt: dict[str, dict[str, Any]] = {}

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """Take the next pending note for a generated row."""
        if attr == "generate_until":
            self.by_prompt[req[0]] = self.pending.pop(0)


class StudyLM(HFLM):
    """The harness's Hugging Face model, with a deadline and with notes on each generated row.

    Scores are the harness's: only the end of a generation (see ``_AnyStop``) differs, not its text.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int, deadline: float | None = None) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, backend="causal")
        self.deadline = deadline
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

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._remaining()
        return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **settings: Any) -> torch.Tensor:
        watch, width = _FiniteWatch(), context.shape[1]
        settings = {k: v for k, v in settings.items() if k not in ("temperature", "do_sample")}
        tokens = self.model.generate(
            input_ids=context,
            max_length=max_length,
            max_time=self._remaining(),
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([_AnyStop(stop, self.tokenizer, width)]),
            logits_processor=LogitsProcessorList([watch]),
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            **settings,
        )
        self._remaining()
        broken = watch.broken.tolist() if watch.broken is not None else [False] * len(tokens)
        for row, bad in zip(tokens[:, width:], broken, strict=True):
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
