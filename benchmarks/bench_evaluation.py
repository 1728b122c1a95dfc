"""Seconds of 200 MMLU questions (5-shot) and 40 HumanEval problems (greedy), SmolLM2-135M: lm-eval's HFLM, and ours.

The same questions, prompts and batch size (8) on both sides. MMLU in fp32 and bf16: what a subject's questions begin
with is computed once, and only the last positions go through the vocabulary. HumanEval in fp32, at most 256 new tokens:
a row that has ended leaves its batch. Beside the times: how many token positions each side computes, which bounds the
ratio that shared prefixes alone can give; the largest difference between log-likelihoods; and how many choices differ
from stock's, in bf16 beside how many of stock's own differ between batch sizes 1 and 8.

Two parts have one side: `judging`, the seconds in which the 164 canonical solutions are judged in bubblewrap, two at a
time; and `loads`, how often the weights are read for the base model and two arms on three benchmarks.

Needs the default study's staged model, and in ALETHEIA_TEST_DATA a folder with the benchmarks' own files:
`mmlu/data/test`, `mmlu/data/dev`, `humaneval/HumanEval.jsonl.gz`, `gsm8k/test.jsonl`. An evaluation takes minutes, so
at most 3 rounds, and none to fill caches.
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
PARTS = ("mmlu_fp32", "mmlu_bf16", "humaneval_fp32", "judging", "loads")


def measure(
    interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int, parts: Sequence[str] = PARTS
) -> dict[str, Any]:
    """Return what each of the parts that are asked for has: seconds, ratios, tokens, differing choices, counts."""
    from aletheia.evaluation import evaluate

    found: dict[str, Any] = {"what": __doc__.splitlines()[0], "parts": list(parts), "ratios": {}}
    rounds = min(rounds, ROUNDS)
    with tempfile.TemporaryDirectory(prefix="bench-evaluation-") as scratch:
        evaluate.offline(Path(scratch))
        for part in parts:
            folder = Path(scratch) / part
            folder.mkdir()
            if part == "judging":
                measured = _judging(rounds)
            elif part == "loads":
                measured = _loads(folder)
            else:
                measured = _compared(folder, *part.split("_"), partial(interleaved, rounds=rounds), ratio)
            for key, value in measured.items():
                found[key] = {**found.get(key, {}), **value} if key in ("seconds", "ratios", "answers") else value
    return found


def _compared(
    scratch: Path, benchmark: str, dtype: str, interleaved: Callable[..., Any], ratio: Callable[..., Any]
) -> dict[str, Any]:
    """Return both sides' seconds on one benchmark, their ratio, and in what their answers differ."""
    import numpy as np

    case, lms = f"{benchmark} {dtype}", _sides(dtype)
    asked = (_mmlu if benchmark == "mmlu" else _humaneval)(scratch)
    answers: dict[str, Any] = {}
    names = [f"{case}, stock", f"{case}, ours"]
    call = "loglikelihood" if benchmark == "mmlu" else "generate_until"
    sides = {name: getattr(lm, call) for name, lm in zip(names, (lms["stock"], lms["ours"]), strict=True)}
    seconds = interleaved(_turns(sides, asked, answers), fill=False)
    found: dict[str, Any] = {"seconds": seconds}
    found["ratios"] = {f"stock / ours, {case}": ratio(*(seconds[name] for name in names))}
    if benchmark == "humaneval":
        pairs = zip(*(answers[name] for name in names), strict=True)
        return {**found, "generations_that_differ": sum(a != b for a, b in pairs)}
    stock, ours = (_choices(answers[name]) for name in names)
    differ = {"ours and stock": _flips(ours, stock)}
    if dtype == "bf16":
        alone = _sides(dtype, batch_size=1)["stock"].loglikelihood(asked, disable_tqdm=True)
        differ["stock at batch 1 and 8"] = _flips(_choices(alone), stock)
    else:
        found["tokens"] = _tokens(lms["ours"], asked)
    largest = float(np.abs(np.subtract(stock, ours)).max())
    facts = {"questions": len(stock), "largest_difference": largest, "choices_that_differ": differ}
    return {**found, "answers": {case: facts}}


