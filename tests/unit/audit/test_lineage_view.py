"""What a file was made from, shown three ways: as a tree, as JSON, as a picture."""

import json
import re
import shutil
import signal
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from aletheia.audit import lineage_graph, lineage_svg
from aletheia.provenance import artifacts
from conftest import SCRIPTS, run_script

FIGURE = "results/figures/fig1.pdf"
SVG = "{http://www.w3.org/2000/svg}"
STEPS = [
    "stage",
    "tokens",
    "batches",
    "precision",
    "probe",
    "select",
    "train",
    "evaluate",
    "score_code",
    "aggregate",
    "stats",
    "figures",
]
ARMS = ("std", "ale", "cm")


def lineage(folder, *arguments):
    return run_script("lineage.py", *arguments, cwd=folder)


def test_the_tree_reaches_weights_data_code_and_machine(finished):
    done = lineage(finished, FIGURE)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout, "plain in a pipe"
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{FIGURE}  figures · sha256 {artifacts.sha256_file(finished / FIGURE)[:12]}")
    weights = [line for line in lines if "resources/models/tiny-llama/model.safetensors" in line]
    assert len(weights) == 1, "a repeated subtree is shown once"
    ledger = [line for line in lines if "results/aggregate/ledger.csv" in line]
    assert [line.endswith("(its ancestry stands above)") for line in ledger] == [False, True]
    digest = artifacts.read(finished / "results/probe/tiny-llama/seed1.json")["lineage"]["code"][
        "aletheia.method.probe"
    ]
    assert any(re.fullmatch(rf"  aletheia\.method\.probe +{digest}  probe", line) for line in lines)
    assert any(line.startswith("  tiny-llama: random") for line in lines)
    (gpu,) = (line for line in lines if re.search(r"envs/gpu\.yaml \w{16} ", line))
    assert set(gpu.split("  ")[-1].strip().split(", ")) == {"train", "tokens", "batches", "precision", "probe"}


def test_the_json_holds_every_edge_that_the_artifacts_record(finished):
    graph = json.loads(lineage(finished, FIGURE, "--json").stdout)
    nodes = {node["path"]: node for node in graph["nodes"]}
    assert graph["roots"] == [FIGURE]
    edges = {(e["source"], e["target"]): e["sha256"] for e in graph["edges"]}
    for path, node in nodes.items():
        file = finished / path
        assert node["status"] == "ok", node
        assert node["sha256"] == artifacts.sha256_file(file)
        if node["step"] and file.suffix == ".json":
            envelope = artifacts.read(file)
            assert node["payload_sha256"] == envelope["payload_sha256"]
            assert node["code"] == envelope["lineage"]["code"]
            assert node["config"] == envelope["lineage"]["config"]
            assert graph["environments"][node["environment"]] == envelope["lineage"]["environment"]
            assert (node["host"], node["seconds"]) == (envelope["observed"]["host"], envelope["observed"]["seconds"])
            for name, described in envelope["lineage"]["inputs"].items():
                if not name.endswith(".lineage.json"):
                    assert edges[name, path] == described["sha256"]
    assert {n["step"] for n in nodes.values()} == {*STEPS, None}
    assert nodes["resources/models/tiny-neox/model.safetensors"]["kind"] == "weights"
    assert nodes["tests/study/rows.jsonl"]["kind"] == "given"
    assert nodes["results/train/tiny-llama/cm/seed1/run.json"]["about"]["arm"] == "cm"


def test_the_picture_has_a_column_a_step_and_the_same_bytes_twice(finished, tmp_path):
    for name in ("a.svg", "b.svg"):
        done = lineage(finished, FIGURE, "--svg", tmp_path / name)
        assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    drawn = ET.parse(tmp_path / "a.svg").getroot()
    texts = {text.text: float(text.get("x")) for text in drawn.iter(f"{SVG}text")}
    places = [texts[step] for step in STEPS]
    assert places == sorted(places)
    assert len(set(places)) == len(STEPS)
    titles = "\n".join(title.text for title in drawn.iter(f"{SVG}title"))
    for path in json.loads(lineage(finished, FIGURE, "--json").stdout)["nodes"]:
        assert path["path"] in titles
        assert path["sha256"] in titles


def test_a_picture_of_many_runs_groups_them():
    nodes = {"ledger.csv": made("ledger.csv", "file", "aggregate")}
    for number in range(99):
        arm = ARMS[number % 3]
        path = f"train/m{number % 11}/{arm}/seed{number}/run.json"
        nodes[path] = made(path, "run", "train", arm=arm)
    edges = [lineage_graph.Edge(path, "ledger.csv", "0" * 64) for path in nodes if path != "ledger.csv"]
    drawn = ET.fromstring(lineage_svg.render_svg(lineage_graph.Graph(["ledger.csv"], nodes, edges)))
    groups = [text.text for text in drawn.iter(f"{SVG}text") if text.text and "×" in text.text]
    assert sorted(groups) == ["run ale ×33", "run cm ×33", "run std ×33"]
    assert len(list(drawn.iter(f"{SVG}path"))) == 3
    assert float(drawn.get("height")) < 600


