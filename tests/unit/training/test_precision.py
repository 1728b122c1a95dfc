"""The choice of precision: at the shape of the data, within its time, and said as it happens."""

from __future__ import annotations

import itertools
import json
import re

import pytest
import torch

from aletheia.errors import UserError
from aletheia.method.loading import load_tokenizer
from aletheia.provenance import artifacts
from aletheia.staging import convert
from aletheia.training.precision import LIMIT_SECONDS, Measurement, Shape, measure, sentence, typical_shape
from aletheia.training.token_table import StagedRows
from conftest import SCRIPTS, tiny_model
from damaged import LLAMA
from stage_step import fork, staged

PLAIN = {"prompt": "plain", "loss_on": "response"}


def counting():
    """A clock on which each look takes a second, and so each pass too."""
    return itertools.count().__next__


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    convert.byte_tokenizer().save_pretrained(folder)
    return load_tokenizer(folder)


def rows(*lengths):
    """Rows of so many tokens: a byte of instruction and a line feed, bytes of output, and the end."""
    return [{"instruction": "a", "input": "", "output": "b" * (length - 3)} for length in lengths]


def shape_of(folder, rows, tokenizer, max_tokens, **sizes):
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    staged_rows = StagedRows(folder, lambda: tokenizer, {**PLAIN, "max_tokens": max_tokens})
    return typical_shape(staged_rows, **sizes)


def test_the_shape_is_that_of_the_datas_micro_batches(tmp_path, tokenizer):
    # One row a micro-batch: the median row.
    shape = shape_of(tmp_path, rows(*range(20, 61)), tokenizer, 512, batch_size=1, accumulation=1)
    assert shape == Shape(1, 40)
    # As long as the longest of each pair; dealt by length within a step, the padding is less.
    lengths = [20] * 32 + [60] * 32
    alone = shape_of(tmp_path, rows(*lengths), tokenizer, 512, batch_size=2, accumulation=1)
    dealt = shape_of(tmp_path, rows(*lengths), tokenizer, 512, batch_size=2, accumulation=32)
    assert (alone, dealt) == (Shape(2, 60), Shape(2, 40))
    # Never longer than rows are cut.
    assert shape_of(tmp_path, rows(300), tokenizer, 64, batch_size=1, accumulation=1).tokens == 64


def test_more_rows_than_the_sample_are_not_encoded(tmp_path, tokenizer):
    counted = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, texts, **options):
            counted.append(len(texts))
            return tokenizer(texts, **options)

    shape_of(tmp_path, rows(*[30] * 5000), Counting(), 64, batch_size=4, accumulation=2)
    assert len(counted) <= 257  # one more asks for the token that begins a text


def test_a_sample_that_is_short_of_a_step_still_has_a_shape(tmp_path, tokenizer):
    """Of a large step's rows some may keep no target, and the data have more than the sample."""
    assert shape_of(tmp_path, rows(*[30] * 7), tokenizer, 64, batch_size=3, accumulation=4).sequences == 3


def test_too_few_rows_are_refused(tmp_path, tokenizer):
    with pytest.raises(UserError, match=r"has 1 usable rows, fewer than an optimiser step needs"):
        shape_of(tmp_path, rows(30), tokenizer, 64, batch_size=4, accumulation=1)


def test_passes_fit_the_time():
    """A pair of passes takes two on this clock; of the larger shape it is expected to take four times as long."""
    model, shape = tiny_model(), Shape(4, 64)
    kept = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    found = {limit: measure(model, shape, limit=limit, clock=counting()) for limit in (0, 13, 20, 24, 30, 1000)}
    assert {limit: (one.shape, one.repeats) for limit, one in found.items()} == {
        0: (Shape(1, 16), 1),
        13: (Shape(1, 64), 1),
        20: (Shape(4, 64), 1),
        24: (Shape(4, 64), 2),
        30: (Shape(4, 64), 3),
        1000: (Shape(4, 64), 3),
    }
    # The model is left as it was.
    assert all(torch.equal(parameter, kept[name]) for name, parameter in model.named_parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_result_says_what_there_was_no_time_for():
    shape, seconds = Shape(4, 64), {"bf16": 0.25, "fp32": 0.5}
    whole = "dtype auto: bf16, 0.25 s a pass against 0.5 s in fp32 (4 × 64 tokens, n = 3)"
    assert sentence(Measurement(shape, seconds, 3), shape) == whole
    once = sentence(Measurement(shape, seconds, 1), shape)
    assert once.endswith("(4 × 64 tokens, n = 1); there was no time for more")
    small = sentence(Measurement(Shape(1, 16), {"bf16": 0.5, "fp32": 0.25}, 3), shape)
    assert small.startswith("dtype auto: fp32, 0.25 s a pass against 0.5 s in bf16 (1 × 16 tokens, n = 3); ")
    assert small.endswith("there was no time for 4 × 64 tokens, so name a dtype in the registry if you know better")


def test_the_step_says_what_it_measures_and_what_it_found(tmp_path):
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(*[30] * 8)))
    staged("model", "m", {"source": {"type": "random", "config": LLAMA}}, tmp_path, forked=True)
    data = {"source": {"type": "local", "path": "mine.jsonl"}, "held_out": 0}
    staged("data", "d", data, tmp_path, forked=True)
    locks = ("--model-lock", "resources/models/m.lock.json", "--data-lock", "resources/data/d.lock.json")
    command = [str(SCRIPTS / "precision.py"), *locks, "--out", "p.json", "--set", "encoding.prompt=plain"]
    done = fork([*command, "precision.batch_size=2", "precision.accumulation=1"], tmp_path, {})
    assert done.returncode == 0, done.stderr
    started, found = [line for line in done.stdout.splitlines() if line.startswith("note: ")]
    assert started == (
        f"note: dtype auto: timing bf16 and fp32 at 2 × 30 tokens, at most {LIMIT_SECONDS:.0f} s once the model "
        "is loaded"
    )
    assert re.fullmatch(r"note: dtype auto: (bf16|fp32), \S+ s a pass against \S+ s in \S+ \(2 × 30 .* n = 3\)", found)
    envelope = artifacts.read(tmp_path / "p.json", "precision")
    assert envelope["payload"]["shape"] == {"sequences": 2, "tokens": 30}
    assert envelope["payload"]["dtype"] in found
    observed = envelope["observed"]
    assert (observed["repeats"], observed["shape"]) == (3, {"sequences": 2, "tokens": 30})
    assert set(observed["pass_seconds"]) == {"bf16", "fp32"}
    # Data that cannot be trained with is refused before the model is loaded.
    done = fork([*command, "precision.batch_size=9", "precision.accumulation=1"], tmp_path, {})
    assert done.returncode == 2
    assert done.stderr.startswith("error: the training data has 8 usable rows, fewer than an optimiser step needs")
    assert "timing" not in done.stdout
