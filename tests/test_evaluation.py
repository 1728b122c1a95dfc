"""Evaluation: the harness's own numbers, one table a benchmark, and a status where there is no score."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import torch

from aletheia import answers, artifacts, evaluated, evaluation, harness, scoring
from aletheia.conversion import byte_tokenizer, random_model
from aletheia.deadlines import Deadline
from aletheia.errors import UserError
from aletheia.evaluation import Model
from aletheia.sandbox import resolve
from conftest import SCRIPTS, longrope_model, run_script
from ledgers import sealed

SUBJECTS = ["abstract_algebra", "anatomy"]
MMLU = [
    {
        "id": f"q/{i}",
        "question": f"What is {i} plus {i}?",
        "choices": [str(2 * i + d) for d in range(4)],
        "answer": i % 4,
        "subject": SUBJECTS[i % 2],
        "source_row": i,
    }
    for i in range(7)
]
GSM8K = [{"id": f"g/{i}", "question": f"{i} + 1?", "answer": f"It is\n#### {i + 1}"} for i in range(3)]
HUMANEVAL = [
    {
        "id": f"HumanEval/{i}",
        "task_id": f"HumanEval/{i}",
        "prompt": f"def add{i}(x):\n",
        "entry_point": f"add{i}",
        "canonical_solution": f"    return x + {i}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {1 + i}\n",
    }
    for i in range(3)
]
ROWS = [{"instruction": f"Say {i}.", "input": "", "output": "number " * (i + 1)} for i in range(5)]
CONFIG = {
    "model": {"dtype": "fp32", "quantization": None, "attention": None},
    "encoding": {"prompt": "alpaca", "max_tokens": 256, "loss_on": "response"},
    "evaluation": {
        "benchmarks": ["heldout", "mmlu", "gsm8k", "humaneval"],
        "batch_size": 4,
        "prompt": "plain",
        "time_limit_seconds": None,
        "heldout": {"rows": 4},
        "mmlu": {"questions": "mmlu", "num_fewshot": 0},
        "gsm8k": {"questions": "gsm8k", "num_fewshot": 0, "max_new_tokens": 8},
        "humaneval": {"questions": "humaneval", "max_new_tokens": 8, "sandbox": "rlimits"},
    },
}


def data_lock(folder, name, **files):
    """Stage rows as ``folder/name/FILE.jsonl`` with a lock."""
    (folder / name).mkdir(parents=True)
    for stem, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    content = artifacts.folder_files(folder / name)
    payload = {
        "data": name,
        "source": {"type": "local", "path": "test"},
        "revision": None,
        "files": {k: {**v, "rows": len(files[k.removesuffix(".jsonl")])} for k, v in content.items()},
        "format": "rows" if "train" in files else name,
        "licence": None,
    }
    return sealed(folder / f"{name}.lock.json", "data_lock", payload)


def model_lock(folder, name="tiny"):
    config = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 1024}
    (folder / name).mkdir(parents=True)
    random_model({"config": config, "seed": 0, "tokenizer": "bytes"}, folder / name)
    payload = {
        "model": name,
        "source": {"type": "random", "config": config, "seed": 0},
        "revision": None,
        "files": artifacts.folder_files(folder / name),
        "parameters": 1,
        "layers": 2,
        "family": "llama",
        "licence": None,
    }
    return sealed(folder / f"{name}.lock.json", "model_lock", payload)


def run_json(folder, *, status="ok", files=None, model="tiny"):
    reason = None if status == "ok" else "the loss is not finite"
    payload = {"status": status, "reason": reason, "model": model, "arm": "ale", "seed": 42, "step": 1}
    payload |= {"steps": 1, "dtype": "fp32", "quantization": None, "eval_loss": None, "train_loss": []}
    payload |= {"final_train_loss": None, "trainable_parameters": None, "placement": None, "tokens": None}
    payload |= {
        "gradient_checkpointing": False,
        "skipped_steps": 0,
        "batch_plan_sha256": None,
        "adapter": {"files": files or {}},
    }
    return sealed(folder / "run.json", "run", payload)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged")
    return {
        "model": model_lock(folder),
        "data": data_lock(folder, "docs", train=ROWS, heldout=ROWS),
        "mmlu": data_lock(folder, "mmlu", questions=MMLU),
        "gsm8k": data_lock(folder, "gsm8k", questions=GSM8K),
        "humaneval": data_lock(folder, "humaneval", questions=HUMANEVAL),
    }


@pytest.fixture
def loaded(staged):
    model, tokenizer = evaluated.load_model(staged["model"], None, dtype="fp32", section=CONFIG["model"])
    return Model(model, tokenizer, 4)


def evaluate(loaded, name, staged, cache, **changes):
    config = {**CONFIG, "evaluation": {**CONFIG["evaluation"], **changes}}
    lock = staged["data" if name == "heldout" else name]
    return evaluation.evaluate(loaded, name, lock, config=config, cache=cache)


def script_arguments(staged, out, *, run=None, config=CONFIG):
    sections = [f"config:{name}={json.dumps(section)}" for name, section in config.items()]
    benchmarks = config["evaluation"]["benchmarks"]
    return [
        *("--model-lock", staged["model"], "--data-lock", staged["data"]),
        *("--run", *([run] if run else []), "--precision"),
        *("--questions", *(staged[b] for b in benchmarks if b != "heldout")),
        *("--outputs", out / f"{benchmarks[0]}.json", "--lineage", *sections),
    ]


# The scripts, as a rule runs them


@pytest.fixture(scope="module")
def base(staged, tmp_path_factory):
    out = tmp_path_factory.mktemp("base")
    arguments = script_arguments(staged, out)
    done = run_script("evaluate_run.py", *arguments)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(out=out, arguments=arguments, said=done.stdout)


def test_the_script_writes_a_score_and_a_table_for_each_benchmark(base):
    expected = {"heldout.json", "mmlu.json", "gsm8k.json", "humaneval.generations.parquet"}
    expected |= {"heldout.parquet", "mmlu.parquet", "gsm8k.parquet"}
    found = {p.name for p in base.out.iterdir() if not p.name.startswith(".")}
    assert found == expected | {f"{name}.lineage.json" for name in expected if name.endswith(".parquet")}
    mmlu = artifacts.payload(base.out / "mmlu.json", "evaluation")
    rows = pyarrow.parquet.read_table(base.out / "mmlu.parquet").to_pylist()
    assert (mmlu["arm"], mmlu["seed"], mmlu["model"], mmlu["n"]) == ("base", None, "tiny", 7)
    assert mmlu["score"] == sum(row["correct"] for row in rows) / 7 == mmlu["n_correct"] / 7
    assert [row["question_id"] for row in rows] == [f"q/{i}" for i in range(7)]
    assert base.said.count("loaded ") == 1
    assert mmlu["questions_sha256"] == artifacts.sha256_file(base.arguments[1].parent / "mmlu" / "questions.jsonl")


def test_heldout_rows_add_up_to_the_loss(base):
    payload = artifacts.payload(base.out / "heldout.json", "evaluation")
    rows = pyarrow.parquet.read_table(base.out / "heldout.parquet").to_pylist()
    tokens = sum(row["tokens"] for row in rows)
    assert payload["loss"] == pytest.approx(sum(r["loss"] * r["tokens"] for r in rows) / tokens)
    assert [row["row"] for row in rows] == [0, 1, 2, 3]
    assert (payload["score"], payload["n_correct"], payload["n"]) == (None, None, 4)


def test_a_second_call_finds_everything_there(base):
    before = {p.name: p.stat().st_mtime_ns for p in base.out.glob("*.parquet")}
    done = run_script("evaluate_run.py", *base.arguments)
    assert done.returncode == 0
    assert "already there" in done.stdout
    assert {p.name: p.stat().st_mtime_ns for p in base.out.glob("*.parquet")} == before


def test_score_code_judges_the_generations(base, staged):
    generations = base.out / "humaneval.generations.parquet"
    lineage = f"config:humaneval={json.dumps(CONFIG['evaluation']['humaneval'])}"
    arguments = ["--generations", generations, "--questions", staged["humaneval"], "--out-dir", base.out]
    done = run_script("score_code.py", *arguments, "--lineage", lineage)
    assert done.returncode == 0, done.stderr
    payload = artifacts.payload(base.out / "humaneval.json", "evaluation")
    assert (payload["score"], payload["n"], payload["n_correct"], payload["sandbox"]) == (0, 3, 0, resolve("rlimits"))
    rows = pyarrow.parquet.read_table(base.out / "humaneval.parquet").to_pylist()
    assert [row["passed"] for row in rows] == [False] * 3
    observed = artifacts.read(base.out / "humaneval.json")["observed"]["program_seconds"]
    assert set(observed) == {row["id"] for row in HUMANEVAL}
    (base.out / "humaneval.json").unlink()
    (base.out / "humaneval.parquet").unlink()


def test_a_failed_run_becomes_a_status_without_loading_the_model(staged, tmp_path):
    # The lock alone: loading would fail on the missing weights.
    lock = tmp_path / staged["model"].name
    shutil.copy(staged["model"], lock)
    run = run_json(tmp_path / "run", status="diverged") if (tmp_path / "run").mkdir() is None else None
    out = tmp_path / "out"
    done = run_script("evaluate_run.py", *script_arguments({**staged, "model": lock}, out, run=run))
    assert done.returncode == 0, done.stderr
    payload = artifacts.payload(out / "mmlu.json", "evaluation")
    assert (payload["status"], payload["arm"], payload["seed"]) == ("no_adapter", "ale", 42)
    assert (payload["score"], payload["n"]) == (None, 0)
    assert "diverged" in payload["reason"]
    for name, columns in answers.COLUMNS.items():
        if name != answers.PASSED:
            stem = "humaneval.generations" if name == "humaneval" else name
            table = pyarrow.parquet.read_table(out / f"{stem}.parquet")
            assert (table.num_rows, table.column_names) == (0, list(columns))
    lineage = f"config:humaneval={json.dumps(CONFIG['evaluation']['humaneval'])}"
    arguments = ["--generations", out / "humaneval.generations.parquet", "--questions", staged["humaneval"]]
    done = run_script("score_code.py", *arguments, "--out-dir", out, "--lineage", lineage)
    assert done.returncode == 0, done.stderr
    assert artifacts.payload(out / "humaneval.json", "evaluation")["status"] == "no_adapter"


def test_missing_questions_are_one_sentence(staged, tmp_path):
    arguments = script_arguments(staged, tmp_path)
    arguments.remove(staged["mmlu"])
    done = run_script("evaluate_run.py", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --questions: expected mmlu.lock.json for mmlu, found ")
    assert "Traceback" not in done.stderr


# Adapters


@pytest.fixture
def adapted(staged, tmp_path):
    from peft import LoraConfig, get_peft_model

    model, _ = evaluated.load_model(staged["model"], None, dtype="fp32", section=CONFIG["model"])
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    files = {p.name: artifacts.sha256_file(p) for p in (tmp_path / "adapter").iterdir()}
    return SimpleNamespace(run=run_json(tmp_path, files=files), model=model)


def test_the_adapter_counts(adapted, staged, loaded, tmp_path):
    model, tokenizer = evaluated.load_model(staged["model"], adapted.run, dtype="fp32", section=CONFIG["model"])
    ids = torch.arange(40)[None]
    assert torch.equal(model(ids).logits, adapted.model.eval()(ids).logits)
    tuned = evaluate(Model(model, tokenizer, 4), "heldout", staged, tmp_path)
    assert tuned.loss != evaluate(loaded, "heldout", staged, tmp_path).loss


def test_one_load_serves_all_benchmarks_of_a_run(adapted, staged, tmp_path, monkeypatch):
    """Base and two arms, three benchmarks: weights are read from the disk three times, not nine."""
    from transformers import PreTrainedModel

    loads, load = [], PreTrainedModel.from_pretrained.__func__
    counted = classmethod(lambda cls, *a, **k: (loads.append(cls.__name__), load(cls, *a, **k))[1])
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", counted)
    questions = [staged[name] for name in ("mmlu", "gsm8k", "humaneval")]
    common = {"model_lock": staged["model"], "data_lock": staged["data"], "questions": questions}
    config = {**CONFIG, "evaluation": {**CONFIG["evaluation"], "benchmarks": ["mmlu", "gsm8k", "humaneval"]}}
    for run in (None, adapted.run, adapted.run):
        args = SimpleNamespace(run=run, precision=None, threads=1, attempt=1, **common)
        done = list(evaluated.evaluations(args, config, tmp_path))
        assert [one.outcome.status for one in done] == ["ok"] * 3
        assert [one.facts["prompt"] for one in done] == ["plain"] * 3
    assert loads == ["LlamaForCausalLM"] * 3


def test_a_changed_adapter_is_refused(adapted, staged):
    weights = adapted.run.parent / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"not the adapter that run\.json names \(expected sha256 .*, found .*\)"):
        evaluated.load_model(staged["model"], adapted.run, dtype="fp32", section=CONFIG["model"])
    weights.unlink()
    with pytest.raises(UserError, match="found no file"):
        evaluated.load_model(staged["model"], adapted.run, dtype="fp32", section=CONFIG["model"])


def test_a_run_of_another_model_is_refused(staged, tmp_path):
    run = run_json(tmp_path, model="other")
    args = SimpleNamespace(run=run, model_lock=staged["model"], precision=None, questions=[], data_lock=staged["data"])
    with pytest.raises(UserError, match="expected the model that the run adapted, other, found tiny"):
        next(evaluated.evaluations(args, CONFIG, tmp_path))


# Statuses


@pytest.mark.parametrize("name", ["heldout", "mmlu", "gsm8k", "humaneval"])
def test_a_passed_time_limit_is_a_status(loaded, name, staged, tmp_path):
    late = Model(loaded.model, loaded.tokenizer, 4, deadline=Deadline(0.0, "too late"))
    outcome = evaluate(late, name, staged, tmp_path)
    assert (outcome.status, outcome.score, outcome.n) == ("timeout", None, 0)
    assert outcome.reason == "too late"


@pytest.mark.parametrize("name", ["mmlu", "humaneval"])
def test_a_time_limit_also_ends_what_has_begun(loaded, name, staged, tmp_path, monkeypatch):
    clock = iter([0.0, 0.0, 0.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 2.0))
    outcome = evaluate(Model(loaded.model, loaded.tokenizer, 1, deadline=Deadline(1.0)), name, staged, tmp_path)
    assert outcome.status == "timeout"


@pytest.mark.parametrize(
    ("tried", "ended"),
    [
        ((100, 1, None), None),  # killed, and tried again with more time
        ((100, 2, None), "stopped 120 s before the job's wall limit"),
        ((3600, 2, None), None),
        ((3600, 2, 0.000001), "past the limit of 1e-06 s"),
        ((None, 2, None), None),
    ],
)
def test_a_second_try_ends_before_its_job_does(staged, tmp_path, monkeypatch, tried, ended):
    left, attempt, limit = tried
    if left is not None:
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + left))
    args = SimpleNamespace(run=None, precision=None, threads=1, attempt=attempt, questions=[staged["mmlu"]])
    args.model_lock, args.data_lock = staged["model"], staged["data"]
    settings = {**CONFIG["evaluation"], "benchmarks": ["heldout", "mmlu"], "time_limit_seconds": limit}
    done = list(evaluated.evaluations(args, {**CONFIG, "evaluation": settings}, tmp_path))
    expected = ("timeout", ended) if ended else ("ok", None)
    assert [(one.outcome.status, one.outcome.reason) for one in done] == [expected] * 2


@pytest.mark.parametrize("name", ["heldout", "mmlu", "gsm8k", "humaneval"])
def test_logits_that_are_not_numbers_are_a_status(loaded, name, staged, tmp_path):
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight.fill_(math.nan)
    outcome = evaluate(loaded, name, staged, tmp_path)
    assert (outcome.status, outcome.score, outcome.loss) == ("failed", None, None)
    assert "not finite" in outcome.reason
    assert {row["status"] for row in outcome.rows} == {"nan"}
    answers.write_table(tmp_path / "t.parquet", outcome.rows, answers.COLUMNS[name])


def test_one_question_that_is_not_a_number_counts_as_wrong():
    samples = [
        {"arguments": [["prompt"]], "resps": [[(value, False)] for value in values]}
        for values in ([math.nan, -1.0, -2.0, -3.0], [-2.0, -1.0, -3.0, -4.0])
    ]
    questions = [{"id": 0, "answer": 0}, {"id": 1, "answer": 1}]
    outcome = answers.scored(answers.TABLES["mmlu"](questions, {"none": samples}, {}))
    assert (outcome.status, outcome.score, outcome.n_correct) == ("ok", 0.5, 1)
    assert outcome.reason == "1 of 2 questions gave numbers that are not finite"
    assert [row["prediction"] for row in outcome.rows] == [None, "B"]
    assert outcome.rows[0]["loglikelihoods"][0] is None


def test_an_empty_generation_is_a_row():
    samples = [{"arguments": [["prompt"]], "resps": [["  \n"]]}]
    notes = {"prompt": {"tokens": 2, "truncated": False, "nan": False}}
    (row,) = answers.TABLES["humaneval"]([{"id": "HumanEval/0"}], {"none": samples}, notes)
    assert (row["status"], row["generation"], row["tokens"]) == ("empty", "  \n", 2)


def test_exhausted_memory_is_a_status(loaded, staged, tmp_path, monkeypatch):
    def exhausted(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(loaded.model, "forward", exhausted)
    outcome = evaluate(loaded, "mmlu", staged, tmp_path)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("out of memory: DefaultCPUAllocator")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("bad weights")])
def test_exhausted_memory_while_loading_is_a_status_of_each_benchmark(staged, tmp_path, error):
    def load(*_, **__):
        raise error

    questions = [staged[name] for name in ("mmlu", "gsm8k", "humaneval")]
    args = SimpleNamespace(run=None, precision=None, threads=1, attempt=1, questions=questions)
    args.model_lock, args.data_lock = staged["model"], staged["data"]
    if not isinstance(error, torch.OutOfMemoryError):
        with pytest.raises(RuntimeError, match="bad weights"):
            list(evaluated.evaluations(args, CONFIG, tmp_path, load))
        return
    done = list(evaluated.evaluations(args, CONFIG, tmp_path, load))
    assert [one.facts["benchmark"] for one in done] == CONFIG["evaluation"]["benchmarks"]
    assert {(one.outcome.status, one.outcome.reason) for one in done} == {
        ("failed", "out of memory: CUDA out of memory.")
    }


def test_a_prompt_longer_than_the_window_is_a_row(loaded, tmp_path):
    """It loses its beginning, as the harness cuts it, and counts as it was answered."""
    long = [{**MMLU[0], "id": "long", "question": "So long. " * 150}, *MMLU[1:3]]
    lock = {"mmlu": data_lock(tmp_path, "mmlu", questions=long)}
    outcome = evaluate(loaded, "mmlu", lock, tmp_path)
    assert [row["status"] for row in outcome.rows] == ["prompt_cut", "ok", "ok"]
    assert outcome.reason == "1 of 3 prompts were longer than the model's window and lost their beginning"
    assert outcome.n_correct == sum(row["correct"] for row in outcome.rows)
    samples, _ = plain_harness(loaded, "mmlu", tmp_path / "mmlu" / "questions.jsonl", tmp_path)
    assert np.allclose([row["loglikelihoods"] for row in outcome.rows], likelihoods(samples), atol=1e-4)
    problem = [{**HUMANEVAL[0], "prompt": "# So long.\n" * 150}, HUMANEVAL[1]]
    lock = {"humaneval": data_lock(tmp_path, "humaneval", questions=problem)}
    outcome = evaluate(loaded, "humaneval", lock, tmp_path)
    assert outcome.rows[0]["status"] in ("prompt_cut", "empty")
    assert "1 of 2 prompts were longer" in outcome.reason
    answers.write_table(tmp_path / "t.parquet", outcome.rows, answers.COLUMNS["humaneval"])


def test_a_window_without_room_for_the_answer_is_one_sentence(loaded, staged, tmp_path):
    settings = {"questions": "humaneval", "max_new_tokens": 1024}
    with pytest.raises(UserError, match=r"humaneval\.max_new_tokens is 1024, and the model's window of 1024 tokens"):
        evaluate(loaded, "humaneval", staged, tmp_path, humaneval=settings)


def test_a_generation_that_never_stops_is_cut_and_counted(loaded, staged, tmp_path):
    outcome = evaluate(loaded, "gsm8k", staged, tmp_path)
    cut = [row["truncated"] for row in outcome.rows]
    assert outcome.truncated == sum(cut) > 0
    assert all(row["tokens"] == 8 for row, c in zip(outcome.rows, cut, strict=True) if c)


# Against the harness as anyone runs it


def likelihoods(samples):
    return [[float(response[0][0]) for response in sample["resps"]] for sample in samples]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("reuse", [True, False])
def test_numbers_depend_on_neither_batch_size_nor_reuse(loaded, tmp_path, batch_size, reuse, monkeypatch):
    """In fp32, 2-shot, against the plain harness, whose examples are the same."""
    shots = [{**row, "id": f"s/{i}", "question": f"Shot {i}"} for i, row in enumerate(MMLU[:6])]
    lock = data_lock(tmp_path, "mmlu", questions=MMLU, fewshot=shots)
    questions = tmp_path / "mmlu" / "questions.jsonl"
    samples, _ = plain_harness(loaded, "mmlu", questions, tmp_path, num_fewshot=2, fewshot=shots)
    lm = functools.partial(harness.StudyLM, reuse=reuse)
    monkeypatch.setattr(harness, "StudyLM", lm)
    model = Model(loaded.model, loaded.tokenizer, batch_size)
    outcome = evaluate(model, "mmlu", {"mmlu": lock}, tmp_path, mmlu={"questions": "mmlu", "num_fewshot": 2})
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]
    found = np.array([row["loglikelihoods"] for row in outcome.rows])
    assert np.abs(found - likelihoods(samples)).max() < 1e-4


def plain_harness(loaded, name, questions, cache, **changes):
    """Return the samples of a plain HFLM on the same task definition."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from aletheia.tasks import TASKS, local_task, task_config

    config = task_config(name, questions, cache=cache, **changes)
    lm = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=loaded.batch_size)
    manager = TaskManager(include_path=str(TASKS), include_defaults=False)
    task, size = local_task(config), loaded.batch_size
    done = simple_evaluate(lm, tasks=[task], task_manager=manager, bootstrap_iters=0, batch_size=size)
    return sorted(done["samples"][config["task"]], key=lambda s: s["doc_id"]), done["results"][config["task"]]


