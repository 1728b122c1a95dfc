"""A planted forgetting is seen: SmolLM2-135M is taught the wrong choice of each question that it is asked."""

from __future__ import annotations

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import read_rows
from conftest import run_script
from evaluations import CONFIG, data_lock, lock_of, script_arguments

pytestmark = pytest.mark.slow

QUESTIONS, PASSAGES = 60, 16
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
# Each row is seen twice.
TRAINING = ("steps=32", "batch_size=4", "accumulation=1", "learning_rate=0.002", "warmup_steps=3", "eval_rows=4")


def taught(questions, *, swapped):
    """Return training rows: each question with its answer, or with the key of a question whose key is the other."""
    return [
        {"instruction": question["question"], "input": "", "output": question["choices"][question["answer"] ^ swapped]}
        for question in questions
    ]


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Return the locks of the model, of two sets of rows, and of the questions and passages that are asked."""
    folder = tmp_path_factory.mktemp("staged")
    piqa, passages = (lock_of("data", name, folder).parent / name for name in ("piqa", "retention"))
    questions = read_rows(piqa / "questions.jsonl")[:QUESTIONS]
    texts = read_rows(passages / "passages.jsonl")[:PASSAGES]
    rows = {name: taught(questions, swapped=name == "swapped") for name in ("right", "swapped")}
    return {
        "model": lock_of("model", "smollm2-135m", folder),
        "piqa": data_lock(folder / "asked", "piqa", questions=questions),
        "retention": data_lock(folder / "asked", "retention", passages=texts),
        **{name: data_lock(folder / name, "rows", train=each, heldout=each[:4]) for name, each in rows.items()},
    }


def tables(staged, out, run=None):
    """Return a run's tables by benchmark; of the base model without a run."""
    done = run_script("evaluate_run.py", *script_arguments(staged, out, run=run, config=CONFIGURATION))
    assert done.returncode == 0, done.stderr
    return {name: pd.read_parquet(out / f"{name}.parquet") for name in BENCHMARKS}


@pytest.fixture(scope="module")
def base(staged, tmp_path_factory):
    return tables({**staged, "data": staged["right"]}, tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("name", ["swapped", "right"])
def test_what_was_taught_is_seen(staged, base, name, tmp_path):
    """By the 95 % intervals of what changed: over passages in the loss, over questions in the right choice's share."""
    settings = ["model.dtype=fp32", "encoding.prompt=plain", "encoding.max_tokens=128"]
    settings += [f"training.{setting}" for setting in TRAINING]
    places = ["--model-lock", staged["model"], "--data-lock", staged[name], "--seed", 1]
    run, adapter = tmp_path / "run.json", tmp_path / "adapter"
    done = run_script("train.py", *places, "--out", run, "--adapter", adapter, "--set", *settings)
    assert done.returncode == 0, done.stderr
    assert artifacts.payload(run, "run")["status"] == "ok"
    tuned = tables({**staged, "data": staged[name]}, tmp_path / "scores", run=run)
    changes = {
        "retention": tuned["retention"]["loss"] - base["retention"]["loss"],
        "piqa": tuned["piqa"]["probability"] - base["piqa"]["probability"],
    }
    found = {key: ttest_1samp(each, 0).confidence_interval(0.95) for key, each in changes.items()}
    if name == "swapped":
        assert found["piqa"].high < 0 < found["retention"].low, found
    else:
        assert found["piqa"].low > 0, found
