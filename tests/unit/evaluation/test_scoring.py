"""Scoring of generated code: completions become programs, programs become verdicts, verdicts a score."""

from __future__ import annotations

import gzip
import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from aletheia.errors import UserError
from aletheia.evaluation import outcomes, score_code
from aletheia.provenance import artifacts
from aletheia.sandbox import judge
from aletheia.sandbox.judge import resolve, run_all
from aletheia.sandbox.process import SandboxError
from evaluations import HUMANEVAL, evaluate
from judging import CHECK, require
from ledgers import sealed

pytestmark = pytest.mark.usefixtures("interpreters")

# All problems, every day in the sandbox that is the default.
ALL = ["bubblewrap", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("landlock", "rlimits"))]


def scored(staged, folder, completions, **changes):
    rows = [
        {"question_id": p["id"], "prompt_sha256": "0", "generation": c, "tokens": 1, "truncated": False, "status": "ok"}
        for p, c in zip(HUMANEVAL, completions, strict=True)
    ]
    return scored_rows(staged, folder, rows, **changes)


def scored_rows(staged, folder, rows, **changes):
    path = folder / "humaneval.generations.parquet"
    outcomes.write_table(path, rows, outcomes.COLUMNS["humaneval"])
    sha = artifacts.payload(staged["humaneval"])["files"]["questions.jsonl"]["sha256"]
    about = {"status": "ok", "score": None, "stderr": None, "n": 3, "n_correct": None, "questions_sha256": sha}
    about["prompt"] = "plain"
    content = {"name": path.name, "files": {}, "about": {**about, **changes}}
    sealed(artifacts.sidecar(path), "file", content)
    return score_code.score(path, staged["humaneval"], settings={"sandbox": "rlimits"}, workers=2)


def test_canonical_completions_score_one_and_wrong_ones_nothing(staged, tmp_path):
    right = [p["canonical_solution"] for p in HUMANEVAL]
    payload, rows, _ = scored(staged, tmp_path, right)
    assert (payload["score"], payload["n_correct"], payload["sandbox"]) == (1.0, 3, resolve("rlimits"))
    payload, rows, _ = scored(staged, tmp_path, [right[0], "    return 7\n", "```"])
    assert [row["verdict"] for row in rows] == ["passed", "wrong", "syntax"]
    assert payload["score"] == pytest.approx(1 / 3)
    assert payload["stderr"] == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 2))
    assert payload["degenerate"] == [{"kind": "syntax_error", "n": 1}]


def test_what_follows_a_code_fence_is_no_code_in_a_chat_and_an_error_after_a_plain_prompt(staged, tmp_path):
    right = [p["canonical_solution"] for p in HUMANEVAL]
    fenced = [right[0] + "\n```\nThat is it.", right[1].rstrip() + "``` That is it.", "```python\n" + right[2]]
    rows = scored(staged, tmp_path, fenced, prompt="chat")[1]
    assert [row["verdict"] for row in rows] == ["passed", "passed", "syntax"]
    rows = scored(staged, tmp_path, fenced)[1]
    assert [row["verdict"] for row in rows] == ["syntax"] * 3


def test_programs_are_joined_as_the_harness_joins_them(monkeypatch):
    """By the functions of its tasks, which load a metric from the hub as they are imported."""
    monkeypatch.setitem(sys.modules, "evaluate", SimpleNamespace(load=lambda name: SimpleNamespace(compute=dict)))
    from lm_eval.tasks.humaneval import utils

    completions = ["    return 1\n", "    return 1\n```\nSo.", "```python\n    return 1\n", "    return '```'\n", ""]
    docs = [HUMANEVAL[0]] * len(completions)
    for chat, build in ((False, utils.build_predictions), (True, utils.build_predictions_instruct)):
        theirs = [code for (code,) in build([[text] for text in completions], docs)]
        ours = [score_code.program(doc, text, chat=chat).code for doc, text in zip(docs, completions, strict=True)]
        assert ours == [f"{code}\n" for code in theirs]


