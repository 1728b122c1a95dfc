"""The evidence bundle holds what it says, passes its checks elsewhere, and is the same when made twice."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

from aletheia import artifacts
from conftest import STUDY, dry, edit, said, snakemake

ARCHIVE = "results/evidence/evidence.zip"
OMITTED = "results/evidence/omitted.json"
ADAPTER = "results/train/tiny-llama/ale/seed1/adapter/adapter_model.safetensors"
WEIGHTS = "resources/models/tiny-llama/model.safetensors"
# The validator's own, beside which it cannot have the project's `rich`; rocrate 0.13 brings RO-Crate 1.1's context.
VALIDATOR = ("roc-validator==0.13.0", "rocrate==0.13.0", "arcp==0.2.1", "python-dateutil==2.9.0.post0")
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
WARM = f"""
import importlib.util, io, pathlib, sys
import requests, requests_cache, urllib3

class Local(requests.adapters.BaseAdapter):
    def send(self, request, **_):
        package = pathlib.Path(importlib.util.find_spec("rocrate").origin).parent
        body = (package / "data" / "ro-crate.jsonld").read_bytes()
        assert b'"@id": "{CONTEXT}"' in body
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = 200, request.url, request
        answer.headers["Content-Type"] = "application/ld+json"
        answer.raw = urllib3.HTTPResponse(
            body=io.BytesIO(body), status=200, headers=answer.headers, preload_content=False
        )
        return answer

    def close(self):
        pass

session = requests_cache.CachedSession(cache_name=sys.argv[1], backend="sqlite", expire_after=-1)
session.mount("https://", Local())
assert session.get("{CONTEXT}").ok
"""


@pytest.fixture(scope="module")
def bundled(finished, tmp_path_factory):
    """Return a study's folder, in which the rule has made the bundle."""
    folder = tmp_path_factory.mktemp("evidence") / "study"
    shutil.copytree(finished, folder)
    done = snakemake(folder, ARCHIVE, *STUDY)
    assert done.returncode == 0, said(done)[-3000:]
    return folder


