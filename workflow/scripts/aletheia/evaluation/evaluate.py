"""What a model scores: held-out loss, and benchmarks of lm-evaluation-harness on staged questions.

Each benchmark gives one outcome: a status, a score or a loss with its standard error, and one row a question.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.errors import UserError
from aletheia.evaluation.outcomes import TABLES, Outcome, scored
from aletheia.provenance.artifacts import Source
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.staging.questions import too_few
from aletheia.study.benchmarks import BENCHMARKS, HELDOUT
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


def ratio_stderr(tokens: Sequence[int], sums: Sequence[float]) -> float | None:
    """Return the standard error of Σ sums / Σ tokens over n rows.

    With R the ratio and e_i = sums_i − R·tokens_i, it is √(n/(n−1) · Σ e_i²) / Σ tokens.

    References
    ----------
    Cochran, *Sampling Techniques*, 3rd ed., section 6.4 (sampling fraction taken as 0).
    """
    n, total = len(tokens), sum(tokens)
    if n < 2:
        return None
    ratio = math.fsum(sums) / total
    squares = math.fsum((s - ratio * t) ** 2 for t, s in zip(tokens, sums, strict=True))
    return math.sqrt(n / (n - 1) * squares) / total


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
    from aletheia.training.heldout_loss import mean_loss, row_losses

    check_context(loaded.model, encoding["max_tokens"])
    encoded = encode_rows(rows, loaded.tokenizer, what="held-out rows", **encoding)
    print(in_words(encoded.counts(), "held-out rows", encoding["max_tokens"]), flush=True)
    pad = loaded.tokenizer.pad_token_id
    losses: list[RowLoss] = []
    _begin(loaded.deadline)
    for batch in row_losses(loaded.model, encoded.examples, batch_size=loaded.batch_size, pad_token_id=pad):
        losses += batch
        if len(losses) < len(encoded.examples):
            _begin(loaded.deadline)
    losses.sort()
    table = [_heldout_row(encoded.examples[loss.index]["row"], loss.tokens, loss.total) for loss in losses]
    broken = sum(row["status"] != "ok" for row in table)
    if broken:
        reason = f"the loss of {broken} of {len(table)} held-out rows is not finite"
        return Outcome("failed", reason, n=len(table), rows=table)
    stderr = ratio_stderr([loss.tokens for loss in losses], [loss.total for loss in losses])
    return Outcome(loss=mean_loss(losses), stderr=stderr, n=len(table), rows=table)


def _heldout_row(row: int, tokens: int, total: float) -> dict[str, Any]:
    finite = math.isfinite(total)
    return {
        "row": row,
        "tokens": tokens,
        "loss": total / tokens if finite else None,
        "status": "ok" if finite else "nan",
    }


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
        One of :data:`aletheia.study.benchmarks.QUESTIONS`.
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
    found = too_few(examples, read_rows(folder / "questions.jsonl"), wanted)
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
        Lock of its data: the training data's for ``heldout``, the questions' for the others.
    config
        Sections ``evaluation`` and ``encoding``.
    """
    settings = config["evaluation"]
    try:
        _begin(loaded.deadline)
        if name == HELDOUT:
            asked = settings[name]["rows"]
            rows = read_rows(checked_folder(lock, "data_lock") / "heldout.jsonl")[:asked]
            if len(rows) < asked:
                # A number that a campaign states is refused before; this is a default, or a setting by hand.
                print(
                    f"note: held-out loss over {len(rows)} rows, fewer than evaluation.heldout.rows={asked}", flush=True
                )
            return heldout(loaded, rows, config["encoding"])
        chat = settings["prompt"] == "chat"
        return harness(loaded, name, lock, settings=settings[name], chat=chat)
    except _Late:
        return Outcome("timeout", loaded.deadline.reason)
    except (RuntimeError, MemoryError) as error:
        return out_of_memory(error)


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
