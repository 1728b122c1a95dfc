"""Against the harness as anyone runs it: the same prompts, the same numbers, the same texts."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from aletheia.errors import UserError
from aletheia.evaluation import harness, outcomes
from aletheia.evaluation.evaluate import LoadedModel
from aletheia.staging.convert import byte_tokenizer
from conftest import longrope_model
from evaluations import (
    CONFIG,
    GSM8K,
    HUMANEVAL,
    MMLU,
    OPENBOOKQA,
    PIQA,
    data_lock,
    definition,
    evaluate,
    likelihoods,
    plain_harness,
)

SOLUTIONS = ("sol1", "sol2")

# Numbers


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("reuse", [True, False])
def test_numbers_depend_on_neither_batch_size_nor_reuse(loaded, tmp_path, batch_size, reuse, monkeypatch):
    """In fp32, 2-shot, against the plain harness, whose examples are the same."""
    shots = [{**row, "id": f"s/{i}", "question": f"Shot {i}"} for i, row in enumerate(MMLU[:6])]
    lock = data_lock(tmp_path, "mmlu", questions=MMLU, fewshot=shots)
    questions = tmp_path / "mmlu" / "questions.jsonl"
    samples, _ = plain_harness(loaded, "mmlu", questions, num_fewshot=2, fewshot=shots)
    lm = functools.partial(harness.StudyLM, reuse=reuse)
    monkeypatch.setattr(harness, "StudyLM", lm)
    model = LoadedModel(loaded.model, loaded.tokenizer, batch_size)
    outcome = evaluate(model, "mmlu", {"mmlu": lock}, mmlu={"questions": "mmlu", "num_fewshot": 2})
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]
    found = np.array([row["loglikelihoods"] for row in outcome.rows])
    assert np.abs(found - likelihoods(samples)).max() < 1e-4


def test_mmlu_equals_the_plain_harness(loaded, staged):
    samples, results = plain_harness(loaded, "mmlu", staged["mmlu"].parent / "mmlu" / "questions.jsonl")
    outcome = evaluate(loaded, "mmlu", staged)
    assert outcome.score == results["acc,none"]
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]
    ours = np.array([row["loglikelihoods"] for row in outcome.rows])
    assert np.array_equal(ours, [[r[0][0] for r in s["resps"]] for s in samples])


def piqas_columns(question):
    """Return a staged question in PIQA's own columns."""
    solutions = dict(zip(SOLUTIONS, question["choices"], strict=True))
    return {"goal": question["question"], "label": question["answer"], **solutions}


def openbookqas_columns(question):
    """Return a staged question in OpenBookQA's own columns, on the hub."""
    choices = {"text": question["choices"], "label": list("ABCD")}
    return {"question_stem": question["question"], "choices": choices, "answerKey": "ABCD"[question["answer"]]}


OWN_COLUMNS = {"piqa": (PIQA, piqas_columns), "openbookqa": (OPENBOOKQA, openbookqas_columns)}