@pytest.fixture
def unpacked(bundled, tmp_path):
    """Return a folder elsewhere, into which the bundle was unpacked."""
    folder = tmp_path / "elsewhere"
    with zipfile.ZipFile(bundled / ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


def own(folder, script, *arguments):
    """Run the script that lies in the folder itself."""
    program = [sys.executable, "-s", f"workflow/scripts/{script}", *arguments]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def verify(folder, *arguments):
    return own(folder, "verify.py", *arguments)


def sums_hold(folder):
    program = ["sha256sum", "-c", "--quiet", "SHA256SUMS"]
    return subprocess.run(program, cwd=folder, capture_output=True, check=False).returncode == 0


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_unpacked_bundle_passes_its_checks(unpacked, bundled):
    assert sums_hold(unpacked)
    listed = {line.split("  ", 1)[1] for line in (unpacked / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    done = verify(unpacked)
    # Two models of six files, six adapters.
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip().endswith("artifacts checked, 0 findings, 18 files left out of this bundle")
    assert verify(unpacked, "results/figures/fig1.pdf").returncode == 0
    # Where the bundle was made nothing is left out, and it is no stray.
    at_home = verify(bundled, *STUDY)
    assert at_home.returncode == 0, at_home.stdout
    assert at_home.stdout.endswith("0 findings\n")


def test_a_bundle_is_a_study_of_its_own(unpacked):
    assert yaml.safe_load((unpacked / "config/config.yaml").read_text())["campaigns"] == ["tests/study/campaign.yaml"]
    for path in (
        *("results/aggregate/ledger.csv", "results/figures/fig1.pdf", "results/tables/table5.tex"),
        *("results/evaluate/tiny-llama/ale/seed1/humaneval.parquet", "resources/data/rows/train.jsonl"),
        *("tests/study/rows.jsonl", "config/published/table2.csv", "workflow/report/fig1.rst", "envs/gpu.yaml"),
        "results/train/tiny-llama/ale/seed1/adapter/adapter_config.json",
    ):
        assert (unpacked / path).is_file(), path
    assert not list(unpacked.rglob("*.safetensors"))
    planned = snakemake(unpacked, "-n", "-q", "host", "rules", "--rerun-triggers", "mtime")
    assert planned.returncode == 0, said(planned)[-2000:]


@pytest.mark.parametrize("path", [ADAPTER, WEIGHTS])
def test_an_omitted_file_that_is_there_is_checked(unpacked, bundled, path):
    (unpacked / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundled / path, unpacked / path)
    whole = verify(unpacked)
    assert (whole.returncode, "17 files left out" in whole.stdout) == (0, True), whole.stdout
    damage(unpacked / path)
    changed = verify(unpacked)
    assert changed.returncode == 1
    assert f"{path}: changed after it was written" in changed.stdout


def test_the_lineage_in_a_bundle_ends_at_what_is_left_out(unpacked):
    done = own(unpacked, "lineage.py", "results/figures/fig1.pdf", "--json")
    assert done.returncode == 0, done.stderr
    status = {node["path"]: node["status"] for node in json.loads(done.stdout)["nodes"]}
    assert status[WEIGHTS] == "omitted"
    assert status["resources/data/rows/train.jsonl"] == "ok"
    assert set(status.values()) == {"ok", "omitted"}


def test_what_is_left_out_is_named_by_hash(unpacked, bundled):
    files = artifacts.payload(unpacked / OMITTED, "omitted")["files"]
    assert {ADAPTER, WEIGHTS} < {entry["path"] for entry in files}
    for entry in files:
        assert entry["sha256"] == artifacts.sha256_file(bundled / entry["path"])
        assert entry["bytes"] == (bundled / entry["path"]).stat().st_size


@pytest.mark.parametrize(
    "path",
    [OMITTED, "results/aggregate/ledger.csv", "results/probe/tiny-neox/seed1.json", "resources/data/mmlu.lock.json"],
)
def test_a_changed_file_of_a_bundle_is_found(unpacked, path):
    damage(unpacked / path)
    assert verify(unpacked).returncode != 0
    assert not sums_hold(unpacked)


def test_a_deleted_adapter_is_missing_where_the_bundle_was_made(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    (folder / ADAPTER).unlink()
    done = verify(folder, *STUDY)
    assert done.returncode == 1
    assert f"{ADAPTER}: missing" in done.stdout


def test_a_bundle_made_twice_has_the_same_bytes(bundled, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(bundled, folder, copy_function=shutil.copy)
    shutil.rmtree(folder / "results/evidence")
    done = snakemake(folder, ARCHIVE, *STUDY)
    assert done.returncode == 0, said(done)[-2000:]
    assert (folder / ARCHIVE).read_bytes() == (bundled / ARCHIVE).read_bytes()


def test_a_changed_study_remakes_the_bundle(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    assert dry(folder, "--", ARCHIVE)[0] == {}
    edit(folder / "README.md", "# Aletheia study", "# The study")
    assert dry(folder, "--", ARCHIVE)[0] == {"evidence": 1}
    edit(folder / "README.md", "# The study", "# Aletheia study")
    edit(folder / STUDY[1], "campaigns:", "evidence: {adapters: true}\ncampaigns:")
    assert dry(folder, "--", ARCHIVE)[0] == {"evidence": 1}


def test_adapters_go_in_where_the_configuration_says_so(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    edit(folder / STUDY[1], "campaigns:", "evidence: {adapters: true}\ncampaigns:")
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 0, said(done)
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        assert ADAPTER in archive.namelist()
        assert WEIGHTS not in archive.namelist()
        archive.extractall(tmp_path / "elsewhere")
    assert "0 findings, 12 files left out" in verify(tmp_path / "elsewhere").stdout


def test_an_unfinished_study_is_one_sentence(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    (folder / "results/probe/tiny-neox/seed1.json").unlink()
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 2
    sentence = "expected a finished study, but 1 of its files are missing; run snakemake"
    assert done.stderr == f"error: results/probe/tiny-neox/seed1.json: {sentence}\n"


def test_the_crate_has_one_action_for_each_job(unpacked, bundled):
    graph = json.loads((unpacked / "ro-crate-metadata.json").read_text())["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph)
    jobs, _ = dry(bundled, "--forceall")
    actions = [entity for entity in graph if entity["@type"] == "CreateAction" and entity["@id"] != "#run"]
    made = Counter(action["name"].split(":")[0] for action in actions)
    assert made == {rule: n for rule, n in jobs.items() if rule != "all"}
    for action in actions:
        for reference in listed(action["result"]) + listed(action.get("object", [])):
            entity = entities[reference["@id"]]
            assert entity["sha256"] == hashlib.sha256((unpacked / entity["name"]).read_bytes()).hexdigest()
        assert action["startTime"] <= action["endTime"]
        assert "SoftwareSourceCode" in entities[action["instrument"]["@id"]]["@type"]
    assert entities["./"]["mainEntity"] == {"@id": "Snakefile"} == entities["#run"]["instrument"]
    assert {"@id": "results/figures/fig1.pdf"} in entities["#run"]["result"]
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    there = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    assert parts == there - {"SHA256SUMS", "ro-crate-metadata.json"}


def listed(value):
    return value if isinstance(value, list) else [value]


def test_a_user_s_own_rows_outside_the_folder_are_left_out(bundled, tmp_path):
    folder, rows = tmp_path / "study", tmp_path / "rows.jsonl"
    shutil.copytree(bundled, folder)
    shutil.move(folder / "tests/study/rows.jsonl", rows)
    edit(folder / "tests/study/data.yaml", "path: tests/study/rows.jsonl", f"path: {rows}")
    # What the rule would stage and record, without the hours that follow: only the lock names the file.
    lock = "resources/data/rows.lock.json"
    (folder / lock).unlink()
    done = snakemake(folder, lock, *STUDY)
    assert done.returncode == 0, said(done)[-2000:]
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 0, said(done)
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        left_out = [entry["path"] for entry in json.loads(archive.read(OMITTED))["payload"]["files"]]
        assert str(rows) in left_out
        assert not any(name.startswith("/") or ".." in name for name in archive.namelist())


@pytest.fixture(scope="module")
def validator(tmp_path_factory):
    """Return what validates a crate offline, in an environment of its own."""
    folder = tmp_path_factory.mktemp("validator")
    uv, python = Path(sys.executable).parent / "uv", folder / "venv/bin/python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", python, *VALIDATOR], check=True)
    subprocess.run([python, "-c", WARM, folder / "cache"], check=True)

    def validate(crate):
        report = folder / "report.json"
        report.unlink(missing_ok=True)
        program = [folder / "venv/bin/rocrate-validator", "validate", "--offline", "--cache-path", folder / "cache"]
        profile = ["-p", "workflow-run-crate", "-l", "required", "--no-paging", "-f", "json", "-o", report, crate]
        subprocess.run([*program, *profile], capture_output=True, check=False)
        return json.loads(report.read_text(encoding="utf-8"))

    return validate


@pytest.mark.slow
def test_the_crate_is_a_workflow_run_crate(validator, unpacked):
    found = validator(unpacked)
    assert found["issues"] == []
    assert found["passed"]
    # None was left out for want of a network.
    assert found["skipped_checks"] == 0
    metadata = unpacked / "ro-crate-metadata.json"
    crate = json.loads(metadata.read_text())
    next(entity for entity in crate["@graph"] if entity["@id"] == "#run").pop("instrument")
    metadata.write_text(json.dumps(crate))
    assert not validator(unpacked)["passed"]
