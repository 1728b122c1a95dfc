"""Evaluation: the harness's own numbers, one table a benchmark, and a status where there is no score."""

from __future__ import annotations

import json
import math
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
import torch

from aletheia.errors import UserError
from aletheia.evaluation import evaluate as evaluation
from aletheia.evaluation import evaluated_run, outcomes, row_losses
from aletheia.evaluation.evaluate import LoadedModel
from aletheia.provenance import artifacts
from aletheia.sandbox.judge import resolve
from aletheia.training.deadlines import Deadline
from conftest import SCRIPTS, run_script
from evaluations import (
    CONFIG,
    GSM8K,
    HUMANEVAL,
    MMLU,
    ROWS,
    data_lock,
    evaluate,
    likelihoods,
    plain_harness,
    run_json,
    script_arguments,
)

# The scripts, as a rule runs them


@pytest.fixture(scope="module")
def base(staged, tmp_path_factory):
    out = tmp_path_factory.mktemp("base")
    arguments = script_arguments(staged, out)
    done = run_script("evaluate_run.py", *arguments)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(out=out, arguments=arguments, said=done.stdout)


@pytest.mark.slow
def test_the_script_writes_a_score_and_a_table_for_each_benchmark(base):
    names = ("heldout", "mmlu", "gsm8k", "piqa", "openbookqa", "retention")
    expected = {f"{name}.{kind}" for name in names for kind in ("json", "parquet")} | {"humaneval.generations.parquet"}
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
    for name, columns in outcomes.COLUMNS.items():
        if name != outcomes.PASSED:
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

    model, _ = evaluated_run.load_model(staged["model"], None, dtype="fp32", section=CONFIG["model"])
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    files = {p.name: artifacts.sha256_file(p) for p in (tmp_path / "adapter").iterdir()}
    return SimpleNamespace(run=run_json(tmp_path, files=files), model=model)


def test_the_adapter_counts(adapted, staged, loaded):
    model, tokenizer = evaluated_run.load_model(staged["model"], adapted.run, dtype="fp32", section=CONFIG["model"])
    ids = torch.arange(40)[None]
    assert torch.equal(model(ids).logits, adapted.model.eval()(ids).logits)
    tuned = evaluate(LoadedModel(model, tokenizer, 4), "heldout", staged)
    assert tuned.loss != evaluate(loaded, "heldout", staged).loss


@pytest.mark.slow
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
        inputs = evaluated_run.EvaluationInputs(run=run, **common)
        done = list(evaluated_run.evaluations(inputs, config, tmp_path))
        assert [one.outcome.status for one in done] == ["ok"] * 3
        assert [one.facts["prompt"] for one in done] == ["plain"] * 3
    assert loads == ["LlamaForCausalLM"] * 3


