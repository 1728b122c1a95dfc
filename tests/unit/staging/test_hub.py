"""Staging from a hub, on its good days and its bad ones: each ends with whole files or with one sentence."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import read_rows
from aletheia.staging import convert, disk_space, hub
from aletheia.study.load import load_study
from aletheia.study.schema import read_yaml
from conftest import ROOT, SCRIPTS, copy_project, said, snakemake
from hub_server import COMMIT, NEWER, Hub, git_hash
from stage_step import refused, stage, staged

SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
WEIGHTS = "model.safetensors"
MODEL = {"source": {"type": "hub", "id": "them/tiny"}}
SUMS = {"type": "hub", "id": "them/sums", "member": "main/test.jsonl", "format": "gsm8k"}


def solved(numbers):
    """Return questions in GSM8K's form."""
    return "".join(json.dumps({"question": f"{i}?", "answer": f"#### {i}"}) + "\n" for i in numbers).encode()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the files of a tiny model by name."""
    folder = tmp_path_factory.mktemp("hub") / "m"
    convert.random_model({"config": {"model_type": "llama", **SHAPE}}, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def repositories(files):
    extra = {"README.md": b"no", "pytorch_model.bin": b"no", "modeling_evil.py": b"raise SystemExit"}
    return {
        "them/tiny": {**files, **extra},
        "them/pickle": {"pytorch_model.bin": b"no"},
        "them/sums": {"main/test.jsonl": solved(range(9)), "main/train.jsonl": solved([99])},
    }


@pytest.fixture
def large(files):
    """Return the files of a model of 24 MiB, which comes in more than one of the client's chunks."""
    from safetensors.torch import load, save

    tensors = load(files[WEIGHTS])
    rows = 24 * 2**20 // 4 // SHAPE["hidden_size"]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name].new_zeros(rows // 2, SHAPE["hidden_size"])
    config = {**json.loads(files["config.json"]), "vocab_size": rows // 2}
    return {**files, WEIGHTS: save(tensors, {"format": "pt"}), "config.json": json.dumps(config).encode()}


def online(server, **env):
    """Return the environment of a user whose hub is this one, and who has no token but those given."""
    return {"HF_ENDPOINT": server.endpoint, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "", **env}


def forked(server, **env):
    """Return the same for a step that runs in a fork."""
    return {"forked": True, **online(server, **env)}


def hashes(files):
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def locked(lock):
    return {name: facts["sha256"] for name, facts in lock["files"].items()}


def partial(folder):
    """Return what has come of a model's weights."""
    (path,) = folder.glob(f"resources/models/.tiny.partial/.{WEIGHTS}.*.part")
    return path


# What is taken


@pytest.mark.slow
def test_a_model_is_resolved_downloaded_and_locked(tmp_path, repositories, files):
    with Hub(repositories) as server:
        lock = staged("model", "tiny", {**MODEL, "licence": "MIT"}, tmp_path, **online(server))
        paths = [path for path, _ in server.asked]
    assert [path for path in paths if path.endswith(WEIGHTS)]
    assert not [path for path in paths if path.endswith((".md", ".bin", ".py"))]
    assert (lock["revision"], locked(lock)) == (COMMIT, hashes(files))
    names = sorted(p.name for p in (tmp_path / "resources" / "models").iterdir())
    assert names == ["tiny", "tiny.lineage.json", "tiny.lock.json"]
    # It is there: the lock can be written again without a network.
    (tmp_path / "resources" / "models" / "tiny.lock.json").unlink()
    assert staged("model", "tiny", {**MODEL, "licence": "MIT"}, tmp_path, forked=True)["revision"] == COMMIT


@pytest.mark.slow
@pytest.mark.parametrize("left", ["tiny", ".tiny.12345.tmp"])
def test_a_job_killed_after_the_last_byte_asks_for_no_weights_again(tmp_path, repositories, files, left):
    """It was killed before its folder had its name, or before that was sealed by its sidecar."""
    with Hub(repositories) as server:
        staged("model", "tiny", MODEL, tmp_path, **forked(server))
    models = tmp_path / "resources" / "models"
    for name in ("tiny.lineage.json", "tiny.lock.json"):
        (models / name).unlink()
    (models / "tiny").rename(models / left)
    with Hub(repositories) as server:
        lock = staged("model", "tiny", MODEL, tmp_path, **forked(server))
        assert not server.requests(WEIGHTS)
    assert locked(lock) == hashes(files)
    assert sorted(p.name for p in models.iterdir()) == ["tiny", "tiny.lineage.json", "tiny.lock.json"]


def test_weights_come_over_plain_http_though_the_hub_offers_another_store(tmp_path, repositories, files):
    pytest.importorskip("hf_xet")
    with Hub(repositories) as server:
        lock = staged("model", "tiny", MODEL, tmp_path, **forked(server, HF_HUB_DISABLE_XET="0"))
        assert not [path for path, _ in server.asked if "xet" in path]
    assert locked(lock) == hashes(files)


def test_a_redirect_to_another_host_is_followed_without_the_token(tmp_path, repositories, files):
    with Hub(repositories, gated={"them/tiny": "right"}, elsewhere=True) as server:
        lock = staged("model", "tiny", MODEL, tmp_path, **forked(server, HF_TOKEN="right"))
        first, second = server.requests(WEIGHTS)
    assert first["authorization"] == "Bearer right"
    assert "authorization" not in second
    assert locked(lock) == hashes(files)


def test_rows_are_downloaded_at_a_commit(tmp_path, repositories):
    with Hub(repositories) as server:
        lock = staged("data", "sums", {"source": SUMS, "rows": 4}, tmp_path, **online(server))
        assert (lock["revision"], lock["files"]["questions.jsonl"]["rows"]) == (COMMIT, 4)
        source = {**SUMS, "member": "main/none.jsonl"}
        sentence = refused("data", "other", {"source": source}, tmp_path, **online(server))
    assert sentence == (
        f"dataset them/sums at {COMMIT} has no file main/none.jsonl; check source.member in the registry; "
        "main/test.jsonl, main/train.jsonl"
    )


@pytest.mark.slow
@pytest.mark.parametrize("member", [{}, {"member": "data/train-*.jsonl"}])
def test_the_parts_of_a_table_are_one_data_set(tmp_path, member):
    rows = [json.dumps({"prompt": f"{i}?", "completion": f"{i} it is."}).encode() + b"\n" for i in range(6)]
    parts = {f"data/train-0000{i}-of-00002.jsonl": b"".join(rows[3 * i : 3 * i + 3]) for i in range(2)}
    files = {"README.md": b"", "data/test-00000-of-00001.jsonl": rows[0], **parts}
    entry = {"source": {"type": "hub", "id": "them/rows", **member}}
    with Hub({"them/rows": files}) as server:
        done, out = stage("data", "rows", entry, tmp_path, **online(server))
        lock = artifacts.payload(out, "data_lock")
        assert (lock["revision"], lock["files"]["train.jsonl"]["rows"], lock["members"]) == (COMMIT, 6, list(parts))
        assert f"note: them/rows: its rows are read from {next(iter(parts))} and 1 more of its files" in done.stdout
        assert not server.requests("data/test-00000-of-00001.jsonl")
        files["data/train-00001-of-00002.jsonl"] += b"[]\n"
        sentence = refused("data", "damaged", entry, tmp_path, **online(server))
    assert sentence == (
        "data/train-00001-of-00002.jsonl, line 4: expected one JSON object with named columns, found an empty list"
    )
    staged_rows = read_rows(tmp_path / "resources" / "data" / "rows" / "train.jsonl")
    assert [(row["instruction"], row["source_row"]) for row in staged_rows] == [(f"{i}?", i) for i in range(6)]


def test_a_pattern_for_several_files_of_questions_is_one_sentence(tmp_path, repositories):
    with Hub(repositories) as server:
        entry = {"source": {**SUMS, "member": "main/*.jsonl"}}
        sentence = refused("data", "sums", entry, tmp_path, **online(server))
    assert sentence == "source.member: expected one file of gsm8k, found 2; name one in the registry"


def test_few_shot_examples_come_from_the_same_commit(tmp_path, repositories):
    with Hub(repositories) as server:
        entry = {"source": SUMS, "fewshot": {"file": "main/train.jsonl", "rows": 1}}
        lock = staged("data", "sums", entry, tmp_path, **online(server))
        assert (lock["revision"], lock["files"]["fewshot.jsonl"]["rows"]) == (COMMIT, 1)
        entry["fewshot"]["file"] = "main/none.jsonl"
        sentence = refused("data", "other", entry, tmp_path, **online(server))
    assert sentence.endswith("has no file main/none.jsonl; check fewshot.file in the registry")


# One commit, whatever the hub has meanwhile


@pytest.fixture
def moved(repositories, files):
    """Return the repositories at a newer commit: other weights, and one question more."""
    sums = {**repositories["them/sums"], "main/test.jsonl": solved(range(10))}
    return {"them/tiny": {**files, WEIGHTS: files[WEIGHTS][:-1] + b"1"}, "them/sums": sums}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["lineage", "lock"])
