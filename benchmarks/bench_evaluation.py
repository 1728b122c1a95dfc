"""Seconds of 200 MMLU questions (5-shot) and 40 HumanEval problems (greedy), SmolLM2-135M: lm-eval's HFLM, and ours.

The same questions, prompts and batch size (8) on both sides. MMLU in fp32 and bf16: what a subject's questions begin
with is computed once, and only the last positions go through the vocabulary. HumanEval in fp32, at most 256 new tokens:
a row that has ended leaves its batch. Beside the times: how many token positions each side computes, which bounds the
ratio that shared prefixes alone can give; the largest difference between log-likelihoods; and how many choices differ
from stock's, in bf16 beside how many of stock's own differ between batch sizes 1 and 8.

Needs the default study's staged model, and in ALETHEIA_TEST_DATA a folder with the benchmarks' own files:
`mmlu/data/test`, `mmlu/data/dev`, `humaneval/HumanEval.jsonl.gz`. An evaluation takes minutes, so at most 3 rounds, and
none to fill caches.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

LOCK = Path("resources/models/smollm2-135m.lock.json")
QUESTIONS, PROBLEMS, BATCH, NEW_TOKENS, SHOTS, SEED = 200, 40, 8, 256, 5, 0
ROUNDS = 3


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return seconds, ratios, tokens and differing choices."""
    with tempfile.TemporaryDirectory(prefix="bench-evaluation-") as scratch:
        return _measure(Path(scratch), interleaved, ratio, min(rounds, ROUNDS))


def _measure(scratch: Path, interleaved: Callable[..., Any], ratio: Callable[..., Any], rounds: int) -> dict[str, Any]:
    import numpy as np

    from aletheia import evaluation

    evaluation.offline(scratch)
    asked = {"mmlu": _mmlu(scratch), "humaneval": _humaneval(scratch)}
    seconds: dict[str, list[float]] = {}
    found: dict[str, Any] = {}
    for dtype in ("fp32", "bf16"):
        lms = _sides(dtype)
        scorers = {f"mmlu {dtype}, {name}": lm.loglikelihood for name, lm in lms.items()}
        seconds |= interleaved(_turns(scorers, asked["mmlu"], found), rounds=rounds, fill=False)
        stock, ours = (_choices(found[f"mmlu {dtype}, {name}"]) for name in ("stock", "ours"))
        found[f"mmlu {dtype}"] = {
            "questions": len(stock),
            "largest_difference": float(np.abs(np.subtract(stock, ours)).max()),
            "choices_that_differ": {"ours and stock": _flips(ours, stock)},
        }
        if dtype == "bf16":
            alone = _sides(dtype, batch_size=1)["stock"].loglikelihood(asked["mmlu"], disable_tqdm=True)
            found["mmlu bf16"]["choices_that_differ"]["stock at batch 1 and 8"] = _flips(_choices(alone), stock)
        else:
            found["tokens"] = _tokens(lms["ours"], asked["mmlu"])
            writers = {f"humaneval fp32, {name}": lm.generate_until for name, lm in lms.items()}
            seconds |= interleaved(_turns(writers, asked["humaneval"], found), rounds=rounds, fill=False)
    texts = [found[f"humaneval fp32, {name}"] for name in ("stock", "ours")]
    cases = ("mmlu fp32", "mmlu bf16", "humaneval fp32")
    return {
        "what": __doc__.splitlines()[0],
        "seconds": seconds,
        "ratios": {
            f"stock / ours, {case}": ratio(seconds[f"{case}, stock"], seconds[f"{case}, ours"]) for case in cases
        },
        "tokens": found["tokens"],
        "answers": {case: found[case] for case in cases[:2]},
        "generations_that_differ": sum(a != b for a, b in zip(*texts, strict=True)),
    }


def _turns(
    sides: dict[str, Callable[..., Any]], requests: Sequence[Any], found: dict[str, Any]
) -> dict[str, Callable[[], float]]:
    """Return what gives each side's seconds; its answers go into ``found`` under its name."""

    def seconds(name: str) -> float:
        start = time.perf_counter()
        found[name] = sides[name](requests, disable_tqdm=True)
        return time.perf_counter() - start

    return {name: partial(seconds, name) for name in sides}


