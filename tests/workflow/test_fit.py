"""`aletheia fit`, whole, as somebody runs it who has installed the package: from an empty folder to a report."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

import pytest

from conftest import ROOT, copy_project, said
from own_data import bring_own_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Return the console script of an environment that has a built wheel, and of other packages those of this one."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    source = copy_project(folder / "source")
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, source], check=True)
    shutil.rmtree(source)
    venv.create(folder / "environment")
    python = folder / "environment" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    # A folder that is named so brings no path files of its own: this project's checkout is not found by it.
    Path(packages, "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", *offline, wheel], check=True)
    return python.with_name("aletheia")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a model, rows and passages, and nothing of the project's."""
    return bring_own_data(tmp_path_factory.mktemp("a place é"))


def aletheia(program, place, *words):
    """Run a command as from a shell that has activated nothing."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    return subprocess.run([program, *words], cwd=place, env=environment, check=False, **options)


WHERE = """
import aletheia
from aletheia.provenance.lineage import ROOT, SCRIPTS
print(aletheia.__file__, ROOT, SCRIPTS)
"""
FIT = ("fit", "model", "rows.jsonl", "--out", "mine", "--retention", "passages.jsonl", "--cores", "1")


@pytest.fixture(scope="module")
def fitted(program, place):
    """Return what a whole run said."""
    done = aletheia(program, place, *FIT)
    assert done.returncode == 0, said(done)[-4000:]
    return done


def test_the_installed_package_brings_the_workflow_and_no_second_library(program):
    python = program.with_name("python")
    done = subprocess.run([python, "-c", WHERE], cwd="/", capture_output=True, text=True, check=True)
    package, root, scripts = map(Path, done.stdout.split())
    assert package.is_relative_to(program.parents[1])
    assert root == package.parent / "project"
    assert (root / "Snakefile").is_file()
    assert os.access(root / "workflow" / "fork_server" / "python", os.X_OK)
    programs = {path.name for path in (ROOT / "workflow/scripts").glob("*.py")}
    assert {path.name for path in scripts.iterdir()} - {"__pycache__"} == programs
    assert list(root.rglob("errors.py")) == []


def test_a_dry_run_shows_the_jobs_and_runs_none(program, place):
    done = aletheia(program, place, *FIT[:4], "planned", *FIT[5:], "--dry-run")
    assert done.returncode == 0, said(done)[-3000:]
    jobs = dict(line.split() for line in done.stdout.splitlines() if re.fullmatch(r"(train_\w+|fit) +\d+", line))
    assert jobs == {"train_std": "1", "train_ale": "1", "fit": "1"}
    assert {path.name for path in (place / "planned").iterdir()} >= {"config.yaml", "campaign.yaml"}
    assert not (place / "planned" / "results").exists()


def test_one_command_ends_with_the_report_its_figure_and_the_adapter_that_it_recommends(fitted, place):
    mine = place / "mine"
    summary = json.loads((mine / "results/fit/summary.json").read_text("utf-8"))["payload"]
    arm = summary["recommended"]["arm"]
    trained = mine / f"results/train/model/{arm}/seed42/adapter"
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md"):
        assert (mine / "adapter" / name).read_bytes() == (trained / name).read_bytes()
    report = (mine / "REPORT.md").read_text("utf-8")
    # The report at the top names the adapter beside it.
    assert report == (mine / "results/fit/REPORT.md").read_text("utf-8").replace(
        str(trained.relative_to(mine)), "adapter"
    )
    assert 'PeftModel.from_pretrained(base, "adapter")' in report
    assert (mine / "report.svg").is_file()
    # What was said: what it will do, what is predicted, where it is, and the answer.
    assert "rows    40 of " in fitted.stdout
    assert "Predicted by the cost model" in fitted.stdout
    assert re.search(r"^train model std seed 42.* · \d+ of \d+ jobs", fitted.stderr, flags=re.MULTILINE)
    assert report.split("\n\n")[1] in fitted.stdout
    assert f"(arm {arm})" in fitted.stdout.splitlines()[-1]


def test_the_study_below_is_one_that_verify_and_audit_know(program, place, fitted):
    verified = aletheia(program, place, "verify", "mine")
    assert (verified.returncode, "0 findings" in verified.stdout) == (0, True), said(verified)
    audited = aletheia(program, place, "audit", "mine")
    assert (audited.returncode, audited.stdout[:13]) == (0, "nothing to do"), said(audited)


def test_conda_is_refused_where_no_library_stands_beside_the_scripts(program, place, fitted):
    python = program.with_name("python")
    ask = "from aletheia.provenance.lineage import ROOT; print(ROOT / 'Snakefile')"
    snakefile = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    words = ["-m", "snakemake", "-n", "--sdm", "conda", "--snakefile", snakefile, "--configfile", "config.yaml"]
    done = subprocess.run([python, *words], cwd=place / "mine", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--sdm conda: expected a checkout of the project" in said(done)


def test_the_same_command_goes_on_and_another_one_is_refused(program, place, fitted):
    made = {path: path.stat().st_mtime_ns for path in (place / "mine" / "results").rglob("*.json")}
    shutil.rmtree(place / "mine" / "adapter")
    again = aletheia(program, place, "fit", "--out", "mine", "--cores", "1")
    assert again.returncode == 0, said(again)[-3000:]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert (place / "mine" / "adapter" / "adapter_config.json").is_file()
    other = aletheia(program, place, *FIT, "--epochs", "3")
    assert other.returncode == 2
    assert "campaign.yaml: expected the file that these arguments write, found another" in other.stderr


def test_rates_are_tried_and_the_report_says_each_arms_own(program, place):
    done = aletheia(program, place, *FIT[:4], "tuned", "--retention", "none", "--cores", "1", "--search", "quick")
    assert done.returncode == 0, said(done)[-4000:]
    rates = (place / "tuned" / "REPORT.md").read_text("utf-8").partition("## Learning rates")[2]
    assert re.search(r"^- `std`: 0.\d+, the best of 0.0003 \(\S+\), 0.001 \(\S+\), 0.003 \(\S+\)", rates, re.MULTILINE)
    assert "- Noise floor: two runs of std" in rates


def test_an_interrupt_ends_all_jobs_and_select_goes_on_to_the_layers(program, place):
    words = [program, "probe", *FIT[1:3], "--out", "other", *FIT[5:]]
    process = subprocess.Popen(words, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = place / "other" / "logs" / "snakemake.log"
    while process.poll() is None and not (log.is_file() and "stage_model" in log.read_text("utf-8")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.splitlines()[-1].endswith("run the same command again, and it goes on from what is there")
    # The server of forks ends with Snakemake, a moment later.
    assert eventually(lambda: not running(place / "other"))
    done = aletheia(program, place, "select", "--out", "other", "--cores", "1")
    assert done.returncode == 0, said(done)[-3000:]
    selection = json.loads((place / "other/results/select/model/ale/seed42.json").read_text("utf-8"))["payload"]
    assert f"ale: layers {', '.join(map(str, selection['layers']))} of 4" in done.stdout
    assert not (place / "other" / "results" / "train").exists()


def eventually(holds, seconds=60):
    """Tell whether something holds within a time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.2)
    return holds()


def running(folder):
    """Return the processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [process.name] if (process / "cwd").readlink() == folder.resolve() else []
        except OSError:
            continue
    return found
