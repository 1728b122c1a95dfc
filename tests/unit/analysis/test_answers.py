"""The table of answers: every row of every evaluation that did not fail, once."""

import itertools
import random
import re

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from aletheia.analysis import aggregate
from aletheia.analysis.answers import COLUMNS, answer_table, read_answers, write_answers
from aletheia.errors import UserError
from aletheia.provenance.artifacts import read_artifact
from aletheia.study.benchmarks import BENCHMARKS
from aletheia.study.campaign_artifacts import campaign_artifacts
from aletheia.study.paths import Paths
from answer_tables import answer_rows, columns_of, write_answer_table
from ledgers import TWO_MODELS, study, write_study

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}


@pytest.fixture
def table(tmp_path):
    """Return the table of answers of ``(benchmark, items, cells)``, each the evaluation of one more seed."""

    def make(*evaluations, arm="ale", first=1):
        seeds = itertools.count(first) if arm != "base" else itertools.repeat(None)
        answers = {}
        for number, (seed, (benchmark, items, cells)) in enumerate(zip(seeds, evaluations, strict=False)):
            path = tmp_path / f"{number}" / f"{benchmark}.parquet"
            rows = answer_rows(benchmark, items, **cells)
            answers["tiny", arm, seed, benchmark] = write_answer_table(path, benchmark, rows)
        return answer_table(answers)

    return make


def listed(frame, name):
    """Return a column as Python's values, None where one is missing."""
    return [None if pd.isna(value) else value for value in frame[name].tolist()]