def test_a_model_is_resolved_once(tmp_path, repositories, files, moved, lost):
    """Sidecar and lock both tell of it; Snakemake removes the lock before it runs the job again."""
    models = tmp_path / "resources" / "models"
    with Hub(repositories) as server:
        staged("model", "tiny", MODEL, tmp_path, **forked(server))
        (models / "tiny" / WEIGHTS).write_bytes(files[WEIGHTS][:-1])
        (models / f"tiny.{lost}.json").unlink()
        server.newer = moved
        # Spelled out or left out, no revision is the same.
        lock = staged("model", "tiny", {"source": {**MODEL["source"], "revision": None}}, tmp_path, **forked(server))
    assert (lock["revision"], locked(lock)) == (COMMIT, hashes(files))


@pytest.mark.slow
def test_rows_are_resolved_once_whatever_else_of_the_entry_changes(tmp_path, repositories, moved):
    with Hub(repositories) as server:
        staged("data", "sums", {"source": SUMS}, tmp_path, **online(server))
        server.newer = moved
        lock = staged("data", "sums", {"source": SUMS, "rows": 9, "seed": 1}, tmp_path, **online(server))
        assert (lock["revision"], lock["files"]["questions.jsonl"]["rows"]) == (COMMIT, 9)
        # Another file is another source.
        lock = staged("data", "sums", {"source": {**SUMS, "member": "main/train.jsonl"}}, tmp_path, **online(server))
        assert lock["revision"] == NEWER


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["by its name", "by deleting what tells of the older"])
def test_a_newer_commit_comes_when_it_is_asked_for(tmp_path, repositories, moved, asked):
    with Hub(repositories) as server:
        staged("model", "tiny", MODEL, tmp_path, **forked(server))
        server.newer = moved
        entry = {"source": {**MODEL["source"], "revision": NEWER if asked == "by its name" else None}}
        if asked != "by its name":
            for path in (tmp_path / "resources" / "models").glob("tiny.*.json"):
                path.unlink()
        lock = staged("model", "tiny", entry, tmp_path, **forked(server))
    assert (lock["revision"], locked(lock)) == (NEWER, hashes(moved["them/tiny"]))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"id": "them/none"}, "model them/none was not found on .* check the id in the registry, or set HF_TOKEN"),
        ({"id": "them/tiny", "revision": "v9"}, "model them/tiny has no revision 'v9'"),
        ({"id": "them/pickle"}, r"model them/pickle has only pickled weights \(pytorch_model.bin\)"),
    ],
)
def test_what_is_not_there_is_one_sentence(tmp_path, repositories, source, sentence):
    with Hub(repositories) as server:
        entry = {"source": {"type": "hub", **source}}
        assert re.match(sentence, refused("model", "m", entry, tmp_path, **forked(server)))


