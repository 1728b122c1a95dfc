"""Token ids, labels, batches and plans: the properties that make the arms comparable."""

from __future__ import annotations

import json
import os

import pytest

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.seeded_order import seeded_order
from aletheia.staging.convert import byte_tokenizer
from aletheia.training import encoding
from aletheia.training.batch_plan import plan_batches
from ledgers import sealed

ROW = {"instruction": "Add one.", "input": "3", "output": "It is 4."}


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def response(tokenizer, example):
    return tokenizer.decode([t for t, label in zip(*pair(example), strict=True) if label != -100])


def pair(example):
    return example["input_ids"], example["labels"]


# Sampling


def test_ranked_is_a_permutation_that_no_version_may_change():
    assert seeded_order(range(8), seed=42) == [1, 0, 6, 4, 7, 5, 3, 2]
    assert sorted(seeded_order(range(100), seed=1)) == list(range(100))


def test_ranked_subsets_nest():
    small, large = seeded_order(range(50), seed=3), seeded_order(range(80), seed=3)
    assert [i for i in large if i < 50] == small


def test_seeds_give_other_orders():
    assert seeded_order(range(20), seed=1) != seeded_order(range(20), seed=2)


# Encoding


@pytest.mark.parametrize("prompt", ["alpaca", "plain", "chat", "text"])
def test_only_the_response_and_its_end_are_targets(tokenizer, prompt):
    (example,) = encoding.encode_rows([ROW], tokenizer, 999, prompt=prompt).examples
    assert response(tokenizer, example) == "It is 4.<eos>"
    assert len(example["input_ids"]) == len(example["labels"])


def test_alpaca_wording(tokenizer):
    with_input, without = encoding.encode_rows([ROW, {**ROW, "input": ""}], tokenizer, 999).examples
    text = tokenizer.decode(with_input["input_ids"])
    assert text.startswith("Below is an instruction that describes a task, paired with an input that provides")
    assert text.endswith("### Instruction:\nAdd one.\n\n### Input:\n3\n\n### Response:\nIt is 4.<eos>")
    assert "### Input" not in tokenizer.decode(without["input_ids"])


def test_braces_in_a_row_are_text(tokenizer):
    row = {"instruction": "Print {input} {x}", "input": "{}", "output": "{output}"}
    (example,) = encoding.encode_rows([row], tokenizer, 999).examples
    assert "Print {input} {x}" in tokenizer.decode(example["input_ids"])
    assert response(tokenizer, example) == "{output}<eos>"


def test_loss_on_all_makes_every_token_a_target(tokenizer):
    (example,) = encoding.encode_rows([ROW], tokenizer, 999, loss_on="all").examples
    assert example["labels"] == example["input_ids"]


def test_the_end_is_a_target_even_where_it_is_the_padding():
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    examples = encoding.encode_rows([ROW, {**ROW, "output": "4"}], tokenizer, 999).examples
    batch = encoding.collate(examples, tokenizer.pad_token_id)
    labels = batch.labels()
    ends = [row[row != -100][-1].item() for row in labels]
    assert ends == [tokenizer.eos_token_id] * 2
    # Padding itself is neither a target nor attended to.
    assert (labels[1][batch.attention_mask[1] == 0] == -100).all()
    assert batch.attention_mask.sum(dim=1).tolist() == [len(e["input_ids"]) for e in examples]


def test_a_cut_response_has_no_end_and_one_cut_away_is_left_out(tokenizer):
    prompt = "Add one.\n3\n"
    rows = [{**ROW, "instruction": "x" * 100}, ROW]
    (example,) = encoding.encode_rows(rows, tokenizer, len(prompt) + 3, prompt="plain").examples
    assert response(tokenizer, example) == "It "
    assert example["row"] == 1


def test_no_row_left_is_one_sentence(tokenizer):
    with pytest.raises(UserError, match=r"none of the 1 rows keeps any .* max_tokens=5; raise encoding\.max_tokens"):
        encoding.encode_rows([ROW], tokenizer, 5)


def test_no_rows_is_one_sentence(tokenizer):
    with pytest.raises(UserError, match="found none; set held_out"):
        encoding.encode_rows([], tokenizer, 5)


@pytest.mark.parametrize(("key", "value"), [("prompt", "alpacca"), ("loss_on", "prompt")])
def test_unknown_choices_are_one_sentence(tokenizer, key, value):
    with pytest.raises(UserError, match=f"encoding.{key}: expected one of .*, found '{value}'"):
        encoding.encode_rows([ROW], tokenizer, 99, **{key: value})