@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 2])
@pytest.mark.parametrize("name", OWN_COLUMNS)
def test_whole_choices_equal_the_task_that_the_harness_ships(loaded, tmp_path, name, shots):
    """Its own definition on rows in its own columns, beside ours on the questions that are staged from them."""
    import lm_eval
    import yaml
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from aletheia.staging.questions import read_questions

    staged_rows, columns = OWN_COLUMNS[name]
    asked = [columns(question) for question in staged_rows]
    solved = [columns({**question, "question": f"keep {i}"}) for i, question in enumerate(staged_rows)]
    files = {"validation": tmp_path / "valid.jsonl", "train": tmp_path / "train.jsonl"}
    for path, rows in zip(files.values(), (asked, solved), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    theirs = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / name / f"{name}.yaml").read_text())
    theirs |= {"dataset_path": "json", "dataset_name": None, "test_split": None, "num_fewshot": shots}
    theirs |= {"dataset_kwargs": {"data_files": {k: str(v) for k, v in files.items()}, "cache_dir": str(tmp_path)}}
    theirs |= {"fewshot_config": {"sampler": "first_n", "split": "train"}}
    lm = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4)
    # Without the index of all tasks that it ships, which takes longer than the questions.
    manager = TaskManager(include_defaults=False)
    done = simple_evaluate(lm, tasks=[ConfigurableTask(config=theirs)], task_manager=manager, bootstrap_iters=0)
    samples = sorted(done["samples"][name], key=lambda sample: sample["doc_id"])

    questions, examples = (read_questions(path, name)[0] for path in files.values())
    lock = data_lock(tmp_path, name, questions=questions, fewshot=examples)
    outcome = evaluate(loaded, name, {name: lock}, **{name: {"questions": name, "num_fewshot": shots}})
    prompts = [hashlib.sha256(s["arguments"][0][0].encode()).hexdigest() for s in samples]
    assert [row["prompt_sha256"] for row in outcome.rows] == prompts
    found = np.array([row["loglikelihoods"] for row in outcome.rows])
    assert np.abs(found - likelihoods(samples)).max() < 1e-4
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]
    assert [row["correct_normalised"] for row in outcome.rows] == [s["acc_norm"] == 1.0 for s in samples]
    results = done["results"][name]
    assert (outcome.score, outcome.normalised_score) == (results["acc,none"], results["acc_norm,none"])
    assert [row["correct"] for row in outcome.rows] != [row["correct_normalised"] for row in outcome.rows]
    right = [question["answer"] for question in questions]
    expected = softmax(found, axis=1)[range(len(right)), right]
    assert [row["probability"] for row in outcome.rows] == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", ["humaneval", "gsm8k"])
def test_generations_equal_the_plain_harness(loaded, name, staged):
    questions = staged[name].parent / name / "questions.jsonl"
    samples, _ = plain_harness(loaded, name, questions, max_new_tokens=8)
    outcome = evaluate(loaded, name, staged)
    first = [s for s in samples if s["filter"] == samples[0]["filter"]]
    assert [row["generation"] for row in outcome.rows] == [s["resps"][0][0] for s in first]
    assert outcome.truncated == sum(row["truncated"] for row in outcome.rows)


def test_the_limit_of_an_answer_is_the_campaigns_whatever_the_model_says(loaded, staged, monkeypatch):
    """Some models bring a number of new tokens of their own, which would win over a length."""
    plain = evaluate(loaded, "gsm8k", staged)
    monkeypatch.setattr(loaded.model.generation_config, "max_new_tokens", 50)
    assert evaluate(loaded, "gsm8k", staged).rows == plain.rows
    assert max(row["tokens"] for row in plain.rows) <= 8


def texts(lm, prompts, until):
    """Return what a model writes after prompts, at most 24 tokens each."""
    from lm_eval.api.instance import Instance

    settings = {"until": until, "max_gen_toks": 24, "do_sample": False}
    requests = [Instance("generate_until", {}, (prompt, dict(settings)), 0) for prompt in prompts]
    return lm.generate_until(requests, disable_tqdm=True)


def test_rows_that_stop_early_keep_the_harness_texts(loaded):
    """Stop strings that do occur, at different steps of different rows."""
    from lm_eval.models.huggingface import HFLM

    from aletheia.evaluation.harness import StudyLM

    plain = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4)
    ours = StudyLM(loaded.model, loaded.tokenizer, batch_size=4)
    prompts = [f"{word} and more" for word in ("one", "two", "three", "seventeen", "", "x" * 40)]
    free = texts(plain, prompts, ["\0never"])
    stops = sorted({text[8] for text in free} | {free[0][3:5]})
    stopped = texts(plain, prompts, stops)
    assert texts(ours, prompts, stops) == stopped
    assert stopped != free
    notes = list(ours.notes.by_prompt.values())
    assert any(not n["truncated"] for n in notes)
    assert all(n["tokens"] <= 24 for n in notes)