@pytest.mark.parametrize(
    ("name", "lie", "expected"), [(WEIGHTS, "f" * 64, "sha256 f"), ("config.json", "f" * 40, "git hash f")]
)
def test_bytes_that_differ_from_the_hubs_own_hash_are_one_sentence(tmp_path, repositories, name, lie, expected):
    with Hub(repositories, lies={name: lie}) as server:
        entry = {"source": {**MODEL["source"], "revision": COMMIT}}
        sentence = refused("model", "tiny", entry, tmp_path, **forked(server))
    assert sentence.startswith(f"model them/tiny: {name} differs from the hub's {expected}fff")
    assert sentence.endswith("run again to fetch it anew")


def test_git_names_a_file_as_git_does(tmp_path):
    (tmp_path / "file").write_bytes(b"some bytes\n")
    done = subprocess.run(["git", "hash-object", "file"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert git_hash(b"some bytes\n") == done.stdout.strip()
    assert hub._differs(tmp_path / "file", {"blobId": done.stdout.strip()}) is None


# The network


def test_a_hub_that_is_not_reached_is_one_sentence(tmp_path):
    dead = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    sentence = refused("model", "tiny", MODEL, tmp_path, **dead)
    assert "could not be downloaded, for http://127.0.0.1:9 was not reached" in sentence
    assert "connect to the network (and unset HF_HUB_OFFLINE)" in refused("model", "tiny", MODEL, tmp_path)


def test_a_page_in_the_listings_place_is_one_sentence(tmp_path, repositories):
    with Hub(repositories, portal=True) as server:
        sentence = refused("model", "tiny", MODEL, tmp_path, **forked(server))
    assert sentence == (
        f"{server.endpoint}/api/models/them/tiny: expected the hub's listing in JSON, found text/html; "
        "check HF_ENDPOINT, and whether the network asks to log in first"
    )


@pytest.mark.slow
@pytest.mark.parametrize("wait", [{"Retry_After": "1"}, {}])
@pytest.mark.parametrize("end", ["/api/models/them/tiny", WEIGHTS])
def test_staging_waits_where_the_hub_asks_for_patience(tmp_path, repositories, files, end, wait):
    with Hub(repositories, busy={end: [wait]}) as server:
        done, _ = stage("model", "tiny", MODEL, tmp_path, **forked(server))
        assert done.returncode == 0, done.stderr
        assert len(server.requests(end)) == 2
    assert "HTTP Error 429" in done.stderr
    assert ("Waiting 2.0s" in done.stderr) is bool(wait)
    found = tmp_path / "resources" / "models" / "tiny" / WEIGHTS
    assert found.read_bytes() == files[WEIGHTS]


@pytest.mark.slow
def test_a_file_that_the_hub_fails_to_serve_is_asked_for_again(tmp_path, repositories, files):
    with Hub(repositories, failing={WEIGHTS: [503, 500]}) as server:
        done, _ = stage("model", "tiny", MODEL, tmp_path, **forked(server))
        assert done.returncode == 0, done.stderr
        assert len(server.requests(WEIGHTS)) == 3
    assert (tmp_path / "resources" / "models" / "tiny" / WEIGHTS).read_bytes() == files[WEIGHTS]
    assert "the hub fails (503); asking again in 1 s" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("end", ["/api/models/them/tiny", WEIGHTS])
def test_a_hub_that_never_serves_is_one_sentence_and_the_next_call_goes_on(tmp_path, repositories, files, end):
    with Hub(repositories, busy={end: [{"Retry_After": "0"}] * 6}) as server:
        sentence = refused("model", "tiny", MODEL, tmp_path, patient=True, **forked(server))
        assert sentence.startswith(
            f"model them/tiny: {server.endpoint} serves no more for now (429, too many requests)"
        )
        assert "run again later, and it goes on with what is missing" in sentence
        before = len(server.requests("/config.json"))
        assert locked(staged("model", "tiny", MODEL, tmp_path, **forked(server))) == hashes(files)
        # What had come was not asked for again.
        assert len(server.requests("/config.json")) == 1
        assert before == (0 if end.startswith("/api") else 1)


@pytest.mark.slow
def test_a_hub_that_fails_for_long_is_one_sentence_and_the_next_call_goes_on(tmp_path, repositories, files):
    tries = 1 + len(hub.PAUSES_SECONDS)
    with Hub(repositories, failing={WEIGHTS: [503] * tries}) as server:
        sentence = refused("model", "tiny", MODEL, tmp_path, patient=True, **forked(server))
        assert sentence.startswith(f"model them/tiny: {server.endpoint} is out of order (503); run again later")
        assert len(server.requests(WEIGHTS)) == tries
        assert locked(staged("model", "tiny", MODEL, tmp_path, **forked(server))) == hashes(files)
        assert len(server.requests("/config.json")) == 1


@pytest.mark.slow
def test_a_broken_transfer_is_gone_on_with_by_the_next_call(tmp_path, large):
    """From its last whole chunk."""
    chunk, size = constants.DOWNLOAD_CHUNK_SIZE, len(large[WEIGHTS])
    with Hub({"them/tiny": large}, broken={WEIGHTS}) as server:
        sentence = refused("model", "tiny", MODEL, tmp_path, patient=True, **forked(server))
        assert f"the transfer of {WEIGHTS} broke off after {chunk} of {size} bytes" in sentence
        assert sentence.endswith("run again, and it goes on from there")
        assert partial(tmp_path).read_bytes() == large[WEIGHTS][:chunk]
        # The client itself had tried to go on.
        assert [request.get("range") for request in server.requests(WEIGHTS)][:2] == [None, f"bytes={chunk}-"]
        server.broken.clear()
        server.asked.clear()
        lock = staged("model", "tiny", MODEL, tmp_path, **forked(server))
        (request,) = server.requests(WEIGHTS)
    assert request["range"] == f"bytes={chunk}-"
    assert locked(lock) == hashes(large)
    assert not list((tmp_path / "resources" / "models").rglob("*.part"))


@pytest.mark.slow
def test_what_has_come_of_another_commits_file_is_not_gone_on_with(tmp_path, large):
    other = {**large, WEIGHTS: large[WEIGHTS][:-1] + b"1"}
    with Hub({"them/tiny": large}, broken={WEIGHTS}) as server:
        refused("model", "tiny", MODEL, tmp_path, patient=True, **forked(server))
        assert partial(tmp_path).stat().st_size > 0
        server.broken.clear()
        server.asked.clear()
        server.repositories["them/tiny"] = other
        lock = staged("model", "tiny", MODEL, tmp_path, **forked(server))
        assert [request.get("range") for request in server.requests(WEIGHTS)] == [None]
    assert locked(lock) == hashes(other)
    assert not list((tmp_path / "resources" / "models").rglob("*.part"))


def test_a_killed_download_is_gone_on_with(tmp_path, repositories, files):
    """As a kill leaves it: some bytes of the file, and those of a file that is longer than it can be."""
    with Hub(repositories) as server:
        digest = hashlib.sha256(files[WEIGHTS]).hexdigest()
        folder = tmp_path / "resources" / "models" / ".tiny.partial"
        folder.mkdir(parents=True)
        (folder / f".{WEIGHTS}.{digest[:16]}.part").write_bytes(files[WEIGHTS][:1000])
        small = git_hash(files["config.json"])
        (folder / f".config.json.{small[:16]}.part").write_bytes(b" " * 100_000)
        assert locked(staged("model", "tiny", MODEL, tmp_path, **forked(server))) == hashes(files)
        assert [request.get("range") for request in server.requests(WEIGHTS)] == ["bytes=1000-"]
        assert [request.get("range") for request in server.requests("/config.json")] == [None]


QUOTA = """
import errno, os
from pathlib import Path
from aletheia.staging import build

def full(descriptor):
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

os.fsync = full
places = Path("tiny"), Path("downloads"), Path("partial")
build.build_model({"type": "hub", "id": "them/tiny"}, *places)
"""


@pytest.mark.slow
def test_a_quota_that_shows_when_all_has_come_leaves_the_download(tmp_path, repositories, files):
    with Hub(repositories) as server:
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "HF_HOME": str(tmp_path / "hf"), **online(server)}
        command = [sys.executable, "-c", QUOTA]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Disk quota exceeded" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "partial").iterdir()} == files
    assert not (tmp_path / "tiny").exists()


# Terms and tokens


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("", "model them/tiny is gated: open its page on .* accept its terms, and set HF_TOKEN to a token"),
        ("another", "model them/tiny is gated: open its page on .* accept its terms, and set HF_TOKEN to a token"),
        ("wrong", r"model them/tiny: .* does not accept the token in HF_TOKEN \(401\); set it to a valid one"),
    ],
)
def test_a_gated_model_says_what_to_accept_where(tmp_path, repositories, files, token, sentence):
    with Hub(repositories, gated={"them/tiny": "right"}, tokens=("another",)) as server:
        assert re.match(sentence, refused("model", "tiny", MODEL, tmp_path, **forked(server, HF_TOKEN=token)))
        assert not server.requests(WEIGHTS)
        lock = staged("model", "tiny", MODEL, tmp_path, **forked(server, HF_TOKEN="right"))
        assert {request["authorization"] for request in server.requests(WEIGHTS)} == {"Bearer right"}
    assert locked(lock) == hashes(files)