def test_each_assistant_turn_of_a_chat_is_a_target(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    (example,) = encoding.encode_rows([{"messages": messages}], tokenizer, 999).examples
    assert tokenizer.decode(example["input_ids"]).count("<eos>") == 2
    assert response(tokenizer, example) == "2<eos>\n4<eos>"


def test_chat_without_a_template_is_one_sentence():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(UserError, match=r"no chat template.*encoding\.prompt: alpaca"):
        encoding.encode_rows([ROW], tokenizer, 99, prompt="chat")


def test_a_template_that_rewrites_the_past_is_one_sentence():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    turns = [{"role": r, "content": r} for r in ("user", "assistant", "user", "assistant")]
    with pytest.raises(UserError, match="rewrites earlier turns"):
        encoding.encode_rows([{"messages": turns}], tokenizer, 99)


def test_a_token_across_the_border_counts_as_response():
    # A tokenizer that joins the prompt's last character with the response's first.
    pieces = ["a", "b", "c", "bc"]

    def encode(text):
        ids, i = [], 0
        while i < len(text):
            piece = text[i : i + 2] if text[i : i + 2] in pieces else text[i]
            ids.append(pieces.index(piece))
            i += len(piece)
        return ids

    class Joining:
        bos_token_id, eos_token_id = None, 9

        def __call__(self, text, **_options):
            return {"input_ids": encode(text) if isinstance(text, str) else [encode(t) for t in text]}

    (encoded,) = encoding.encode_rows([{"output": "bc"}], Joining(), 9, prompt="text").examples
    assert encoded["labels"] == [3, 9]
    joined = encoding._encode("abc", [(2, 3)], Joining(), [], "response")
    assert joined == {"input_ids": [0, 3, 9], "labels": [-100, 3, 9]}


def test_a_beginning_token_is_kept_where_the_tokenizer_adds_one():
    tokenizer = byte_tokenizer()
    plain = encoding.encode_rows([ROW], tokenizer, 999).examples[0]
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    began = encoding.encode_rows([ROW], tokenizer, 999).examples[0]
    assert began["input_ids"] == [tokenizer.bos_token_id, *plain["input_ids"]]
    assert began["labels"] == [-100, *plain["labels"]]
    # A chat template writes its own, so none is added there.
    chat = encoding.encode_rows([ROW], tokenizer, 999, prompt="chat").examples[0]
    assert chat["input_ids"][0] != tokenizer.bos_token_id


# Batches


def test_collate_pads_on_the_right():
    batch = encoding.collate(
        [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}], pad_token_id=1
    )
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (batch.positions.tolist(), batch.targets.tolist()) == ([0, 1], [6, 7])  # nothing predicts a first token


def test_probe_batches_are_drawn_without_repetition_and_apart_from_training():
    examples = [{"input_ids": [i], "labels": [i]} for i in range(30)]
    batches = encoding.probe_batches(examples, 0, batches=5, seed=42)
    drawn = [batch.input_ids.item() for batch in batches]
    assert len(set(drawn)) == 5
    assert drawn == [b.input_ids.item() for b in encoding.probe_batches(examples, 0, batches=5, seed=42)]
    planned = plan_batches([1] * 30, steps=5, batch_size=1, accumulation=1, seed=42)
    assert drawn != [i for micro in planned for i in micro]
    with pytest.raises(UserError, match=r"needs 40 rows \(20 batches of 2\) and the training data has 30"):
        encoding.probe_batches(examples, 0, batches=20, seed=42, batch_size=2)


# Locks


@pytest.fixture
def staged(tmp_path):
    """A staged folder with its lock, written as the stage step writes it."""
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    path = folder / "train.jsonl"
    path.write_text('{"a": 1}\n')
    stat = path.stat()
    facts = {"sha256": artifacts.sha256_file(path), "bytes": stat.st_size, "rows": 1}
    lock = tmp_path / "data" / "mine.lock.json"
    payload = {
        "data": "mine",
        "source": {"type": "local", "path": "mine.jsonl"},
        "revision": None,
        "files": {"train.jsonl": facts},
        "format": "rows",
        "licence": None,
    }
    seen = {"train.jsonl": [stat.st_size, stat.st_mtime_ns]}
    return sealed(lock, "data_lock", payload, stat=seen), path


def test_an_untouched_folder_passes(staged):
    lock, path = staged
    assert checked_folder(lock) == path.parent
    assert read_rows(path) == [{"a": 1}]


def test_a_touched_or_copied_file_is_hashed_and_passes(staged):
    lock, path = staged
    os.utime(path, ns=(1, 1))
    assert checked_folder(lock) == path.parent


def test_a_changed_file_names_both_hashes(staged):
    lock, path = staged
    expected = json.loads(lock.read_text())["payload"]["files"]["train.jsonl"]["sha256"]
    path.write_text('{"a": 2}\n')
    os.utime(path, ns=(1, 1))
    found = artifacts.sha256_file(path)
    with pytest.raises(UserError, match=f"expected sha256 {expected}, found {found}.*restage"):
        checked_folder(lock)


def test_a_missing_file_is_one_sentence(staged):
    lock, path = staged
    path.unlink()
    with pytest.raises(UserError, match=r"train\.jsonl: expected a staged file here and found none; restage"):
        checked_folder(lock)


def test_an_added_file_is_one_sentence(staged):
    lock, path = staged
    (path.parent / "extra.jsonl").write_text("")
    with pytest.raises(UserError, match=r"extra\.jsonl: not among the files that were staged"):
        checked_folder(lock)