def test_a_stop_that_is_a_special_token_ends_each_row_as_the_harness_ends_one_alone(loaded):
    """Rows of a batch go on after it in the harness, and it is dropped from their texts."""
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    prompts = ["one and more", "two and"]  # the second is continued without the marker
    ids = loaded.tokenizer(prompts[0], return_tensors="pt").input_ids
    marker = int(loaded.model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)[0, -1])
    made = json.loads(loaded.tokenizer.backend_tokenizer.to_str())
    words = made["model"]["vocab"].items()
    made["model"]["vocab"] = {"<|im_end|>" if number == marker else word: number for word, number in words}
    named = {"eos_token": "<eos>", "pad_token": "<pad>", "extra_special_tokens": ["<|im_end|>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(made)), **named)
    alone, together = (HFLM(pretrained=loaded.model, tokenizer=tokenizer, batch_size=size) for size in (1, 2))
    ours = texts(harness.StudyLM(loaded.model, tokenizer, batch_size=2), prompts, ["<|im_end|>"])
    assert ours == texts(alone, prompts, ["<|im_end|>"])
    assert [len(text) for text in ours] == [2, 24]
    longer = texts(together, prompts, ["<|im_end|>"])[0]
    assert longer != ours[0]
    assert longer.startswith(ours[0])


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

    config = definition("mmlu", staged["mmlu"].parent / "mmlu" / "questions.jsonl")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mmlu_local.yaml").write_text(yaml.safe_dump(config))
    model = staged["model"].parent / "tiny"
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "mmlu_local", "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--include_path", str(tmp_path / "tasks")]
    command += ["--batch_size", "4", "--output_path", str(tmp_path / "out"), "--log_samples"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (log,) = (tmp_path / "out").rglob("samples_*.jsonl")
    samples = sorted(map(json.loads, log.read_text().splitlines()), key=lambda s: s["doc_id"])
    outcome = evaluate(loaded, "mmlu", staged)
    assert [row["correct"] for row in outcome.rows] == [s["acc"] == 1.0 for s in samples]


# Prompts


def test_few_shot_examples_are_the_subjects_own_first_rows(loaded, tmp_path, monkeypatch):
    shots = [{**row, "id": f"s/{i}", "question": f"Shot {i}"} for i, row in enumerate(MMLU[:6])]
    lock = data_lock(tmp_path, "mmlu", questions=MMLU, fewshot=shots)
    seen = []
    original = outcomes._question
    monkeypatch.setattr(outcomes, "_question", lambda q, s: (seen.append(s["arguments"][0][0]), original(q, s))[1])
    config = {"mmlu": lock}
    evaluate(loaded, "mmlu", config, mmlu={"questions": "mmlu", "num_fewshot": 2})

    def block(row, answer):
        choices = "".join(f"\n{letter}. {c}" for letter, c in zip("ABCD", row["choices"], strict=True))
        return f"{row['question']}{choices}\nAnswer:{answer}"

    expected = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    expected += "".join(block(shots[i], f" {'ABCD'[shots[i]['answer']]}\n\n") for i in (0, 2))
    assert seen[0] == expected + block(MMLU[0], "")
    assert "Shot 1" in seen[1]
    assert "Shot 0" not in seen[1]


@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 5])
@pytest.mark.parametrize(
    "subject",
    # The last three have choices with spaces around them, among the questions or the examples.
    ["abstract_algebra", "moral_scenarios", "elementary_mathematics", "professional_law", "professional_psychology"],
)
def test_mmlu_prompts_are_the_harness_own(subject, shots, benchmark_data, tmp_path):
    """Against the definition that the harness ships; both read the benchmark's own files, each in its own way."""
    import lm_eval
    import yaml
    from lm_eval.api.task import ConfigurableTask

    from aletheia.evaluation import harness_tasks
    from aletheia.staging.questions import read_questions

    files, rows = {}, {}
    for split in ("test", "dev"):
        path = benchmark_data / "mmlu" / "data" / split / f"{subject}_{split}.csv"
        rows[split] = read_questions(path, "mmlu", distinct=False)[0]
        with path.open(encoding="utf-8", newline="") as handle:
            raw = [
                {"question": cells[0], "choices": cells[1:5], "answer": "ABCD".index(cells[5]), "subject": subject}
                for cells in csv.reader(handle)
            ]
        files[split] = tmp_path / f"{split}.jsonl"
        files[split].write_text("".join(json.dumps(row) + "\n" for row in raw))
    definitions = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    theirs = yaml.safe_load((definitions / "_default_template_yaml").read_text())
    theirs |= yaml.safe_load((definitions / f"mmlu_{subject}.yaml").read_text())
    theirs = {key: value for key, value in theirs.items() if key not in ("include", "tag", "dataset_name")}
    theirs |= {"dataset_path": "json", "dataset_kwargs": {"data_files": {k: str(v) for k, v in files.items()}}}
    theirs["dataset_kwargs"]["cache_dir"] = str(tmp_path / "cache")
    theirs = ConfigurableTask(config={**theirs, "num_fewshot": shots})
    ours = tmp_path / "ours.jsonl"
    ours.write_text("".join(json.dumps(row) + "\n" for row in rows["test"]))
    ours = harness_tasks._SubjectTask(
        config=harness_tasks.task_config("mmlu", ours, num_fewshot=5, fewshot=rows["dev"])
    )
    # Prompts with examples are long: a part of them is enough.
    asked = list(zip(theirs.test_docs(), ours.test_docs(), strict=True))[: 50 if shots else 400]
    for their, our in asked:
        assert ours.fewshot_context(our, shots) == theirs.fewshot_context(their, shots)