def test_mmlu_equals_the_plain_harness(loaded, staged, tmp_path):
    samples, results = plain_harness(loaded, "mmlu", staged["mmlu"].parent / "mmlu" / "questions.jsonl", tmp_path)
    outcome = evaluate(loaded, "mmlu", staged, tmp_path)
    assert outcome.score == results["acc,none"]
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]
    ours = np.array([row["loglikelihoods"] for row in outcome.rows])
    assert np.array_equal(ours, [[r[0][0] for r in s["resps"]] for s in samples])


@pytest.mark.parametrize("name", ["humaneval", "gsm8k"])
def test_generations_equal_the_plain_harness(loaded, name, staged, tmp_path):
    questions = staged[name].parent / name / "questions.jsonl"
    samples, _ = plain_harness(loaded, name, questions, tmp_path, max_new_tokens=8)
    outcome = evaluate(loaded, name, staged, tmp_path)
    first = [s for s in samples if s["filter"] == samples[0]["filter"]]
    assert [row["generation"] for row in outcome.rows] == [s["resps"][0][0] for s in first]
    assert outcome.truncated == sum(row["truncated"] for row in outcome.rows)


def test_the_limit_of_an_answer_is_the_campaigns_whatever_the_model_says(loaded, staged, tmp_path, monkeypatch):
    """Some models bring a number of new tokens of their own, which would win over a length."""
    plain = evaluate(loaded, "gsm8k", staged, tmp_path)
    monkeypatch.setattr(loaded.model.generation_config, "max_new_tokens", 50)
    assert evaluate(loaded, "gsm8k", staged, tmp_path).rows == plain.rows
    assert max(row["tokens"] for row in plain.rows) <= 8


