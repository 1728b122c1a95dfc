"""Wrong calls, and folders that are not what they should be: one sentence each, nothing half-written."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from aletheia.provenance import artifacts
from conftest import STUDY, run_script, said, snakemake

LLAMA, NEOX = "resources/models/tiny-llama.lock.json", "resources/models/tiny-neox.lock.json"
ROWS, PROBE = "resources/data/rows.lock.json", "results/probe/tiny-llama/seed1.json"
LEDGER, STATS = "results/aggregate/ledger.csv", "results/stats/summary.json"
STAGED = f"--model-lock {LLAMA} --data-lock {ROWS}"
# Calls of scripts by hand in the finished study, and what their last line says. OUT is a folder that is not there.
CALLS = [
    (
        f"train.py {STAGED} --seed -1 --out OUT/run.json --adapter OUT/a",
        "--seed: expected a whole number of at least 0",
    ),
    (f"train.py {STAGED} --seed 1.5 --out OUT/run.json --adapter OUT/a", "at most 4294967295, found '1.5'"),
    (f"train.py {STAGED} --seed 99999999999 --out OUT/run.json --adapter OUT/a", "at most 4294967295"),
    (f"train.py {STAGED} --seed 1 --threads 0 --out OUT/run.json --adapter OUT/a", "number of at least 1, found 0"),
    (
        f"train.py {STAGED} --seed 1 --checkpoint-seconds -5 --out OUT/run.json --adapter OUT/a",
        "expected a whole number of at least -1, found -5",
    ),
    (f"train.py {STAGED} --seed 1 --out OUT/run.json --adapter OUT/run.json", "a path of its own for each output"),
    (
        f"train.py {STAGED} --seed 1 --out /proc/x/run.json --adapter /proc/x/a",
        "/proc/x: expected a place for",
    ),
    (f"select_layers.py --probe {PROBE} --seed 1 --out README.md/x.json", "README.md: expected a place for a folder"),
    (
        f"select_layers.py --probe {LLAMA} --seed 1 --out OUT/x.json",
        "of kind probe, found model_lock",
    ),
    ("select_layers.py --probe README.md --seed 1 --out OUT/x.json", "README.md: expected an artifact"),
    ("select_layers.py --probe results/probe --seed 1 --out OUT/x.json", "results/probe: expected an input file here"),
    (
        f"stats.py --ledger {LEDGER} --published nowhere --stats-dir OUT --tables-dir OUT",
        "nowhere/table1.csv:",
    ),
    (
        f"stats.py --ledger {STATS} --published config/published --stats-dir OUT --tables-dir OUT",
        "expected a ledger in CSV, found something else",
    ),
    (
        f"stats.py --ledger {LEDGER} --answers {LEDGER} --stats-dir OUT --tables-dir OUT",
        "expected a whole Parquet file, found something else",
    ),
    (
        f"stats.py --ledger {LEDGER} --analysis tests/study/config.yaml --stats-dir OUT --tables-dir OUT",
        "expected a plan of the analysis, found a study's configuration",
    ),
    ("lineage.py results", "results: expected an artifact or a file with a sidecar, found neither"),
    ("lineage.py nowhere.json", "nowhere.json"),
    ("verify.py /nowhere", "/nowhere: expected an artifact or a file with a sidecar, found neither"),
    ("summarize.py nowhere", "nowhere/stats/summary.json: expected a finished study and found none"),
]
HEAVY = [
    (
        f"probe.py --model-lock {ROWS} --data-lock {ROWS} --seed 1 --out OUT/p.json",
        "kind model_lock, found data_lock",
    ),
    (
        f"probe.py --model-lock {LLAMA} --data-lock {LLAMA} --seed 1 --out OUT/p.json",
        "kind data_lock, found model_lock",
    ),
    (
        f"train.py {STAGED} --seed 1 --selection {PROBE} --out OUT/run.json --adapter OUT/a",
        "expected an artifact of kind selection, found probe",
    ),
    (
        f"train.py {STAGED} --seed 1 --selection results/select/tiny-neox/ale/seed1.json --out OUT/run.json "
        "--adapter OUT/a --set encoding.max_tokens=320",
        "expected a selection of this model's modules, found gpt_neox.layers.",
    ),
    (
        f"evaluate_run.py --model-lock {NEOX} --data-lock {ROWS} --run results/train/tiny-llama/ale/seed1/run.json "
        "--outputs OUT/heldout.json",
        "expected the model that the run adapted, tiny-llama, found tiny-neox",
    ),
    (
        f"figures.py --ledger results/aggregate/layers.csv --stats {STATS} --figure fig1 --out-dir OUT",
        "expected a ledger with column campaign, found none",
    ),
    (f"figures.py --ledger {LEDGER} --stats {PROBE} --figure fig1 --out-dir OUT", "of kind stats, found probe"),
]


def check(finished, tmp_path, call, says):
    name, *arguments = shlex.split(call.replace("OUT", str(tmp_path / "out")))
    done = run_script(name, *arguments, cwd=finished)
    assert done.returncode == 2, said(done)
    assert says in done.stderr.strip().splitlines()[-1], said(done)
    assert "Traceback" not in said(done)
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not left


@pytest.mark.parametrize(("call", "says"), CALLS)
def test_a_wrong_call_is_one_sentence(finished, tmp_path, call, says):
    check(finished, tmp_path, call, says)


@pytest.mark.slow
@pytest.mark.parametrize(("call", "says"), HEAVY)
def test_files_of_another_kind_or_model_are_one_sentence(finished, tmp_path, call, says):
    check(finished, tmp_path, call, says)


def a_file(path):
    shutil.rmtree(path, ignore_errors=True)
    path.write_text("")


def a_link_to_nothing(path):
    shutil.rmtree(path, ignore_errors=True)
    path.symlink_to("/nowhere/at/all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "become", "says"),
    [
        ("results", a_file, "results: expected a folder, found a file"),
        (
            "results",
            a_link_to_nothing,
            "results: expected a folder, found a link to /nowhere/at/all",
        ),
        ("resources", a_file, "resources: expected a folder, found a file"),
        ("logs", a_file, "logs: expected a folder, found a file"),
        (".snakemake", a_file, ".snakemake: expected a folder, found a file"),
    ],
)
def test_a_place_that_is_no_folder_is_one_sentence(study, place, become, says):
    become(study / place)
    done = snakemake(study, "-n", *STUDY)
    assert done.returncode == 1
    assert f"error: {says}" in said(done)
    assert "Traceback" not in said(done)


@pytest.mark.slow
def test_neither_home_nor_locale_nor_temporary_folder_is_needed(study):
    selection = study / "results/select/tiny-llama/ale/seed1.json"
    before = artifacts.payload(selection)
    selection.unlink()
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": "/nowhere", "HOME": "/nowhere"}
    command = [os.path.join(os.path.dirname(sys.executable), "snakemake"), str(selection.relative_to(study)), *STUDY]
    done = subprocess.run(command, cwd=study, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, said(done)[-3000:]
    assert artifacts.payload(selection) == before
