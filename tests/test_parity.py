"""The numbers are those of the ``lm_eval`` command line: SmolLM2-135M, the benchmarks' own questions, in fp32."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from aletheia import evaluation, models, splits
from aletheia.questions import read_examples, read_questions
from aletheia.tasks import TASKS, task_config
from conftest import ROOT, run_script
from test_evaluation import CONFIG, data_lock

# Ten subjects, ten questions each; the history ones have prompts of thousands of tokens and would take minutes.
SUBJECTS = ["abstract_algebra", "anatomy", "astronomy", "global_facts", "human_aging", "marketing", "nutrition"]
SUBJECTS += ["philosophy", "sociology", "virology"]
NEW_TOKENS = {"gsm8k": 128, "humaneval": 96}
BATCH = 8

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """Return SmolLM2-135M's lock, staged before or now."""
    lock = ROOT / "resources" / "models" / "smollm2-135m.lock.json"
    if not lock.is_file():
        lock = tmp_path_factory.mktemp("staged") / "models" / lock.name
        entry = yaml.safe_load((ROOT / "config" / "models.yaml").read_text(encoding="utf-8"))["smollm2-135m"]
        section = f"config:model={json.dumps(entry)}"
        done = run_script("stage.py", "model", "smollm2-135m", "--out", lock, "--lineage", section, HF_HUB_OFFLINE="0")
        assert done.returncode == 0, done.stderr
    model, tokenizer = models.load(lock, dtype="fp32")
    return SimpleNamespace(lock=lock, loaded=evaluation.Model(model, tokenizer, BATCH))


def command_line(smollm2, tasks, folder):
    """Run the command line on task definitions of ours; return {task: its samples in question order}."""
    (folder / "tasks").mkdir()
    for name, task in tasks.items():
        (folder / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump({**task, "task": name}), encoding="utf-8")
    model = smollm2.lock.parent / "smollm2-135m"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", ",".join(tasks), "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", str(folder / "tasks")]
    command += ["--batch_size", str(BATCH), "--output_path", str(folder / "out"), "--log_samples"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    samples = {}
    for name in tasks:
        (log,) = (folder / "out").rglob(f"samples_{name}_*.jsonl")
        rows = map(json.loads, log.read_text(encoding="utf-8").splitlines())
        samples[name] = sorted(rows, key=lambda row: row["doc_id"])
    return samples


def ours(smollm2, name, lock, cache, **settings):
    config = {**CONFIG, "evaluation": {**CONFIG["evaluation"], name: {"questions": name, **settings}}}
    return evaluation.evaluate(smollm2.loaded, name, lock, config=config, cache=cache)


def test_100_mmlu_questions_5_shot(smollm2, benchmark_data, tmp_path):
    """One task a subject on the command line, as the harness has MMLU; all subjects at once here."""
    data = benchmark_data / "mmlu" / "data"
    questions, shots, tasks = [], [], {}
    for subject in SUBJECTS:
        asked = splits.drawn(read_questions(data / "test" / f"{subject}_test.csv", "mmlu")[0], 10, seed=0)
        own = read_examples(data / "dev" / f"{subject}_dev.csv", "mmlu", 5)
        path = tmp_path / f"{subject}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
        task = task_config("mmlu", path, cache=tmp_path / "cache", num_fewshot=5, fewshot=own)
        tasks[subject] = {**task, "fewshot_config": {"sampler": "first_n", "samples": own}}
        questions, shots = questions + asked, shots + own
    theirs = [sample for rows in command_line(smollm2, tasks, tmp_path).values() for sample in rows]
    lock = data_lock(tmp_path / "staged", "mmlu", questions=questions, fewshot=shots)
    outcome = ours(smollm2, "mmlu", lock, tmp_path / "cache", num_fewshot=5)
    assert [row["correct"] for row in outcome.rows] == [sample["acc"] == 1.0 for sample in theirs]
    found = np.array([row["loglikelihoods"] for row in outcome.rows])
    expected = np.array([[float(r[0][0]) for r in sample["resps"]] for sample in theirs])
    assert found.shape == (100, 4)
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["gsm8k", "humaneval"])
def test_20_generations(smollm2, benchmark_data, tmp_path, name):
    """GSM8K 5-shot with the first five training rows, HumanEval greedy: the same texts, hence the same outcomes."""
    files = {"gsm8k": "gsm8k/test.jsonl", "humaneval": "humaneval/HumanEval.jsonl.gz"}
    asked = splits.drawn(read_questions(benchmark_data / files[name], name)[0], 20, seed=0)
    staged, settings = {"questions": asked}, {"max_new_tokens": NEW_TOKENS[name]}
    if name == "gsm8k":
        staged["fewshot"] = read_examples(benchmark_data / "gsm8k" / "train.jsonl.gz", name, 5)
        settings["num_fewshot"] = 5
    lock = data_lock(tmp_path, name, **staged)
    config = task_config(
        name, tmp_path / name / "questions.jsonl", cache=tmp_path / "cache", fewshot=staged.get("fewshot"), **settings
    )
    assert config["task"] == yaml.safe_load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"))["task"]
    theirs = command_line(smollm2, {name: config}, tmp_path)[name]
    strict = [sample for sample in theirs if sample["filter"] == theirs[0]["filter"]]
    outcome = ours(smollm2, name, lock, tmp_path / "cache", **settings)
    assert len(outcome.rows) == 20
    assert [row["generation"] for row in outcome.rows] == [sample["resps"][0][0] for sample in strict]
    if name == "gsm8k":
        assert [row["correct"] for row in outcome.rows] == [sample["exact_match"] == 1.0 for sample in strict]
    assert outcome.truncated == sum(row["truncated"] for row in outcome.rows) <= 20
