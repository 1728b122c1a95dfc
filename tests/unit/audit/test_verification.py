"""Whatever happens to a file of a finished study, verify names it."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aletheia.audit import inventory
from aletheia.audit.file_cache import FileCache
from aletheia.audit.sidecars import ancestry
from aletheia.audit.verification import verify_files, verify_folders
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.job import Job, Step
from aletheia.study import results_tree
from conftest import SCRIPTS, STUDY, as_ordinary_user, edit, run_script

CHANGES = 400
FIGURE = "results/figures/fig1.pdf"
PROBE = "results/probe/tiny-llama/seed1.json"
RUN = "results/train/tiny-llama/ale/seed1"


class Verifier:
    """Verify as the program does, in one process: what a file held is kept while its time and size stay the same."""

    def __init__(self, folder):
        self.folder = folder
        self.contents = FileCache()
        self.inventory = inventory.load_inventory([Path(STUDY[1])])
        self.clock = 2_000_000_000_000_000_000

    def named(self):
        """Return the paths that the findings name."""
        return {finding.path for finding in self.verify().findings}

    def verify(self):
        return inventory.verify_study(self.inventory, self.contents)

    def write(self, path, content):
        """Write a file; two writes within one tick of the file system's clock have different times all the same."""
        path.write_bytes(content)
        self.clock += 1
        os.utime(path, ns=(self.clock, self.clock))


@pytest.fixture
def verifier(study, monkeypatch):
    monkeypatch.chdir(study)
    verifier = Verifier(study)
    assert verifier.named() == set()
    return verifier


def tree():
    """Return every file that a finished study consists of."""
    files = [path for root in ("results", "resources") for path in sorted(Path(root).rglob("*")) if path.is_file()]
    return [p for p in files if p.name not in artifacts.IGNORED_NAMES and "downloads" not in p.parts]


def needed():
    """Return those that are missed: the record of the tree's campaigns may be deleted."""
    return [p for p in tree() if p.name != results_tree.RECORD_NAME]


@pytest.mark.slow
def test_every_changed_byte_is_named(verifier):
    files, draw = [p for p in tree() if p.stat().st_size], random.Random(0)
    assert len(files) > 180
    for change in range(CHANGES):
        path = files[change] if change < len(files) else draw.choice(files)
        whole = path.read_bytes()
        position = draw.randrange(len(whole))
        other = draw.choice([byte for byte in range(256) if byte != whole[position]])
        verifier.write(path, whole[:position] + bytes([other]) + whole[position + 1 :])
        assert str(path) in verifier.named(), (path, position, whole[position], other)
        verifier.write(path, whole)
    assert verifier.named() == set()


@pytest.mark.slow
def test_white_space_that_leaves_json_equal_is_named(verifier):
    draw = random.Random(1)
    for path in [p for p in tree() if p.suffix == ".json"]:
        whole = path.read_bytes()
        gaps = [m.end() for m in re.finditer(rb"[,:{\[]|\n", whole)]
        position = draw.choice(gaps)
        verifier.write(path, whole[:position] + b" " + whole[position:])
        json.loads(path.read_bytes())
        assert str(path) in verifier.named(), (path, position)
        verifier.write(path, whole)


@pytest.mark.slow
def test_every_truncated_file_is_named(verifier):
    draw = random.Random(2)
    for path in [p for p in tree() if p.stat().st_size]:
        whole = path.read_bytes()
        for length in {0, draw.randrange(len(whole))}:
            verifier.write(path, whole[:length])
            assert str(path) in verifier.named(), (path, length)
        verifier.write(path, whole)


@pytest.mark.slow
def test_every_deleted_file_is_named(verifier):
    for path in needed():
        aside = verifier.folder / "aside"
        path.rename(aside)
        assert str(path) in verifier.named()
        aside.rename(path)
    assert verifier.named() == set()


def test_every_file_deleted_with_its_sidecar_is_named(verifier):
    pairs = [p for p in tree() if artifacts.sidecar(p).is_file()]
    assert len(pairs) > 50
    for path in pairs:
        moved = {p: verifier.folder / f"aside{n}" for n, p in enumerate((path, artifacts.sidecar(path)))}
        for source, aside in moved.items():
            source.rename(aside)
        assert set(map(str, moved)) <= verifier.named()
        for source, aside in moved.items():
            aside.rename(source)