# Room


def test_too_small_a_disk_is_one_sentence_before_any_file(tmp_path, repositories, small_disk):
    (tmp_path / "resources").mkdir()
    small_disk(tmp_path / "resources", 20_000)
    with Hub(repositories) as server:
        sentence = refused("model", "tiny", MODEL, tmp_path, **forked(server))
        assert [path for path, _ in server.asked if "them/tiny" in path] == ["/api/models/them/tiny"]
    assert re.match(r"model them/tiny needs 0\.0 GiB and \S+ has 0\.0 GiB free; free some space", sentence)


def test_only_what_has_come_of_the_same_file_needs_no_room(tmp_path):
    entry = {"rfilename": "a.safetensors", "size": 100, "lfs": {"sha256": "a" * 64}}
    assert hub._missing_bytes(entry, tmp_path) == 100
    (tmp_path / f".a.safetensors.{'b' * 16}.part").write_bytes(bytes(90))  # another commit's
    assert hub._missing_bytes(entry, tmp_path) == 100
    (tmp_path / f".a.safetensors.{'a' * 16}.part").write_bytes(bytes(90))
    assert hub._missing_bytes(entry, tmp_path) == 10
    (tmp_path / "a.safetensors").write_bytes(bytes(99))
    assert hub._missing_bytes(entry, tmp_path) == 10
    (tmp_path / "a.safetensors").write_bytes(bytes(100))
    assert hub._missing_bytes(entry, tmp_path) == 0


