"""The fit report: which studies have it, and what `snakemake fit` makes of a small one."""

import json

import pytest

from aletheia.controller import inputs
from aletheia.errors import UserError
from aletheia.study import outputs, sections
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.schema import merge, read_yaml
from conftest import ROOT, STUDY, copy_project, edit, run_script, said, snakemake

ONE = "tests/cluster/one.yaml"


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Load a study by its configuration, with further campaigns: copies of the small one, as changed."""
    monkeypatch.chdir(ROOT)

    def loaded(path, *campaigns):
        config = read_yaml(ROOT / path)
        for number, changes in enumerate(campaigns):
            campaign = {**read_yaml(ROOT / "tests/cluster/one_campaign.yaml"), **changes}
            (tmp_path / f"{number}.yaml").write_text(json.dumps(campaign))
        files = [str(tmp_path / f"{number}.yaml") for number in range(len(campaigns))]
        return load_study(merge(config, {"campaigns": files}) if files else config)

    return loaded


def test_a_study_of_one_campaign_and_model_has_the_report(load):
    study = load(ONE)
    assert sections.fit(study) == {"campaign": "one", "model": "tiny-neox", "split": "heldout"}
    assert set(outputs.fit_files(study).values()) == {"fit_report"}
    assert inputs.fit_runs(study, Paths()) == [
        f"results/train/tiny-neox/{arm}/seed1/run.json" for arm in study.campaigns[0]["arms"]
    ]


def test_of_several_campaigns_the_one_that_is_called_fit_is_told(load):
    trials = {"name": "rates", "reports": [], "arms": {"std_rate1": {"layers": "all", "learning_rate": 1e-3}}}
    study = load(ONE, trials, {"name": "fit"})
    assert sections.fit(study)["campaign"] == "fit"
    assert not any("std_rate1" in path for path in inputs.fit_runs(study, Paths()))
    assert sections.fit(load(ONE, trials, {"name": "other"})) == {}


@pytest.mark.parametrize(
    "study", [(STUDY[1],), (ONE, {"benchmarks": ["openbookqa"]})], ids=["two models", "no held-out loss"]
)
def test_one_without_has_none_and_its_target_is_one_sentence(load, study):
    study = load(*study)
    assert outputs.fit_files(study) == {}
    with pytest.raises(UserError, match=r"^fit: expected a campaign with one model .*, found none in this study"):
        inputs.fit_runs(study, Paths())


@pytest.mark.slow
def test_the_report_of_a_small_study_is_made_once_and_verified(tmp_path):
    folder = copy_project(tmp_path / "project")
    edit(folder / "tests/cluster/one_campaign.yaml", "steps: 600", "steps: 4")
    done = snakemake(folder, "fit", "--configfile", ONE, "--max-threads", "1")
    assert done.returncode == 0, said(done)[-4000:]
    verified = run_script("verify.py", "--configfile", ONE, cwd=folder)
    assert verified.returncode == 0, said(verified)
    summary = json.loads((folder / "results/fit/summary.json").read_text())["payload"]
    assert (folder / summary["recommended"]["adapter"] / "adapter_model.safetensors").is_file()
    report = (folder / "results/fit/REPORT.md").read_text()
    assert report.startswith("# Was it worth it? tiny-neox\n\n")
    assert "Each arm ran once" in report
    again = snakemake(folder, "fit", "-n", "--configfile", ONE)
    assert "Nothing to be done" in said(again)
