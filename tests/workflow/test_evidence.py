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

from aletheia.audit.inventory import load_inventory
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.study import outputs
from conftest import STUDY, copy_study, dry, edit, said, snakemake

ARCHIVE = "results/evidence/evidence.zip"
OMITTED = "results/evidence/omitted.json"
ADAPTER = "results/train/tiny-llama/ale/seed1/adapter/adapter_model.safetensors"
WEIGHTS = "resources/models/tiny-llama/model.safetensors"
TABLES = [f"results/tokens/{model}.safetensors" for model in ("tiny-llama", "tiny-neox")]
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
    copy_study(finished, folder)
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
    # Two models of six files and a table of tokens, six adapters.
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip().endswith("artifacts checked, 0 findings, 21 files left out of this bundle")
    assert verify(unpacked, "results/figures/fig1.pdf").returncode == 0
    # Where the bundle was made nothing is left out, and it is no stray.
    at_home = verify(bundled, *STUDY)
    assert at_home.returncode == 0, at_home.stdout
    assert at_home.stdout.endswith("0 findings\n")


def test_a_bundle_is_a_study_of_its_own(unpacked):
    assert yaml.safe_load((unpacked / "config/config.yaml").read_text())["campaigns"] == ["tests/study/campaign.yaml"]
    for path in (
        *("results/aggregate/ledger.csv", "results/figures/fig1.pdf", "results/tables/table5.tex"),
        *("results/aggregate/answers.parquet", "config/analysis.yaml"),
        *("results/evaluate/tiny-llama/ale/seed1/humaneval.parquet", "resources/data/rows/train.jsonl"),
        *("tests/study/rows.jsonl", "config/published/table2.csv", "workflow/report/fig1.rst", "envs/gpu.yaml"),
        "results/train/tiny-llama/ale/seed1/adapter/adapter_config.json",
    ):
        assert (unpacked / path).is_file(), path
    assert not list(unpacked.rglob("*.safetensors"))
    for tool in ("audit.py", "environments.py", "estimate.py", "lineage.py", "summarize.py", "verify.py"):
        assert own(unpacked, tool, "--help").stdout.startswith(f"usage: {tool}"), tool
    planned = snakemake(unpacked, "-n", "-q", "host", "rules", "--rerun-triggers", "mtime")
    assert planned.returncode == 0, said(planned)[-2000:]


@pytest.mark.parametrize("path", [ADAPTER, WEIGHTS, TABLES[0]])
def test_an_omitted_file_that_is_there_is_checked(unpacked, bundled, path):
    (unpacked / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundled / path, unpacked / path)
    whole = verify(unpacked)
    assert (whole.returncode, "20 files left out" in whole.stdout) == (0, True), whole.stdout
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
    assert {ADAPTER, WEIGHTS, *TABLES} < {entry["path"] for entry in files}
    for entry in files:
        assert entry["sha256"] == artifacts.sha256_file(bundled / entry["path"])
        assert entry["bytes"] == (bundled / entry["path"]).stat().st_size


@pytest.mark.parametrize(
    "path",
    [OMITTED, "results/aggregate/ledger.csv", "results/probe/tiny-neox/seed1.json", "resources/data/mmlu.lock.json"],
)
def test_a_changed_file_of_a_bundle_is_found(unpacked, path):
    damage(unpacked / path)
    done = verify(unpacked)
    assert (done.returncode, done.stderr) == (1, "")
    assert any(line.startswith(f"{path}: ") for line in done.stdout.splitlines()), done.stdout
    # It cannot be made again here.
    assert "rerun" not in done.stdout
    assert not sums_hold(unpacked)


def test_a_changed_list_of_what_is_left_out_excuses_nothing(unpacked):
    edit(unpacked / OMITTED, WEIGHTS, WEIGHTS.replace("model.", "other."))
    damage(unpacked / "results/probe/tiny-neox/seed1.json")
    for arguments in ((), ("results/figures/fig1.pdf",)):
        done = verify(unpacked, *arguments)
        assert (done.returncode, done.stderr) == (1, "")
        for path in (OMITTED, "results/probe/tiny-neox/seed1.json", WEIGHTS):
            assert any(line.startswith(f"{path}: ") for line in done.stdout.splitlines()), (path, done.stdout)
    shown = own(unpacked, "lineage.py", "results/figures/fig1.pdf")
    assert (shown.returncode, shown.stderr) == (1, "")
    assert f"{WEIGHTS}  weights  MISSING" in shown.stdout