def _judging(rounds: int) -> dict[str, Any]:
    """Return the seconds in which all canonical solutions are judged, and how many of them pass."""
    from aletheia.evaluation import score_code
    from aletheia.sandbox import judge
    from aletheia.staging.questions import read_questions

    problems = read_questions(_own_files() / "humaneval" / "HumanEval.jsonl.gz", "humaneval")[0]
    programs = [score_code.program(problem, problem["canonical_solution"]) for problem in problems]
    kind, seconds, passed = judge.resolve("bubblewrap"), [], set()
    for _ in range(rounds):
        start = time.perf_counter()
        passed.add(sum(verdict.passed for verdict in judge.run_all(programs, kind=kind, workers=2)))
        seconds.append(time.perf_counter() - start)
    facts = {"programs": len(programs), "passed": sorted(passed), "workers": 2, "sandbox": kind}
    return {"seconds": {"judging": seconds}, "judging": facts}


def _loads(scratch: Path) -> dict[str, Any]:
    """Return how often weights are read for base and two arms (random adapters), two questions of each benchmark."""
    from peft import LoraConfig, get_peft_model
    from staged import SETTINGS, questions_lock, run_of
    from transformers import PreTrainedModel

    from aletheia.evaluation import evaluated_run
    from aletheia.method import loading
    from aletheia.provenance import artifacts
    from aletheia.staging.questions import read_questions

    files = {"mmlu": "mmlu/data/test", "gsm8k": "gsm8k/test.jsonl", "humaneval": "humaneval/HumanEval.jsonl.gz"}
    asked = {name: read_questions(_own_files() / file, name)[0][:2] for name, file in files.items()}
    questions = [questions_lock(scratch, name, rows) for name, rows in asked.items()]
    model = get_peft_model(loading.load(LOCK, dtype="fp32")[0], LoraConfig(r=2, init_lora_weights=False))
    model.save_pretrained(scratch / "adapter")
    run = run_of(scratch / "adapter", artifacts.payload(LOCK, "model_lock")["model"])
    load, read = PreTrainedModel.from_pretrained.__func__, []
    PreTrainedModel.from_pretrained = classmethod(lambda cls, *a, **k: (read.append(cls), load(cls, *a, **k))[1])
    try:
        statuses = []
        for each in (None, run, run):
            # No benchmark here asks for held-out rows, so that any lock of data will do.
            inputs = evaluated_run.EvaluationInputs(LOCK, questions[0], questions, run=each)
            statuses += [one.outcome.status for one in evaluated_run.evaluations(inputs, SETTINGS, scratch)]
    finally:
        PreTrainedModel.from_pretrained = classmethod(load)
    return {"loads": {"runs": 3, "benchmarks": len(files), "evaluations": statuses.count("ok"), "models": len(read)}}


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

    from aletheia.evaluation.harness import StudyLM
    from aletheia.method.loading import load

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
    from aletheia.evaluation import harness_tasks
    from aletheia.provenance.staged_files import read_rows
    from aletheia.staging.build import build_data

    data = _own_files() / "mmlu" / "data"
    entry = {"source": {"type": "local", "path": str(data / "test"), "format": "mmlu"}, "rows": QUESTIONS, "seed": SEED}
    build_data({**entry, "fewshot": {"file": str(data / "dev"), "rows": SHOTS}}, scratch / "mmlu", scratch)
    shots = read_rows(scratch / "mmlu" / "fewshot.jsonl")
    questions = scratch / "mmlu" / "questions.jsonl"
    return _requests(harness_tasks.task_config("mmlu", questions, num_fewshot=SHOTS, fewshot=shots))


def _humaneval(scratch: Path) -> list[Any]:
    from aletheia.evaluation import harness_tasks
    from aletheia.staging.build import build_data

    path = _own_files() / "humaneval" / "HumanEval.jsonl.gz"
    source = {"type": "local", "path": str(path), "format": "humaneval"}
    build_data({"source": source, "rows": PROBLEMS, "seed": SEED}, scratch / "humaneval", scratch)
    questions = scratch / "humaneval" / "questions.jsonl"
    return _requests(harness_tasks.task_config("humaneval", questions, max_new_tokens=NEW_TOKENS))


def _requests(config: dict[str, Any]) -> list[Any]:
    """Return what the harness asks of a model for a task."""
    from aletheia.evaluation.harness_tasks import local_task

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
    from aletheia.evaluation.prefix_cache import PrefixGroup, ScoredSequence, group_by_prefix, tokens_computed

    contexts = dict.fromkeys(request.args[0] for request in requests)
    tails = [ScoredSequence(lm.tok_encode(context), 1) for context in contexts]
    made = group_by_prefix(tails)
    whole = tokens_computed(tails, [PrefixGroup(0, list(range(len(tails))))], BATCH)
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
