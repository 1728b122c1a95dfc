"""What a model scores: held-out loss, and benchmarks of lm-evaluation-harness on staged questions.

Each benchmark gives one outcome: a status, a score or a loss with its standard error, and one row a question.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.evaluation.outcomes import TABLES, Outcome, score_table
from aletheia.evaluation.row_losses import encode_passages, outcome_of_losses
from aletheia.provenance.artifacts import Source
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.staging.questions import missing_examples
from aletheia.study.benchmarks import BENCHMARKS, HELDOUT, LOSSES
from aletheia.training.deadlines import NEVER, Deadline
from aletheia.training.encoding import encode_rows
from aletheia.training.row_counts import ROWS, in_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aletheia.evaluation.harness import StudyLM
    from aletheia.training.heldout_loss import RowLoss


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model with what its evaluations need.

    Attributes
    ----------
    deadline
        After which no further pass begins.
    writer
        Writes generated answers in place of the model (:class:`aletheia.evaluation.harness.StudyLM`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int
    deadline: Deadline = NEVER
    writer: Callable[..., Any] | None = None


def offline(folder: Path) -> None:
    """Keep the Hugging Face libraries off the network and out of the user's caches.

    Call it before they are imported, as they read these variables at import.
    """
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not sys.stderr.isatty():
        # Progress bars are for terminals; in a log each redraw is a line.
        os.environ["TQDM_DISABLE"] = "1"


def heldout(
    loaded: LoadedModel, rows: Sequence[dict[str, Any]], encoding: Mapping[str, Any], *, split: str = HELDOUT
) -> Outcome:
    """Return the loss on held-out or test rows: summed cross-entropy over summed target tokens.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    rows
        Training rows that no arm trained on.
    encoding
        The campaign's section of that name (``prompt``, ``max_tokens``, ``loss_on``).
    split
        ``heldout`` or ``test``, for sentences.
    """
    from aletheia.method.loading import check_context

    check_context(loaded.model, encoding["max_tokens"])
    what = ROWS[split]
    encoded = encode_rows(rows, loaded.tokenizer, what=what, **encoding)
    print(in_words(encoded.counts(), what, encoding["max_tokens"]), flush=True)
    return outcome_of_losses(_losses(loaded, encoded.examples), encoded.examples, what=what)


def retention(loaded: LoadedModel, passages: Sequence[dict[str, Any]], max_tokens: int) -> Outcome:
    """Return the loss on passages of text unlike the training data; every token is a target.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    passages
        Staged rows, ``id`` and ``text``.
    max_tokens
        Longest piece of each, from its beginning.
    """
    from aletheia.method.loading import check_context

    check_context(loaded.model, max_tokens)
    examples = encode_passages(passages, loaded.tokenizer, max_tokens)
    print(f"{len(examples)} of {len(passages)} passages, each up to {max_tokens} tokens", flush=True)
    ids = [passage["id"] for passage in passages]
    return outcome_of_losses(_losses(loaded, examples), examples, what="passages", ids=ids)


def _losses(loaded: LoadedModel, examples: Sequence[Mapping[str, Any]]) -> list[RowLoss]:
    """Return the losses of encoded rows; the deadline is checked before each pass."""
    from aletheia.training.heldout_loss import row_losses

    losses: list[RowLoss] = []
    pad = loaded.tokenizer.pad_token_id
    _check_deadline(loaded.deadline)
    for batch in row_losses(loaded.model, examples, batch_size=loaded.batch_size, pad_token_id=pad):
        losses += batch
        if len(losses) < len(examples):
            _check_deadline(loaded.deadline)
    return losses


class _DeadlinePassed(Exception):
    """The deadline has passed."""


def _check_deadline(deadline: Deadline) -> None:
    if deadline.passed():
        raise _DeadlinePassed


def harness(loaded: LoadedModel, name: str, lock: Source, *, settings: Mapping[str, Any], chat: bool) -> Outcome:
    """Return a benchmark's outcome, answered through lm-evaluation-harness.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    name
        One of :data:`aletheia.study.benchmarks.QUESTION_BENCHMARKS`.
    lock
        Lock of the staged questions: ``questions.jsonl``, and ``fewshot.jsonl`` where ``num_fewshot`` is above 0.
    settings
        The benchmark's settings: ``num_fewshot``, ``max_new_tokens``.
    chat
        Whether questions go through the tokenizer's chat template.
    """
    from aletheia.evaluation.harness import TimeLimitReached
    from aletheia.evaluation.harness_tasks import run_task, task_config

    if chat and not loaded.tokenizer.chat_template:
        raise UserError("evaluation.prompt is chat and the model's tokenizer has no chat template; use plain")
    folder = checked_folder(lock, "data_lock")
    config = task_config(
        (chat and BENCHMARKS[name].chat_task) or name,
        folder / "questions.jsonl",
        num_fewshot=settings.get("num_fewshot", 0),
        fewshot=_fewshot(folder, name, settings),
        max_new_tokens=settings.get("max_new_tokens"),
    )
    lm = _language_model(loaded, name, settings)
    try:
        answered = run_task(lm, config, chat=chat)
    except TimeLimitReached:
        raise _DeadlinePassed from None
    questions = read_rows(folder / "questions.jsonl")
    table = TABLES[name](questions, answered["samples"], lm.notes.by_prompt)
    return _mark_cut_prompts(score_table(table, answered["version"]), answered["samples"], lm.notes.cut)


def _language_model(loaded: LoadedModel, name: str, settings: Mapping[str, Any]) -> StudyLM:
    """Return the model for the harness; refuse a window without room for a prompt beside the longest answer."""
    from aletheia.evaluation.harness import StudyLM

    lm = StudyLM(
        loaded.model,
        loaded.tokenizer,
        batch_size=loaded.batch_size,
        deadline=loaded.deadline,
        writer=loaded.writer,
    )
    longest = settings.get("max_new_tokens", 0)
    if longest >= lm.max_length:
        raise UserError(
            f"evaluation.{name}.max_new_tokens is {longest}, and the model's window of {lm.max_length} tokens holds "
            "prompt and answer; lower max_new_tokens, or leave the benchmark out for this model"
        )
    return lm


def _mark_cut_prompts(outcome: Outcome, samples: Mapping[str, Sequence[Mapping[str, Any]]], cut: set[str]) -> Outcome:
    """Return the outcome with status ``prompt_cut`` in rows whose prompts lost their beginning.

    Such an answer counts like any other, but a program for a cut prompt is not run
    (:mod:`aletheia.evaluation.score_code`).
    """
    prompts = [sample["arguments"][0][0] for sample in next(iter(samples.values()))]
    is_cut = [prompt in cut for prompt in prompts]
    if not any(is_cut):
        return outcome
    rows = [
        {**row, "status": "prompt_cut"} if short and row["status"] == "ok" else row
        for row, short in zip(outcome.rows, is_cut, strict=True)
    ]
    sentence = f"{sum(is_cut)} of {len(is_cut)} prompts were longer than the model's window and lost their beginning"
    return replace(outcome, rows=rows, reason="; ".join(filter(None, [outcome.reason, sentence])))


def _fewshot(folder: Path, name: str, settings: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    number = settings.get("num_fewshot", 0)
    if not number:
        return None
    path = folder / "fewshot.jsonl"
    if not path.is_file():
        raise UserError(
            f"evaluation.{name}.num_fewshot is {number}, and {folder} was staged without fewshot.jsonl; "
            "stage it with few-shot rows, or set num_fewshot to 0"
        )
    examples = read_rows(path)
    available = missing_examples(examples, read_rows(folder / "questions.jsonl"), number)
    if available is not None:
        raise UserError(
            f"{path}: expected {number} few-shot examples before each question (evaluation.{name}.num_fewshot), found "
            f"{available}; stage more, or lower num_fewshot"
        )
    return examples


def evaluate(loaded: LoadedModel, name: str, lock: Source, *, config: Mapping[str, Any]) -> Outcome:
    """Return the outcome of one benchmark; a passed time limit or exhausted memory is a status.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    name
        One of :data:`aletheia.study.benchmarks.BENCHMARKS`.
    lock
        Lock of its data: the training data's for ``heldout``, its questions' or passages' for the others.
    config
        Sections ``evaluation`` and ``encoding``.
    """
    settings = config["evaluation"]
    try:
        _check_deadline(loaded.deadline)
        if name in LOSSES:
            return _loss(loaded, name, lock, config)
        chat = settings["prompt"] == "chat"
        return harness(loaded, name, lock, settings=settings[name], chat=chat)
    except _DeadlinePassed:
        return Outcome("timeout", loaded.deadline.reason)
    except (RuntimeError, MemoryError) as error:
        return out_of_memory(error)


def _loss(loaded: LoadedModel, name: str, lock: Source, config: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a benchmark of rows or passages, without questions."""
    settings = config["evaluation"][name]
    rows = read_rows(checked_folder(lock, "data_lock") / BENCHMARKS[name].file(settings))[: settings["rows"]]
    if len(rows) < settings["rows"]:
        # Only a default, or a setting by hand: too large a number in a campaign is refused when it is read.
        what = ROWS[settings["split"]] if name == HELDOUT else "passages"
        wanted = f"evaluation.{name}.rows={settings['rows']}"
        print(f"note: {name} loss over {len(rows)} {what}, fewer than {wanted}", flush=True)
    if name == HELDOUT:
        return heldout(loaded, rows, config["encoding"], split=settings["split"])
    return retention(loaded, rows, settings["max_tokens"])


def out_of_memory(error: RuntimeError | MemoryError) -> Outcome:
    """Return the outcome of exhausted memory; any other error is raised again.

    Parameters
    ----------
    error
        Raised by loading the model or by a pass.
    """
    from aletheia.method.loading import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    return Outcome("failed", f"out of memory: {str(error)[:200]}")