@pytest.mark.slow
def test_every_renamed_file_is_named(verifier):
    for path in needed():
        renamed = path.with_name(f"other_{path.name}")
        path.rename(renamed)
        assert {str(path), str(renamed)} <= verifier.named()
        renamed.rename(path)


def test_an_artifact_renamed_with_its_sidecar_is_named(verifier):
    for path in [p for p in tree() if artifacts.sidecar(p).is_file()]:
        other = path.with_name(f"other_{path.name}")
        path.rename(other)
        artifacts.sidecar(path).rename(artifacts.sidecar(other))
        assert {str(path), str(artifacts.sidecar(path)), str(artifacts.sidecar(other))} <= verifier.named()
        artifacts.sidecar(other).rename(artifacts.sidecar(path))
        other.rename(path)


def exchange(first, second):
    """Let two files or folders change places."""
    aside = Path("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def faces(path):
    """Return the names under which a finding may name a file: its own, and its sidecar's."""
    return {str(path), str(artifacts.sidecar(path))}


@pytest.mark.slow
def test_exchanged_files_are_named(verifier):
    """Two files, their sidecars, or both at once; of one kind, so that nothing but content and place differs."""
    draw, kinds = random.Random(3), {}
    for path in tree():
        if not path.name.endswith(artifacts.SIDECAR):
            kinds.setdefault((path.parts[1], path.suffix), []).append(path)
    pairs = [draw.sample(paths, 2) for paths in kinds.values() if len(paths) > 1 for _ in range(6)]
    pairs += [[Path(f"{RUN}/{name}"), Path(f"{RUN.replace('ale', 'std')}/{name}")] for name in ("run.json", "adapter")]
    for first, second in pairs:
        both = [(first, second), (artifacts.sidecar(first), artifacts.sidecar(second))]
        there = [pair for pair in both if all(p.exists() for p in pair)]
        for swapped in (*([pair] for pair in there), there):
            same = all(p.is_file() and p.read_bytes() == q.read_bytes() for p, q in swapped)
            for pair in swapped:
                exchange(*pair)
            named = verifier.named()
            for pair in swapped:
                exchange(*pair)
            assert same or all(named & (faces(p) | inside(p)) for p in (first, second)), (swapped, named)
    assert verifier.named() == set()


def inside(folder):
    return {str(p) for p in folder.rglob("*")} if folder.is_dir() else set()


def test_whole_runs_that_changed_places_are_named(verifier):
    first, second = Path(RUN), Path(RUN.replace("ale", "std"))
    exchange(first, second)
    assert {f"{first}/run.json", f"{second}/run.json", f"{first}/adapter.lineage.json"} <= verifier.named()


def test_an_adapter_that_another_artifact_vouches_for_is_not_the_runs(verifier):
    # Folder and sidecar together come from another place; both are whole.
    for name in ("adapter", "adapter.lineage.json"):
        source = Path(RUN.replace("ale", "cm")) / name
        shutil.rmtree(f"{RUN}/{name}", ignore_errors=True)
        shutil.copytree(source, f"{RUN}/{name}") if source.is_dir() else shutil.copy(source, f"{RUN}/{name}")
    named = verifier.named()
    assert {f"{RUN}/adapter.lineage.json", f"{RUN}/adapter/adapter_model.safetensors"} <= named


def test_a_file_added_to_an_adapter_is_a_stray(verifier):
    Path(f"{RUN}/adapter/more.bin").write_text("mine")
    (finding,) = verifier.verify().findings
    assert (finding.path, finding.kind, finding.owner) == (f"{RUN}/adapter/more.bin", "stray", "")


def test_a_finding_says_what_would_mend_it(verifier):
    expected = {
        "results/probe/tiny-llama/seed1.json": ("results/probe/tiny-llama/seed1.json", "probe"),
        f"{RUN}/adapter/adapter_model.safetensors": (f"{RUN}/adapter.lineage.json", "train_ale"),
        "resources/models/tiny-llama/model.safetensors": ("resources/models/tiny-llama.lock.json", "stage_model"),
        "resources/models/tiny-llama.lineage.json": ("resources/models/tiny-llama.lock.json", "stage_model"),
        "results/tables/table1.md": ("results/tables/table1.md", "stats"),
    }
    for name, (owner, rule) in expected.items():
        whole = Path(name).read_bytes()
        verifier.write(Path(name), whole[:-2] + b"~\n")
        (finding,) = verifier.verify().findings
        assert (finding.path, finding.owner, finding.rule) == (name, owner, rule)
        verifier.write(Path(name), whole)


def test_an_input_that_is_whole_but_another_is_named_by_its_consumers(verifier):
    selection = Path("results/select/tiny-llama/ale/seed1.json")
    envelope = json.loads(selection.read_bytes())
    envelope["observed"]["seconds"] += 1
    body = {key: value for key, value in envelope.items() if key != "sha256"}
    verifier.write(selection, artifacts.canonical_bytes(artifacts.seal(body)))
    findings = verifier.verify().findings
    # Aggregate reads selections too.
    runs = [f.path for f in findings if not f.path.startswith("results/aggregate/")]
    assert runs == [f"{RUN}/adapter.lineage.json", f"{RUN}/run.json"]
    assert {(f.kind, f.problem) for f in findings} == {("outdated", f"made from another {selection}")}


def behind_a_link(folder):
    """Move a folder to another disk, so to say, and leave a link."""
    folder, target = Path(folder), Path("disk") / Path(folder).name
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    folder.symlink_to(target.resolve())


def test_what_lies_behind_a_link_is_named(verifier):
    behind_a_link("results/train/tiny-llama")
    behind_a_link("results")
    Path("results/loop").symlink_to(Path("results").resolve())
    assert verifier.named() == set()
    run = Path(f"{RUN}/run.json")
    verifier.write(run, run.read_bytes()[:-2] + b"~\n")
    Path(f"{RUN}/mine.txt").write_text("mine")
    assert verifier.named() == {f"{RUN}/run.json", f"{RUN}/mine.txt"}


def test_what_a_job_is_writing_is_no_stray(verifier):
    scratch = Path(f"{RUN}/.adapter.99.tmp")
    shutil.copytree(f"{RUN}/adapter", scratch)
    assert verifier.named() == set()


def test_a_hidden_name_is_a_stray_unless_a_job_or_snakemake_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    excused = [
        "results/.snakemake_timestamp",
        *("results/train/.run.json.lock", "results/.seed1.99.tmp.json", "results/.adapter.7.tmp/model.bin"),
        *("results/.adapter.7.old/model.bin", "results/train/.checkpoint", "results/train/.checkpoint.tmp"),
        *("resources/models/.gpt.partial/.model.bin.ab.part", "results/.nfs00a1", "results/report.html"),
        *("resources/downloads/a.whl", "resources/prefix/0a/1b.safetensors"),
    ]
    strays = [
        *("results/.notes", "results/.mine/file.txt", "results/train/.tmp.json", "results/.a.tmp", "results/.lock"),
        *(
            "results/downloads/a.whl",
            "results/prefix/a.safetensors",
            "resources/report.html",
            "results/.checkpoint.old",
            "results/.git/config",
        ),
    ]
    for name in excused + strays:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = verify_folders([Path("results"), Path("resources")]).findings
    assert {finding.path for finding in found} == set(strays)
    assert {finding.kind for finding in found} == {"stray"}
    # Also where there are no results yet.
    shutil.rmtree("results")
    assert {f.path for f in verify_folders([Path("results"), Path("resources")]).findings} == {"resources/report.html"}


def test_files_that_go_meanwhile_are_no_error(verifier):
    adapter, aside, ended = Path(f"{RUN}/adapter"), Path(f"{RUN}/.adapter.99.old"), threading.Event()

    def move():
        while not ended.is_set():
            adapter.rename(aside)
            aside.rename(adapter)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        named = set().union(*(verifier.named() for _ in range(60)))
    finally:
        ended.set()
        mover.join()
    assert all(name.startswith(str(adapter)) for name in named)
    assert verifier.named() == set()


def test_a_file_that_is_gone_when_it_is_read_has_no_hash(tmp_path):
    contents, path = FileCache(), tmp_path / "x.json"
    contents.load([path, tmp_path])
    assert contents.sha256(path) is None
    assert contents.sha256(tmp_path) is None
    with pytest.raises(UserError, match="expected an artifact here and found none"):
        contents.envelope(path)
    path.write_text("{}")
    assert contents.sha256(path) == artifacts.sha256_file(path)
    with pytest.raises(UserError, match="found something else"):
        contents.envelope(path)


def test_an_artifact_under_the_name_of_a_sidecar_or_a_lock_is_named(verifier):
    lock, sidecar = "resources/models/tiny-llama.lock.json", f"{FIGURE}.lineage.json"
    copies = {
        "results/select/copy.lock.json": (PROBE, "is a probe artifact, under the name of a lock"),
        "results/select/copy.lineage.json": (PROBE, "is a probe artifact, under the name of a sidecar"),
        "results/select/more.lineage.json": (lock, "is a model_lock artifact, under the name of a sidecar"),
        "results/select/more.lock.json": (sidecar, "is a file artifact, under the name of a lock"),
    }
    for copy, (source, _) in copies.items():
        shutil.copy(source, copy)
    found = {f.path: f.problem for f in verifier.verify().findings}
    assert found == {copy: problem for copy, (_, problem) in copies.items()}


def verify(folder, *arguments):
    return run_script("verify.py", *arguments, cwd=folder)


def test_verify_finds_a_finished_study_whole(finished):
    done = verify(finished, *STUDY)
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.fullmatch(r"\d+ artifacts checked, 0 findings\n", done.stdout)
    alone = json.loads(verify(finished, FIGURE, "--json").stdout)
    assert alone["findings"] == []
    # Down to the staged weights and data, but not to the figure's siblings.
    assert 20 < alone["checked"] < int(done.stdout.split()[0])


def test_another_configurations_tree_asks_for_its_configfile(study):
    (study / "results/tables/table1.md").write_text("mine")
    done = verify(study)
    assert done.returncode == 1
    (one, other, _) = done.stdout.splitlines()
    assert re.search(r"pass that study's --configfile \(expected campaigns default, found campaigns tiny\)", one)
    assert other.startswith("results/tables/table1.md: changed")


def test_a_half_done_study_is_a_few_lines(study):
    for folder in ("results/figures", "results/tables", "results/stats", "results/aggregate"):
        shutil.rmtree(study / folder)
    shutil.rmtree(study / "results/evaluate/tiny-llama/cm")
    done = verify(study, *STUDY)
    assert done.returncode == 1
    assert re.search(r"^results/figures/fig1\.pdf and \d+ more: missing; rule figures makes them$", done.stdout, re.M)
    assert len(done.stdout.splitlines()) < 12
    listed = json.loads(verify(study, *STUDY, "--json").stdout)["findings"]
    assert {"results/figures/fig5.svg", "results/evaluate/tiny-llama/cm/seed1/mmlu.json"} <= {f["path"] for f in listed}


def test_another_campaigns_results_are_noted_and_a_smaller_study_is_whole(study):
    edit(study / "tests/study/campaign.yaml", "models: [tiny-llama, tiny-neox]", "models: [tiny-llama]")
    edit(study / "tests/study/campaign.yaml", "  tiny-neox: {benchmarks: [heldout], headline: false}\n", "")
    done = verify(study, *STUDY)
    assert done.returncode == 0, done.stdout
    assert re.search(
        r"^note: \S+tiny-neox\S* and \d+ more: no run of this study asks for it$", done.stdout, re.MULTILINE
    )
    # Noted, but not left unread.
    run = study / "results/train/tiny-neox/ale/seed1/run.json"
    run.write_bytes(run.read_bytes().replace(b'"ok"', b'"no"'))
    assert "results/train/tiny-neox/ale/seed1/run.json: " in verify(study, *STUDY).stdout


def test_path_variables_are_respected(study):
    (study / "results").rename(study / "elsewhere")
    with (study / "tests/study/config.yaml").open("a") as handle:
        handle.write("pathvars: {results: elsewhere}\n")
    found = json.loads(verify(study, *STUDY, "--json").stdout)
    # All that the study asks for is there, but each artifact says that it, and what it was made from, was in results.
    assert {finding["kind"] for finding in found["findings"]} == {"misplaced", "missing"}
    missing = {f["path"].split("/")[0] for f in found["findings"] if f["kind"] == "missing"}
    assert missing == {"results"}


CLOSED = "cannot be read (Permission denied)"


def as_user(folder, script, *arguments):
    """Run a script as a user whom file modes bind."""
    command = as_ordinary_user(sys.executable, "-s", str(SCRIPTS / script), *map(str, arguments))
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def closed(study):
    """Return a study in which an artifact, a folder, a figure and its other's sidecar are closed to their user."""
    closed = [PROBE, f"{RUN}/adapter", FIGURE, "results/figures/fig2.pdf.lineage.json"]
    for name in closed:
        (study / name).chmod(0)
    yield study, closed
    for name in closed:
        (study / name).chmod(0o755)


def test_what_cannot_be_read_is_a_finding(closed):
    folder, names = closed
    done = as_user(folder, "verify.py", *STUDY, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = {f["path"]: (f["kind"], f["problem"]) for f in json.loads(done.stdout)["findings"]}
    # And nothing else: what lies in a closed folder is not missing.
    assert found == dict.fromkeys(names, ("unreadable", CLOSED))


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o311])
def test_a_folder_that_is_closed_in_any_way_is_a_finding(closed, mode):
    folder, names = closed
    (folder / f"{RUN}/adapter").chmod(mode)
    found = {f["path"] for f in json.loads(as_user(folder, "verify.py", *STUDY, "--json").stdout)["findings"]}
    assert found == set(names)


