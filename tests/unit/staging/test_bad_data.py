"""Data files as users really have them: damaged, of another tool, or not what they seem. One sentence for each."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import zipfile

import pytest

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.staging import build
from aletheia.staging.questions import read_questions
from aletheia.staging.training_rows import read_training_rows
from stage_step import refused

ROW = {"instruction": "Sum up.", "input": "a, b", "output": "Ab and so on."}
GOOD = json.dumps(ROW)
USER, ANSWER = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def chat(*turns):
    return lines({"messages": list(turns)})


def with_output(text):
    return f'{{"instruction": "x", "output": {text}}}'


def parquet(columns):
    """A Parquet file of columns, or of (name, values) pairs where two have one name."""
    import pyarrow
    import pyarrow.parquet

    pairs = list(columns.items()) if isinstance(columns, dict) else columns
    table = pyarrow.table([pyarrow.array(values) for _, values in pairs], names=[name for name, _ in pairs])
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def not_utf8():
    import pyarrow

    offsets = pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0")
    return pyarrow.Array.from_buffers(pyarrow.utf8(), 1, [None, offsets, pyarrow.py_buffer(b"\xff\xfe")])


def damaged():
    """A gzip file with two bytes of its middle changed: what is behind them unpacks to nothing."""
    drawn = random.Random(0)
    packed = bytearray(
        gzip.compress(lines(*[{**ROW, "output": str(drawn.random())} for _ in range(300)]).encode(), mtime=0)
    )
    packed[len(packed) // 2] ^= 255
    packed[len(packed) // 2 + 1] ^= 255
    return bytes(packed)


ALPACA, ONE_LINE = "expected the columns instruction, output", "a row stands on one line, whole and alone"
UTF16 = "expected UTF-8 text, found UTF-16, UTF-32 or no text; save the file as UTF-8"

# (file, content, what the sentence must say): JSON
JSON = [
    (
        "a.jsonl",
        lines(GOOD, with_output('"y", "n": ' + "9" * 5000)),
        "line 2: .* more than 4,300 digits; write it as text",
    ),
    ("a.json", "[" + with_output('"y", "n": ' + "9" * 5000) + "]", "a.json, row 1: .* more than 4,300 digits"),
    ("a.jsonl", lines(GOOD, '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}"), "line 2: .* nested too deep to read"),
    ("a.json", "[" * 200_000 + "]" * 200_000, "a.json, row 1: .* nested too deep"),
    ("a.jsonl", lines(GOOD, with_output(r'"a\ud800b"')), r"line 2: the output holds half of a character \(\\ud800"),
    ("a.jsonl", chat(USER, ANSWER).replace('"x"', r'"\ud83d"'), "line 1, message 1: the content holds half of a char"),
    ("a.jsonl", lines(GOOD, with_output(r'"a\u0000b"')), "line 2: the output holds a NUL character"),
    ("a.jsonl", f"[{GOOD}, 3]", "a.jsonl, row 2: expected one JSON object with named columns, found the number 3"),
    ("a.jsonl", json.dumps([ROW, {}], indent=1), "a.jsonl, line 7 .row 2.: expected the columns .* found no column"),
    ("a.jsonl", f"[{GOOD},\n{GOOD}\n{GOOD}]", "a.jsonl, line 3: expected a JSON array .* malformed JSON .*delimiter.$"),
    ("a.json", f"[{GOOD},\n{GOOD},\n", "a.json, line 3: expected a JSON array .* malformed JSON .Expecting value.$"),
    ("a.json", f"[{GOOD}]\n[{GOOD}]", "a.json, line 2: expected a JSON array .* malformed JSON .Extra data.$"),
    ("a.jsonl", json.dumps(ROW, indent=1), f"line 1: .* malformed .*; {ONE_LINE}"),
    ("a.jsonl", GOOD + GOOD, f"line 1: .*Extra data at column .*; {ONE_LINE}"),
    ("a.jsonl", lines(GOOD) + GOOD[:-20], f"line 2: .*Unterminated string starting at column .*; {ONE_LINE}"),
    ("a.jsonl", lines(GOOD, with_output('"y", "output": "z"')), "line 2: expected each key once, found 'output' twice"),
    ("a.json", "[" + with_output('"y", "output": "z"') + "]", "row 1: expected each key once, found 'output' twice"),
    ("a.jsonl", chat(USER, ANSWER).replace("y", 'y", "content": "z'), "message 2: expected each key once"),
    ("a.jsonl", "{'instruction': 'x', 'output': 'y'}", "line 1: .* enclosed in double quotes"),
    ("a.jsonl", lines(GOOD, "<<<<<<< HEAD", GOOD), "line 2: expected one JSON object, found a malformed one"),
    ("a.jsonl", "x" * 3_000_000, "line 1: expected one JSON object, found a malformed one"),
    ("a.jsonl", lines({**ROW, "output": True}), "expected text in the column output, found a truth value"),
    ("a.jsonl", lines({**ROW, "output": ["a"]}), "expected text in the column output, found a list"),
    ("a.jsonl", with_output("NaN"), r"line 1: the output is missing \(NaN\); fill it in"),
    ("a.jsonl", with_output("Infinity"), "expected text in the column output, found the number inf"),
    ("a.jsonl", with_output('" \\t\\u2003"'), "the output is empty; fill it in or remove the row"),
    ("a.jsonl", with_output('"\\u200b\\ufeff"'), "the output is empty"),
    ("a.jsonl", lines(GOOD, "null"), "line 2: expected one JSON object with named columns, found nothing"),
    ("a.json", json.dumps({"data": [ROW]}), "found an object; write the list under 'data' alone"),
    ("a.json", json.dumps({"instruction": {"0": "x"}}), 'pandas writes rows with to_json(path, orient="records")'),
    ("a.json", "null", "expected a JSON array of objects, found nothing"),
    ("a.jsonl", lines({f"column{i}": "x" for i in range(200)}), f"{ALPACA}.* column11 and 188 more"),
    ("a.jsonl", lines({"x" * 5000: "x"}), f"{ALPACA}.* found x{{60}}…"),
]
# Forms of other tools, and how to convert them
REGISTRY = "say in the registry source.columns: "
CALL = {"function": {"name": "f", "arguments": {"a": 1}}}
FOREIGN = [
    (
        "a.jsonl",
        lines({"instruction": "x", "response": "y"}),
        f"output missing, .*; {REGISTRY}{{output: response}} .*, or re",
    ),
    (
        "a.jsonl",
        lines({"instruction": "x", "context": "c", "response": "y", "category": "z"}),
        f"{REGISTRY}{{input: context, output: response}} .*, or rename them$",
    ),
    (
        "a.jsonl",
        lines({"input": "x", "output": "y"}),
        f"instruction missing, .*; {REGISTRY}{{instruction: input}} .*, or",
    ),
    ("a.csv", "question,answer\nx,y\n", f"{REGISTRY}{{instruction: question, output: answer}} .*, or rename them$"),
    (
        "a.csv",
        "Instruction, Output\nx,y\n",
        f'{REGISTRY}{{instruction: Instruction, output: " Output"}} .*output= Output',
    ),
    (
        "a.jsonl",
        lines({"text": "x", "label": 1}),
        f"{REGISTRY}{{instruction: text, output: label}} .*, or rename them$",
    ),
    (
        "a.csv",
        "Frage Text;antwort\nx;y\n",
        "found Frage Text, antwort; name yours .*--columns instruction=QUESTION output=ANSWER.$",
    ),
    ("a.jsonl", lines({"document": "x"}), f"{REGISTRY}{{text: document}} .*, or rename it$"),
    ("a.jsonl", lines({"dialogue": [USER, ANSWER]}), f"{REGISTRY}{{messages: dialogue}} .*, or rename it$"),
    ("a.jsonl", lines({"prompt": "x"}), "a question alone teaches nothing: add its answer, in a column output$"),
    # Preference pairs, judged completions, token ids
    (
        "a.jsonl",
        lines({"prompt": "x", "chosen": "y", "rejected": "z"}),
        f"{REGISTRY}{{instruction: prompt, output: cho",
    ),
    ("a.jsonl", lines({"chosen": "y", "rejected": "z"}), f"preference pairs: .* {REGISTRY}{{text: chosen}} "),
    ("a.jsonl", lines({"chosen": [USER, ANSWER], "rejected": [USER]}), f"{REGISTRY}{{messages: chosen}} "),
    ("a.jsonl", lines({"prompt": [USER], "chosen": [ANSWER], "rejected": []}), f"{REGISTRY}{{completion: chosen}} "),
    (
        "a.jsonl",
        lines({"prompt": "x", "completion": "y", "label": False}),
        "keep the rows whose label is true, and take",
    ),
    (
        "a.csv",
        "prompt,completion,label\nx,y,True\n",
        "line 2: .* found a label beside it, true or false; keep the rows",
    ),
    ("a.jsonl", lines({"input_ids": [1], "labels": [1]}), "{'text': tokenizer.decode.row.'input_ids'...$"),
    # Turns
    ("a.jsonl", chat({"from": "Human", "value": "x"}), "message 1: expected from to be human, gpt, .*, found Human$"),
    (
        "a.jsonl",
        chat({"from": ["human"], "value": "x"}),
        "message 1: expected from to be human, gpt, .*, found a list$",
    ),
    (
        "a.jsonl",
        lines({"conversations": "x"}),
        "expected conversations to be a list of turns, found text; write it as a",
    ),
    ("a.jsonl", chat({"role": "User", "content": "x"}), "found the role 'User'; write user for User"),
    ("a.jsonl", chat({"role": "human", "content": "x"}), "write user for human"),
    ("a.jsonl", chat({"role": "ipython", "content": "x"}), "write tool for ipython"),
    ("a.jsonl", chat({"content": "x"}), "expected a turn with role .* and content, found content$"),
    ("a.jsonl", chat(USER, {**ANSWER, "content": None}), r"message 2: .* found nothing \(null\); fill it in or remove"),
    ("a.jsonl", chat({**USER, "content": {"a": 1}}), r"found an object; write it as text: json.dumps\(content\)$"),
    (
        "a.jsonl",
        chat({**USER, "content": [{"type": "image_url"}]}),
        "message 1: .* found one of type 'image_url'; only te",
    ),
    (
        "a.jsonl",
        chat({**USER, "content": [{"type": "input_audio"}]}),
        "one of type 'input_audio'; only text is learnt: le",
    ),
    ("a.jsonl", chat({**USER, "content": [{"type": "text", "text": 3}]}), "expected parts of type text in content"),
    (
        "a.jsonl",
        chat({**USER, "content": [3]}),
        "expected parts of type text in content, found the number 3; only text",
    ),
    ("a.jsonl", chat({**USER, "content": []}), "message 1: the content is empty; fill it in or remove the row"),
    ("a.jsonl", chat(USER, {**ANSWER, "weight": 0}), "found each marked as none .weight, train.; remove the row"),
    ("a.jsonl", chat(USER, {**ANSWER, "content": ""}), "message 2: the content is empty; fill it in"),
    ("a.jsonl", lines({"messages": json.dumps([USER, ANSWER])}), "found text; write it as a JSON list, not as text"),
    ("a.jsonl", lines({"messages": []}), "expected messages to be a list of turns, found an empty list"),
    ("a.jsonl", chat("x", "y"), "message 1: expected a turn with role .*, found text"),
    ("a.jsonl", chat(ANSWER, USER), "found assistant, user; take out what stands before the first question: turns.1:."),
    ("a.jsonl", chat(USER), "found user; a question alone teaches nothing: add its answer, a turn of the assistant$"),
    # Tools
    (
        "a.jsonl",
        chat({**USER, "tool_calls": [CALL]}),
        "message 1: expected calls of tools in an assistant's turn, found",
    ),
    (
        "a.jsonl",
        chat(USER, {**ANSWER, "tool_calls": [{"id": 1}]}),
        "message 2, call 1: expected a call .* the keys id$",
    ),
    ("a.jsonl", chat(USER, {**ANSWER, "tool_calls": "["}), "message 2: the call: expected JSON, found '\\['"),
    (
        "a.jsonl",
        chat(USER, {**ANSWER, "tool_calls": [{"name": "f", "arguments": "{"}]}),
        "the arguments: expected JSON",
    ),
    (
        "a.jsonl",
        chat(USER, {**ANSWER, "function_call": {"name": "f", "arguments": "3"}}),
        "an object, found the number 3",
    ),
    (
        "a.jsonl",
        chat({"from": "human", "value": "x"}, {"from": "function_call", "value": "f(1)"}),
        "message 2: the call: ",
    ),
    ("a.jsonl", lines({"messages": [USER, ANSWER], "tools": "x"}), "line 1: the tools: expected JSON, found 'x'"),
    ("a.jsonl", lines({"messages": [USER, ANSWER], "tools": {"name": "f"}}), "expected tools to be a list such as "),
    (
        "a.jsonl",
        lines({"messages": [USER, ANSWER], "tools": [{"type": "function"}]}),
        "line 1, tool 1: .* the keys type$",
    ),
    # Prompts and completions
    ("a.jsonl", lines({"prompt": [USER], "completion": "y"}), "two texts or two lists of turns, found a list and text"),
    (
        "a.jsonl",
        lines({"prompt": [USER], "completion": [3]}),
        "line 1, completion, message 1: expected a turn with role",
    ),
    ("a.jsonl", lines({"prompt": [USER, ANSWER], "completion": [USER]}), "found each marked as none"),
    ("a.csv", "prompt,completion\nx,NaN\n", r"line 2: the completion is missing \(NaN\); fill it in"),
    ("a.jsonl", lines({"text": "x"}, {"text": " "}), "line 2: the text is empty; fill it in or remove the row"),
    ("a.jsonl", lines({"text": ["x"]}), "line 1: expected text in the column text, found a list"),
    # Rows of two formats
    (
        "a.jsonl",
        lines({"text": "x"}, ROW),
        "line 2: expected text, which a.jsonl, line 1 has, found instruction and out",
    ),
    (
        "a.jsonl",
        lines(ROW, "", {"messages": [USER, ANSWER]}),
        "line 3: expected instruction and output, which a.jsonl, l",
    ),
    (
        "a.json",
        json.dumps([{"messages": [USER, ANSWER]}, {"conversations": [USER, ANSWER]}]),
        "row 2: .* a.json, row 1 ",
    ),
]
# CSV, Parquet, and files of another kind than their name says
TABLES = [
    (
        "a.csv",
        "instruction,output\na,b\nc,NaN\n",
        r"line 3: the output is missing \(NaN\); .*; where the text NaN is meant",
    ),
    ("a.csv", 'instruction,output\n"a\nb",c\nnan,d\n', r"line 4: the instruction is missing \(nan\)"),
    ("a.csv", "instruction,output\na,<NA>\n", r"line 2: the output is missing \(<NA>\)"),
    ("a.csv", "instruction,output\na,\n", "line 2: the output is empty"),
    ("a.csv", "instruction;output\na;b;c\n", "line 2: expected 2 cells .*; a cell with a semicolon stands in quotes"),
    (
        "a.csv",
        'instruction;output\na;"b\n',
        "line 2: expected well-formed CSV .* with a quote, semicolon or line break",
    ),
    ("a.tsv", "instruction,output\na,NaN\n", r"line 2: the output is missing \(NaN\)"),
    ("a.csv", "sep=;\n", "a.csv: expected at least one training row and found an empty file"),
    ("a.csv", "sep=;\ninstruction;output\n", "expected rows below the header and found none"),
    ("a.csv", "instruction,output,output\na,b,c\n", "line 1: expected each column once, found 'output' twice"),
    ("a.csv", "instruction,output\n", "expected rows below the header and found none"),
    ("a.csv", "x" * 3_000_000, "expected rows below the header and found none"),
    ("a.csv", "instruction,output\na,b\ninstruction,output\n", "line 3: expected a row, found the header again"),
    (
        "a.csv",
        "instruction,output\na,b, c\n",
        "line 2: expected 2 cells .*, found 3; a cell with a comma stands in quotes",
    ),
    (
        "a.csv",
        'instruction,output\n"say \\"hi\\"",b\n',
        "line 2: expected well-formed CSV .* each quote in it written twice",
    ),
    ("a.csv", 'messages\n"[{""role"": ""user""}]"\n', "line 2: expected messages to be a list of turns, found text"),
    ("a.csv", "instruction,output\nab cd ef gh,x\0y\n", "line 2: the output holds a NUL character"),
    ("a.csv", "instruction,output\rGrö,b\rße,\udcff".encode("utf-8", "surrogateescape"), "line 3: expected UTF-8 text"),
    ("a.parquet", parquet({"instruction": ["x"], "output": [{"a": 1}]}), "row 1: .* output, found an object"),
    ("a.parquet", parquet({"instruction": ["x"], "output": [b"y"]}), "row 1: .* output, found bytes"),
    (
        "a.parquet",
        parquet({"instruction": ["x", "x"], "output": ["y", None]}),
        r"row 2: the output is missing \(null\)",
    ),
    ("a.parquet", parquet({"instruction": ["x"], "output": [float("nan")]}), r"row 1: the output is missing \(NaN\)"),
    ("a.parquet", parquet([("instruction", ["x"]), ("output", ["y"]), ("output", ["z"])]), "found 'output' twice"),
    ("a.parquet", parquet({"instruction": ["x"], "output": not_utf8()}), "expected cells that can be read .*utf-8"),
    ("a.parquet", lines(GOOD), "expected a whole Parquet file"),
    ("a.parquet", parquet({"instruction": ["x"], "output": ["y"]})[:-20], "expected a whole Parquet file"),
    ("a.parquet", "version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer .*git lfs pull"),
    ("a.jsonl", "version https://git-lfs.github.com/spec/v1\n", "found a Git LFS pointer"),
    (
        "a.jsonl",
        parquet({"instruction": ["x"], "output": ["y"]}),
        "expected text, found a Parquet file; save the rows as",
    ),
    ("a.csv", b"PK\x03\x04" + b"\0\1\2" * 400, "found a zip archive, as an Excel workbook is one"),
    ("a.jsonl", "<!DOCTYPE html><html>404</html>", "found a web page"),
    ("a.jsonl", bz2.compress(lines(GOOD).encode()), "found a bzip2 file"),
    ("a.jsonl", lines(GOOD).encode("utf-16"), UTF16),
    ("a.csv", "instruction,output\na,b\n".encode("utf-16-le"), UTF16),
    ("a.csv", "instruction,output\na,b\n".encode("utf-32"), UTF16),
    (
        "a.jsonl",
        gzip.compress(lines(GOOD).encode(), mtime=0),
        "found a gzip file; let its name end in .gz, or unpack it",
    ),
    ("a.jsonl.gz", damaged(), "expected a whole gzip file, found a damaged one or half of one; copy or download"),
    ("a.jsonl.gz", gzip.compress(lines(GOOD).encode(), mtime=0)[:-10], "found a damaged one or half of one"),
    ("a.jsonl.gz", lines(GOOD), "expected a gzip file, found something else; take .gz off its name"),
    ("a.jsonl.gz", b"", "found an empty file"),
    ("a.jsonl.gz", gzip.compress(b"x" * 257 + b"ustar" + b"x" * 250, mtime=0), "found a tar archive"),
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def number(cases):
    return [pytest.param(*case, id=f"{i}-{case[2][:40]}") for i, case in enumerate(cases)]


@pytest.mark.parametrize(("name", "content", "sentence"), number([*JSON, *FOREIGN, *TABLES]))
def test_each_mistake_is_one_short_sentence_with_its_place(tmp_path, monkeypatch, name, content, sentence):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / name, content)
    pattern = sentence.replace("to_json(path", r"to_json\(path").replace('records")', r'records"\)')
    with pytest.raises(UserError, match=pattern) as raised:
        read_training_rows(path.relative_to(tmp_path))
    said = str(raised.value)
    assert said.startswith(name)
    assert "\n" not in said
    assert len(said) < 420


PAIRS = {"instruction": ["x"], "output": ["y"]}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", "\r".join([GOOD] * 3), [ROW] * 3),
        ("a.jsonl", lines(GOOD) + "\ufeff" + lines(GOOD), [ROW] * 2),
        ("A.JSONL.GZ", gzip.compress(lines(GOOD).encode(), mtime=0), [ROW]),
        ("a.jsonl", lines(GOOD[:-1] + r', "more": "\ud800"}'), [ROW]),
        ("a.jsonl", '{"instruction": "a\u2028b", "input": NaN, "output": "c\x85d"}', [("a\u2028b", "", "c\x85d")]),
        ("a.jsonl", lines({**ROW, "input": " \t"}), [{**ROW, "input": ""}]),
        ("a.csv", "instruction,input,output\na,NaN,b\nc, nan,d\ne,,f\ng,<NA>,h\n", ["a  b", "c  d", "e  f", "g  h"]),
        ("a.csv", "\ufeff\n\ninstruction,output\ra,b\rc,d\r", ["a  b", "c  d"]),
        ("a.csv", ",,instruction,output\n0,0,a,b\n", ["a  b"]),
        ("a.csv", f'instruction,output\na,"{"b," * 100_000}"\n', [("a", "", "b," * 100_000)]),
        ("a.parquet", parquet({**PAIRS, "input": [float("nan")]}), ["x  y"]),
        ("a.parquet", parquet([*PAIRS.items(), ("n", [2**60]), ("b", [b"\xff"])]), ["x  y"]),
    ],
)
def test_what_is_odd_and_right_is_read(tmp_path, name, content, expected):
    rows, notes = read_training_rows(write(tmp_path / name, content))
    wanted = [tuple(row.split(" ")) if isinstance(row, str) else row for row in expected]
    wanted = [dict(zip(ROW, row, strict=True)) if isinstance(row, tuple) else row for row in wanted]
    assert [{key: row[key] for key in ROW} for row in rows] == wanted
    assert notes == []


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        (
            "a.csv",
            "instruction,input,output\na,None,NA\nc,N/A,NA\n",
            "a.csv: learnt as text: 2 × 'NA' in output, 1 × 'None' in input, 1 × 'N/A' in input; where nothing is "
            "meant, leave the cell empty",
        ),
        ("a.jsonl", lines({**ROW, "output": "nan"}), "a.jsonl: learnt as text: 1 × 'nan' in output; where"),
        ("a.jsonl", lines({**ROW, "context": "c", "history": []}), "a.jsonl: not read, so not learnt: 'context' (read"),
        (
            "a.jsonl",
            lines({**ROW, "messages": [USER, ANSWER]}),
            "not learnt: 'instruction', 'input', 'output' (read are",
        ),
    ],
)
def test_what_is_read_otherwise_than_meant_is_said(tmp_path, monkeypatch, name, content, note):
    monkeypatch.chdir(tmp_path)
    (said,) = read_training_rows(write(tmp_path / name, content).relative_to(tmp_path))[1]
    assert note in said


# Splits, as the stage step makes them


def staged_tables(folder, content, **entry):
    path = write(folder / "mine.jsonl", content)
    about = build.build_data({"source": {"type": "local", "path": str(path)}, **entry}, folder / "out", folder)
    tables = {name: (folder / "out" / f"{name}.jsonl").read_text().splitlines() for name in ("train", "heldout")}
    return about, {name: [json.loads(line) for line in table] for name, table in tables.items()}


def test_a_split_that_leaves_less_than_it_takes_is_said(tmp_path, capsys):
    rows = lines(*[{**ROW, "instruction": str(i)} for i in range(5)])
    assert staged_tables(tmp_path, rows, held_out=4)[0]["rows"] == {"train.jsonl": 1, "heldout.jsonl": 4}
    assert capsys.readouterr().out.endswith(
        "mine.jsonl: 4 rows held out (held_out) leave 1 to train on; lower held_out or add rows\n"
    )


@pytest.mark.parametrize("held_out", [2, 1])
def test_rows_that_differ_by_space_case_or_form_of_a_character_are_the_same(tmp_path, held_out):
    """And so are conversations, by each of their long answers."""
    long = "A pot of tea needs fresh water, two spoons of leaves and four minutes of patience."
    asked = [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": long}]
    more = [{"role": "user", "content": "More?"}, {"role": "assistant", "content": "No."}]
    texts = ("Say  it", "say\nit", "Ｓay it", "Say that")
    rows = [{"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": "yes"}]} for t in texts]
    rows += [{"messages": asked}, {"messages": [*asked, *more]}]
    rows += [{"messages": [asked[0], {"role": "assistant", "content": long.upper()}]}]
    if held_out == 2:
        with pytest.raises(
            UserError, match=r"mine\.jsonl: held_out: 2 asks for .* \(1 of 7 rows have a text of their own"
        ):
            staged_tables(tmp_path, lines(*rows), held_out=2)
    else:
        (row,) = staged_tables(tmp_path, lines(*rows), held_out=1)[1]["heldout"]
        assert row["messages"][0]["content"] == "Say that"


def test_training_rows_with_an_answer_of_the_held_out_file_are_left_out_and_said(tmp_path, capsys):
    long = "A pot of tea needs fresh water, two spoons of leaves and four minutes of patience."
    held = write(tmp_path / "held.jsonl", chat(USER, {**ANSWER, "content": long}))
    mine = lines({**ROW, "output": long.replace(" ", "  ")}, ROW)
    about, tables = staged_tables(tmp_path, mine, held_out_path=str(held))
    assert [row["output"] for row in tables["train"]] == [ROW["output"]]
    assert about["dropped"] == {"text of a held-out row": 1}
    assert "mine.jsonl: 1 of 2 rows left out (text of a held-out row)" in capsys.readouterr().out


# Questions

SUM, FOUR = {"question": "1 + 1?", "answer": "#### 2"}, {"question": "x", "choices": list("abcd"), "answer": 1}


@pytest.mark.parametrize(
    ("kind", "rows", "sentence"),
    [
        ("gsm8k", [SUM, {**SUM, "question": "\0"}], "line 2: the question holds a NUL character"),
        (
            "gsm8k",
            [{**SUM, "answer": "2 ####"}],
            "none that can be read: each has a question, and an answer that ends in",
        ),
        (
            "mmlu",
            [{**FOUR, "choices": ["a", "b", None, "d"]}],
            "line 1: the choices: expected a list of texts, found noth",
        ),
        (
            "mmlu",
            [{**FOUR, "choices": [{"text": "a"}, "b", "c", "d"]}],
            "expected a list of texts, found an object in it",
        ),
        (
            "mmlu",
            [{**FOUR, "choices": ["a", "b", float("nan"), "d"]}],
            "expected a list of texts, found the number nan",
        ),
        ("mmlu", [{**FOUR, "choices": ["a", "b", "c\ud800", "d"]}], "line 1: the choices holds half of a character"),
        ("mmlu", [{**FOUR, "subject": ["law"]}], "line 1: expected text in the column subject, found a list"),
        ("mmlu", [{**FOUR, "subject": "\ud800"}], "line 1: the subject holds half of a character"),
    ],
)
def test_damaged_questions_are_one_sentence(tmp_path, kind, rows, sentence):
    with pytest.raises(UserError, match=sentence):
        read_questions(write(tmp_path / "a.jsonl", lines(*rows)), kind)


def test_folders_of_mmlu_that_are_none_or_two(tmp_path):
    with pytest.raises(UserError, match=r"expected files named SUBJECT_test\.csv, found no CSV file"):
        read_questions(tmp_path, "mmlu")
    for split in ("test", "dev"):
        write(tmp_path / f"law_{split}.csv", f"Which {split}?,a,b,c,{'d' * 200_000},A\n")
    with pytest.raises(UserError, match="expected files of one split, found dev and test; give each a folder"):
        read_questions(tmp_path, "mmlu")
    (tmp_path / "law_dev.csv").unlink()
    assert len(read_questions(tmp_path, "mmlu")[0][0]["choices"][3]) == 200_000


def test_questions_that_are_mostly_left_out_are_said(tmp_path, capsys):
    rows = [{**SUM, "question": f"{i}?", "answer": f"#### {i}" if i < 3 else "none"} for i in range(10)]
    source = {"type": "local", "path": str(write(tmp_path / "a.jsonl", lines(*rows, rows[0]))), "format": "gsm8k"}
    about = build.build_data({"source": source}, tmp_path / "out", tmp_path)
    assert about["dropped"] == {"unreadable": 7, "duplicate": 1}
    said = capsys.readouterr().out
    assert "a.jsonl: 8 of 11 gsm8k questions left out (7 unreadable, 1 duplicate); a question that can be read" in said
    assert said.startswith("note: ")


def test_a_file_out_of_a_wheel_is_named_without_the_folder_that_it_was_unpacked_to(tmp_path, capsys):
    wheel = tmp_path / "tea-1.0-py3-none-any.whl"
    source = {"type": "pypi", "package": "tea", "version": "1.0", "member": "tea/rows.jsonl"}
    for content, target in ((lines({**ROW, "output": "None"}), "good"), (lines(GOOD, "null"), "bad")):
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tea/rows.jsonl", content)
        entry = {"source": {**source, "sha256": artifacts.sha256_file(wheel)}}
        if target == "good":
            build.build_data(entry, tmp_path / target, tmp_path)
            assert capsys.readouterr().out.startswith("note: 0-rows.jsonl: learnt as text: 1 × 'None' in output")
        else:
            with pytest.raises(UserError, match=r"^0-rows\.jsonl, line 2: expected one JSON object"):
                build.build_data(entry, tmp_path / target, tmp_path)


# Through the real script


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            {"path": "damaged.jsonl.gz"},
            "damaged.jsonl.gz: expected a whole gzip file, found a damaged one or half of one",
        ),
        ({"path": "~/mine.jsonl"}, "at ~/mine.jsonl and found none; paths are taken as they stand, so write it whole"),
    ],
)
def test_the_stage_step_ends_with_the_sentence_and_leaves_nothing(tmp_path, entry, sentence):
    write(tmp_path / "damaged.jsonl.gz", damaged())
    assert sentence in refused("data", "mine", {"source": {"type": "local", **entry}, "held_out": 4}, tmp_path)