def test_few_shot_examples_that_were_not_staged_are_one_sentence(loaded, staged):
    with pytest.raises(UserError, match=r"mmlu\.num_fewshot is 2, and .* was staged without fewshot\.jsonl"):
        evaluate(loaded, "mmlu", staged, mmlu={"questions": "mmlu", "num_fewshot": 2})


@pytest.mark.parametrize(("name", "shots"), [("gsm8k", GSM8K[:1]), ("mmlu", MMLU[:3])])
def test_fewer_few_shot_examples_than_asked_for_are_one_sentence(loaded, tmp_path, name, shots):
    rows = {"gsm8k": GSM8K, "mmlu": MMLU}[name]
    lock = data_lock(tmp_path, name, questions=rows, fewshot=shots)
    found = {"gsm8k": "found 1; ", "mmlu": "found 1 of the subject anatomy; "}[name]
    sentence = rf"fewshot\.jsonl: expected 2 few-shot examples .*\(evaluation\.{name}\.num_fewshot\), {found}stage more"
    with pytest.raises(UserError, match=sentence):
        evaluate(loaded, name, {name: lock}, **{name: {"questions": name, "num_fewshot": 2}})


def conversation(name, row):
    """Return the turns that put a question to a chat model; the last is the answer's beginning, where it has one."""
    if name == "openbookqa":
        return [("user", row["question"])]
    if name in ("gsm8k", "piqa"):
        return [("user", f"Question: {row['question']}\nAnswer:")]
    if name == "humaneval":
        asked = "Write a solution to the following problem and make sure that it passes the tests:"
        begun = f"Here is the completed function:\n```python\n{row['prompt']}\n"
        return [("user", f"{asked}\n```python\n{row['prompt']}\n```\n"), ("assistant", begun)]
    choices = "".join(f"{letter}. {c}\n" for letter, c in zip("ABCD", row["choices"], strict=True))
    subject = row["subject"].replace("_", " ")
    opening = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return [("system", opening), ("user", f"{row['question']}\n{choices}Answer:")]