def test_a_file_above_what_plain_http_serves_is_one_sentence():
    parts = {"rfilename": "part-1", "size": hub.MAX_HTTP_BYTES}
    whole = {"rfilename": WEIGHTS, "size": hub.MAX_HTTP_BYTES + 1}
    hub._refuse_large_files([parts], "model them/tiny")
    with pytest.raises(UserError, match=rf"model them/tiny: {WEIGHTS} has 46\.6 GiB, .* weights in several files"):
        hub._refuse_large_files([parts, whole], "model them/tiny")


@pytest.fixture(scope="module")
def paper():
    before = Path.cwd()
    os.chdir(ROOT)
    yield load_study(read_yaml(Path("config/paper.yaml")))
    os.chdir(before)


def free(monkeypatch, gib):
    usage = type("usage", (), {"free": int(gib * disk_space.GIB)})
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _folder: usage)


def test_the_papers_models_take_487_gib(paper, tmp_path, monkeypatch):
    folder = tmp_path / "resources" / "models"
    free(monkeypatch, 500)
    assert disk_space.staging_space(paper.models, folder) == (
        "staging 18 models of the hub takes about 487.0 GiB, of which 487.0 GiB are yet to come; "
        f"{folder} has 500.0 GiB free"
    )
    free(monkeypatch, 480)
    with pytest.raises(
        UserError, match=r"487\.0 GiB .* 480\.0 GiB free; free some space, put resources/ on another disk"
    ):
        disk_space.staging_space(paper.models, folder)
    # What an earlier call has brought is not needed again.
    (folder / ".qwen2.5-72b.partial").mkdir(parents=True)
    with (folder / ".qwen2.5-72b.partial" / "model-00001-of-00037.safetensors").open("wb") as sparse:
        sparse.truncate(10 * disk_space.GIB)
    assert "of which 477.0 GiB are yet to come" in disk_space.staging_space(paper.models, folder)