@pytest.mark.slow
def test_the_recorded_padding_is_that_of_the_passes(staged, tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    sides, forward = set(), LlamaForCausalLM.forward

    def watched(self, *args, input_ids, **options):
        """Note on which side this pass has what is no text: zeros or pad tokens, or columns that are masked."""
        mask = options.get("attention_mask")
        if input_ids.shape[1] > 1 and any(row[-1] in (0, 258) for row in input_ids):
            sides.add("right")
        if mask is not None and not bool(mask[:, 0].all()):
            sides.add("left")
        return forward(self, *args, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", watched)
    longer = [{**row, "question": "1 + " * 5 * i + "1?"} for i, row in enumerate(GSM8K)]
    programs = [{**row, "prompt": "# Add.\n" * i + row["prompt"]} for i, row in enumerate(HUMANEVAL)]
    questions = [staged["mmlu"], data_lock(tmp_path, "gsm8k", questions=longer)]
    questions += [data_lock(tmp_path, "humaneval", questions=programs)]
    questions += [staged[name] for name in ("piqa", "openbookqa", "retention")]
    inputs = evaluated_run.EvaluationInputs(staged["model"], staged["data"], questions)
    recorded = {}
    for one in evaluated_run.evaluations(inputs, CONFIG, tmp_path):
        recorded[one.facts["benchmark"]] = one.facts["padding"]
        assert sides == {one.facts["padding"]}
        sides.clear()
    written = {"gsm8k": "left", "humaneval": "left"}
    assert recorded == {**dict.fromkeys(CONFIG["evaluation"]["benchmarks"], "right"), **written}


def test_a_changed_adapter_is_refused(adapted, staged):
    weights = adapted.run.parent / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"not the adapter that run\.json names \(expected sha256 .*, found .*\)"):
        evaluated_run.load_model(staged["model"], adapted.run, dtype="fp32", section=CONFIG["model"])
    weights.unlink()
    with pytest.raises(UserError, match="found no file"):
        evaluated_run.load_model(staged["model"], adapted.run, dtype="fp32", section=CONFIG["model"])


def test_a_run_of_another_model_is_refused(staged, tmp_path):
    run = run_json(tmp_path, model="other")
    inputs = evaluated_run.EvaluationInputs(staged["model"], staged["data"], run=run)
    with pytest.raises(UserError, match="expected the model that the run adapted, other, found tiny"):
        next(evaluated_run.evaluations(inputs, CONFIG, tmp_path))


# Statuses


@pytest.mark.parametrize("name", CONFIG["evaluation"]["benchmarks"])
def test_a_passed_time_limit_is_a_status(loaded, name, staged):
    late = LoadedModel(loaded.model, loaded.tokenizer, 4, deadline=Deadline(0.0, "too late"))
    outcome = evaluate(late, name, staged)
    assert (outcome.status, outcome.score, outcome.n) == ("timeout", None, 0)
    assert outcome.reason == "too late"


@pytest.mark.parametrize("name", ["heldout", "mmlu", "humaneval", "retention"])
def test_a_time_limit_also_ends_what_has_begun(loaded, name, staged, monkeypatch):
    clock = iter([0.0, 0.0, 0.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 2.0))
    outcome = evaluate(LoadedModel(loaded.model, loaded.tokenizer, 1, deadline=Deadline(1.0)), name, staged)
    assert outcome.status == "timeout"


def test_a_time_limit_that_passes_in_the_last_pass_ends_nothing(loaded, staged, monkeypatch):
    rows = 4  # that are staged
    looks = [0.0] * (2 + rows - 1)  # before reading, before the first pass, and between the passes
    clock = iter(looks)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock, 2.0))
    outcome = evaluate(LoadedModel(loaded.model, loaded.tokenizer, 1, deadline=Deadline(1.0)), "heldout", staged)
    assert (outcome.status, outcome.n) == ("ok", rows)
    assert next(clock, None) is None


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
    inputs = evaluated_run.EvaluationInputs(staged["model"], staged["data"], [staged["mmlu"]])
    settings = {**CONFIG["evaluation"], "benchmarks": ["heldout", "mmlu"], "time_limit_seconds": limit}
    done = list(evaluated_run.evaluations(inputs, {**CONFIG, "evaluation": settings}, tmp_path, attempt=attempt))
    expected = ("timeout", ended) if ended else ("ok", None)
    assert [(one.outcome.status, one.outcome.reason) for one in done] == [expected] * 2


@pytest.mark.parametrize("name", CONFIG["evaluation"]["benchmarks"])
def test_logits_that_are_not_numbers_are_a_status(loaded, name, staged, tmp_path):
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight.fill_(math.nan)
    outcome = evaluate(loaded, name, staged)
    assert (outcome.status, outcome.score, outcome.loss) == ("failed", None, None)
    assert "not finite" in outcome.reason
    assert {row["status"] for row in outcome.rows} == {"nan"}
    outcomes.write_table(tmp_path / "t.parquet", outcome.rows, outcomes.COLUMNS[name])


def test_one_question_that_is_not_a_number_counts_as_wrong():
    samples = [
        {"arguments": [["prompt"]], "resps": [[(value, False)] for value in values]}
        for values in ([math.nan, -1.0, -2.0, -3.0], [-2.0, -1.0, -3.0, -4.0])
    ]
    questions = [{"id": 0, "answer": 0}, {"id": 1, "answer": 1}]
    outcome = outcomes.score_table(outcomes.TABLES["mmlu"](questions, {"none": samples}, {}))
    assert (outcome.status, outcome.score, outcome.n_correct) == ("ok", 0.5, 1)
    assert outcome.reason == "1 of 2 questions gave numbers that are not finite"
    assert [row["prediction"] for row in outcome.rows] == [None, "B"]
    assert outcome.rows[0]["loglikelihoods"][0] is None