def test_a_folder_that_is_left_out_is_not_missing(unpacked):
    done = own(unpacked, "lineage.py", "resources/models/tiny-llama", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nodes"][0]["status"] == "omitted"
    assert verify(unpacked, "resources/models/tiny-llama").returncode == 0


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return a Python that has its standard library alone."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin/python"


def test_a_python_without_packages_is_told_which_it_needs(bare, unpacked, tmp_path):
    for lacking in ("jsonschema", "yaml"):
        program = [bare, "workflow/scripts/verify.py"]
        done = subprocess.run(
            program, cwd=unpacked, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        sentence = f"expected the package {lacking} and found none; pip install jsonschema pyyaml"
        assert done.stderr == f"error: {sentence}\n"
        # Its name alone brings the check to the next one.
        (tmp_path / f"{lacking}.py").touch()


def test_a_deleted_adapter_is_missing_where_the_bundle_was_made(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    (folder / ADAPTER).unlink()
    done = verify(folder, *STUDY)
    assert done.returncode == 1
    assert f"{ADAPTER}: missing" in done.stdout


@pytest.mark.slow
def test_a_bundle_made_twice_has_the_same_bytes(bundled, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(bundled, folder, copy_function=shutil.copy)
    shutil.rmtree(folder / "results/evidence")
    done = snakemake(folder, ARCHIVE, *STUDY)
    assert done.returncode == 0, said(done)[-2000:]
    assert (folder / ARCHIVE).read_bytes() == (bundled / ARCHIVE).read_bytes()


@pytest.mark.slow
def test_a_changed_study_remakes_the_bundle(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    assert dry(folder, "--", ARCHIVE)[0] == {}
    edit(folder / "README.md", "# Aletheia study", "# The study")
    assert dry(folder, "--", ARCHIVE)[0] == {"evidence": 1}
    edit(folder / "README.md", "# The study", "# Aletheia study")
    edit(folder / STUDY[1], "campaigns:", "evidence: {adapters: true}\ncampaigns:")
    assert dry(folder, "--", ARCHIVE)[0] == {"evidence": 1}


@pytest.mark.slow
def test_an_archive_that_is_out_of_date_is_one_finding_and_one_row(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    for name in ("README.md", "Makefile"):
        with (folder / name).open("a") as handle:
            handle.write("\nedited\n")
    done = verify(folder, *STUDY)
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"{ARCHIVE}.lineage.json: made from another Makefile and 1 more (exp")
    assert rest[0].endswith("artifacts checked, 1 findings")
    assert len(rest) == 1
    audit = [sys.executable, "workflow/scripts/audit.py", "--json", *STUDY]
    found = subprocess.run(audit, cwd=folder, capture_output=True, text=True, check=False)
    (row,) = json.loads(found.stdout)["rows"]
    assert (row["artifact"], row["rule"]) == (ARCHIVE, "evidence")
    assert row["remedy"] == f"run snakemake bundle {' '.join(STUDY)}"
    assert snakemake(folder, "bundle", *STUDY).returncode == 0
    assert subprocess.run(audit, cwd=folder, capture_output=True, check=False).returncode == 0


def test_a_staged_file_that_was_changed_is_refused(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    damage(folder / "resources/data/rows/heldout.jsonl")
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 2
    assert done.stderr.startswith("error: resources/data/rows/heldout.jsonl: changed after resources/data/rows.l")
    assert len(done.stderr.splitlines()) == 1


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
    assert "0 findings, 14 files left out" in verify(tmp_path / "elsewhere").stdout


def test_an_unfinished_study_is_one_sentence(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    (folder / "results/probe/tiny-neox/seed1.json").unlink()
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 2
    sentence = "missing, but a bundle holds a finished study; run snakemake"
    assert done.stderr == f"error: results/probe/tiny-neox/seed1.json: {sentence}\n"
    (folder / "results/stats/summary.json").unlink()
    done = own(folder, "evidence.py", *STUDY)
    assert done.stderr == f"error: results/probe/tiny-neox/seed1.json (and 1 more): {sentence}\n"


@pytest.mark.slow
def test_a_study_in_another_folder_is_bundled_from_there(finished, tmp_path):
    """What lies in a folder of another name: the archive, the list of what is left out, and all that reads it."""
    folder = tmp_path / "study"
    copy_study(finished, folder)
    edit(folder / STUDY[1], "campaigns:", "pathvars: {results: other}\ncampaigns:")
    renamed(folder, "results", "other")
    assert "rule bundle:" in said(snakemake(folder, "bundle", "-n", "--rerun-triggers", "mtime", *STUDY))
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 0, said(done)
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(folder / "other/evidence/evidence.zip") as archive:
        archive.extractall(elsewhere)
    assert (elsewhere / "other/evidence/omitted.json").is_file()
    whole = verify(elsewhere)
    assert (whole.returncode, "21 files left out" in whole.stdout) == (0, True), whole.stdout
    one = verify(elsewhere, "other/figures/fig1.pdf")
    assert (one.returncode, "files left out" in one.stdout) == (0, True), one.stdout
    shown = own(elsewhere, "lineage.py", "other/figures/fig1.pdf", "--json")
    assert shown.returncode == 0, said(shown)
    assert {node["status"] for node in json.loads(shown.stdout)["nodes"]} == {"ok", "omitted"}


def renamed(folder, old, new):
    """Give a finished study's tree another name, as if it had been made there: each artifact sealed anew."""
    shutil.move(folder / old, folder / new)
    hashes = {}
    pending = [p for p in (folder / new).rglob("*.json") if artifacts.is_envelope(p)]
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in pending}
    while pending:
        ready = [p for p in pending if not needs(p, old) & {before[q] for q in pending}]
        assert ready, "lineage has no cycle"
        for path in ready:
            envelope = json.loads(path.read_text())
            lineage = json.loads(json.dumps(envelope["lineage"]).replace(f'"{old}/', f'"{new}/'))
            for described in lineage["inputs"].values():
                described["sha256"] = hashes.get(described["sha256"], described["sha256"])
            sealed = artifacts.make_envelope(
                envelope["schema"], envelope["payload"], lineage, envelope["observed"], path
            )
            path.write_bytes(artifacts.canonical_bytes(sealed))
            hashes[before[path]] = artifacts.sha256_file(path)
        pending = [p for p in pending if p not in ready]


def needs(path, folder):
    inputs = json.loads(path.read_text())["lineage"]["inputs"]
    return {described["sha256"] for name, described in inputs.items() if name.startswith(f"{folder}/")}


@pytest.mark.slow
def test_results_on_demand_go_in_once_all_of_them_are_there(bundled, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    monkeypatch.chdir(folder)
    asked = outputs.paired_files(load_inventory([Path(STUDY[1])]).study)
    table = "results/paired/summary.csv"
    pairs = [path for path in asked if not path.startswith(table)]
    for path in map(Path, pairs):
        path.parent.mkdir(parents=True)
        like_the_probe(path, "probe", artifacts.payload("results/probe/tiny-llama/seed1.json"))
    assert own(folder, "evidence.py", *STUDY).returncode == 0
    with zipfile.ZipFile(ARCHIVE) as archive:
        assert not {name for name in archive.namelist() if "/paired/" in name}
    Path(table).write_text("a,b\n")
    files = {"summary.csv": {"sha256": artifacts.sha256_file(Path(table)), "bytes": 4}}
    like_the_probe(artifacts.sidecar(Path(table)), "file", {"name": "summary.csv", "files": files, "about": {}})
    # Snakemake sees that more belongs into the archive.
    assert dry(folder, "--rerun-triggers", "input", "--", ARCHIVE)[0] == {"evidence": 1}
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 0, said(done)
    with zipfile.ZipFile(ARCHIVE) as archive:
        assert asked.keys() <= set(archive.namelist())
        archive.extractall(tmp_path / "elsewhere")
    whole = verify(tmp_path / "elsewhere")
    assert (whole.returncode, "0 findings" in whole.stdout) == (0, True), whole.stdout
    crate = json.loads((tmp_path / "elsewhere/ro-crate-metadata.json").read_text())["@graph"]
    made = [entity["name"] for entity in crate if entity["@id"].startswith("#job-interleave")]
    assert len(made) == len(pairs)


def like_the_probe(path, kind, payload):
    """Write an artifact that was made as a probe was, so that it can be described."""
    probe = artifacts.read("results/probe/tiny-llama/seed1.json")
    made = {**probe["lineage"], "output": str(path).removesuffix(SIDECAR)}
    path.write_bytes(artifacts.canonical_bytes(artifacts.make_envelope(kind, payload, made, probe["observed"], path)))


@pytest.mark.parametrize("tree", ["results", "resources"])
def test_trees_outside_the_folder_are_one_sentence(bundled, tmp_path, tree):
    configuration = tmp_path / "config.yaml"
    configuration.write_text((bundled / STUDY[1]).read_text() + f"pathvars: {{{tree}: ../there}}\n")
    done = own(bundled, "evidence.py", "--configfile", str(configuration))
    assert done.returncode == 2
    problem = "expected a folder below this one, so that a bundle holds it, found ../there"
    assert done.stderr == f"error: pathvars.{tree}: {problem}\n"


def test_campaigns_and_registries_from_elsewhere_go_in_under_another_name(bundled, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(bundled, folder)
    for name, place in {"campaign": tmp_path, "models": tmp_path, "data": tmp_path / "campaign"}.items():
        place.mkdir(exist_ok=True)
        # Two files of one name.
        shutil.move(folder / f"tests/study/{name}.yaml", place / ("models.yaml" if name == "data" else f"{name}.yaml"))
    configuration = folder / STUDY[1]
    edit(configuration, "campaigns: [tests/study/campaign.yaml]", f"campaigns: [{tmp_path}/campaign.yaml]")
    edit(configuration, "models: tests/study/models.yaml", "models: ../models.yaml")
    edit(configuration, "data: tests/study/data.yaml", "data: ../campaign/models.yaml")
    done = own(folder, "evidence.py", *STUDY)
    assert done.returncode == 0, said(done)
    elsewhere = tmp_path / "to/elsewhere"
    with zipfile.ZipFile(folder / ARCHIVE) as archive:
        assert not any(name.startswith("/") or ".." in name for name in archive.namelist())
        archive.extractall(elsewhere)
    settings = yaml.safe_load((elsewhere / "config/config.yaml").read_text())
    assert settings["campaigns"] == ["config/given/campaign.yaml"]
    assert {settings["models"], settings["data"]} == {"config/given/models.yaml", "config/given/models-1.yaml"}
    assert (elsewhere / settings["models"]).read_bytes() == (tmp_path / "models.yaml").read_bytes()
    assert sums_hold(elsewhere)
    parts = json.loads((elsewhere / "ro-crate-metadata.json").read_text())["@graph"]
    assert {entity["name"] for entity in parts if entity["@id"] == "config/given/campaign.yaml"}
    whole = verify(elsewhere)
    assert (whole.returncode, "21 files left out" in whole.stdout) == (0, True), whole.stdout
    # A change of such a file reaches the archive's own lineage, as one of the project's does.
    inputs = artifacts.read(folder / f"{ARCHIVE}.lineage.json")["lineage"]["inputs"]
    assert {f"{tmp_path}/campaign.yaml", "../models.yaml", "../campaign/models.yaml"} <= inputs.keys()


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
            # A table of tokens is left out, and named by its hash.
            folder = bundled if entity["name"] in TABLES else unpacked
            assert entity["sha256"] == artifacts.sha256_file(folder / entity["name"])
        assert action["startTime"] <= action["endTime"]
        assert "SoftwareSourceCode" in entities[action["instrument"]["@id"]]["@type"]
    assert entities["./"]["mainEntity"] == {"@id": "Snakefile"} == entities["#run"]["instrument"]
    assert {"@id": "results/figures/fig1.pdf"} in entities["#run"]["result"]
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    there = {p.relative_to(unpacked).as_posix() for p in unpacked.rglob("*") if p.is_file()}
    assert parts == there - {"SHA256SUMS", "ro-crate-metadata.json"}


def listed(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.slow
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