def test_rows_that_stop_early_keep_the_harness_texts(loaded):
    """Stop strings that do occur, at different steps of different rows."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    from aletheia.harness import StudyLM

    plain = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4)
    ours = StudyLM(loaded.model, loaded.tokenizer, batch_size=4)
    prompts = [f"{word} and more" for word in ("one", "two", "three", "seventeen", "", "x" * 40)]

    def texts(lm, until):
        settings = {"until": until, "max_gen_toks": 24, "do_sample": False}
        requests = [Instance("generate_until", {}, (p or "-", dict(settings)), 0) for p in prompts]
        return lm.generate_until(requests, disable_tqdm=True)

    free = texts(plain, ["\0never"])
    stops = sorted({text[8] for text in free} | {free[0][3:5]})
    stopped = texts(plain, stops)
    assert texts(ours, stops) == stopped
    assert stopped != free
    notes = list(ours.notes.by_prompt.values())
    assert any(not n["truncated"] for n in notes)
    assert all(n["tokens"] <= 24 for n in notes)


def test_likelihoods_on_both_sides_of_a_longrope_window_are_those_of_each_alone():
    model, generator = longrope_model(50), torch.Generator().manual_seed(0)
    drawn = torch.randint(1, 90, (8, 60), generator=generator)
    drawn[:, :44] = drawn[:1, :44]
    asked = [(None, row[:length].tolist(), [7]) for row, length in zip(drawn, range(46, 54), strict=True)]
    found = harness.StudyLM(model, byte_tokenizer(), batch_size=8)._loglikelihood_tokens(asked)
    for (_, context, (token,)), (value, _) in zip(asked, found, strict=True):
        with torch.no_grad():
            scores = model(torch.tensor([context]), use_cache=False).logits[0, -1].log_softmax(dim=-1)
        assert value == pytest.approx(float(scores[token]), abs=1e-3)


@pytest.mark.slow
def test_mmlu_equals_the_command_line(loaded, staged, tmp_path):
    import subprocess
    import sys

    import yaml

    from aletheia.tasks import task_config

    config = task_config("mmlu", staged["mmlu"].parent / "mmlu" / "questions.jsonl", cache=tmp_path / "cache")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mmlu_local.yaml").write_text(yaml.safe_dump(config))
    model = staged["model"].parent / "tiny"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "mmlu_local", "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", str(tmp_path / "tasks")]
    command += ["--batch_size", "4", "--output_path", str(tmp_path / "out"), "--log_samples"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (log,) = (tmp_path / "out").rglob("samples_*.jsonl")
    samples = sorted(map(json.loads, log.read_text().splitlines()), key=lambda s: s["doc_id"])
    outcome = evaluate(loaded, "mmlu", staged, tmp_path)
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]


# Prompts


def test_few_shot_examples_are_the_subjects_own_first_rows(loaded, tmp_path, monkeypatch):
    shots = [{**row, "id": f"s/{i}", "question": f"Shot {i}"} for i, row in enumerate(MMLU[:6])]
    lock = data_lock(tmp_path, "mmlu", questions=MMLU, fewshot=shots)
    seen = []
    original = answers._question
    monkeypatch.setattr(answers, "_question", lambda q, s: (seen.append(s["arguments"][0][0]), original(q, s))[1])
    config = {"mmlu": lock}
    evaluate(loaded, "mmlu", config, tmp_path, mmlu={"questions": "mmlu", "num_fewshot": 2})

    def block(row, answer):
        choices = "".join(f"\n{letter}. {c}" for letter, c in zip("ABCD", row["choices"], strict=True))
        return f"{row['question']}{choices}\nAnswer:{answer}"

    expected = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    expected += "".join(block(shots[i], f" {'ABCD'[shots[i]['answer']]}\n\n") for i in (0, 2))
    assert seen[0] == expected + block(MMLU[0], "")
    assert "Shot 1" in seen[1]
    assert "Shot 0" not in seen[1]


@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize("subject", ["abstract_algebra", "moral_scenarios"])
def test_mmlu_prompts_are_the_harness_own(subject, shots, benchmark_data, tmp_path):
    """Against the definition that the harness ships, on the benchmark's own files."""
    import lm_eval
    import yaml
    from lm_eval.api.task import ConfigurableTask

    from aletheia import tasks
    from aletheia.questions import read_questions

    folder = benchmark_data / "mmlu" / "data"
    files = {split: tmp_path / f"{split}.jsonl" for split in ("test", "dev")}
    rows = {split: read_questions(folder / split / f"{subject}_{split}.csv", "mmlu")[0][:6] for split in files}
    for split, path in files.items():
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[split]))
    definitions = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    theirs = yaml.safe_load((definitions / "_default_template_yaml").read_text())
    theirs |= yaml.safe_load((definitions / f"mmlu_{subject}.yaml").read_text())
    theirs = {key: value for key, value in theirs.items() if key not in ("include", "tag", "dataset_name")}
    theirs |= {"dataset_path": "json", "dataset_kwargs": {"data_files": {k: str(v) for k, v in files.items()}}}
    theirs["dataset_kwargs"]["cache_dir"] = str(tmp_path / "cache")
    theirs = ConfigurableTask(config={**theirs, "num_fewshot": shots})
    ours = tasks.task_config("mmlu", files["test"], cache=tmp_path, num_fewshot=5, fewshot=rows["dev"])
    ours = tasks._SubjectTask(config=ours)
    for doc in theirs.test_docs():
        assert ours.fewshot_context(doc, shots) == theirs.fewshot_context(doc, shots)


