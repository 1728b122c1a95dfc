"""Paths in the registries: one sentence before anything runs, and what is staged goes on working without its source."""

from __future__ import annotations

import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from aletheia.errors import UserError
from aletheia.staging.local_paths import check_paths, check_registries
from aletheia.staging.staged_rows import staged_train_rows
from conftest import STUDY, as_ordinary_user, copy_project, said, snakemake
from stage_step import STAGE, staged

ROW = {"instruction": "Sum up.", "output": "Ab."}


def data(path, **entry):
    return {"source": {"type": "local", "path": str(path), **entry.pop("source", {})}, **entry}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{**ROW, "instruction": str(i)} for i in range(6)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("what", "entry", "sentence"),
    [
        (
            "data",
            data("nope.jsonl"),
            r"data x: source.path: expected a file at nope.jsonl and found none; check the path",
        ),
        (
            "data",
            data("~/mine.jsonl"),
            "at ~/mine.jsonl and found none; paths are taken as they stand, so write it whole",
        ),
        ("data", data("$HOME/mine.jsonl"), r"at \$HOME/mine.jsonl and found none; paths are taken as they stand"),
        ("data", data("https://x.org/a.jsonl"), "at https://x.org/a.jsonl and found none; nothing is downloaded from"),
        ("data", data("folder"), "source.path: expected a file, found the folder folder; name a file in it"),
        ("data", data("folder", source={"format": "gsm8k"}), "expected a file, found the folder"),
        ("data", data("x" * 5000), "expected a path that can be read, .*File name too long"),
        ("data", data("mine.jsonl", held_out_path="held.jsonl"), "held_out_path: expected a file at held.jsonl and"),
        ("data", data("mine.jsonl", fewshot={"file": "dev.jsonl"}), "fewshot.file: expected a file at dev.jsonl and"),
        ("model", data("mine.jsonl"), "model x: source.path: expected a folder .*, found the file mine.jsonl"),
        ("model", data("models/mine"), "model x: source.path: expected a folder at models/mine and found none"),
        (
            "model",
            {"source": {"type": "random", "config": {}, "tokenizer": "tok"}},
            "source.tokenizer: expected a folder at tok",
        ),
    ],
)
def test_a_path_that_is_not_there_is_named_with_its_entry(here, what, entry, sentence):
    with pytest.raises(UserError, match=sentence):
        check_paths(what, "x", entry)


def test_what_needs_no_file_here_passes(here):
    check_paths("data", "x", data("mine.jsonl", held_out=2))
    check_paths("data", "x", data("folder", source={"format": "mmlu"}))
    check_paths("data", "x", {"source": {"type": "hub", "id": "a/b", "member": "c.json"}})
    check_paths("model", "x", {"source": {"type": "random", "config": {}, "tokenizer": "bytes"}})


def test_a_file_that_this_user_may_not_read_is_one_sentence(here):
    (here / "mine.jsonl").chmod(0)
    words = ("data", "mine", "--out", "r/data/mine.lock.json", "--set", "data.source.type=local")
    command = as_ordinary_user(*STAGE, *words, "data.source.path=mine.jsonl")
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "data mine: source.path: expected the right to read mine.jsonl and was refused" in done.stderr


def study(**entries):
    """What is read of a study whose one model trains on ``rows``."""
    model = {"source": {"type": "random", "config": {"model_type": "llama"}}}
    settings = {"data": "rows", "benchmarks": list(entries)[1:]}
    return SimpleNamespace(
        models={"tiny": model},
        data=entries,
        shared={"tiny": settings},
        used_models=lambda: ["tiny"],
        used_data=lambda: list(entries),
        question_sets=lambda benchmarks, settings: {name: name for name in benchmarks},
    )


def test_staged_data_go_on_working_when_their_source_has_gone(here):
    entry = data("mine.jsonl", held_out=2)
    staged("data", "rows", entry, here)
    (here / "mine.jsonl").unlink()
    check_registries(study(rows={**entry, "seed": 0, "licence": "MIT"}), here / "resources")
    for other in ({"held_out": 3}, {"source": {"type": "local", "path": "yours.jsonl"}}):
        # Else Snakemake would go on with what was staged, for it has nothing to stage it anew from.
        with pytest.raises(UserError, match=r"data rows: source\.path: expected a file at .* and found none"):
            check_registries(study(rows={**entry, **other}), here / "resources")
    (here / "resources" / "data" / "rows.lock.json").write_text("{}")
    with pytest.raises(UserError, match=r"expected a file at mine\.jsonl and found none"):
        check_registries(study(rows=entry), here / "resources")


def test_the_rows_of_what_is_staged_are_known_until_its_entry_or_its_file_changes(here):
    entry = data("mine.jsonl", held_out=2)
    resources, lock = here / "resources", here / "resources/data/rows.lock.json"
    assert staged_train_rows(resources, "rows", entry) is None
    staged("data", "rows", entry, here)
    assert staged_train_rows(resources, "rows", {**entry, "licence": "MIT", "rows": None}) == 4
    assert staged_train_rows(resources, "rows", {**entry, "held_out": 3}) is None
    changed = lock.stat().st_mtime + 5
    os.utime(here / "mine.jsonl", (changed, changed))
    assert staged_train_rows(resources, "rows", entry) is None
    lock.write_text("{}")
    os.utime(lock, (changed, changed))
    assert staged_train_rows(resources, "rows", entry) is None


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        (
            {"rows": data("mine.jsonl", source={"format": "gsm8k"})},
            "data rows: expected source.format rows as training",
        ),
        (
            {"rows": data("mine.jsonl"), "mmlu": data("mine.jsonl")},
            "data mmlu: expected source.format mmlu for the benchmark mmlu, found rows; name another entry",
        ),
        (
            {"rows": data("mine.jsonl", held_out=2, held_out_path="mine.jsonl")},
            "held_out: found it beside held_out_path",
        ),
        (
            {"rows": data("mine.jsonl"), "gsm8k": data("mine.jsonl", source={"format": "gsm8k"}, held_out=2)},
            "data gsm8k.held_out: found it beside source.format: gsm8k, whose questions are not trained on",
        ),
    ],
)
def test_entries_that_contradict_their_use_are_refused(here, entries, sentence):
    with pytest.raises(UserError, match=sentence):
        check_registries(study(**entries), here)


@pytest.mark.slow
def test_snakemake_says_it_before_anything_runs(tmp_path):
    """As a user sees it: the entry and the path, and no word of a rule or an input function."""
    folder = copy_project(tmp_path / "project")
    (folder / "tests" / "study" / "rows.jsonl").rename(tmp_path / "rows.jsonl")
    done = snakemake(folder, *STUDY)
    assert done.returncode == 1
    text = said(done)
    assert "data rows: source.path: expected a file at tests/study/rows.jsonl and found none; check the path" in text
    assert not [word for word in ("MissingInput", "InputFunction", "Traceback") if word in text]
    assert not (folder / "resources").exists()
