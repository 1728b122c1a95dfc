"""Formats of training rows: each is read to the rows of its twin, of damaged files no traceback comes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random

import pytest

from aletheia.errors import UserError
from aletheia.staging import build, splits
from aletheia.staging.delimited_files import separator
from aletheia.staging.repository_files import dataset_files
from aletheia.staging.training_rows import read_training_rows

ASKED = [("Sum up.", "Ab and so on."), ("Say “ß”\nand stop.", "ß")]
ALPACA = [{"instruction": question, "input": "", "output": answer} for question, answer in ASKED]
TEXTS = [{"text": "A text\nof two lines."}, {"text": "Another; with a semicolon."}]
SYSTEM = {"role": "system", "content": "Be brief."}
CHATS = [
    {"messages": [SYSTEM, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
    for question, answer in ASKED
]
PROPERTIES = {"b": {"type": "integer"}, "a": {"type": "integer"}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": PROPERTIES}}}
ARGUMENTS = {"b": 2, "a": 1}  # their order is kept
CALL = {"type": "function", "function": {"name": "add", "arguments": json.dumps(ARGUMENTS)}}
WITH_TOOLS = {
    "messages": [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ],
    "tools": json.dumps([TOOL]),
}


def turned(row, change):
    """A conversation with each turn changed."""
    return {**row, "messages": [change(turn) for turn in row["messages"]]}


def sharegpt(turn):
    names = {"user": "human", "assistant": "gpt", "tool": "observation"}
    if "tool_calls" in turn:
        call = {"name": "add", "arguments": ARGUMENTS}
        return {"from": "function_call", "value": json.dumps(call)}
    return {"from": names.get(turn["role"], turn["role"]), "value": turn["content"]}


def conversations(row):
    """The row as ShareGPT has it."""
    rest = {key: value for key, value in row.items() if key != "messages"}
    return {"conversations": [sharegpt(turn) for turn in row["messages"]], **rest}


def parts(turn):
    half = len(turn["content"]) // 2
    texts = [turn["content"][:half], turn["content"][half:]]
    return {**turn, "content": [{"type": "text", "text": text} for text in texts]}


def calls(**changes):
    """The conversation with tools, its call written otherwise."""
    said = {"role": "assistant", "content": None, **changes}
    return {**WITH_TOOLS, "messages": [said if "tool_calls" in turn else turn for turn in WITH_TOOLS["messages"]]}


def as_text(rows, name):
    """What a file of this name holds."""
    name = name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return json.dumps(rows, indent=2 if name.endswith(".json") else None)


def delimited(rows, delimiter):
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def parquet(rows):
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return path


def read(folder, rows, name="a.jsonl", **options):
    content = parquet(rows) if name.endswith(".parquet") else as_text(rows, name)
    found, notes = read_training_rows(write(folder / name, content), **options)
    assert [row.pop("source_row") for row in found] == list(range(len(rows)))
    return found, [note.removeprefix(f"{folder}/") for note in notes]


# The columns of a format and what they are read to
TWINS = {
    "instruction and output": ([{"instruction": q, "output": a} for q, a in ASKED], ALPACA),
    "prompt and completion": ([{"prompt": q, "completion": a} for q, a in ASKED], ALPACA),
    "text": ([{**row, "url": "x"} for row in TEXTS], TEXTS),
    "messages": (CHATS, CHATS),
    "parts of type text": ([turned(row, parts) for row in CHATS], CHATS),
    "ShareGPT": ([conversations(row) for row in CHATS], CHATS),
    "ShareGPT with a column system": (
        [{"conversations": conversations(row)["conversations"][1:], "system": "Be brief."} for row in CHATS],
        CHATS,
    ),
    "conversations of role and content": ([{"conversations": row["messages"]} for row in CHATS], CHATS),
    "messages of from and value": ([{"messages": conversations(row)["conversations"]} for row in CHATS], CHATS),
    "turns as prompt and completion": (
        [{"prompt": row["messages"][:2], "completion": row["messages"][2:]} for row in CHATS],
        CHATS,
    ),
    "tools": ([WITH_TOOLS], [WITH_TOOLS]),
    "tools as lists": (
        [{**calls(tool_calls=[{"function": {"name": "add", "arguments": ARGUMENTS}}]), "tools": [TOOL]}],
        [WITH_TOOLS],
    ),
    "tools, calls and their descriptions bare": (
        [{**calls(tool_calls=[{"name": "add", "arguments": ARGUMENTS}]), "tools": [TOOL["function"]]}],
        [WITH_TOOLS],
    ),
    "OpenAI's older calls": ([calls(function_call={"name": "add", "arguments": json.dumps(ARGUMENTS)})], [WITH_TOOLS]),
    "ShareGPT with tools": ([conversations(WITH_TOOLS)], [WITH_TOOLS]),
    "turns with tools as prompt and completion": (
        [
            {
                "prompt": WITH_TOOLS["messages"][:1],
                "completion": WITH_TOOLS["messages"][1:],
                "tools": WITH_TOOLS["tools"],
            }
        ],
        [WITH_TOOLS],
    ),
}
CELLS = ("instruction and output", "prompt and completion", "text")  # what a table of cells can hold


@pytest.mark.parametrize("name", ["a.jsonl", "array.jsonl", "a.json", "a.jsonl.gz", "a.parquet"])
@pytest.mark.parametrize("twins", TWINS)
def test_each_format_is_read_to_the_rows_of_its_twin(tmp_path, twins, name):
    given, expected = TWINS[twins]
    if name.startswith("array"):
        found, _ = read_training_rows(write(tmp_path / name, json.dumps(given)))
        found = [{key: value for key, value in row.items() if key != "source_row"} for row in found]
    else:
        found, _ = read(tmp_path, given, name)
    assert found == expected


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
@pytest.mark.parametrize("twins", CELLS)
def test_tables_of_cells_are_read_whatever_separates_them(tmp_path, twins, name, delimiter):
    given, expected = TWINS[twins]
    path = write(tmp_path / name, delimited(given, delimiter))
    found, notes = read_training_rows(path)
    assert [{key: row[key] for key in expected[0]} for row in found] == expected
    usual = "\t" if ".tsv" in name else ","
    named = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[delimiter]
    assert (f"{path}: read with {named} between cells" in notes) == (delimiter != usual)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ","),
        ("text\na;b\n", ","),
        ("a,b;c\n", ","),
        ("\n\n a;b\n", ";"),
        ('"a;b";c\n', ";"),
        ('"a;b"\nx\n', ","),
        ("a|b;c;d\n", ";"),
        ("sep=;\na;b\n", ";"),
        ("sep=,\na;b\n", ","),
        ("sep=\t\na\tb\n", "\t"),
    ],
)
def test_the_header_says_what_stands_between_cells(tmp_path, content, expected):
    assert separator(write(tmp_path / "a.csv", content)) == expected


def test_excels_first_line_is_no_header(tmp_path):
    path = write(tmp_path / "a.csv", "sep=;\r\ninstruction;output\r\na;b, c\r\n")
    assert read_training_rows(path)[0] == [{"instruction": "a", "input": "", "output": "b, c", "source_row": 0}]


def test_columns_of_other_names_are_named_once(tmp_path):
    rows = [{"question": q, "answer": a, "output": "not this", "instruction": "nor this"} for q, a in ASKED]
    names = {"instruction": "question", "output": "answer"}
    assert read(tmp_path, rows, columns=names) == (ALPACA, [])
    swapped = [{"output": q, "instruction": a} for q, a in ASKED]
    assert read(tmp_path, swapped, columns={"instruction": "output", "output": "instruction"})[0] == ALPACA
    chosen = [{"chosen": row["messages"], "rejected": []} for row in CHATS]
    assert read(tmp_path, chosen, columns={"messages": "chosen"})[0] == CHATS
    pairs = [{"prompt": row["messages"][:2], "chosen": row["messages"][2:], "rejected": []} for row in CHATS]
    assert read(tmp_path, pairs, columns={"completion": "chosen"})[0] == CHATS
    with pytest.raises(UserError, match=r"a\.jsonl, line 1: expected the column 'reply', which source\.columns in the"):
        read(tmp_path, rows, columns={"output": "reply"})


def test_the_turns_of_a_prompt_and_those_marked_so_are_no_targets(tmp_path):
    """A prompt's own answers, OpenAI's weight, Axolotl's train."""
    first, second = ([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in ASKED)
    expected = [{"messages": [first[0], {**first[1], "train": False}, *second]}]
    assert read(tmp_path, [{"prompt": [*first, second[0]], "completion": [second[1]]}])[0] == expected
    for mark in ({"weight": 0}, {"train": False}):
        marked = [first[0], {**first[1], **mark}, second[0], {**second[1], "weight": 1, "train": True}]
        assert read(tmp_path, [{"messages": marked}])[0] == expected


def test_null_keys_of_a_parquet_file_are_no_keys(tmp_path):
    """All objects of a column have the keys of each: arguments of one call would stand in the other."""
    given = [
        calls(tool_calls=[{"function": {"name": "add", "arguments": ARGUMENTS}}]),
        calls(tool_calls=[{"function": {"name": "add", "arguments": {"c": "x"}}}]),
    ]
    found, _ = read(tmp_path, given, "a.parquet")
    said = [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in found]
    assert said == [json.dumps(ARGUMENTS), '{"c": "x"}']


@pytest.mark.parametrize(
    ("row", "note"),
    [
        (
            {"prompt": "x", "completion": "y"},
            "a.jsonl: prompt and completion are learnt as instruction and output, word",
        ),
        (
            {"prompt": "x", "completion": "y", "system": "z"},
            "a.jsonl: not read, so not learnt: 'system' (read are prompt",
        ),
        ({**CHATS[0], "prompt": "x"}, "a.jsonl: not read, so not learnt: 'prompt' (read are messages and tools)"),
        (
            {"messages": [CHATS[0]["messages"][1], {**CHATS[0]["messages"][2], "reasoning_content": "Hm."}]},
            "a.jsonl: not read, so not learnt: 'reasoning_content' (read are messages and tools)",
        ),
        ({"text": "x", "context": "y"}, "a.jsonl: not read, so not learnt: 'context' (read are text)"),
        ({"text": "None"}, "a.jsonl: learnt as text: 1 × 'None' in text; where nothing is meant"),
    ],
)
def test_what_a_format_does_not_read_is_said(tmp_path, row, note):
    assert any(each.startswith(note) for each in read(tmp_path, [row])[1])


def test_several_files_are_one_table(tmp_path):
    paths = [write(tmp_path / f"part-{i}.jsonl", json.dumps(row)) for i, row in enumerate(ALPACA)]
    found, _ = read_training_rows(*paths)
    assert found == [{**row, "source_row": i} for i, row in enumerate(ALPACA)]
    write(paths[1], json.dumps(TEXTS[0]))
    with pytest.raises(
        UserError, match=r"part-1\.jsonl, line 1: expected instruction and output, which .*part-0\.jsonl"
    ):
        read_training_rows(*paths)


# Splits


def test_no_text_or_call_is_on_both_sides_of_a_split():
    text = "A pot of tea needs fresh water, two spoons of leaves and four minutes of patience."
    assert splits.text_keys({"text": text}) == splits.text_keys({"text": text.upper() + " "})
    long = {"name": "brew", "arguments": json.dumps({"recipe": text})}
    said, other = (calls(tool_calls=[{"type": "function", "function": {**long, "name": name}}]) for name in ("a", "b"))
    for row in (said, other):
        row["messages"][1]["content"] = ""
    assert splits.text_keys(said) != splits.text_keys(other)
    assert splits.text_keys(said) == splits.text_keys({**said, "tools": "[]"})
    tables, _ = splits.split_rows(
        [{"text": f"{text} {i // 2}"} for i in range(8)] + TEXTS, held_out=2, rows=None, seed=0
    )
    assert sorted(row["text"] for row in tables["heldout"]) == sorted(row["text"] for row in TEXTS)


# What is staged of the formats that were read before: to the byte as it was then

STAGED_BEFORE = {
    "alpaca": ("instruction and output", "600b16f3bc33eb57908ba883cfcf5d039c59a6ae81e04ff6ef9c2a6c1fc9dc93"),
    "messages": ("messages", "90b79b5ea84831ceae4453d5245b5527a1c860fb5c54e0dcfa6bb83855332ed7"),
}


@pytest.mark.parametrize("kind", STAGED_BEFORE)
def test_what_was_staged_before_is_staged_alike(tmp_path, kind):
    twins, digest = STAGED_BEFORE[kind]
    rows = [row for i in range(6) for row in json.loads(json.dumps(TWINS[twins][0]).replace("and", f"and {i}"))]
    path = write(tmp_path / "mine.jsonl", as_text(rows, "mine.jsonl"))
    build.build_data(
        {"source": {"type": "local", "path": str(path)}, "held_out": 3, "test": 2}, tmp_path / "out", tmp_path
    )
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["heldout.jsonl", "test.jsonl", "train.jsonl"]
    assert hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest() == digest


# Damage


def broken(content, drawn):
    """A file's bytes with one to four small pieces cut, doubled, moved or overwritten."""
    content = bytearray(content)
    for _ in range(drawn.randint(1, 4)):
        start = drawn.randrange(len(content) + 1)
        stop = min(len(content), start + drawn.choice((1, 1, 2, 8, 60)))
        piece = bytes(content[start:stop])
        marks = (b"", piece * 2, b"\0", b"\xff", b'"', b"{", b"]", b",", b"\n", b"null", b"[1]", b"\\ud800", b"1e999")
        content[start:stop] = drawn.choice(marks)
    return bytes(content)


def end(path):
    """How reading a file ends: with rows that can be staged, or with the sentence."""
    try:
        rows, _ = read_training_rows(path)
        json.dumps(splits.split_rows(rows, held_out=None, rows=None, seed=0), allow_nan=False).encode()
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz", "a.parquet"])
def test_a_damaged_file_gives_a_sentence_or_rows_and_never_a_traceback(tmp_path, name):
    drawn, ends = random.Random(name), []
    for twins, (given, _) in TWINS.items():
        if name in ("a.csv", "a.tsv") and twins not in CELLS:
            continue
        whole = parquet(given) if name == "a.parquet" else as_text(given, name).encode()
        whole = delimited(given, ",").encode() if name in ("a.csv", "a.tsv") else whole
        whole = gzip.compress(whole, mtime=0) if name.endswith(".gz") else whole
        for _ in range(12 if name == "a.parquet" else 30):
            (tmp_path / name).write_bytes(broken(whole, drawn))
            ends.append(end(tmp_path / name))
    sentences = [said for said in ends if said is not None]
    assert all(said.startswith(str(tmp_path / name)) and "\n" not in said for said in sentences)
    assert len(sentences) > 10
    assert len(sentences) < len(ends) or name in ("a.jsonl.gz", "a.parquet")  # of which a byte is felt


ODD = [
    None,
    True,
    3,
    1.5,
    float("nan"),
    "",
    " ",
    "x",
    "[]",
    '{"name": 3}',
    [],
    [None],
    [[]],
    {},
    {"a": None},
    [{}],
    ["x"],
]


def odd(value, drawn):
    """A value of which some parts are of another kind."""
    if drawn.random() < 0.12:
        return drawn.choice(ODD)
    if isinstance(value, dict):
        return {key: odd(inner, drawn) for key, inner in value.items() if drawn.random() > 0.04}
    return [odd(inner, drawn) for inner in value] if isinstance(value, list) else value


def test_rows_with_values_of_other_kinds_give_a_sentence_or_rows(tmp_path):
    drawn, ends = random.Random(0), []
    path = tmp_path / "a.jsonl"
    for given, _ in TWINS.values():
        for _ in range(60):
            path.write_text(as_text([odd(row, drawn) for row in given], "a.jsonl"), encoding="utf-8")
            ends.append(end(path))
    sentences = [said for said in ends if said is not None]
    assert all(said.startswith(str(path)) for said in sentences)
    assert 100 < len(sentences) < len(ends) - 100


# Which files of a repository hold the rows


PARTS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]


