"""What a file was made from, shown three ways: as a tree, as JSON, as a picture."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from aletheia.audit import lineage_graph, lineage_summary, lineage_svg, lineage_text
from aletheia.provenance import artifacts
from conftest import SCRIPTS, run_script
from ledgers import sealed

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
    (root,) = (line for line in lines if line.startswith(FIGURE))
    assert root.startswith(f"{FIGURE}  figures · sha256 {artifacts.sha256_file(finished / FIGURE)[:12]}")
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


def test_a_summary_leads_the_tree(finished):
    head, tree = lineage(finished, FIGURE).stdout.split("\n\n", 1)
    assert tree.startswith(FIGURE)
    title, *lines = head.splitlines()
    assert title == "Summary"
    said = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in lines)
    graph = json.loads(lineage(finished, FIGURE, "--json").stdout)
    made = [node for node in graph["nodes"] if node["step"]]
    steps = Counter(node["step"] for node in made)
    number, by_step = said["artifacts"].split(": ")
    assert int(number) == len(made)
    assert Counter({step: int(n) for n, step in (entry.split() for entry in by_step.split(", "))}) == steps
    assert said["other files"] == f"{len(graph['nodes']) - len(made)}, given or staged"
    assert said["models"] == "2: tiny-llama, tiny-neox"
    assert "rows" in said["data sets"].split(": ")[1].split(", ")
    assert said["machines"] == f"1: {made[0]['host']} ({made[0]['device']})"
    assert said["commits"] == "1: unknown (no git repository)"
    assert said["packages"] == "1 set"
    assert said["status"] == f"{len(graph['nodes'])} ok"
    assert f"({graph['summary']['newest']['path']})" in said["made"]
    assert graph["summary"]["steps"] == steps


def test_a_summary_names_what_differs():
    newer = {"python": "3.11", "packages": {"numpy": "2.3.1", "yaml": "6"}}
    older = {"python": "3.11", "packages": {"numpy": "2.2.6", "torch": "2.13.0"}}
    clean, dirty = {"commit": "a" * 40, "dirty": False}, {"commit": "b" * 40, "dirty": True}
    nodes = {}
    for path, host, time, environment, commit in (
        ("b.json", "node1", "2026-01-02", newer, clean),
        ("a.json", "node2", "2026-01-03", older, dirty),
        ("c.json", "node1", "2026-01-01", newer, clean),
    ):
        node = made(path, "run", "train", model="m")
        observed = node.observed | {"host": host, "ended": time}
        nodes[path] = replace(node, observed=observed, environment=environment, facts=node.facts | commit)
    nodes["x"] = lineage_graph.Node("x", status="changed", problem="y")
    graph = lineage_graph.Graph(list(nodes), nodes, [])
    found = lineage_summary.summarise(graph)
    assert (found["artifacts"], found["other_files"], found["package_sets"]) == (3, 1, 2)
    assert found["packages_that_differ"] == {"numpy": ["2.2.6", "2.3.1"]}
    said = "\n".join(lineage_text.summary(graph))
    for sentence in (
        "2: node1 (processor), node2 (processor)",
        f"2: {'a' * 12}, {'b' * 12} with uncommitted changes",
        "2 sets, which differ in numpy 2.2.6 and 2.3.1",
        "2026-01-01 (c.json) to 2026-01-03 (a.json)",
        "3 ok; 1 changed: x",
    ):
        assert sentence in said


@pytest.mark.slow
def test_a_depth_cuts_the_tree_and_says_what_lies_below(finished):
    graph = json.loads(lineage(finished, FIGURE, "--json").stdout)
    sources = {}
    for edge in graph["edges"]:
        sources.setdefault(edge["target"], set()).add(edge["source"])

    def ancestors(path):
        return set().union(*({source} | ancestors(source) for source in sources.get(path, ())))

    _, tree, *_ = lineage(finished, FIGURE, "--depth", "1").stdout.split("\n\n")
    root, *lines, last = tree.splitlines()
    assert root.startswith(FIGURE)
    assert {re.split(r"  ", line[4:])[0] for line in lines} == sources[FIGURE]
    for line in lines:
        below = len(ancestors(re.split(r"  ", line[4:])[0]))
        assert line.endswith(f"  ({below} files below)") == (below > 1)
    assert last == f"{len(graph['nodes']) - 1 - len(lines)} more files lie below level 1"
    _, alone, *_ = lineage(finished, FIGURE, "--depth", "0").stdout.split("\n\n")
    assert alone.splitlines()[0].endswith(f"  ({len(graph['nodes']) - 1} files below)")
    assert len(alone.splitlines()) == 2
    _, deep, *_ = lineage(finished, FIGURE, "--depth", "99").stdout.split("\n\n")
    _, whole, *_ = lineage(finished, FIGURE).stdout.split("\n\n")
    assert deep == whole


def test_what_a_depth_cut_is_shown_where_it_stands_higher():
    """The tree of root ← a ← b ← c and root ← b: at depth 2, b is first met where it is cut."""
    names = ("root", "a", "b", "c")
    edges = [("a", "root"), ("b", "a"), ("c", "b"), ("b", "root")]
    nodes = {name: lineage_graph.Node(name) for name in names}
    graph = lineage_graph.Graph(["root"], nodes, [lineage_graph.Edge(*edge, "0" * 64) for edge in edges])
    console = Console(width=80, record=True, file=io.StringIO())
    lineage_text.print_ancestry(graph, console, depth=2)
    tree = [line.rstrip() for line in console.export_text().split("\n\n")[1].splitlines()]
    assert [line.strip(" │├└─").split("  ")[0] for line in tree] == ["root", "a", "b", "b", "c"]
    assert [line.endswith("(1 file below)") for line in tree] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--depth", "-1"), "argument --depth: expected a whole number of at least 0, found -1"),
        (("--depth", "two"), "argument --depth: expected a whole number of at least 0, found 'two'"),
        (("--depth", "1", "--json"), "--depth: expected no --json and no --svg beside it"),
    ],
)
def test_a_wrong_depth_is_one_sentence(arguments, sentence):
    done = run_script("lineage.py", FIGURE, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr.splitlines()[-1]


def test_a_measurement_in_turns_has_its_lineage(tmp_path):
    """Its payload says in a sentence what its times are."""
    nothing = ("reason", "quantization", "batch_plan_sha256", "positions", "probe_seconds", "frozen_layers")
    lost = dict.fromkeys([*nothing, "ratio", "ratio_with_probe", "same_ratio"])
    sizes = {"rounds": 2, "steps_per_round": 1, "warmup_rounds": 0, "micro_batches": 1, "probe_shared_by_steps": 1}
    about = {
        "about": "Times in turns.",
        "mode": "interleaved",
        "model": "m",
        "arm": "ale",
        "seed": 1,
        "status": "crashed",
    }
    payload = {**lost, **sizes, **about, "dtype": "bf16", "gradient_checkpointing": False, "order": [], "arms": {}}
    path = sealed(tmp_path / "paired.json", "paired", payload).as_posix()
    assert lineage_graph.trace([path]).nodes[path].about == {"model": "m", "arm": "ale", "seed": 1}


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
        ("results/aggregate/ledger.csv", "results/aggregate/ledger.csv"),
        ("resources/models/tiny-neox/model.safetensors", "resources/models/tiny-neox/model.safetensors"),
        *(
            pytest.param(path, shown_at, marks=pytest.mark.slow)
            for path, shown_at in (
                ("results/select/tiny-llama/ale/seed1.json", "results/select/tiny-llama/ale/seed1.json"),
                ("results/aggregate/ledger.csv.lineage.json", "results/aggregate/ledger.csv"),
                ("config/published/table2.csv", "config/published/table2.csv"),
                (
                    "results/train/tiny-llama/ale/seed1/adapter/adapter_model.safetensors",
                    "results/train/tiny-llama/ale/seed1/run.json",
                ),
            )
        ),
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
