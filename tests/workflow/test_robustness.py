"""What must not break the study: SIGKILL at any moment, a full disk, a user who is not root."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import psutil
import pytest

from aletheia.errors import NO_RIGHT
from aletheia.provenance import artifacts
from conftest import SCRIPTS, STUDY, as_ordinary_user, copy_project, edit, run_script, said, sentences, snakemake
from hashes import REPORTED, payload_hashes, reported_bytes, same_precision
from smaller_study import keep_one_model

# Whom SIGKILL meets while each script is at work. Orphans of those that work longest go on while their twins wait.
KILLED = {
    "stage.py": "both",
    "tokenise.py": "job",
    "draw_batches.py": "both",
    "probe.py": "controller",
    "select_layers.py": "job",
    "train.py": "controller",
    "evaluate_run.py": "controller",
    "score_code.py": "job",
    "aggregate.py": "both",
    "stats.py": "controller",
    "figures.py": "both",
}
# As many jobs at a time as there are cores, with the threads of the undisturbed run: sums of floats depend on them.
COMMAND = [str(Path(sys.executable).parent / "snakemake"), *STUDY, "--max-threads", "1"]
# Imported by every interpreter at its start: notes each write of a script below results/ or resources/. The kernel's
# monotonic clock is one for all processes.
SPY = """
import hashlib, json, os, sys, time
command = " ".join(sys.orig_argv)
if "/workflow/scripts/" in command:
    log = os.open(os.environ["WRITES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    name = hashlib.sha256(command.encode()).hexdigest()

    def note(event, path):
        line = json.dumps([time.monotonic_ns(), name, os.getpid(), event, str(path)])
        os.write(log, line.encode() + b"\\n")

    def hook(event, arguments):
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "shutil.rmtree"):
            return
        path = str(arguments[0])
        # The folder that an output stands in is made before its lock is taken, and harms nobody.
        made_before = event == "os.mkdir" and not os.path.basename(path).startswith(".")
        if path.startswith(("results/", "resources/")) and not path.endswith(".lock") and not made_before:
            note(event, path)

    note("start", command[-200:])
    sys.addaudithook(hook)
"""


def scripts_of(controller: subprocess.Popen) -> list[psutil.Process]:
    """Return the scripts that run below a controller."""
    try:
        below = psutil.Process(controller.pid).children(recursive=True)
        return [p for p in below if any("/workflow/scripts/" in part for part in p.cmdline()[1:3])]
    except psutil.NoSuchProcess:
        return []


def shell_of(script: psutil.Process) -> psutil.Process | None:
    """Return the shell that a rule's command runs in."""
    try:
        parent = script.parent()
        return parent if parent and parent.name() in ("bash", "sh") else None
    except psutil.NoSuchProcess:
        return None


def processes_in(folder: Path) -> list[psutil.Process]:
    """Return the processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.cwd() == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def at_work(controller: subprocess.Popen, names: set[str]) -> tuple[str, list[psutil.Process]] | None:
    """Return the first script of some names that runs below a controller, and all that run there, it first; or None."""
    scripts = scripts_of(controller)
    for process in scripts:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = names & {Path(part).name for part in process.cmdline()[1:3]}
            if found:
                return found.pop(), [process, *(other for other in scripts if other != process)]
    return None


def kill_in_each_script(folder: Path, environment: dict[str, str], printed: Path) -> None:
    """Start the study over and over, and meet each script once at a random moment of its work (``KILLED``)."""
    draw, left = random.Random(7), dict(KILLED)
    for _ in range(2 * len(KILLED)):
        with printed.open("a") as output:
            controller = subprocess.Popen(COMMAND, cwd=folder, env=environment, stdout=output, stderr=output)
        while controller.poll() is None and left:
            time.sleep(0.02)
            if not (met := at_work(controller, set(left))):
                continue
            name, scripts = met
            time.sleep(draw.uniform(0, 0.4))
            if controller.poll() is not None or not scripts[0].is_running():
                continue
            kill_as(left.pop(name), controller, scripts)
        if not left:
            kill_as("controller", controller, [])
            return
        if controller.wait() == 0:
            # A script ended before it was met: once more from what is staged.
            shutil.rmtree(folder / "results")
    raise AssertionError(f"never met at work: {', '.join(left)}")


def kill_as(kind: str, controller: subprocess.Popen, scripts: list[psutil.Process]) -> None:
    """Kill a controller, the first of its scripts with its shell, or the controller and all of them."""
    if kind != "job":
        controller.kill()
    if kind != "controller":
        victims = scripts if kind == "both" else scripts[:1]
        kill([process for script in victims for process in (script, shell_of(script)) if process])
    if kind != "job":
        controller.wait()


def writers(log: Path) -> dict[str, dict[int, list[tuple[int, str]]]]:
    """Return ``{command: {process: [(time, event), …]}}`` of what the spy noted."""
    noted: dict[str, dict[int, list[tuple[int, str]]]] = {}
    for line in log.read_text().splitlines():
        moment, command, process, event, _ = json.loads(line)
        noted.setdefault(command, {}).setdefault(process, []).append((moment, event))
    return noted


def twins_apart(noted: dict[str, dict[int, list[tuple[int, str]]]]) -> int:
    """Assert that no two runs of one command wrote at the same time; return how many pairs were alive together."""
    met = 0
    for processes in noted.values():
        for one, other in combinations(processes.values(), 2):
            spans = [sorted(moment for moment, event in events if event != "start") for events in (one, other)]
            if all(spans):
                assert spans[0][-1] < spans[1][0] or spans[1][-1] < spans[0][0]
            starts = [min(events)[0] for events in (one, other)]
            met += any(
                span and begun < start < span[-1]
                for span, begun, start in zip(spans, starts, reversed(starts), strict=True)
            )
    return met


@pytest.mark.slow
def test_a_study_killed_once_in_each_script_ends_as_an_undisturbed_one(finished, tmp_path):
    folder = copy_project(tmp_path / "killed")
    same_precision(finished, folder)
    # Each script runs, several of its jobs at different moments; more jobs of one script would show nothing else.
    keep_one_model(folder, arms={"cm": {"benchmarks": ["heldout"]}}, reports=["speed"])
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    printed, log = tmp_path / "printed", tmp_path / "writes"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "spy"), "WRITES": str(log), "OMP_NUM_THREADS": "1"}
    try:
        kill_in_each_script(folder, environment, printed)
        with printed.open("a") as output:
            last = subprocess.run(COMMAND, cwd=folder, env=environment, stdout=output, stderr=output, check=False)
        assert last.returncode == 0, printed.read_text()[-4000:]
        deadline = time.monotonic() + 120
        while processes_in(folder) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert processes_in(folder) == []
    finally:
        kill(processes_in(folder))
    assert "another snakemake runs" not in printed.read_text()  # no orphan keeps its controller's lock
    assert twins_apart(writers(log)) > 0
    found, undisturbed = payload_hashes(folder), payload_hashes(finished)
    # The record of campaigns is of the whole study's.
    assert len(found) > 50
    assert {path for path, digest in found.items() if digest != undisturbed[path]} == {"results/campaigns.json"}
    left = {p.name for p in [*folder.glob("results/**/.*"), *folder.glob("resources/**/.*")]}
    assert left == {".snakemake_timestamp"}
    checked = run_script("verify.py", *STUDY, cwd=folder)
    assert checked.returncode == 0, checked.stdout
    # The reports hold this run's times; made again undisturbed, they are the same.
    before = reported_bytes(folder)
    for name in REPORTED:
        shutil.rmtree(folder / "results" / name)
    assert snakemake(folder, *COMMAND[1:]).returncode == 0
    assert reported_bytes(folder) == before


def test_the_spy_would_see_twins_that_write_together():
    command = hashlib.sha256(b"train.py").hexdigest()
    apart = {command: {1: [(0, "start"), (5, "open")], 2: [(6, "start"), (7, "open"), (9, "os.rename")]}}
    assert twins_apart(apart) == 0
    waited = {command: {1: [(0, "start"), (2, "open"), (5, "os.rename")], 2: [(3, "start"), (6, "open")]}}
    assert twins_apart(waited) == 1
    together = {command: {1: [(0, "start"), (2, "open"), (7, "os.rename")], 2: [(3, "start"), (6, "open")]}}
    with pytest.raises(AssertionError):
        twins_apart(together)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gone", "target", "tree_with_room"),
    [
        ("results/train/tiny-llama/std", "results/train/tiny-llama/std/seed1/run.json", ("results", 16_384)),
        ("results/evaluate/tiny-neox/base", "results/evaluate/tiny-neox/base/heldout.json", ("results", 4_096)),
        ("results/aggregate", "results/aggregate/ledger.csv", ("results", 8_192)),
        ("results/figures", "results/figures/fig1.pdf", ("results", 61_440)),
        ("resources/models/tiny-llama", "resources/models/tiny-llama.lock.json", ("resources", 102_400)),
        ("results/train/tiny-neox/std", "results/train/tiny-neox/std/seed1/run.json", ("logs", 0)),
    ],
)
def test_a_full_disk_is_one_sentence_and_room_cures_it(study, small_disk, gone, target, tree_with_room):
    tree, room = tree_with_room
    before = (study / target).read_bytes()
    shutil.rmtree(study / gone)
    (study / target).unlink(missing_ok=True)
    # A log that is there would give its room to the next one.
    for log in (study / "logs").rglob("*.log"):
        log.unlink()
    shutil.rmtree(study / "logs/tensorboard")
    filler = small_disk(study / tree, room)
    command = [target, *STUDY, "--max-threads", "1"]
    full = snakemake(study, *command)
    assert full.returncode != 0
    assert any("the disk is full" in sentence for sentence in sentences(full)), said(full)[-3000:]
    assert "Traceback" not in said(full)
    assert not [p for p in (study / tree).rglob(".*") if p.name not in (".filler", ".snakemake_timestamp")]
    # Nothing there vouches for bytes that are not whole.
    for path in (study / gone).rglob("*.json"):
        assert artifacts.is_envelope(path), path
        artifacts.read(path)
    filler.unlink()
    again = snakemake(study, *command)
    assert again.returncode == 0, said(again)[-3000:]
    if target.endswith(".json"):
        assert json.loads((study / target).read_bytes())["payload_sha256"] == json.loads(before)["payload_sha256"]
    else:
        assert (study / target).read_bytes() == before
    assert snakemake(study, "-n", *command).stdout.count("Nothing to be done") == 1


@pytest.mark.slow
def test_a_rerun_needs_no_more_than_an_ordinary_users_rights(study):
    edit(study / "tests/study/campaign.yaml", "ale: {layers: gradient", "ale: {layers: gradient, rank: 3")
    with (study / "tests/study/config.yaml").open("a") as handle:
        handle.write("figures: {font_size: 11}\n")
    outputs = ["results/select/tiny-llama/ale/seed1.json", "results/figures/fig2.pdf"]
    before = [(study / name).read_bytes() for name in outputs]
    # The steps between the two, which the edit of the arm reaches as well, would take minutes.
    select, figure = (
        as_ordinary_user(COMMAND[0], name, *COMMAND[1:], "--allowed-rules", rule)
        for name, rule in zip(outputs, ("select", "figures"), strict=True)
    )
    for command in (select, figure):
        done = subprocess.run(command, cwd=study, capture_output=True, text=True, check=False)
        assert done.returncode == 0, said(done)[-3000:]
    assert all((study / name).read_bytes() != old for name, old in zip(outputs, before, strict=True))
    files = [p for tree in ("results", "resources") for p in (study / tree).rglob("*")]
    assert [p for p in files if not p.stat().st_mode & 0o200] == []
    # The rights really were an ordinary user's: without the write bit Snakemake refuses.
    (study / outputs[0]).chmod(0o444)
    edit(study / "tests/study/campaign.yaml", "rank: 3", "rank: 2")
    refused = subprocess.run(select, cwd=study, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "Write-protected output" in said(refused)


# Runs a program whose flock the kernel refuses, as on a file system that is mounted without locks.
WITHOUT_LOCKS = """
import ctypes, errno, os, platform, struct, sys
number, load, equal, give = {"x86_64": 73, "aarch64": 32}[platform.machine()], 0x20, 0x15, 0x06
code = [(load, 0, 0, 0), (equal, 0, 1, number), (give, 0, 0, 0x50000 | errno.ENOLCK), (give, 0, 0, 0x7FFF0000)]
lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
program = struct.pack("@HP", len(code), ctypes.addressof(lines))
kernel = ctypes.CDLL(None, use_errno=True)
assert kernel.prctl(38, 1, 0, 0, 0) == 0
assert kernel.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
def test_a_file_system_without_locks_is_one_sentence(tmp_path):
    folder = copy_project(tmp_path / "project")
    sentence = (
        "expected a file system with locks, found one that gives none (No locks available); use a folder on one that "
        "is mounted with flock"
    )

    def without_locks(*command):
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_LOCKS, *map(str, command)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    arguments = ["--probe", "probe.json", "--seed", "1", "--out", "mine/seed1.json"]
    done = without_locks(sys.executable, "-s", SCRIPTS / "select_layers.py", *arguments)
    assert (done.returncode, done.stderr) == (2, f"error: mine: {sentence}\n")
    done = without_locks(COMMAND[0], "resources/data/rows.lock.json", *STUDY)
    assert done.returncode != 0
    assert f"{folder}: {sentence}" in said(done)
    assert "Traceback" not in said(done)


@pytest.mark.parametrize("refusal", ["rights", "read-only"])
def test_a_place_that_refuses_to_be_written_is_one_sentence(tmp_path, small_disk, refusal):
    folder = tmp_path / "select"
    folder.mkdir()
    if refusal == "read-only":
        small_disk(folder, 4_096)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        sentence = "expected to write here and found a read-only file system; mount it writable or choose another place"
    else:
        folder.chmod(0o555)
        sentence = NO_RIGHT
    script = [sys.executable, "-s", str(SCRIPTS / "select_layers.py")]
    arguments = ["--probe", str(tmp_path / "probe.json"), "--seed", "1", "--out", str(folder / "seed1.json")]
    done = subprocess.run(as_ordinary_user(*script, *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    place = folder / ".seed1.json.lock"
    assert done.stderr == f"error: {place}: {sentence} and run the same command again\n"
