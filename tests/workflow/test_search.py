"""`snakemake search`: its plan before the start, a whole tiny search killed and resumed, and nothing to do after it."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from aletheia.study.load import load_study
from aletheia.study.outputs import search_files
from aletheia.study.schema import read_yaml
from conftest import copy_project, edit, run_script, said, snakemake

TINY = ("--configfile", "tests/study/search.yaml")
SEARCHED = "results/search/tiny-neox"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("search") / "project")


@pytest.mark.slow
@pytest.mark.parametrize(("configuration", "scanned"), [("config/search.yaml", 32), ("config/autoresearch.yaml", 30)])
def test_the_plan_before_the_start_shows_what_is_known_and_that_more_follows(project, configuration, scanned):
    done = snakemake(project, "search", "-n", "--configfile", configuration)
    text = said(done)
    assert done.returncode == 0, text[-3000:]
    for rung in ("floor", "cost", "scan", "full", "push", "factorial", "decision"):
        assert text.count(f"checkpoint search_{rung}:") == 1
    assert sum(f"/train/{model}/s_" in text for model in ("smollm2-135m", "qwen2.5-3b")) == 1
    assert text.count("DAG of jobs will be updated after completion") == 7
    assert "<TBD>" in text
    # The table of jobs stands there twice.
    trained = {line for line in text.splitlines() if line.startswith(("train_std ", "train_cm ", "train_ale "))}
    assert sum(int(line.split()[1]) for line in trained) == scanned + 3


def test_a_study_without_a_search_says_what_it_lacks(project):
    done = snakemake(project, "search", "-n")
    assert done.returncode != 0
    assert "search: expected a campaign with a section search, found none in this study" in said(done)


def kill_once_decided(folder: Path, rung: str) -> None:
    """Start the search, and kill its controller and all that runs below it once a rung is decided."""
    command = [str(Path(sys.executable).parent / "snakemake"), "search", *TINY, "-c", "1"]
    with (folder / "killed.txt").open("w") as output:
        controller = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 1200
    while not (folder / SEARCHED / f"{rung}.json").is_file():
        assert controller.poll() is None, (folder / "killed.txt").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()


def decided(folder: Path, rung: str) -> dict:
    return json.loads((folder / SEARCHED / f"{rung}.json").read_text())["payload"]


@pytest.mark.slow
def test_a_search_killed_at_a_rung_ends_as_it_would_have_and_leaves_nothing_to_do(tmp_path):
    folder = copy_project(tmp_path / "project")
    kill_once_decided(folder, "scan")
    assert not (folder / SEARCHED / "decision.json").exists()
    before = decided(folder, "scan")
    done = snakemake(folder, "search", *TINY, "-c", "1")
    assert done.returncode == 0, said(done)[-4000:]
    assert decided(folder, "scan") == before
    nothing_left_to_do(folder)
    replayed_decisions_are_the_same(folder)
    what_is_made_is_what_the_library_lists(folder)
    the_bundle_of_the_study_holds_the_search(folder)
    the_recipe_is_an_arm_of_another_campaign(folder)


def the_bundle_of_the_study_holds_the_search(folder):
    done = snakemake(folder, "all", "search", "bundle", *TINY, "-c", "1")
    assert done.returncode == 0, said(done)[-4000:]
    with zipfile.ZipFile(folder / "results/evidence/evidence.zip") as archive:
        names = set(archive.namelist())
    assert {f"{SEARCHED}/{name}" for name in ("decision.json", "recipe.yaml")} <= names
    assert any(name.startswith("results/paired/tiny-neox/ta_") for name in names)
    confirmed = {f"results/train/tiny-neox/{each['arm']}/seed11/run.json" for each in decided(folder, "push")["asked"]}
    assert confirmed <= names
    audited = run_script("audit.py", *TINY, cwd=folder)
    assert "nothing to do" in said(audited), said(audited)[-3000:]


def nothing_left_to_do(folder):
    again = snakemake(folder, "search", "-n", *TINY)
    assert "Nothing to be done" in said(again), said(again)[-3000:]
    whole = snakemake(folder, "search", "-n", "--forceall", *TINY)
    promoted = [each["arm"] for rung in ("scan", "full", "push") for each in decided(folder, rung)["asked"]]
    assert all(f"/{arm}/" in said(whole) for arm in promoted)


def replayed_decisions_are_the_same(folder):
    """Made again from the same runs, every rung decides alike, and asks for the same runs."""
    hashes = {path.name: payload_hash(path) for path in (folder / SEARCHED).glob("*.json")}
    trained = {path.as_posix() for path in (folder / "results/train").glob("*/*/*/run.json")}
    for path in (folder / SEARCHED).iterdir():
        path.unlink()
    done = snakemake(folder, "search", *TINY, "-c", "1")
    assert done.returncode == 0, said(done)[-4000:]
    assert {path.name: payload_hash(path) for path in (folder / SEARCHED).glob("*.json")} == hashes
    assert {path.as_posix() for path in (folder / "results/train").glob("*/*/*/run.json")} == trained
    assert "rule train_" not in said(done)


def payload_hash(path):
    return json.loads(path.read_text())["payload_sha256"] if path.suffix == ".json" else None


def what_is_made_is_what_the_library_lists(folder):
    here = Path.cwd()
    os.chdir(folder)
    try:
        study = load_study(read_yaml(Path(TINY[1])))
        listed = search_files(study)
        lacking = [path for path in listed if not Path(path).exists()]
        made = {path.as_posix() for path in Path("results").rglob("*.json") if "/adapter/" not in path.as_posix()}
    finally:
        os.chdir(here)
    assert lacking == []
    of_study = {"results/campaigns.json", "results/tokens/tiny-neox.safetensors.lineage.json"}
    unlisted = {path for path in made - set(listed) - of_study if "/batches/tiny-neox/seed7" not in path}
    assert unlisted == set()
    verified = run_script("verify.py", *TINY, cwd=folder)
    assert "search/" not in said(verified), said(verified)


def the_recipe_is_an_arm_of_another_campaign(folder):
    recipe = folder / SEARCHED / "recipe.yaml"
    keys = yaml.safe_load(recipe.read_text())
    campaign = folder / "tests/cluster/one_campaign.yaml"
    edit(campaign, "\narms:\n", f"\narms:\n  found: {{recipe: {SEARCHED}/recipe.yaml}}\n")
    done = snakemake(folder, "-n", "--configfile", "tests/cluster/one.yaml", "--config", "pathvars={results: other}")
    assert done.returncode == 0, said(done)[-2000:]
    assert "/found/" in said(done)
    assert "layers" in keys