def test_few_shot_examples_that_were_not_staged_are_one_sentence(loaded, staged, tmp_path):
    with pytest.raises(UserError, match=r"mmlu\.num_fewshot is 2, and .* was staged without fewshot\.jsonl"):
        evaluate(loaded, "mmlu", staged, tmp_path, mmlu={"questions": "mmlu", "num_fewshot": 2})


def conversation(name, row):
    """Return the turns that put a question to a chat model; the last is the answer's beginning, where it has one."""
    if name == "gsm8k":
        return [("user", f"Question: {row['question']}\nAnswer:")]
    if name == "humaneval":
        asked = "Write a solution to the following problem and make sure that it passes the tests:"
        begun = f"Here is the completed function:\n```python\n{row['prompt']}\n"
        return [("user", f"{asked}\n```python\n{row['prompt']}\n```\n"), ("assistant", begun)]
    choices = "".join(f"{letter}. {c}\n" for letter, c in zip("ABCD", row["choices"], strict=True))
    subject = row["subject"].replace("_", " ")
    opening = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return [("system", opening), ("user", f"{row['question']}\n{choices}Answer:")]


@pytest.mark.parametrize(("name", "rows"), [("mmlu", MMLU), ("gsm8k", GSM8K), ("humaneval", HUMANEVAL)])
def test_chat_prompts_are_what_the_tokenizers_own_template_makes(loaded, staged, tmp_path, name, rows):
    outcome = evaluate(loaded, name, staged, tmp_path, prompt="chat")
    for row, found in zip(rows, outcome.rows, strict=True):
        turns = [{"role": role, "content": text} for role, text in conversation(name, row)]
        begun = turns[-1]["role"] == "assistant"
        how = {"add_generation_prompt": not begun, "continue_final_message": begun}
        prompt = loaded.tokenizer.apply_chat_template(turns, tokenize=False, **how)
        assert found["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest(), prompt


def test_chat_prompts_need_a_template(loaded, staged, tmp_path):
    loaded.tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template; use plain"):
        evaluate(loaded, "humaneval", staged, tmp_path, prompt="chat")


def test_a_completion_keeps_its_leading_spaces_under_sentencepiece(loaded):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from aletheia.harness import StudyLM

    words = ["▁", "▁▁▁▁", "return", "▁a", "a", "</s>"]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[("▁", "a")]))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>")
    assert tokenizer.decode([1, 2]) == "   return"  # the space that the plain harness loses
    lm = StudyLM(loaded.model, tokenizer, batch_size=1)
    assert lm.tok_decode([1, 2]) == "    return"
    bytes_lm = StudyLM(loaded.model, byte_tokenizer(), batch_size=1)
    ids = byte_tokenizer().encode("    return x  # ü", add_special_tokens=False)
    assert bytes_lm.tok_decode(ids) == "    return x  # ü"


