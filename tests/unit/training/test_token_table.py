"""The table of the tokens step: what encoding gives, for all that reads it; and what it is not, in one sentence."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import compact_json
from aletheia.staging.convert import byte_tokenizer
from aletheia.training import encoding, row_counts, token_table
from aletheia.training.encoded_rows import EncodedRows
from aletheia.training.precision import typical_shape
from conftest import ROOT, SCRIPTS, run_script
from ledgers import locked_rows, run_here

TURNS = ("user", "assistant", "user", "assistant")
CHAT = {"messages": [{"role": role, "content": f"word {place} " * 3} for place, role in enumerate(TURNS)]}
ROWS = [
    {"instruction": "Say it.", "input": "", "output": "ok"},
    {"instruction": "Say it.", "input": "again", "output": "ok " * 30},
    {"instruction": "Say it. " * 40, "input": "", "output": "never"},
    {"instruction": "Say it.", "input": "", "output": "<eos>"},
    {"instruction": "Mark it.", "input": "", "output": "ok<eos>"},
    CHAT,
    *({"instruction": "Count.", "input": str(n), "output": "word " * (n % 11 + 1)} for n in range(30)),
]
HELDOUT = [ROWS[1], ROWS[2], ROWS[0]]
TEST = [ROWS[0], *ROWS[7:9]]
LIMIT = 96
# The option of an input by its folder, where it has another name.
OPTIONS = {"models": "--model-lock", "data": "--data-lock", "select": "--selection"}


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    return tokenizer


def same(left: EncodedRows, right: EncodedRows) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in token_table.ARRAYS)


@pytest.mark.parametrize("loss_on", encoding.LOSS_ON)
@pytest.mark.parametrize("prompt", ["alpaca", "plain", "chat", "text"])
def test_a_table_holds_what_encoding_gives(tmp_path, tokenizer, prompt, loss_on):
    settings = {"prompt": prompt, "loss_on": loss_on, "max_tokens": {"alpaca": 260}.get(prompt, LIMIT)}
    encoded = {"train": encoding.encode_rows(ROWS, tokenizer, **settings)}
    encoded["heldout"] = encoding.encode_rows(ROWS[:2], tokenizer, **settings)
    for name in ("a", "b"):
        token_table.write_table(tmp_path / name, encoded)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = token_table.read_table(tmp_path / "a")
    assert list(read) == ["train", "heldout"]
    for kind, rows in encoded.items():
        assert same(read[kind], rows)
        assert list(read[kind].examples) == list(rows.examples)
        assert read[kind].counts() == rows.counts()
        assert read[kind].lengths == rows.lengths
    # The examples themselves, against one row at a time.
    for example in read["train"].examples:
        (alone,) = encoding.encode_rows([ROWS[example["row"]]], tokenizer, **settings).examples
        assert alone == {**example, "row": 0}
        assert {type(value) for value in example["input_ids"] + example["labels"]} == {int}
    # Some rows, in whatever order, with some that give no example.
    for chosen in ([0], [5, 2, 1, 4, 3, 0], range(7, 2, -1)):
        alone = encoding.encode_rows([ROWS[index] for index in chosen], tokenizer, **settings)
        assert same(read["train"].select(chosen), alone)


def plain(max_tokens=LIMIT):
    return {"prompt": "plain", "loss_on": "response", "max_tokens": max_tokens}


@pytest.fixture(scope="module")
def locks(tmp_path_factory, tokenizer):
    """The arguments that name the locks of a model and of its data."""
    return locked_rows(tmp_path_factory.mktemp("mine"), tokenizer, ROWS, HELDOUT, test=TEST)


def by_hand(encoded):
    return ["--set", *(f"encoding.{key}={value}" for key, value in encoded.items())]


@pytest.fixture
def table(tmp_path, monkeypatch, capsys, locks):
    """A table as the step writes it, and what it printed."""
    path = tmp_path / "tokens" / "tiny.safetensors"
    ended, text = run_here(monkeypatch, capsys, "tokenise.py", *locks, "--out", path, *by_hand(plain()))
    assert ended == 0, text
    return path, text


def test_the_step_says_what_the_limit_does_and_its_sidecar_keeps_it(table):
    path, text = table
    assert [line for line in text.splitlines() if line.startswith("note: ")] == [
        "note: mine for tiny: 2 of 36 training rows left out (1 no target left within 96 tokens, 1 nothing to learn "
        "from), 2 cut; 1 of 3 held-out rows left out (no target left within 96 tokens), 1 cut; encoding.max_tokens: "
        "256 would keep all but 2 of them whole"
    ]
    about = artifacts.payload(artifacts.sidecar(path), "file")["about"]
    assert (about["model"], about["data"], about["encoding"]) == ("tiny", "mine", plain())
    assert about["rows"]["heldout"] == {"rows": 3, "cut": 1, "no_target_left": 1, "empty": 0, "special": 0}


PLAN = ("batches.steps=3", "batches.batch_size=2", "batches.accumulation=2")


def test_the_plan_of_a_table_is_that_of_its_rows(tmp_path, monkeypatch, capsys, locks, table):
    payloads, said = [], []
    for name, tokens in (("with", ["--tokens", table[0]]), ("without", [])):
        given = [*locks, *tokens, "--seed", 1, "--out", tmp_path / f"{name}.json", *by_hand(plain()), *PLAN]
        ended, text = run_here(monkeypatch, capsys, "draw_batches.py", *given)
        assert ended == 0, text
        payloads.append(artifacts.payload(tmp_path / f"{name}.json", "batches"))
        said.append("note: " in text)
    assert payloads[0] == payloads[1]
    assert payloads[0]["row_counts"]["train"]["rows"] == len(ROWS)
    # The step that encoded them has said it.
    assert said == [False, True]
    recorded = artifacts.read(tmp_path / "with.json")["lineage"]["inputs"][table[0].as_posix()]
    assert recorded["payload_sha256"] == artifacts.read(artifacts.sidecar(table[0]))["payload_sha256"]


def test_a_plan_of_a_table_needs_neither_torch_nor_transformers(tmp_path, locks, table):
    call = [SCRIPTS / "draw_batches.py", *locks, "--tokens", table[0], "--seed", 1, "--out", tmp_path / "out.json"]
    program = (
        "import runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "heavy = ('torch', 'transformers', 'tokenizers', 'peft', 'accelerate')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    settings = ["--lineage", 'config:batches={"steps":2,"batch_size":1,"accumulation":1}']
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, call), *settings],
        cwd=ROOT,
        env={"PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def rows_of(table, locks, tokenizer=None, **settings):
    _, model_lock, _, data_lock = locks
    given = {"model_lock": model_lock, "data_lock": data_lock, "encoding": settings}
    return token_table.token_rows(table, **given, tokenizer=lambda: tokenizer)


def test_rows_are_the_same_with_a_table_and_without_one(tokenizer, locks, table):
    read, encoded = rows_of(table[0], locks), rows_of(None, locks, tokenizer, **plain())
    assert read.folder == encoded.folder
    for kind in row_counts.ROWS:
        assert read.count(kind) == encoded.count(kind)
        for chosen in (None, range(2), [2, 0]):
            assert same(read.encoded_rows(kind, chosen), encoded.encoded_rows(kind, chosen))
    sizes = {"batch_size": 2, "accumulation": 2}
    assert typical_shape(read, **sizes) == typical_shape(encoded, **sizes)


def test_rows_that_all_go_are_refused_as_where_they_are_encoded(tokenizer, locks, table):
    for kind, chosen, what in (("heldout", [1], None), ("train", [2], "rows"), ("train", [3], None)):
        sentences = []
        for rows in (rows_of(table[0], locks), rows_of(None, locks, tokenizer, **plain())):
            with pytest.raises(UserError) as raised:
                rows.encoded_rows(kind, chosen, what=what)
            sentences.append(str(raised.value))
        assert sentences[0] == sentences[1]
        assert f"of the 1 {what or row_counts.ROWS[kind]}" in sentences[0]


def test_a_table_of_something_else_is_one_sentence(tmp_path, tokenizer, locks, table):
    others = locked_rows(tmp_path / "others", tokenizer, ROWS[:3], HELDOUT)
    path, model_lock = table[0], locks[1]
    with pytest.raises(UserError) as raised:
        rows_of(path, [*locks[:3], others[3]])
    assert str(raised.value) == (
        f"{path}: expected the tokens of the data mine that {others[3]} describes, found those of another mine; run "
        "the tokens step with this lock"
    )
    other = locked_rows(tmp_path / "model", tokenizer, ROWS, HELDOUT, max_position_embeddings=128)
    with pytest.raises(UserError, match=r"expected the tokens of the model tiny that .*, found those of another tiny;"):
        rows_of(path, [*other[:2], *locks[2:]])
    with pytest.raises(UserError, match=r"with encoding\.prompt=chat, found plain; run the tokens step with this sett"):
        rows_of(path, locks, prompt="chat")
    assert rows_of(path, locks, max_tokens=LIMIT).max_tokens == LIMIT
    with pytest.raises(UserError, match=r"expected an artifact of kind data_lock, found model_lock"):
        rows_of(path, [*locks[:3], model_lock])


def test_a_table_that_was_changed_is_refused_before_it_is_read(tmp_path, monkeypatch, capsys, locks, table):
    path, out = table[0], tmp_path / "out.json"
    call = ["draw_batches.py", *locks, "--tokens", path, "--seed", 1, "--out", out, *by_hand(plain()), *PLAN]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    ended, text = run_here(monkeypatch, capsys, *call)
    assert (ended, f"error: {path}: changed after it was written (expected sha256 " in text) == (2, True), text
    artifacts.sidecar(path).unlink()
    ended, text = run_here(monkeypatch, capsys, *call)
    assert (ended, f"error: {artifacts.sidecar(path)}: expected an artifact here and found none" in text) == (2, True)
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["probe/tiny-llama/seed1.json", "train/tiny-llama/ale/seed1/run.json"])
def test_a_step_that_encodes_its_rows_makes_what_the_study_made_of_the_table(finished, tmp_path, place):
    made = artifacts.read(finished / "results" / place)
    inputs, config = made["lineage"]["inputs"], made["lineage"]["config"]
    table = "results/tokens/tiny-llama.safetensors"
    assert table in inputs
    # All that the rule gave the script, and the settings of the table in its place.
    config["encoding"] = artifacts.payload(artifacts.sidecar(finished / table), "file")["about"]["encoding"]
    settings = ["--lineage", *(f"config:{name}={compact_json(value)}" for name, value in config.items())]
    folders = {name: name.split("/")[1] for name in inputs if name != table}
    given = [word for name, folder in folders.items() for word in (OPTIONS.get(folder, f"--{folder}"), name)]
    script, out = made["lineage"]["step"], tmp_path / "out.json"
    more = ["--adapter", tmp_path / "adapter"] if script == "train" else []
    done = run_script(f"{script}.py", *given, "--seed", 1, "--out", out, *more, *settings, cwd=finished)
    assert done.returncode == 0, done.stderr
    again = artifacts.payload(out)
    for payload in (made["payload"], again):
        # A card names what its adapter was made from.
        payload.get("adapter", {"files": {}})["files"].pop("README.md", None)
    assert again == made["payload"]