def test_the_choice_likeliest_a_character_is_noted_where_choices_differ_in_length():
    """As the harness's acc_norm: the log-likelihood over the number of characters, Unicode's and no bytes."""
    values = ([-4.0, -6.0], [-6.0, -2.0], [math.nan, -1.0])
    samples = [{"arguments": [["prompt"]], "resps": [[(value, False)] for value in pair]} for pair in values]
    questions = [
        {"id": i, "answer": answer, "choices": choices}
        for i, (answer, choices) in enumerate([(1, ["é", "two"]), (0, ["1234", "1"]), (1, ["a", "b"])])
    ]
    outcome = outcomes.score_table(outcomes.TABLES["piqa"](questions, {"none": samples}, {}))
    assert [row["prediction"] for row in outcome.rows] == ["A", "B", None]
    assert [row["correct"] for row in outcome.rows] == [False, False, False]
    assert [row["correct_normalised"] for row in outcome.rows] == [True, True, False]
    assert (outcome.score, outcome.summary()["normalised_score"]) == (0, pytest.approx(2 / 3))
    assert "normalised_score" not in outcomes.Outcome(score=0.5).summary()


def test_an_empty_generation_is_a_row():
    samples = [{"arguments": [["prompt"]], "resps": [["  \n"]]}]
    notes = {"prompt": {"tokens": 2, "truncated": False, "nan": False}}
    (row,) = outcomes.TABLES["humaneval"]([{"id": "HumanEval/0"}], {"none": samples}, notes)
    assert (row["status"], row["generation"], row["tokens"]) == ("empty", "  \n", 2)


def test_exhausted_memory_is_a_status(loaded, staged, monkeypatch):
    def exhausted(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(loaded.model, "forward", exhausted)
    outcome = evaluate(loaded, "mmlu", staged)
    assert outcome.status == "failed"
    assert outcome.reason.startswith("out of memory: DefaultCPUAllocator")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("bad weights")])
def test_exhausted_memory_while_loading_is_a_status_of_each_benchmark(staged, tmp_path, error):
    def load(*_, **__):
        raise error

    questions = [staged[name] for name in CONFIG["evaluation"]["benchmarks"] if name != "heldout"]
    inputs = evaluated_run.EvaluationInputs(staged["model"], staged["data"], questions)
    if not isinstance(error, torch.OutOfMemoryError):
        with pytest.raises(RuntimeError, match="bad weights"):
            list(evaluated_run.evaluations(inputs, CONFIG, tmp_path, load=load))
        return
    done = list(evaluated_run.evaluations(inputs, CONFIG, tmp_path, load=load))
    assert [one.facts["benchmark"] for one in done] == CONFIG["evaluation"]["benchmarks"]
    assert {(one.outcome.status, one.outcome.reason) for one in done} == {
        ("failed", "out of memory: CUDA out of memory.")
    }


@pytest.mark.slow
def test_a_prompt_longer_than_the_window_is_a_row(loaded, tmp_path):
    """It loses its beginning, as the harness cuts it, and counts as it was answered."""
    long = [{**MMLU[0], "id": "long", "question": "So long. " * 150}, *MMLU[1:3]]
    lock = {"mmlu": data_lock(tmp_path, "mmlu", questions=long)}
    outcome = evaluate(loaded, "mmlu", lock)
    assert [row["status"] for row in outcome.rows] == ["prompt_cut", "ok", "ok"]
    assert outcome.reason == "1 of 3 prompts were longer than the model's window and lost their beginning"
    assert outcome.n_correct == sum(row["correct"] for row in outcome.rows)
    samples, _ = plain_harness(loaded, "mmlu", tmp_path / "mmlu" / "questions.jsonl")
    assert np.allclose([row["loglikelihoods"] for row in outcome.rows], likelihoods(samples), atol=1e-4)
    problem = [{**HUMANEVAL[0], "prompt": "# So long.\n" * 150}, HUMANEVAL[1]]
    lock = {"humaneval": data_lock(tmp_path, "humaneval", questions=problem)}
    outcome = evaluate(loaded, "humaneval", lock)
    assert outcome.rows[0]["status"] in ("prompt_cut", "empty")
    assert "1 of 2 prompts were longer" in outcome.reason
    outcomes.write_table(tmp_path / "t.parquet", outcome.rows, outcomes.COLUMNS["humaneval"])