def made(path, kind, step, **about):
    facts = {"code": {f"{step}.py": "0" * 16}, "config": {}, "commit": None, "dirty": None}
    observed = {"host": "node", "device": "processor", "seconds": 1.0}
    return lineage_graph.Node(path, kind, step, about=about, facts=facts, observed=observed)


@pytest.mark.parametrize(
    ("path", "shown_at"),
    [
        ("results/select/tiny-llama/ale/seed1.json", "results/select/tiny-llama/ale/seed1.json"),
        ("results/aggregate/ledger.csv", "results/aggregate/ledger.csv"),
        ("results/aggregate/ledger.csv.lineage.json", "results/aggregate/ledger.csv"),
        ("resources/models/tiny-neox/model.safetensors", "resources/models/tiny-neox/model.safetensors"),
        (
            "results/train/tiny-llama/ale/seed1/adapter/adapter_model.safetensors",
            "results/train/tiny-llama/ale/seed1/run.json",
        ),
        ("config/published/table2.csv", "config/published/table2.csv"),
    ],
)
def test_a_damaged_file_of_the_chain_is_shown_as_such(study, tmp_path, path, shown_at):
    content = bytearray((study / path).read_bytes())
    content[len(content) // 2] ^= 1
    (study / path).write_bytes(content)
    done = lineage(study, FIGURE)
    assert (done.returncode, done.stderr) == (1, "")
    wrong = [line for line in done.stdout.splitlines() if "CHANGED" in line]
    assert wrong
    assert all(shown_at in line for line in wrong)
    graph = json.loads(lineage(study, FIGURE, "--json").stdout)
    assert [n["path"] for n in graph["nodes"] if n["status"] != "ok"] == [shown_at]
    assert lineage(study, FIGURE, "--svg", tmp_path / "x.svg").returncode == 1
    assert lineage_svg.BORDERS["changed"] in (tmp_path / "x.svg").read_text()


def test_a_missing_file_of_the_chain_is_shown_as_such(study):
    (study / "results/probe/tiny-llama/seed1.json").unlink()
    done = lineage(study, FIGURE)
    assert (done.returncode, done.stderr) == (1, "")
    assert "results/probe/tiny-llama/seed1.json  given  MISSING: no such file" in done.stdout


def test_a_deleted_folder_is_missing_and_not_changed(study):
    adapter = "results/train/tiny-llama/ale/seed1/adapter"
    shutil.rmtree(study / adapter)
    done = lineage(study, adapter, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    (root,) = (node for node in json.loads(done.stdout)["nodes"] if node["path"] == adapter)
    assert (root["status"], root["problem"]) == ("missing", "no such file")


def test_elsewhere_than_in_the_study_s_folder_is_one_sentence(finished, tmp_path):
    figure = finished / FIGURE
    done = lineage(tmp_path, figure)
    assert (done.returncode, done.stdout) == (2, "")
    place = f"was written as {FIGURE}, and nothing that it was made from is here; run this in the study's folder"
    assert done.stderr == f"error: {figure}: {place}\n"


def test_a_copy_inside_the_study_has_its_lineage(study):
    copied = "results/select/copied.json"
    shutil.copy(study / "results/select/tiny-llama/ale/seed1.json", study / copied)
    done = lineage(study, copied)
    assert done.returncode == 0, done.stderr
    assert "resources/models/tiny-llama/model.safetensors" in done.stdout


@pytest.mark.parametrize(
    "taken",
    [
        "results/figures/fig1.svg",
        "results/figures/fig1.svg.lineage.json",
        "results/stats/summary.json",
        "config/published/table2.csv",
        "results/train/tiny-llama/ale/seed1/adapter/x.svg",
    ],
)
def test_a_picture_never_takes_a_file_of_the_study(study, taken):
    before = (study / taken).read_bytes() if (study / taken).exists() else None
    done = lineage(study, FIGURE, "--svg", taken)
    assert (done.returncode, done.stdout) == (2, "")
    problem = "expected a file of your own, found one of the study's; choose another name"
    assert done.stderr == f"error: --svg {taken}: {problem}\n"
    assert ((study / taken).read_bytes() if before else (study / taken).exists()) == (before or False)


@pytest.mark.parametrize("place", ["nowhere/x.svg", "results", "README.md/x.svg"])
def test_a_picture_without_a_place_is_one_sentence(study, place):
    done = lineage(study, FIGURE, "--svg", place)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --svg {place}: expected a file in a folder that is there; choose another place\n"
    assert (study / FIGURE).is_file()


def test_a_reader_may_stop_early(finished):
    program = [sys.executable, "-s", str(SCRIPTS / "lineage.py"), FIGURE, "--json"]
    with subprocess.Popen(program, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
        reading.stdout.close()
        assert reading.stderr.read() == b""
    assert reading.returncode == -signal.SIGPIPE


def test_a_path_without_lineage_is_one_sentence(finished):
    for path in ("results/nothing.json", "Makefile"):
        done = lineage(finished, path)
        assert done.returncode == 2
        assert done.stderr == f"error: {path}: expected an artifact or a file with a sidecar, found neither\n"