def test_a_model_that_says_nothing_has_empty_rows_and_solves_nothing(loaded, staged, tmp_path):
    """Its first token is the end, after every prompt."""
    head = torch.nn.Linear(loaded.model.config.hidden_size, loaded.model.config.vocab_size)
    torch.nn.init.zeros_(head.weight)
    head.bias.data = torch.nn.functional.one_hot(torch.tensor(loaded.tokenizer.eos_token_id), len(head.bias)).float()
    loaded.model.set_output_embeddings(head)
    sums = evaluate(loaded, "gsm8k", staged)
    assert (sums.status, sums.score, sums.n_correct, sums.truncated) == ("ok", 0.0, 0, 0)
    outcome = evaluate(loaded, "humaneval", staged)
    for row in (*sums.rows, *outcome.rows):
        assert [row[key] for key in ("status", "generation", "tokens", "truncated")] == ["empty", "", 0, False]
    payload, rows, observed = scored_rows(staged, tmp_path, outcome.rows)
    assert (payload["score"], payload["n_correct"]) == (0.0, 0)
    assert [(row["passed"], row["verdict"]) for row in rows] == [(False, "empty")] * 3
    assert observed == {"program_seconds": {}}


def test_other_problems_than_those_answered_are_refused(staged, tmp_path):
    with pytest.raises(UserError, match=r"expected the problems that .* answers \(sha256 0+\), found sha256"):
        scored(staged, tmp_path, ["", "", ""], questions_sha256="0" * 64)


def test_generations_that_failed_need_no_sandbox(staged, tmp_path, monkeypatch):
    def none(_):
        raise UserError("generated code cannot be confined here")

    monkeypatch.setattr(score_code.judge, "resolve", none)
    payload, rows, observed = scored(staged, tmp_path, [""] * 3, status="timeout", sandbox=None)
    assert (payload["status"], payload["sandbox"], rows, observed) == ("timeout", None, [], {})
    with pytest.raises(UserError, match="cannot be confined here"):
        scored(staged, tmp_path, [""] * 3)


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """Return what scores two answers to one problem, each given by its status."""
    problem = {"id": "p", "prompt": "def f(x):\n", "test": CHECK, "entry_point": "f"}
    facts = {
        "about": {"status": "ok", "prompt": "plain", "questions_sha256": "0"},
        "files": {"questions.jsonl": {"sha256": "0"}},
    }
    monkeypatch.setattr(score_code.artifacts, "payload", lambda *given: facts)
    monkeypatch.setattr(score_code, "checked_folder", lambda path, kind: path)
    monkeypatch.setattr(judge, "resolve", lambda weakest: weakest)

    def score(kind, *statuses):
        problems = [{**problem, "id": str(i)} for i in range(len(statuses))]
        rows = [
            {"question_id": str(i), "generation": "    return x + 1\n", "status": status}
            for i, status in enumerate(statuses)
        ]
        monkeypatch.setattr(score_code, "read_rows", lambda path: problems)
        monkeypatch.setattr(score_code, "read", lambda path: rows)
        return score_code.score(tmp_path, tmp_path, settings={"sandbox": kind}, workers=1)

    return score


def test_only_a_whole_answer_can_pass(answered, kind):
    payload, rows, observed = answered(kind, "ok", "prompt_cut")
    assert [(row["passed"], row["verdict"]) for row in rows] == [(True, "passed"), (False, "prompt_cut")]
    assert (payload["n_correct"], payload["score"]) == (1, 0.5)
    assert set(observed["program_seconds"]) == {"0"}


def test_a_sandbox_that_stops_working_is_one_sentence(answered, kind, monkeypatch):
    def fails(*given, **more):
        raise SandboxError("no room for a process")

    monkeypatch.setattr(judge, "run", fails)
    with pytest.raises(UserError, match=rf"^the sandbox \({kind}\) .*no room for a process.*start the step again"):
        answered(kind, "ok")


@pytest.fixture(scope="module")
def problems(benchmark_data):
    path = benchmark_data / "humaneval" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_every_canonical_solution_passes(problems, kind):
    require(kind)
    programs = [score_code.program(p, p["canonical_solution"]) for p in problems]
    verdicts = run_all(programs, kind=kind)
    assert len(verdicts) == 164
    failed = [(p["task_id"], v) for p, v in zip(problems, verdicts, strict=True) if not v.passed]
    assert not failed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_no_prompt_passes_by_itself(problems, kind):
    require(kind)
    verdicts = run_all([score_code.program(p, "") for p in problems], kind=kind)
    assert sum(v.passed for v in verdicts) == 0
