"""Arms that choose by a few steps of training: their probe is planned beside the other, read, and paid for."""

import pytest

from aletheia.cluster.cost import estimate_costs, updates_seconds
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes
from aletheia.controller import inputs
from aletheia.study import outputs, sections
from aletheia.study.campaign_artifacts import campaign_artifacts
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.schema import merge, read_yaml
from conftest import ROOT, STUDY, copy_project, edit, said, snakemake

MODEL, SEED = "tiny-llama", 1
MOVED = "moved: {layers: adapter_update, budget_percent: 50}"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads the tiny study with further arms, and other settings of its campaign."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "tests/study/campaign.yaml").read_text()

    def loaded(arm="", **changes):
        changed = text.replace("\n  ale:", f"\n  {arm}\n  ale:") if arm else text
        for old, new in changes.values():
            assert old in changed
            changed = changed.replace(old, new)
        (tmp_path / "campaign.yaml").write_text(changed)
        study = load_study(merge(read_yaml(ROOT / STUDY[1]), {"campaigns": [str(tmp_path / "campaign.yaml")]}))
        for model in study.models.values():
            model |= {"time": {"seconds_per_step": 5.0}, "parameters": 10**9}
        return study

    return loaded


def test_it_is_planned_beside_the_probe_of_gradients(load):
    study, paths = load(MOVED), Paths()
    files = outputs.study_files(study)
    assert {path for path, rule in files.items() if rule == "adapter_updates"} == {
        f"results/updates/{model}/seed1.json" for model in (MODEL, "tiny-neox")
    }
    assert files["results/probe/tiny-llama/seed1.json"] == "probe"
    assert inputs.probe(study, paths, MODEL, "moved", SEED) == "results/updates/tiny-llama/seed1.json"
    assert inputs.probe(study, paths, MODEL, "ale", SEED) == "results/probe/tiny-llama/seed1.json"
    probes = campaign_artifacts(study.campaign_index(), paths).probes
    assert probes[MODEL, "moved", SEED].as_posix() == "results/updates/tiny-llama/seed1.json"
    assert probes[MODEL, "ale", SEED].as_posix() == "results/probe/tiny-llama/seed1.json"
    assert "updating" not in load().campaign_index()[0]


def test_a_study_without_gradients_has_no_table_of_layers(load):
    study = load(ale=("layers: gradient", "layers: adapter_update"))
    assert set(outputs.study_files(study).values()) >= {"adapter_updates", "select"}
    assert "probe" not in outputs.study_files(study).values()
    assert "layers.csv" not in study.result_tables()


def test_its_settings_are_the_standard_arms_and_no_others_rerun_it(load):
    before = load(MOVED)
    settings = sections.updates_training(before, MODEL, SEED)
    assert settings["batch_size"] == before.run(MODEL, "std", SEED).settings["training"]["batch_size"]
    assert not {"steps", "schedule", "warmup_steps", "layers_active"} & settings.keys()
    assert sections.updates_adapter(before, MODEL, SEED) == before.run(MODEL, "std", SEED).settings["adapter"]
    longer = load(MOVED, probe=("probe: {batches: 2}", "probe: {batches: 2, update_steps: 9}"))
    assert sections.updates(longer, MODEL) == {"update_steps": 9}
    assert sections.probe(longer, MODEL) == sections.probe(before, MODEL)
    own = load("moved: {layers: adapter_update, budget_percent: 50, learning_rate: 0.1}")
    assert sections.updates_training(own, MODEL, SEED) == settings


def test_it_is_paid_for_in_wall_time_and_estimate(load):
    site = read_site(str(ROOT / "profiles/leonardo/site.yaml"))
    plain, moved = load("moved: {layers: last, budget_percent: 25}"), load(MOVED)
    minutes = [WallTimes(study, site) for study in (plain, moved)]
    assert minutes[1].allocation(MODEL, SEED) - minutes[0].allocation(MODEL, SEED) == minutes[1].updates(MODEL) > 0
    costs = [{cost.model: cost.training_seconds for cost in estimate_costs(study)} for study in (plain, moved)]
    expected = updates_seconds(moved.models[MODEL], moved.run(MODEL, "std", SEED).settings)
    assert costs[1][MODEL] - costs[0][MODEL] == pytest.approx(expected)


@pytest.mark.slow
def test_snakemake_plans_what_the_library_lists(tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    edit(folder / "tests/study/campaign.yaml", "\n  ale:", f"\n  {MOVED}\n  ale:")
    monkeypatch.chdir(folder)
    done = snakemake(folder, "-n", *STUDY)
    assert done.returncode == 0, said(done)
    study = load_study(read_yaml(folder / STUDY[1]))
    for path, rule in outputs.study_files(study).items():
        assert path in said(done), (path, rule)
    assert said(done).count("\nrule adapter_updates:") == 2