def test_models_that_no_hub_has_need_no_room(monkeypatch, tmp_path):
    free(monkeypatch, 0)
    local = {"m": {"source": {"type": "local", "path": "x"}, "parameters": 10**15}}
    assert disk_space.staging_space(local, tmp_path) is None


def hub_study(folder, parameters):
    """Make a copy of the project whose tiny study takes its models from the hub."""
    copy_project(folder)
    entry = {"source": {"type": "hub", "id": "them/tiny"}, "parameters": parameters, "dtype": "fp32"}
    registry = {name: {**entry, "family": "llama"} for name in ("tiny-llama", "tiny-neox")}
    (folder / "hub.yaml").write_text(yaml.safe_dump(registry))
    config = {**read_yaml(folder / "tests/study/config.yaml"), "models": "hub.yaml"}
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.mark.slow
def test_the_room_for_all_models_is_checked_before_the_first_byte(tmp_path, repositories):
    folder = hub_study(tmp_path / "project", 10**15)
    with Hub(repositories) as server:
        done = snakemake(folder, "stage", "--configfile", "study.yaml", **online(server))
        assert server.asked == []
        assert done.returncode != 0
        assert re.search(r"staging 2 models of the hub takes about 3725290\.3 GiB, .* free some space", said(done))
        assert "Traceback" not in said(done)
        # A dry run plans, and what needs no such room is made.
        assert snakemake(folder, "stage", "-n", "--configfile", "study.yaml", **online(server)).returncode == 0
        rows = snakemake(folder, "resources/data/rows.lock.json", "--configfile", "study.yaml", **online(server))
        assert rows.returncode == 0, said(rows)


