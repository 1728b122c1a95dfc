"""Rows that the token limit cuts or leaves out: counted where they are encoded, and said once a data set."""

from __future__ import annotations

import pytest

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.staging.convert import byte_tokenizer
from aletheia.training import encoding, row_counts
from ledgers import locked_rows, run_here

WHOLE = {"instruction": "Say it.", "input": "", "output": "ok", "source_row": 0}
CUT = {**WHOLE, "output": "ok " * 30}
GONE = {**WHOLE, "instruction": "Say it. " * 40}
HUGE = {**WHOLE, "output": "word " * 100_000}
NOTHING = {**WHOLE, "output": "<eos>"}


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def test_rows_are_counted_by_what_became_of_them(tokenizer):
    rows = [WHOLE, CUT, GONE, HUGE, NOTHING]
    encoded = encoding.encode_rows(rows, tokenizer, 64, prompt="plain")
    assert encoded.counts() == {"rows": 5, "cut": 2, "no_target_left": 1, "empty": 1, "special": 0}
    assert [example["row"] for example in encoded.examples] == [0, 1, 3]
    # The prompt's line, the response and the end: of every row with something to learn from, before the limit.
    assert encoded.lengths == [11, 99, 324, 500_009]
    assert rows == [WHOLE, CUT, GONE, HUGE, NOTHING]


