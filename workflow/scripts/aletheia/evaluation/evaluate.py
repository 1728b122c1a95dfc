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
from aletheia.evaluation.outcomes import TABLES, Outcome, scored
from aletheia.evaluation.row_losses import encode_passages, outcome_of_losses
from aletheia.provenance.artifacts import Source
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.staging.questions import missing_examples
from aletheia.study.benchmarks import BENCHMARKS, HELDOUT, LOSSES
from aletheia.training.deadlines import NEVER, Deadline
from aletheia.training.encoding import encode_rows
from aletheia.training.row_counts import in_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from aletheia.evaluation.harness import StudyLM
    from aletheia.training.heldout_loss import RowLoss


@dataclass(frozen=True)
class Model:
    """A loaded model with what its evaluations need.

    Attributes
    ----------
    deadline
        When no further pass is begun.
    writer
        Writes the answers that are generated where the model does not (:class:`aletheia.evaluation.harness.StudyLM`).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int
    deadline: Deadline = NEVER
    writer: Callable[..., Any] | None = None


def offline(folder: Path) -> None:
    """Keep the Hugging Face libraries away from the network and from the user's caches.

    Call it before they are imported; they read these variables once.
    """
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not sys.stderr.isatty():
        # Bars are for eyes; in a log each redraw is a line.
        os.environ["TQDM_DISABLE"] = "1"


def heldout(loaded: Model, rows: Sequence[dict[str, Any]], encoding: Mapping[str, Any]) -> Outcome:
    """Return the loss on held-out rows: summed cross-entropy over summed target tokens.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    rows
        Training rows that no arm trained on.
    encoding
        The campaign's section of that name (``prompt``, ``max_tokens``, ``loss_on``).
    """
    from aletheia.method.loading import check_context

    check_context(loaded.model, encoding["max_tokens"])
    encoded = encode_rows(rows, loaded.tokenizer, what="held-out rows", **encoding)
    print(in_words(encoded.counts(), "held-out rows", encoding["max_tokens"]), flush=True)
    return outcome_of_losses(_losses(loaded, encoded.examples), encoded.examples, what="held-out rows")


def retention(loaded: Model, passages: Sequence[dict[str, Any]], max_tokens: int) -> Outcome:
    """Return the loss on passages of text that the training data does not resemble: each token counts, none prompts.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    passages
        Staged rows, ``id`` and ``text``.
    max_tokens
        How much of each is read, from its beginning.
    """
    from aletheia.method.loading import check_context

    check_context(loaded.model, max_tokens)
    examples = encode_passages(passages, loaded.tokenizer, max_tokens)
    print(f"{len(examples)} of {len(passages)} passages, each up to {max_tokens} tokens", flush=True)
    ids = [passage["id"] for passage in passages]
    return outcome_of_losses(_losses(loaded, examples), examples, what="passages", ids=ids)


def _losses(loaded: Model, examples: Sequence[Mapping[str, Any]]) -> list[RowLoss]:
    """Return the losses of encoded rows; the clock is looked at before each pass."""
    from aletheia.training.heldout_loss import row_losses

    losses: list[RowLoss] = []
    pad = loaded.tokenizer.pad_token_id
    _begin(loaded.deadline)
    for batch in row_losses(loaded.model, examples, batch_size=loaded.batch_size, pad_token_id=pad):
        losses += batch
        if len(losses) < len(examples):
            _begin(loaded.deadline)
    return losses


class _Late(Exception):
    """The deadline has passed."""


def _begin(deadline: Deadline) -> None:
    if deadline.passed():
        raise _Late


def harness(loaded: Model, name: str, lock: Source, *, settings: Mapping[str, Any], chat: bool) -> Outcome:
    """Return a benchmark's outcome, answered through lm-evaluation-harness.

    Parameters
    ----------
    loaded
        Model and tokenizer.
    name
        One of :data:`aletheia.study.benchmarks.QUESTION_BENCHMARKS`.
    lock
        Lock of the staged questions: ``questions.jsonl``, and ``fewshot.jsonl`` where examples are asked for.
    settings
        The benchmark's settings: ``num_fewshot``, ``max_new_tokens``.
    chat
        Whether the question goes through the tokenizer's chat template.
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
        raise _Late from None
    questions = read_rows(folder / "questions.jsonl")
    table = TABLES[name](questions, answered["samples"], lm.notes.by_prompt)
    return _marked(scored(table, answered["version"]), answered["samples"], lm.notes.cut)