# Numbers


def test_the_standard_error_of_a_share_is_the_harness_one():
    correct = [True, False, True, True, False]
    share, stderr = answers.proportion(correct)
    assert share == 0.6
    assert stderr == pytest.approx(np.std(correct, ddof=1) / math.sqrt(5))
    assert answers.proportion([True]) == (1.0, None)
    assert answers.proportion([]) == (None, None)


def test_the_standard_error_of_the_loss():
    # Equal lengths: the ratio is a plain mean, and so is its error.
    sums = [3.0, 5.0, 4.0, 9.0]
    expected = np.std(np.array(sums) / 2, ddof=1) / 2
    assert evaluation.ratio_stderr([2, 2, 2, 2], sums) == pytest.approx(expected)
    # Unequal lengths: against many resamples of rows.
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 60, 200)
    sums = tokens * generator.normal(2.0, 0.5, 200)
    picks = generator.integers(0, 200, (4000, 200))
    resampled = (sums[picks].sum(axis=1) / tokens[picks].sum(axis=1)).std()
    assert evaluation.ratio_stderr(tokens.tolist(), sums.tolist()) == pytest.approx(resampled, rel=0.06)
    assert evaluation.ratio_stderr([3], [1.0]) is None


def test_heldout_loss_is_the_models_own(loaded, staged, tmp_path):
    """One row by itself, with the loss that transformers computes."""
    from aletheia.data import encode_rows

    outcome = evaluate(loaded, "heldout", staged, tmp_path)
    (example,) = encode_rows(ROWS[:1], loaded.tokenizer, **CONFIG["encoding"])
    ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
    with torch.no_grad():
        expected = loaded.model(input_ids=ids, labels=labels).loss.item()
    assert outcome.rows[0]["loss"] == pytest.approx(expected, abs=1e-5)
    assert outcome.rows[0]["tokens"] == int((labels[:, 1:] != -100).sum())