def _sides(dtype: str, batch_size: int = BATCH) -> dict[str, Any]:
    from lm_eval.models.huggingface import HFLM

    from aletheia.harness import StudyLM
    from aletheia.models import load

    model, tokenizer = load(LOCK, dtype=dtype)
    return {
        "stock": HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        "ours": StudyLM(model, tokenizer, batch_size=batch_size),
    }


def _own_files() -> Path:
    from aletheia.errors import UserError

    folder = Path(os.environ.get("ALETHEIA_TEST_DATA") or "nowhere")
    if not (folder / "mmlu" / "data" / "test").is_dir():
        raise UserError("this benchmark reads MMLU's and HumanEval's own files; set ALETHEIA_TEST_DATA to their folder")
    return folder


def _mmlu(scratch: Path) -> list[Any]:
    from aletheia import tasks
    from aletheia.data import read_rows
    from aletheia.materials import build_data

    data = _own_files() / "mmlu" / "data"
    entry = {"source": {"type": "local", "path": str(data / "test"), "format": "mmlu"}, "rows": QUESTIONS, "seed": SEED}
    build_data({**entry, "fewshot": {"file": str(data / "dev"), "rows": SHOTS}}, scratch / "mmlu", scratch)
    shots = read_rows(scratch / "mmlu" / "fewshot.jsonl")
    questions = scratch / "mmlu" / "questions.jsonl"
    return _requests(tasks.task_config("mmlu", questions, cache=scratch, num_fewshot=SHOTS, fewshot=shots))


def _humaneval(scratch: Path) -> list[Any]:
    from aletheia import tasks
    from aletheia.materials import build_data

    path = _own_files() / "humaneval" / "HumanEval.jsonl.gz"
    source = {"type": "local", "path": str(path), "format": "humaneval"}
    build_data({"source": source, "rows": PROBLEMS, "seed": SEED}, scratch / "humaneval", scratch)
    questions = scratch / "humaneval" / "questions.jsonl"
    return _requests(tasks.task_config("humaneval", questions, cache=scratch, max_new_tokens=NEW_TOKENS))


def _requests(config: dict[str, Any]) -> list[Any]:
    """Return what the harness asks of a model for a task."""
    from aletheia.tasks import local_task

    task = local_task(config)
    task.build_all_requests(rank=0, world_size=1)
    return task.instances


def _choices(answers: Sequence[tuple[float, bool]]) -> list[list[float]]:
    """Return each question's four log-likelihoods."""
    return [[value for value, _ in answers[i : i + 4]] for i in range(0, len(answers), 4)]


def _flips(some: list[list[float]], others: list[list[float]]) -> int:
    return sum(a.index(max(a)) != b.index(max(b)) for a, b in zip(some, others, strict=True))


def _tokens(lm: Any, requests: Sequence[Any]) -> dict[str, Any]:
    """Return the token positions that each side computes, and the ratio that they allow."""
    from aletheia.prefixes import Group, Tail, groups, tokens_computed

    contexts = dict.fromkeys(request.args[0] for request in requests)
    tails = [Tail(lm.tok_encode(context), 1) for context in contexts]
    made = groups(tails)
    whole = tokens_computed(tails, [Group(0, list(range(len(tails))))], BATCH)
    ours, least = (tokens_computed(tails, made, size) for size in (BATCH, 1))
    without_padding = sum(len(tail.tokens) for tail in tails)
    # Each token passes the layers' weights; stock sends each through the vocabulary's too (tied to the embedding).
    vocabulary = lm.model.get_output_embeddings().weight.numel()
    layers = sum(p.numel() for p in lm.model.parameters()) - vocabulary
    return {
        "stock": whole,
        "ours": ours,
        "stock / ours": whole / ours,
        "stock / ours, without padding": without_padding / least,
        "stock / ours, weighted by the matrices that a token passes": whole * (layers + vocabulary) / (ours * layers),
        "groups": sum(group.prefix > 0 for group in made),
        "questions_alone": sum(len(group.members) for group in made if not group.prefix),
    }