@pytest.mark.parametrize(
    ("names", "member", "expected"),
    [
        (["README.md", "rows.jsonl"], None, ["rows.jsonl"]),
        ([*PARTS, "data/test-00000-of-00001.parquet"], None, PARTS),
        (["train.jsonl", "valid.jsonl", "dataset_infos.json"], None, ["train.jsonl"]),
        (["a/x-0001.csv", "a/x-0002.csv", "b.csv"], "a/x-*.csv", ["a/x-0001.csv", "a/x-0002.csv"]),
        (["a[1].csv", "a1.csv"], "a[1].csv", ["a[1].csv"]),
        (["training_data.json.gz", "sft.json"], None, ["training_data.json.gz"]),
        (["rows.csv", "../train.csv", "/train.csv"], None, ["rows.csv"]),
    ],
)
def test_the_table_of_training_rows_is_found(names, member, expected):
    assert dataset_files(names, member, "dataset them/rows") == expected


@pytest.mark.parametrize(
    ("names", "member", "sentence"),
    [
        (["README.md"], None, "dataset them/rows has no file of rows"),
        (
            ["a/train-00000-of-00001.parquet", "b/train-00000-of-00001.parquet"],
            None,
            r"several tables; say in the registry which one is meant, source.member: a/train\*.parquet, b/tr",
        ),
        (
            ["train_2025.csv", "train_2026.csv"],
            None,
            r"which one is meant, source\.member: train_2025\.csv, train_2026",
        ),
        (["a.csv", "b.csv"], "c.csv", "has no file c.csv; check source.member in the registry; a.csv, b.csv$"),
        (["x.bin"], "y-*.csv", r"has no file y-\*.csv; check source.member in the registry$"),
    ],
)
def test_a_repository_without_one_table_is_one_sentence(names, member, sentence):
    with pytest.raises(UserError, match=sentence):
        dataset_files(names, member, "dataset them/rows")