def test_a_script_that_the_tokenizer_does_not_know_teaches_nothing():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    known = Tokenizer(models.BPE(vocab={"<unk>": 0, "a": 1, "b": 2, "\n": 3}, merges=[], unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=known, unk_token="<unk>", eos_token="<eos>")
    rows = [{**WHOLE, "instruction": "a", "output": text} for text in ("ab", "你好", "你b")]
    encoded = encoding.encode_rows(rows, tokenizer, 64, prompt="plain")
    assert encoded.counts() == {"rows": 3, "cut": 0, "no_target_left": 0, "empty": 1, "special": 0}
    assert [example["row"] for example in encoded.examples] == [0, 2]
    with pytest.raises(UserError, match="makes no token that it knows of any response of the 1 held-out rows"):
        encoding.encode_rows(rows[1:2], tokenizer, 64, prompt="plain", what="held-out rows")


@pytest.mark.parametrize(
    ("cut", "gone", "empty", "words"),
    [
        (0, 0, 0, "all 41 training rows whole within 128 tokens"),
        (3, 0, 0, "3 of 41 training rows cut at 128 tokens, none left out"),
        (3, 8, 0, "8 of 41 training rows left out (no target left within 128 tokens), 3 cut"),
        (
            0,
            8,
            2,
            "10 of 41 training rows left out (8 no target left within 128 tokens, 2 nothing to learn from), 0 cut",
        ),
    ],
)
def test_counts_in_words(cut, gone, empty, words):
    counts = {"rows": 41, "cut": cut, "no_target_left": gone, "empty": empty}
    assert row_counts.in_words(counts, "training rows", 128) == words


@pytest.mark.parametrize(
    ("lengths", "context", "limit"),
    [([100], None, 128), ([10] * 95 + [1000] * 5, None, 64), ([10] * 94 + [900] * 6, None, 960), ([900], 700, 700)],
)
def test_the_limit_that_would_do_cuts_at_most_one_row_in_twenty(lengths, context, limit):
    assert row_counts.sufficient_limit(lengths, context) == limit


def told(capsys, tokenizer, rows, *, max_tokens=64, context=None):
    encoded = {"train": encoding.encode_rows(rows, tokenizer, max_tokens, prompt="plain")}
    row_counts.report_row_counts(encoded, data="mine", model="tiny", max_tokens=max_tokens, context=context)
    return capsys.readouterr().out.strip()


def test_what_is_told_names_the_setting_only_where_it_matters(capsys, tokenizer):
    assert told(capsys, tokenizer, [WHOLE]) == "mine for tiny: all rows whole within 64 tokens"
    few = told(capsys, tokenizer, [WHOLE] * 40 + [HUGE])
    assert few == "note: mine for tiny: 1 of 41 training rows cut at 64 tokens, none left out"
    much = told(capsys, tokenizer, [WHOLE] * 40 + [CUT] * 5 + [HUGE])
    assert much.endswith("none left out; encoding.max_tokens: 128 would keep all but 1 of them whole")
    within = told(capsys, tokenizer, [CUT], context=80)
    assert within.endswith("encoding.max_tokens: 80 would keep all but 1 of them whole")
    assert "the model's context ends at 64 tokens, so shorten" in told(capsys, tokenizer, [CUT], context=64)
    assert "so remove those rows or choose a model of their script" in told(capsys, tokenizer, [WHOLE, NOTHING])


def test_advice_follows_the_rows_that_are_too_long(capsys, tokenizer):
    """Not the many others: one of two held-out rows is cut, and no training row."""
    rows = {"train": [WHOLE] * 100, "heldout": [WHOLE, CUT]}
    encoded = {name: encoding.encode_rows(some, tokenizer, 64, prompt="plain") for name, some in rows.items()}
    row_counts.report_row_counts(encoded, data="mine", model="tiny", max_tokens=64, context=None)
    assert capsys.readouterr().out == (
        "note: mine for tiny: 1 of 2 held-out rows cut at 64 tokens, none left out; encoding.max_tokens: 128 would "
        "keep all of them whole\n"
    )


def test_rows_that_hold_a_special_token_are_counted_and_told(capsys):
    """A row whose end was marked by hand: within a chat the tokenizer takes that for an end."""
    tokenizer = byte_tokenizer()
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b <eos>"}]}
    rows = [WHOLE, {**WHOLE, "output": "ok<eos>"}, chat]
    assert encoding.encode_rows(rows, tokenizer, 64, prompt="plain").counts()["special"] == 2
    assert "; 2 of 3 training rows hold the text of a special token (such as </s>), learnt" in told(
        capsys, tokenizer, rows
    )
    tokenizer.split_special_tokens = True
    assert encoding.encode_rows(rows, tokenizer, 64, prompt="plain").counts()["special"] == 0


PLAN = ("encoding.prompt=plain", "batches.steps=2", "batches.batch_size=1")


def test_the_batches_step_by_hand_counts_and_says_the_same_for_each_seed(tmp_path, monkeypatch, capsys, tokenizer):
    locks = locked_rows(tmp_path, tokenizer, [WHOLE, CUT, GONE, WHOLE], [WHOLE, GONE])
    said = []
    for seed in (1, 2):
        out = tmp_path / f"{seed}.json"
        call = [*locks, "--seed", seed, "--out", out, "--set", *PLAN, "encoding.max_tokens=64"]
        ended, text = run_here(monkeypatch, capsys, "draw_batches.py", *call)
        assert ended == 0, text
        said.append([line for line in text.splitlines() if line.startswith("note: ")])
    assert said[0] == said[1]
    assert said[0] == [
        "note: mine for tiny: 1 of 4 training rows left out (no target left within 64 tokens), 1 cut; 1 of 2 held-out "
        "rows left out (no target left within 64 tokens), 0 cut; encoding.max_tokens: 256 would keep all but 2 of them "
        "whole"
    ]
    assert artifacts.payload(out, "batches")["row_counts"] == {
        "train": {"rows": 4, "cut": 1, "no_target_left": 1, "empty": 0, "special": 0},
        "heldout": {"rows": 2, "cut": 0, "no_target_left": 1, "empty": 0, "special": 0},
    }


def test_what_cannot_be_trained_is_refused_where_it_costs_nothing(tmp_path, monkeypatch, capsys, tokenizer):
    strict = byte_tokenizer()
    strict.chat_template = "{% if messages[1].role == 'user' %}{{ raise_exception('Turns must alternate') }}{% endif %}"
    turns = [{"role": role, "content": "x"} for role in ("user", "user", "assistant")]
    chat = locked_rows(tmp_path / "chat", strict, [WHOLE, {"messages": turns, "source_row": 7}], [WHOLE])
    gone = locked_rows(tmp_path / "gone", tokenizer, [WHOLE], [GONE])
    for locks, tokens, sentence in (
        (gone, 300, "error: encoding.max_tokens is 300, and the model's context has 256 tokens; lower encoding.max_to"),
        (gone, 64, "none of the 1 held-out rows keeps any of its response within max_tokens=64; raise encoding.max_to"),
        (
            chat,
            64,
            "error: training rows, number 2 (row 8 of its file): the tokenizer's chat template refuses its turns "
            "(user, user): Turns must alternate; change or remove the row",
        ),
    ):
        for script, more in (("tokenise.py", PLAN[:1]), ("draw_batches.py", PLAN)):
            seed, out = ["--seed", 1] * (script == "draw_batches.py"), tmp_path / "out"
            call = [*locks, *seed, "--out", out, "--set", *more, f"encoding.max_tokens={tokens}"]
            ended, text = run_here(monkeypatch, capsys, script, *call)
            assert (ended, sentence in text, out.exists()) == (2, True, False), text


def test_a_lock_of_questions_in_the_place_of_rows_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"train\.jsonl: expected staged rows here and found none; name the lock of"):
        row_counts.encode_all(tmp_path, None, {})