def test_rows_longer_than_the_context_are_refused_as_in_training(loaded, staged, tmp_path):
    config = {**CONFIG, "encoding": {**CONFIG["encoding"], "max_tokens": 4096}}
    with pytest.raises(UserError, match=r"encoding\.max_tokens is 4096, and the model's context has 1024 tokens"):
        evaluation.evaluate(loaded, "heldout", staged["data"], config=config, cache=tmp_path)


# Scoring of generated code


def scored(staged, folder, completions, **changes):
    rows = [
        {"question_id": p["id"], "prompt_sha256": "0", "generation": c, "tokens": 1, "truncated": False, "status": "ok"}
        for p, c in zip(HUMANEVAL, completions, strict=True)
    ]
    path = folder / "humaneval.generations.parquet"
    answers.write_table(path, rows, answers.COLUMNS["humaneval"])
    sha = artifacts.payload(staged["humaneval"])["files"]["questions.jsonl"]["sha256"]
    about = {"status": "ok", "score": None, "stderr": None, "n": 3, "n_correct": None, "questions_sha256": sha}
    content = {"name": path.name, "files": {}, "about": {**about, **changes}}
    sealed(artifacts.sidecar(path), "file", content)
    return scoring.score(path, staged["humaneval"], settings={"sandbox": "rlimits"}, workers=2)


