"""lm-evaluation-harness on staged questions: no hub, no network, no shared cache.

Importing this module imports the harness (torch, transformers, datasets), so others import it late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, DatasetDict
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.api.samplers import ContextSampler
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from aletheia.errors import UserError
from aletheia.provenance.lineage import TASKS
from aletheia.provenance.staged_files import read_rows


class SameSubject(ContextSampler):
    """Few-shot examples: the first n of the question's subject, in file order, as in MMLU."""

    subject: str | None = None

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **_: Any) -> list[dict[str, Any]]:
        """Return the first ``n`` rows of ``subject``."""
        shots = [row for row in self.df if row.get("subject") == self.subject][:n]
        if len(shots) < n:
            raise UserError(f"expected {n} few-shot rows of subject {self.subject}, found {len(shots)}; stage more")
        return shots


class _SubjectTask(ConfigurableTask):
    """Gives the sampler the question's subject; the harness does so only for examples from the test split."""

    def fewshot_context(self, doc: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        self.sampler.subject = doc.get("subject")
        return super().fewshot_context(doc, *args, **kwargs)


def task_config(
    name: str,
    questions: Path,
    *,
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
    num_fewshot, fewshot
        Number of examples before a question, and the rows that they are taken from.
    max_new_tokens
        Limit of a generation.
    """
    config = yaml.safe_load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"))
    # Not as a file name for the datasets library, which would expand variables and patterns in it.
    config |= {"custom_dataset": staged_questions, "dataset_kwargs": {"path": str(questions)}}
    config["num_fewshot"] = num_fewshot
    if num_fewshot:
        by_subject = any(row.get("subject") for row in fewshot or [])
        config["fewshot_config"] = {"sampler": SameSubject if by_subject else "first_n", "samples": fewshot}
    if max_new_tokens is not None:
        config["generation_kwargs"]["max_gen_toks"] = max_new_tokens
    return config


def staged_questions(path: str, **_: Any) -> DatasetDict:
    """Return a staged file of questions as the harness takes a data set."""
    return DatasetDict(test=Dataset.from_list(read_rows(path)))


def local_task(config: dict[str, Any]) -> ConfigurableTask:
    """Return the harness's task for a configuration of :func:`task_config`."""
    by_subject = config.get("fewshot_config", {}).get("sampler") is SameSubject
    return (_SubjectTask if by_subject else ConfigurableTask)(config=config)


def run_task(lm: LM, config: dict[str, Any], *, chat: bool = False) -> dict[str, Any]:
    """Run one task.

    Returns
    -------
    dict
        ``samples``: for each filter of the task, its rows in question order; ``version``; ``results``, the
        harness's own numbers.
    """
    outcome = simple_evaluate(
        lm,
        tasks=[local_task(config)],
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