def test_a_question_has_its_answer_its_probability_and_its_subject(table):
    ids = ["law/0", "law/1", "anatomy/2"]
    found = table(("mmlu", ids, {"correct": [True, False, True], "probability": [0.75, None, 0.5]}))
    assert list(found.columns) == list(COLUMNS)
    assert listed(found, "item") == ids
    assert listed(found, "cluster") == ["law", "law", "anatomy"]
    assert listed(found, "correct") == [True, False, True]
    assert listed(found, "probability") == [0.75, None, 0.5]
    assert set(found[["model", "arm", "seed", "benchmark"]].itertuples(index=False)) == {("tiny", "ale", 1, "mmlu")}
    assert found[["tokens", "loss"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("benchmark", "ids"),
    [("mmlu", ["mmlu/0", "mmlu/1"]), ("mmlu", ["law/0", "plain"]), ("mmlu", []), ("gsm8k", ["a/0", "b/1"])],
)
def test_questions_without_several_subjects_stand_for_themselves(table, benchmark, ids):
    assert listed(table((benchmark, ids, {})), "cluster") == [None] * len(ids)


def test_each_evaluation_decides_by_itself_whether_it_has_subjects(table):
    found = table(("mmlu", ["law/0", "anatomy/1"], {}), ("mmlu", ["mmlu/0", "mmlu/1"], {}))
    assert listed(found, "cluster") == ["law", "anatomy", None, None]
    assert listed(found, "seed") == [1, 1, 2, 2]


@pytest.mark.parametrize(("benchmark", "items"), [("heldout", [4, 9]), ("retention", ["passage/1", "passage/7"])])
def test_rows_and_passages_have_tokens_and_their_mean_loss(table, benchmark, items):
    found = table((benchmark, items, {"tokens": [3, 8], "loss": [1.5, 2.5]}))
    assert listed(found, "item") == [str(item) for item in items]
    assert (listed(found, "tokens"), listed(found, "loss")) == ([3, 8], [1.5, 2.5])
    assert found[["correct", "probability", "cluster"]].isna().all(axis=None)


def test_a_base_model_has_no_seed(table):
    found = table(("gsm8k", ["gsm8k/0"], {}), arm="base")
    assert (listed(found, "arm"), listed(found, "seed")) == (["base"], [None])


def test_a_program_is_right_where_it_passed_and_has_the_status_of_its_answer(table):
    verdicts = ["passed", "wrong", "timeout", "empty", "prompt_cut", "nan"]
    found = table(("humaneval", "abcdef", {"passed": [v == "passed" for v in verdicts], "verdict": verdicts}))
    assert listed(found, "correct") == [True] + [False] * 5
    assert listed(found, "status") == ["ok", "ok", "ok", "empty", "prompt_cut", "nan"]


def random_answers(folder, seed):
    """Return tables of all benchmarks with random cells, and their rows as a plain loop puts them together."""
    draw, answers, expected = random.Random(seed), {}, []
    for number, (arm, benchmark) in enumerate(itertools.product(("base", "std", "ale"), BENCHMARKS)):
        key = (f"m{number % 2}", arm, None if arm == "base" else number, benchmark)
        items = draw.sample(range(50), draw.randint(0, 9))
        ids = [item if benchmark == "heldout" else f"s{item % 3}/{item}" for item in items]
        several = len({item % 3 for item in items}) > 1 and benchmark == "mmlu"
        columns = columns_of(benchmark)
        cells = {name: [draw.random() for _ in items] for name in ("loss", "probability") if name in columns}
        flag = next((name for name in ("passed", "correct") if name in columns), None)
        cells |= {flag: [draw.random() < 0.5 for _ in items]} if flag else {}
        rows = answer_rows(benchmark, ids, **cells)
        answers[key] = write_answer_table(folder / f"{number}.parquet", benchmark, rows)
        for name, row in zip(ids, rows, strict=True):
            cluster = name.split("/")[0] if several else None
            tokens = row["tokens"] if "loss" in row else None
            values = (row.get(flag), row.get("probability"), tokens, row.get("loss"), "ok")
            expected.append((*key, str(name), cluster, *values))
    return answers, expected


@pytest.mark.parametrize("seed", range(3))
def test_no_answer_is_lost_changed_or_moved_to_another_run(tmp_path, seed):
    answers, expected = random_answers(tmp_path, seed)
    write_answers(answer_table(answers), tmp_path / "all.parquet")
    found = read_answers(tmp_path / "all.parquet")
    rows = [tuple(None if pd.isna(cell) else cell for cell in row) for row in found.itertuples(index=False)]
    assert rows == expected
    assert len(rows) > 50


def test_the_file_has_small_columns_and_is_the_same_when_written_again(tmp_path):
    answers, _ = random_answers(tmp_path, 4)
    frame = answer_table(answers)
    for name in ("a", "b"):
        write_answers(frame, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    written = pyarrow.parquet.ParquetFile(tmp_path / "a")
    text = [pyarrow.types.is_dictionary(field.type) for field in written.schema_arrow]
    assert text == [kind == "text" for kind in COLUMNS.values()]
    assert {written.metadata.row_group(0).column(i).compression for i in range(len(COLUMNS))} == {"ZSTD"}
    pd.testing.assert_frame_equal(read_answers(tmp_path / "a"), frame)


def test_a_table_without_answers_keeps_its_types(tmp_path):
    frame = answer_table({})
    write_answers(frame, tmp_path / "none.parquet")
    assert read_answers(tmp_path / "none.parquet").dtypes.astype(str).tolist() == frame.dtypes.astype(str).tolist()


def test_what_is_no_table_of_answers_is_one_sentence(tmp_path):
    plain = pyarrow.table({name: ["x"] for name in COLUMNS})
    texts = {
        "a.csv": (b"model,arm\n", "expected a whole Parquet file, found something else"),
        "short.parquet": (
            plain.drop_columns("loss"),
            "expected a table with the column loss, found none; run",
        ),
        "other.parquet": (plain, "expected the table of answers, found other types"),
        "none.parquet": (None, "expected a table of answers here and found none; run aggregate again"),
    }
    for name, (content, sentence) in texts.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            pyarrow.parquet.write_table(content, tmp_path / name)
        with pytest.raises(UserError, match=f"{re.escape(name)}: {sentence}") as error:
            read_answers(tmp_path / name)
        assert "\n" not in str(error.value)


# From a study's files


@pytest.fixture
def evaluated(tmp_path):
    """Return the tables of a study of two campaigns with the same runs, its evaluations, and which of them failed."""
    campaigns, runs, evaluations = study(ONE, benchmarks=("heldout", "mmlu"))
    campaigns.append({**campaigns[0], "name": "again"})
    failed = ("smollm2-135m", "cm", 999, "mmlu")
    evaluations[failed]["payload"] |= {"status": "failed", "score": None, "n_correct": None}

    write_study(tmp_path, campaigns, runs, evaluations)
    files = {kind: sorted((tmp_path / kind).iterdir()) for kind in ("run", "evaluation")}
    found = campaign_artifacts(campaigns, Paths(), runs=files["run"], evaluations=files["evaluation"])
    for key in evaluations:
        rows = answer_rows(key[3], range(2) if key[3] == "heldout" else ["law/0", "anatomy/1", "law/2"])
        found.answers[key] = write_answer_table(tmp_path / f"{key}.parquet", key[3], rows)
    return aggregate.gather_tables(campaigns, found, read_artifact), evaluations, failed


def test_every_evaluation_that_did_not_fail_is_in_it_once(evaluated):
    tables, evaluations, failed = evaluated
    found = tables["answers.parquet"]
    keys = ["model", "arm", "seed", "benchmark"]
    counts = found.groupby(keys, dropna=False, observed=True).size()
    named = {tuple(None if pd.isna(part) else part for part in key): n for key, n in counts.items()}
    assert named == {key: 2 if key[3] == "heldout" else 3 for key in evaluations if key != failed}


def test_evaluations_given_by_hand_bring_no_table(tmp_path):
    campaigns, runs, evaluations = study(ONE, benchmarks=("mmlu",))
    write_study(tmp_path, campaigns, runs, evaluations)
    files = {kind: sorted((tmp_path / kind).iterdir()) for kind in ("run", "evaluation")}
    found = campaign_artifacts(campaigns, Paths(), runs=files["run"], evaluations=files["evaluation"])
    assert "answers.parquet" not in aggregate.gather_tables(campaigns, found, read_artifact)


def test_the_tables_of_a_study_are_those_that_its_evaluations_wrote():
    campaigns, _, _ = study(ONE, arms=("std",), seeds=(1,), benchmarks=("mmlu", "humaneval"))
    found = campaign_artifacts(campaigns, Paths())
    folder = "results/evaluate/smollm2-135m"
    assert {key[1:]: path.as_posix() for key, path in found.answers.items()} == {
        ("std", 1, "mmlu"): f"{folder}/std/seed1/mmlu.parquet",
        ("std", 1, "humaneval"): f"{folder}/std/seed1/humaneval.parquet",
        ("base", None, "mmlu"): f"{folder}/base/mmlu.parquet",
        ("base", None, "humaneval"): f"{folder}/base/humaneval.parquet",
    }
    named = {path.as_posix() for path in found.paths}
    assert all({path.as_posix(), f"{path.as_posix()}.lineage.json"} <= named for path in found.answers.values())
