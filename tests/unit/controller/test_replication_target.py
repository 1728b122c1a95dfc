"""The replication report: which studies have it, and what the plan of the paper's study makes of it."""

import re

import pytest

from aletheia.controller import inputs
from aletheia.errors import UserError
from aletheia.study import outputs, published
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.schema import read_yaml
from conftest import ROOT, STUDY, copy_project, said, snakemake


@pytest.fixture
def load(monkeypatch):
    """Load a study by its configuration, from the project's folder."""
    monkeypatch.chdir(ROOT)
    return lambda path: load_study(read_yaml(ROOT / path))


def test_a_study_with_the_papers_models_has_the_report_among_its_files(load):
    study = load("config/paper.yaml")
    assert len(published.published_models(study)) == 14
    files = [path for path, rule in outputs.study_files(study).items() if rule == "replication_summary"]
    assert set(inputs.replication(study, Paths())) <= set(files)
    assert "results/replication/claims.csv.lineage.json" in files


def test_one_without_has_none_and_its_target_is_one_sentence(load):
    study = load(STUDY[1])
    assert "replication_summary" not in outputs.study_files(study).values()
    with pytest.raises(UserError, match=r"^replication: expected a model of the paper's tables .*, found none in this"):
        inputs.replication(study, Paths())


@pytest.mark.slow
def test_the_plan_of_the_papers_study_makes_the_report_once_and_as_its_list_of_files_says(load, tmp_path):
    project = copy_project(tmp_path / "project")
    done = snakemake(project, "all", "replication", "-n", "--configfile", "config/paper.yaml")
    assert done.returncode == 0, said(done)[-2000:]
    blocks = [block for block in said(done).split("\nrule ") if block.startswith("replication_summary:")]
    assert len(blocks) == 1
    declared = re.search(r"^    output: (.*)$", blocks[0], flags=re.MULTILINE)[1]
    files = outputs.study_files(load("config/paper.yaml"))
    assert set(declared.split(", ")) == {path for path, rule in files.items() if rule == "replication_summary"}