@pytest.mark.slow
def test_staging_says_how_much_comes(tmp_path, repositories, files):
    folder = hub_study(tmp_path / "project", 10**7)
    with Hub(repositories) as server:
        done = snakemake(folder, "stage", "--configfile", "study.yaml", **online(server))
        assert done.returncode == 0, said(done)
    assert "staging 2 models of the hub takes about 0.0 GiB" in said(done)
    for name in ("tiny-llama", "tiny-neox"):
        assert (folder / "resources" / "models" / name / WEIGHTS).read_bytes() == files[WEIGHTS]


def told(folder, **env):
    """Return whether there is a token for us, and for the hub's client."""
    code = (
        "from aletheia.staging.gated_models import has_token; from huggingface_hub import get_token; "
        "print(has_token(), bool(get_token()))"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "XDG_"))}
    environment = {**kept, "HOME": str(folder), "PYTHONPATH": str(SCRIPTS), **env}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_token_is_where_the_hubs_client_finds_one(tmp_path):
    for place in (".cache/huggingface/token", "own/token", "xdg/huggingface/token", "elsewhere"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(" \n" if place == "xdg/huggingface/token" else "hf_x\n")
    found = {
        "HF_TOKEN": told(tmp_path / "none", HF_TOKEN="hf_x"),
        "none": told(tmp_path / "none", HF_TOKEN=" "),
        "home": told(tmp_path),
        "HF_HOME": told(tmp_path / "none", HF_HOME=str(tmp_path / "own")),
        "a blank one": told(tmp_path, XDG_CACHE_HOME=str(tmp_path / "xdg")),
        "HF_TOKEN_PATH": told(tmp_path / "none", HF_TOKEN_PATH=str(tmp_path / "elsewhere")),
    }
    blank = ("none", "a blank one")
    assert found == {case: ["False", "False"] if case in blank else ["True", "True"] for case in found}


@pytest.mark.slow
def test_gated_models_without_a_token_are_one_sentence_before_the_first_byte(tmp_path, repositories, files):
    folder = hub_study(tmp_path / "project", 10**7)
    registry = read_yaml(folder / "hub.yaml")
    for entry in registry.values():
        entry["gated"] = True
    (folder / "hub.yaml").write_text(yaml.safe_dump(registry))
    with Hub(repositories, gated={"them/tiny": "right"}) as server:
        nobody = {**online(server), "HF_HOME": str(tmp_path / "hf")}
        done = snakemake(folder, "stage", "--configfile", "study.yaml", **nobody)
        assert (done.returncode, server.asked) == (1, [])
        assert re.search(
            r"tiny-\w+ and tiny-\w+: expected a token .* accept the terms on \S+/them/tiny and ", said(done)
        )
        assert "Traceback" not in said(done)
        # What needs none of them is made, and so are they with one.
        rows = snakemake(folder, "resources/data/rows.lock.json", "--configfile", "study.yaml", **nobody)
        assert rows.returncode == 0, said(rows)
        lock = "resources/models/tiny-llama.lock.json"
        done = snakemake(folder, lock, "--configfile", "study.yaml", **{**nobody, "HF_TOKEN": "right"})
        assert done.returncode == 0, said(done)
        # A model that is there is asked for nothing.
        (folder / lock).unlink()
        again = snakemake(folder, lock, "--configfile", "study.yaml", **nobody)
        assert again.returncode == 0, said(again)
    assert (folder / "resources" / "models" / "tiny-llama" / WEIGHTS).read_bytes() == files[WEIGHTS]


# After staging

STEPS = sorted(path.name for path in SCRIPTS.glob("*.py") if "step_parser(" in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", STEPS)
def test_every_step_but_stage_is_offline(script):
    """In its own process, in which the user has not said so: what the Hugging Face libraries read when imported."""
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "from huggingface_hub import constants\n"
        "print(constants.HF_HUB_OFFLINE)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {"PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPTS / script)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == str(script != "stage.py")
