"""The library's list of a study's files is what the rules declare."""

import re
from pathlib import Path

import pytest

from aletheia.study import outputs as layout
from aletheia.study.load import load_study
from aletheia.study.schema import read_yaml
from conftest import ROOT, STUDY, copy_project, edit, said, snakemake


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["config/config.yaml", STUDY[1]])
def test_the_layout_is_the_rules_outputs(configuration, tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    hold_together(folder, configuration, monkeypatch, on_demand=layout.ON_DEMAND)


@pytest.mark.slow
def test_the_layout_is_the_rules_outputs_where_vllm_generates(tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    edit(folder / "tests/study/campaign.yaml", "\nevaluation:\n", "\nevaluation:\n  generation: vllm\n")
    declared = hold_together(folder, STUDY[1], monkeypatch)
    assert declared["results/evaluate/tiny-llama/base/humaneval.generations.parquet"] == "generate_humaneval"
    assert declared["results/evaluate/tiny-llama/base/mmlu.json"] == "evaluate_heldout_mmlu_openbookqa_retention"


def test_the_layout_is_the_rules_outputs_where_speed_is_taken_in_turns(tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    edit(folder / "tests/study/campaign.yaml", "\nmodels:", "\nspeed: turns\nmodels:")
    declared = hold_together(folder, STUDY[1], monkeypatch)
    assert sum(rule == "interleave" for rule in declared.values()) == 5
    study = load_study(read_yaml(Path(STUDY[1])))
    assert set(layout.paired_files(study).values()) == {"paired_summary"}


@pytest.mark.slow
def test_the_layout_is_the_rules_outputs_where_arms_are_a_sweep_of_the_budget(tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    low, high = (f"{{layers: gradient, budget_percent: {percent}}}" for percent in (25, 75))
    edit(folder / "tests/study/campaign.yaml", "\narms:\n", f"\narms:\n  low: {low}\n  high: {high}\n")
    declared = hold_together(folder, STUDY[1], monkeypatch)
    assert declared["results/stats/CLOSEOUT.md"] == "stats"


def hold_together(folder, configuration, monkeypatch, on_demand=()):
    """Hold the library's list of files, also of targets on demand, against what a dry run declares, and return that."""
    monkeypatch.chdir(folder)
    study = load_study(read_yaml(Path(configuration)))
    # A study without random draws of layers has no controls.
    demanded = [target for target in on_demand if layout.ON_DEMAND[target](study)]
    done = snakemake(folder, "all", *demanded, "-n", "--configfile", configuration)
    assert done.returncode == 0, said(done)[-2000:]
    declared = {}
    for block in re.split(r"^(?:local)?rule ", said(done), flags=re.MULTILINE)[1:]:
        outputs = re.search(r"^    output: (.*)$", block, flags=re.MULTILINE)
        if outputs:
            declared |= dict.fromkeys(outputs.group(1).split(", "), block.split(":")[0])
    own = layout.study_files(study)
    # What the study holds by itself (its steps in turns) is no part of what is made on demand.
    left = {path: rule for path, rule in declared.items() if path not in own}
    for target in demanded:
        place = {"bundle": "evidence"}.get(target, target)
        made = {path: left.pop(path) for path in list(left) if path.startswith(f"results/{place}/")}
        assert layout.ON_DEMAND[target](study) == made
    assert left == {}
    assert own.items() <= declared.items()
    assert set(layout.study_targets(study)) <= set(declared)
    return declared


def test_no_two_test_files_have_one_name():
    """They are imported by name, and the second would not be collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py") if "__pycache__" not in path.parts]
    assert sorted(names) == sorted(set(names))


@pytest.mark.slow
def test_benchmarks_read_no_tests_and_tests_no_benchmarks():
    """They may read what the others measured (JSON files), never their programs."""
    for folder, other in (("benchmarks", "tests/support"), ("tests", "benchmarks")):
        last = other.rpartition("/")[2]
        for path in sorted((ROOT / folder).rglob("*.py")):
            names = [program.stem for program in (ROOT / other).glob("*.py")]
            code = path.read_text(encoding="utf-8")
            used = [rf"^ *(?:from|import) {name}\b|\b{last}[\"']? ?/ ?[\"']?{name}\.py" for name in names]
            assert [use for use in used if re.search(use, code, re.MULTILINE)] == [], path
