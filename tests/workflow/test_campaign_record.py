"""A results tree knows its campaigns: another study never takes their place unasked, a changed one is the same."""

import shutil
import subprocess
import sys

import pytest
import yaml

from aletheia.audit.inventory import read_configuration
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.study import results_tree
from aletheia.study.load import load_study
from aletheia.study.results_tree import other_campaigns, record_campaigns
from conftest import ROOT, STUDY, edit, said, snakemake

CAMPAIGN = ROOT / "tests/study/campaign.yaml"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes campaigns (file name: changes to the tiny study's) and returns their study."""
    monkeypatch.chdir(ROOT)
    config = read_configuration([ROOT / "tests/study/config.yaml"])
    tiny = yaml.safe_load(CAMPAIGN.read_text(encoding="utf-8"))

    def write(**campaigns):
        for name, changes in campaigns.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**tiny, **changes}), encoding="utf-8")
        return load_study({**config, "campaigns": [str(tmp_path / f"{name}.yaml") for name in campaigns]})

    return write


def test_a_changed_setting_model_seed_or_name_in_the_same_file_is_the_same_study(written, tmp_path):
    record_campaigns(tmp_path / "results", written(a={"name": "tiny"}))
    for changes in (
        {"seeds": [7]},
        {"models": ["tiny-llama"], "overrides": {}},
        {"headline": False},
        {"name": "renamed"},
    ):
        assert other_campaigns(tmp_path / "results", written(a={"name": "tiny", **changes})) is None


def test_a_copied_file_with_another_setting_is_the_same_study(written, tmp_path):
    record_campaigns(tmp_path / "results", written(a={"name": "tiny"}))
    assert other_campaigns(tmp_path / "results", written(b={"name": "tiny", "headline": False})) is None


def test_another_campaign_is_refused_with_the_way_out(written, tmp_path):
    results = tmp_path / "results"
    assert other_campaigns(results, written(a={"name": "tiny"})) is None
    record_campaigns(results, written(a={"name": "tiny"}))
    sentence = other_campaigns(results, written(b={"name": "other"}))
    assert sentence.startswith(f"{results}: expected the results of campaign other, or none, found those of tiny (")
    assert f"pathvars: {{results: {results}-other}}" in sentence
    (results / "campaigns.json").unlink()  # what the sentence offers
    assert other_campaigns(results, written(b={"name": "other"})) is None


def test_a_copied_file_that_kept_its_name_over_other_runs_is_another_study(written, tmp_path):
    """As where somebody copies the default campaign, puts an own model in, and forgets the name."""
    record_campaigns(tmp_path / "results", written(a={"name": "tiny"}))
    sentence = other_campaigns(tmp_path / "results", written(b={"name": "tiny", "seeds": [99]}))
    assert "campaign tiny needs another name, for that one is taken" in sentence


def test_a_study_may_grow_by_a_campaign_and_not_lose_one(written, tmp_path):
    results = tmp_path / "results"
    record_campaigns(results, written(a={"name": "tiny"}))
    both = written(a={"name": "tiny"}, b={"name": "second"})
    assert other_campaigns(results, both) is None
    record_campaigns(results, both)
    assert "found those of second" in other_campaigns(results, written(a={"name": "tiny"}))


@pytest.mark.parametrize("content", ["", "[]", '{"campaigns": 3}', "\x00"])
def test_a_damaged_record_is_one_sentence(written, tmp_path, content):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/campaigns.json").write_text(content)
    with pytest.raises(UserError, match="expected an artifact"):
        other_campaigns(tmp_path / "results", written(a={"name": "tiny"}))


def test_a_record_changed_by_hand_is_refused(written, tmp_path):
    record_campaigns(tmp_path / "results", written(a={"name": "tiny"}))
    edit(tmp_path / "results/campaigns.json", '"tiny"', '"other"')
    with pytest.raises(UserError, match="changed after it was written"):
        other_campaigns(tmp_path / "results", written(b={"name": "other"}))


def test_a_tree_without_a_record_goes_by_its_ledger(finished, tmp_path, written):
    results = tmp_path / "results"
    shutil.copytree(finished / "results/aggregate", results / "aggregate")
    assert {*results_tree.stored_campaigns(results)} == {"tiny"}
    assert "found those of tiny" in other_campaigns(results, written(b={"name": "other"}))
    assert other_campaigns(results, written(b={"name": "tiny"})) is None


@pytest.mark.slow
def test_run_dry_run_and_audit_say_the_same_of_another_study(study):
    held = artifacts.read(study / "results/campaigns.json", "campaigns")
    assert set(held["payload"]["campaigns"]) == {"tiny"}
    sentence = "expected the results of campaign default, or none, found those of tiny (tests/study/campaign.yaml)"
    planned = snakemake(study, "-n")
    assert planned.returncode == 0, said(planned)[-2000:]
    assert f"note: this is planned, but a run would stop at its start: results: {sentence}" in planned.stderr
    assert "train_std" in said(planned)
    refused = snakemake(study)
    assert refused.returncode == 1
    assert sentence in said(refused)
    assert "Select jobs" not in said(refused)
    assert artifacts.read(study / "results/campaigns.json") == held
    assert "a run would stop" not in said(snakemake(study, "stage", "-n"))  # writes no result
    audit = [sys.executable, "workflow/scripts/audit.py"]
    audited = subprocess.run(audit, cwd=study, capture_output=True, text=True, check=False)
    assert audited.returncode == 0, said(audited)[-2000:]
    assert sentence in audited.stdout
    assert "train_std" in audited.stdout
    edit(study / "tests/study/campaign.yaml", "name: tiny", "name: tiny\nheadline: false")
    changed = snakemake(study, "-n", *STUDY)
    assert changed.returncode == 0
    assert "a run would stop" not in said(changed)