def test_a_window_without_room_for_the_answer_is_one_sentence(loaded, staged):
    settings = {"questions": "humaneval", "max_new_tokens": 1024}
    with pytest.raises(UserError, match=r"humaneval\.max_new_tokens is 1024, and the model's window of 1024 tokens"):
        evaluate(loaded, "humaneval", staged, humaneval=settings)


def test_a_generation_that_never_stops_is_cut_and_counted(loaded, staged):
    outcome = evaluate(loaded, "gsm8k", staged)
    cut = [row["truncated"] for row in outcome.rows]
    assert outcome.truncated == sum(cut) > 0
    assert all(row["tokens"] == 8 for row, c in zip(outcome.rows, cut, strict=True) if c)


# Numbers


def test_the_standard_error_of_a_share_is_the_harness_one():
    correct = [True, False, True, True, False]
    share, stderr = outcomes.proportion(correct)
    assert share == 0.6
    assert stderr == pytest.approx(np.std(correct, ddof=1) / math.sqrt(5))
    assert outcomes.proportion([True]) == (1.0, None)
    assert outcomes.proportion([]) == (None, None)


def test_the_standard_error_of_the_loss():
    # Equal lengths: the ratio is a plain mean, and so is its error.
    sums = [3.0, 5.0, 4.0, 9.0]
    expected = np.std(np.array(sums) / 2, ddof=1) / 2
    assert row_losses.ratio_stderr([2, 2, 2, 2], sums) == pytest.approx(expected)
    # Unequal lengths: against many resamples of rows.
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 60, 200)
    sums = tokens * generator.normal(2.0, 0.5, 200)
    picks = generator.integers(0, 200, (4000, 200))
    resampled = (sums[picks].sum(axis=1) / tokens[picks].sum(axis=1)).std()
    assert row_losses.ratio_stderr(tokens.tolist(), sums.tolist()) == pytest.approx(resampled, rel=0.06)
    assert row_losses.ratio_stderr([3], [1.0]) is None


def test_heldout_loss_is_the_models_own(loaded, staged):
    """One row by itself, with the loss that transformers computes."""
    from aletheia.training.encoding import encode_rows

    outcome = evaluate(loaded, "heldout", staged)
    (example,) = encode_rows(ROWS[:1], loaded.tokenizer, **CONFIG["encoding"]).examples
    ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
    with torch.no_grad():
        expected = loaded.model(input_ids=ids, labels=labels).loss.item()
    assert outcome.rows[0]["loss"] == pytest.approx(expected, abs=1e-5)
    assert outcome.rows[0]["tokens"] == int((labels[:, 1:] != -100).sum())


def test_the_split_says_which_rows_the_held_out_loss_is_over(loaded, tmp_path, capsys):
    splits = {"heldout": ROWS[:3], "test": ROWS[3:]}
    lock = data_lock(tmp_path, "both", train=ROWS[:1], **splits)
    outcomes = {}
    for split, rows in splits.items():
        config = {**CONFIG, "evaluation": {**CONFIG["evaluation"], "heldout": {"rows": 4, "split": split}}}
        outcomes[split] = evaluation.evaluate(loaded, "heldout", lock, config=config)
        alone = data_lock(tmp_path, f"{split}_alone", train=ROWS[:1], heldout=rows)
        assert outcomes[split].rows == evaluation.evaluate(loaded, "heldout", alone, config=CONFIG).rows
    assert outcomes["heldout"].loss != outcomes["test"].loss
    assert "note: heldout loss over 2 test rows, fewer than evaluation.heldout.rows=4" in capsys.readouterr().out


def test_rows_longer_than_the_context_are_refused_as_in_training(loaded, staged):
    config = {**CONFIG, "encoding": {**CONFIG["encoding"], "max_tokens": 4096}}
    with pytest.raises(UserError, match=r"encoding\.max_tokens is 4096, and the model's context has 1024 tokens"):
        evaluation.evaluate(loaded, "heldout", staged["data"], config=config)


@pytest.mark.slow
def test_the_scripts_show_their_help():
    for name in ("evaluate_run.py", "score_code.py"):
        assert (SCRIPTS / name).is_file()
        assert run_script(name, "--help").returncode == 0