def test_a_link_that_leads_into_a_closed_folder_is_a_finding(study, tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").touch()
    (study / "results/mine").symlink_to(tmp_path / "closed" / "file")
    (study / "results/round").symlink_to("round")
    (tmp_path / "closed").chmod(0)
    done = as_user(study, "verify.py", *STUDY, "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = {f["path"]: (f["kind"], f["problem"]) for f in json.loads(done.stdout)["findings"]}
    assert found["results/mine"] == ("unreadable", CLOSED)
    assert {path for path, (kind, _) in found.items() if kind == "unreadable"} == {"results/mine", "results/round"}


def test_a_named_file_in_a_closed_folder_is_not_said_to_be_absent(study):
    (study / "results/figures").chmod(0)
    for script in ("verify.py", "lineage.py"):
        done = as_user(study, script, FIGURE)
        assert (done.returncode, done.stderr) == (2, f"error: results/figures: {CLOSED}\n"), script


def test_what_cannot_be_read_in_an_ancestry_is_named(closed):
    folder, names = closed
    done = as_user(folder, "verify.py", FIGURE)
    assert (done.returncode, done.stderr) == (1, "")
    assert set(done.stdout.splitlines()[:-1]) == {f"{name}: {CLOSED}" for name in names[:3]}
    shown = as_user(folder, "lineage.py", FIGURE, "--json")
    assert (shown.returncode, shown.stderr) == (1, "")
    problems = {node["path"]: node["problem"] for node in json.loads(shown.stdout)["nodes"] if node["problem"]}
    adapter = f"{RUN}/adapter"
    assert problems == {
        FIGURE: CLOSED,
        PROBE: CLOSED,
        f"{RUN}/run.json": f"{adapter}/README.md: {adapter}: {CLOSED}",
    }


def test_a_step_that_cannot_read_its_input_is_one_sentence(closed):
    folder, _ = closed
    done = as_user(folder, "select_layers.py", "--probe", PROBE, "--seed", "1", "--out", folder / "mine.json")
    assert (done.returncode, done.stderr) == (2, f"error: {PROBE}: {CLOSED}\n")


def test_a_damaged_artifact_in_an_ancestry_is_named(study):
    selection = study / "results/select/tiny-llama/ale/seed1.json"
    selection.write_text(selection.read_text()[:-40])
    done = verify(study, FIGURE)
    assert done.returncode == 1
    assert done.stdout.startswith("results/select/tiny-llama/ale/seed1.json: ")


@pytest.mark.parametrize("position", range(14))
def test_an_artifact_that_no_longer_begins_as_one_is_named_itself(finished, monkeypatch, tmp_path, position):
    """What those who read it recorded says that it was one; a file that is named says so itself."""
    links, selection = tmp_path / "study", Path("results/select/tiny-llama/ale/seed1.json")
    # The whole study but for one file, without copying it.
    shutil.copytree(finished / "results", links / "results", copy_function=os.link)
    (links / "resources").symlink_to(finished / "resources")
    (links / "config").symlink_to(finished / "config")
    (links / "tests").symlink_to(finished / "tests")
    monkeypatch.chdir(links)
    whole = selection.read_bytes()
    selection.unlink()
    selection.write_bytes(whole[:position] + b"~" + whole[position + 1 :])
    for target in (Path(FIGURE), selection):
        (finding,) = verify_files(ancestry([target]), named=[target]).findings
        assert (finding.path, finding.kind) == (str(selection), "changed")


def test_json_that_is_part_of_an_artifact_is_not_said_to_be_damaged(study):
    done = verify(study, f"{RUN}/adapter/adapter_config.json")
    sentence = "expected an artifact or a file with a sidecar, found neither"
    assert (done.returncode, done.stderr) == (2, f"error: {RUN}/adapter/adapter_config.json: {sentence}\n")


def test_an_adapter_belongs_to_the_ancestry_of_its_figure(study):
    weights = f"{RUN}/adapter/adapter_model.safetensors"
    (study / weights).unlink()
    done = verify(study, FIGURE)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{weights}: missing")


def test_a_folder_is_checked_by_its_sidecar(study):
    for folder, file in (
        (f"{RUN}/adapter", "adapter_model.safetensors"),
        ("resources/models/tiny-llama", "config.json"),
    ):
        whole = verify(study, folder)
        assert (whole.returncode, whole.stderr) == (0, "")
        (study / folder / file).write_text("tampered")
        done = verify(study, folder)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{folder}/{file}: changed after it was written")
        shutil.rmtree(study / folder)
        gone = verify(study, folder)
        assert gone.returncode == 1
        assert f"{folder}/{file}: missing" in gone.stdout


def test_the_list_of_a_bundle_is_found_in_the_results_folder_of_its_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = Step("evidence", "evidence.py", {})
    weights, table, omitted = (Path("elsewhere") / name for name in ("w.bin", "table.csv", "evidence/omitted.json"))
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    left_out = {"path": str(weights), "sha256": artifacts.sha256_file(weights), "bytes": 7}
    with Job(step, inputs=[weights], outputs=[table]) as job:
        job.write_file(table, write=lambda path: path.write_text("a,b\n"))
    with Job(step, inputs=[], outputs=[omitted]) as job:
        job.write_json(omitted, kind="omitted", payload={"files": [left_out]})
    weights.unlink()
    assert verify(tmp_path, table).returncode == 1
    Path("config").mkdir()
    Path("config/config.yaml").write_text("pathvars: {results: elsewhere}\n")
    done = verify(tmp_path, table)
    assert (done.returncode, done.stdout) == (0, "2 artifacts checked, 0 findings, 1 files left out of this bundle\n")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"%PDF-1.4 \xe2\xe3", ": expected a configuration file, found bytes that are no UTF-8"),
        (b"a: \x07", ", line 1: expected YAML, found the character #x0007; delete it"),
        (b"a: 2020-13-45", ", line 1: found 2020-13-45, which YAML reads as a date; put it in quotes"),
        (None, ": expected a configuration file, found a folder; name a file in it"),
    ],
)
def test_what_is_no_configuration_is_one_sentence(finished, tmp_path, content, sentence):
    path = tmp_path / "mine.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    done = verify(finished, "--configfile", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {path}{sentence}")
    assert len(done.stderr.splitlines()) == 1


def test_a_path_behind_a_configfile_is_a_path(finished):
    done = verify(finished, *STUDY, FIGURE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == verify(finished, FIGURE).stdout


def test_a_reader_that_stops_early_ends_verify(finished):
    command = [sys.executable, "-s", str(SCRIPTS / "verify.py"), *STUDY, "--json"]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE


def test_a_moved_folder_is_whole_and_a_folder_without_a_study_says_so(study, tmp_path):
    study.rename(tmp_path / "again")
    assert verify(tmp_path / "again", *STUDY).returncode == 0
    done = verify(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: expected a folder results or resources here and found none")
    unknown = verify(tmp_path / "again", "--configfile", "none.yaml")
    assert unknown.stderr == "error: none.yaml: expected a configuration file here and found none\n"


def test_folders_alone_are_checked_for_what_is_there(study, monkeypatch):
    (study / "config/config.yaml").unlink()
    done = verify(study)
    assert done.returncode == 0
    assert "note: config/config.yaml: not there, so files that are missing are not known" in done.stdout
    monkeypatch.chdir(study)
    Path(FIGURE).unlink()
    (finding,) = verify_folders([Path("results"), Path("resources")]).findings
    assert (finding.path, finding.kind) == (FIGURE, "missing")