def _language_model(loaded: Model, name: str, settings: Mapping[str, Any]) -> StudyLM:
    """Return the model as the harness takes it, once its window has room for a prompt beside the longest answer."""
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


def _marked(outcome: Outcome, samples: Mapping[str, Sequence[Mapping[str, Any]]], cut: set[str]) -> Outcome:
    """Return the outcome with the rows marked whose prompts lost their beginning.

    They count as they were answered; a program that continues half a question is not run
    (:mod:`aletheia.evaluation.score_code`).
    """
    prompts = [sample["arguments"][0][0] for sample in next(iter(samples.values()))]
    lost = [prompt in cut for prompt in prompts]
    if not any(lost):
        return outcome
    rows = [
        {**row, "status": "prompt_cut"} if short and row["status"] == "ok" else row
        for row, short in zip(outcome.rows, lost, strict=True)
    ]
    said = f"{sum(lost)} of {len(lost)} prompts were longer than the model's window and lost their beginning"
    return replace(outcome, rows=rows, reason="; ".join(filter(None, [outcome.reason, said])))


def _fewshot(folder: Path, name: str, settings: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    wanted = settings.get("num_fewshot", 0)
    if not wanted:
        return None
    path = folder / "fewshot.jsonl"
    if not path.is_file():
        raise UserError(
            f"evaluation.{name}.num_fewshot is {wanted}, and {folder} was staged without fewshot.jsonl; "
            "stage it with few-shot rows, or set num_fewshot to 0"
        )
    examples = read_rows(path)
    found = missing_examples(examples, read_rows(folder / "questions.jsonl"), wanted)
    if found is not None:
        raise UserError(
            f"{path}: expected {wanted} few-shot examples before each question (evaluation.{name}.num_fewshot), found "
            f"{found}; stage more, or lower num_fewshot"
        )
    return examples


def evaluate(loaded: Model, name: str, lock: Source, *, config: Mapping[str, Any]) -> Outcome:
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
        _begin(loaded.deadline)
        if name in LOSSES:
            return _loss(loaded, name, lock, config)
        chat = settings["prompt"] == "chat"
        return harness(loaded, name, lock, settings=settings[name], chat=chat)
    except _Late:
        return Outcome("timeout", loaded.deadline.reason)
    except (RuntimeError, MemoryError) as error:
        return out_of_memory(error)


def _loss(loaded: Model, name: str, lock: Source, config: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a benchmark that has rows, or passages, and no questions."""
    asked = config["evaluation"][name]
    rows = read_rows(checked_folder(lock, "data_lock") / BENCHMARKS[name].file)[: asked["rows"]]
    if len(rows) < asked["rows"]:
        # A number that a campaign states is refused before; this is a default, or a setting by hand.
        what, things = {HELDOUT: ("held-out", "rows")}.get(name, (name, "passages"))
        wanted = f"evaluation.{name}.rows={asked['rows']}"
        print(f"note: {what} loss over {len(rows)} {things}, fewer than {wanted}", flush=True)
    if name == HELDOUT:
        return heldout(loaded, rows, config["encoding"])
    return retention(loaded, rows, asked["max_tokens"])


def out_of_memory(error: RuntimeError | MemoryError) -> Outcome:
    """Return the outcome of exhausted memory; any other error is raised again.

    Parameters
    ----------
    error
        What loading the model, or a pass of it, raised.
    """
    from aletheia.method.loading import is_out_of_memory

    if not is_out_of_memory(error):
        raise error
    return Outcome("failed", f"out of memory: {str(error)[:200]}")