@pytest.mark.parametrize(
    ("name", "rows"),
    [("mmlu", MMLU), ("gsm8k", GSM8K), ("humaneval", HUMANEVAL), ("piqa", PIQA), ("openbookqa", OPENBOOKQA)],
)
def test_chat_prompts_are_what_the_tokenizers_own_template_makes(loaded, staged, name, rows):
    outcome = evaluate(loaded, name, staged, prompt="chat")
    for row, found in zip(rows, outcome.rows, strict=True):
        turns = [{"role": role, "content": text} for role, text in conversation(name, row)]
        begun = turns[-1]["role"] == "assistant"
        how = {"add_generation_prompt": not begun, "continue_final_message": begun}
        prompt = loaded.tokenizer.apply_chat_template(turns, tokenize=False, **how)
        assert found["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest(), prompt


@pytest.mark.parametrize(("name", "rows"), [("mmlu", MMLU), ("gsm8k", GSM8K)])
def test_few_shot_examples_are_turns_of_a_chat(loaded, tmp_path, name, rows):
    shots = [{**row, "id": f"s/{i}", "question": f"Shot {i}?"} for i, row in enumerate(rows)]
    lock = data_lock(tmp_path, name, questions=rows, fewshot=shots)
    settings = {**CONFIG["evaluation"][name], "num_fewshot": 2}
    outcome = evaluate(loaded, name, {name: lock}, prompt="chat", **{name: settings})
    for row, found in zip(rows, outcome.rows, strict=True):
        *opening, asked = conversation(name, row)
        turns = [*opening]
        for shot in [shot for shot in shots if shot.get("subject") == row.get("subject")][:2]:
            answer = "ABCD"[shot["answer"]] if name == "mmlu" else shot["answer"]
            turns += [conversation(name, shot)[-1], ("assistant", answer)]
        turns = [{"role": role, "content": text} for role, text in [*turns, asked]]
        prompt = loaded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert found["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest(), prompt


def test_the_chat_task_of_humaneval_has_the_harness_prompt_and_stops_of_its_own():
    import lm_eval
    import yaml

    from aletheia.evaluation.harness_tasks import TASKS

    folder = Path(lm_eval.__file__).parent / "tasks" / "humaneval"
    # A loader that takes the harness's `!function` for text.
    files = (folder / "humaneval_instruct.yaml", folder / "humaneval.yaml", TASKS / "humaneval_chat.yaml")
    theirs, inherited, ours = (yaml.load(file.read_text(), yaml.BaseLoader) for file in files)
    for key in ("doc_to_text", "gen_prefix"):
        assert ours[key] == theirs[key].replace("{{ prompt }}", "{{prompt}}")
    assert theirs["include"] == "humaneval.yaml"
    assert ("generation_kwargs" in theirs, "\ndef" in inherited["generation_kwargs"]["until"]) == (False, True)
    assert ours["generation_kwargs"]["until"] == ["\n```"]


def test_chat_prompts_need_a_template(loaded, staged):
    loaded.tokenizer.chat_template = None
    with pytest.raises(UserError, match="has no chat template; use plain"):
        evaluate(loaded, "humaneval", staged, prompt="chat")


def test_a_completion_keeps_its_leading_spaces_under_sentencepiece(loaded):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from aletheia.evaluation.harness import StudyLM

    words = ["▁", "▁▁▁▁", "return", "▁a", "a", "</s>"]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[("▁", "a")]))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1, right=0)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", pad_token="</s>")
    lm = StudyLM(loaded.model, tokenizer, batch_size=1)
    assert super(StudyLM, lm).tok_decode([1, 2]) == "   return"  # the plain harness loses a space
    assert lm.tok_decode([1, 2]) == "    return"
    bytes_lm = StudyLM(loaded.model, byte_tokenizer(), batch_size=1)
    ids = byte_tokenizer().encode("    return x  # ü", add_special_tokens=False)
    assert bytes_lm.tok_decode(ids) == "    return x  # ü"