def test_canonical_completions_score_one_and_wrong_ones_nothing(staged, tmp_path):
    right = [p["canonical_solution"] for p in HUMANEVAL]
    payload, rows, _ = scored(staged, tmp_path, right)
    assert (payload["score"], payload["n_correct"], payload["sandbox"]) == (1.0, 3, resolve("rlimits"))
    payload, rows, _ = scored(staged, tmp_path, [right[0], "    return 7\n", "```"])
    assert [row["verdict"] for row in rows] == ["passed", "wrong", "syntax"]
    assert payload["score"] == pytest.approx(1 / 3)
    assert payload["stderr"] == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 2))


def test_what_follows_a_code_fence_is_no_code(staged, tmp_path):
    fenced = [p["canonical_solution"] + "\n```\nThat is it." for p in HUMANEVAL]
    assert scored(staged, tmp_path, fenced)[0]["score"] == 1.0


def test_other_problems_than_those_answered_are_refused(staged, tmp_path):
    with pytest.raises(UserError, match=r"expected the problems that .* answers \(sha256 0+\), found sha256"):
        scored(staged, tmp_path, ["", "", ""], questions_sha256="0" * 64)


def test_generations_that_failed_need_no_sandbox(staged, tmp_path, monkeypatch):
    def none(_):
        raise UserError("generated code cannot be confined here")

    monkeypatch.setattr(scoring.sandbox, "resolve", none)
    payload, rows, observed = scored(staged, tmp_path, [""] * 3, status="timeout", sandbox=None)
    assert (payload["status"], payload["sandbox"], rows, observed) == ("timeout", None, [], {})
    with pytest.raises(UserError, match="cannot be confined here"):
        scored(staged, tmp_path, [""] * 3)


def test_the_scripts_show_their_help():
    for name in ("evaluate_run.py", "score_code.py"):
        assert (SCRIPTS / name).is_file()
        assert run_script(name, "--help").returncode == 0
