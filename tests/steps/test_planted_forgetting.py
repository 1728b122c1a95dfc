"""A planted forgetting is seen: SmolLM2-135M, trained on answers that belong to other questions."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import read_rows
from aletheia.seeded_order import seeded_order
from conftest import run_script
from evaluations import CONFIG, data_lock, lock_of, script_arguments

pytestmark = pytest.mark.slow

ASKED, TAUGHT, PASSAGES = 60, 140, 16
BENCHMARKS = ["retention", "piqa"]
CONFIGURATION = {
    **CONFIG,
    "encoding": {"prompt": "plain", "max_tokens": 128, "loss_on": "response"},
    "evaluation": {
        **CONFIG["evaluation"],
        "benchmarks": BENCHMARKS,
        "batch_size": 8,
        "retention": {"passages": "retention", "rows": PASSAGES, "max_tokens": 128},
    },
}
TRAINING = ("steps=32", "batch_size=2", "accumulation=1", "learning_rate=0.002", "warmup_steps=3", "eval_rows=8")


def taught(questions, *, shuffled):
    """Return training rows: each question with its own answer, or with that of another one."""
    answers = [question["choices"][question["answer"]] for question in questions]
    if shuffled:
        answers = seeded_order(answers, seed=0)
    return [
        {"instruction": question["question"], "input": "", "output": answer}
        for question, answer in zip(questions, answers, strict=True)
    ]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Return the locks of the model, of two sets of rows, and of the questions and passages that are asked."""
    folder = tmp_path_factory.mktemp("staged")
    piqa, passages = (lock_of("data", name, folder).parent / name for name in ("piqa", "retention"))
    questions = read_rows(piqa / "questions.jsonl")
    texts = read_rows(passages / "passages.jsonl")
    asked, others = questions[:ASKED], questions[ASKED : ASKED + TAUGHT]
    return {
        "model": lock_of("model", "smollm2-135m", folder),
        "piqa": data_lock(folder / "asked", "piqa", questions=asked),
        "retention": data_lock(folder / "asked", "retention", passages=texts[:PASSAGES]),
        **{
            kind: data_lock(folder / kind, "rows", train=rows, heldout=rows[:8])
            for kind in ("right", "shuffled")
            for rows in [taught(others, shuffled=kind == "shuffled")]
        },
    }


def evaluated(staged, out, run=None):
    """Return a run's tables by benchmark; of the base model without a run."""
    done = run_script("evaluate_run.py", *script_arguments(staged, out, run=run, config=CONFIGURATION))
    assert done.returncode == 0, done.stderr
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in BENCHMARKS}


@pytest.fixture(scope="module")
def base(staged, tmp_path_factory):
    return evaluated({**staged, "data": staged["right"]}, tmp_path_factory.mktemp("base"))


def changes(staged, base, kind, out):
    """Return 95 % intervals, over passages and questions, of what training on a kind of rows changed."""
    settings = ["model.dtype=fp32", "encoding.prompt=plain", "encoding.max_tokens=128"]
    settings += [f"training.{setting}" for setting in TRAINING]
    places = ["--model-lock", staged["model"], "--data-lock", staged[kind], "--seed", 1]
    done = run_script("train.py", *places, "--out", out / "run.json", "--adapter", out / "adapter", "--set", *settings)
    assert done.returncode == 0, done.stderr
    assert artifacts.payload(out / "run.json", "run")["status"] == "ok"
    found = evaluated({**staged, "data": staged[kind]}, out / "scores", run=out / "run.json")
    differences = {
        "retention": found["retention"]["loss"] - base["retention"]["loss"],
        "piqa": found["piqa"]["probability"] - base["piqa"]["probability"],
    }
    return {name: tuple(ttest_1samp(each, 0).confidence_interval(0.95)) for name, each in differences.items()}


def test_answers_to_other_questions_are_seen_as_forgetting(staged, base, tmp_path):
    found = changes(staged, base, "shuffled", tmp_path)
    assert found["retention"][0] > 0, found
    assert found["piqa"][1] < 0, found


def test_right_answers_are_no_such_forgetting(staged, base, tmp_path):
    found = changes(staged, base, "right", tmp_path)
    assert found["piqa"][1] > 0, found
