"""An arm whose layers follow from no score needs no probe, and is charged none."""

import json

import pandas as pd
import pytest

from aletheia.cluster.cost import estimate_costs, probe_seconds
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes
from aletheia.controller import inputs
from aletheia.errors import UserError
from aletheia.study import outputs, sections
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.schema import merge, read_yaml
from conftest import ROOT, copy_project, edit, run_script, said, snakemake

CONTROL = ("--configfile", "tests/cluster/one.yaml")


@pytest.mark.slow
def test_a_control_arm_is_charged_no_probe(tmp_path):
    """In the ledger, and in turns, which the campaign asks for: with and without the probe its time is the same."""
    folder = copy_project(tmp_path / "project")
    campaign = folder / "tests/cluster/one_campaign.yaml"
    edit(campaign, "ale: {layers: gradient,", "ale: {layers: last,")
    edit(campaign, "steps: 600", "steps: 4")
    edit(campaign, "probe: {batches: 2}", "speed: turns\ninterleaving: {rounds: 2, steps: 2}")
    for target in ("all", "paired"):
        done = snakemake(folder, target, *CONTROL, "--max-threads", "1")
        assert done.returncode == 0, said(done)[-4000:]
        verified = run_script("verify.py", *CONTROL, cwd=folder)
        assert verified.returncode == 0, said(verified)
    assert not (folder / "results/probe").exists()
    assert not (folder / "results/aggregate/layers.csv").exists()
    ledger = pd.read_csv(folder / "results/aggregate/ledger.csv").set_index("arm")
    assert list(ledger["status"]) == ["ok", "ok"]
    assert ledger.loc["ale", "probe_seconds"] == 0
    assert ledger.loc["ale", "total_seconds"] == ledger.loc["ale", "training_seconds"]
    assert list(ledger["turns_status"]) == ["ok", "ok"]
    assert ledger.loc["ale", "turns_ratio_with_probe"] == ledger.loc["ale", "turns_ratio"]
    assert sorted(ledger["order"]) in ([1, 1], [1, 2])
    table = pd.read_csv(folder / "results/tables/table2.csv")
    assert table.loc[0, "ratio_mean"] == pytest.approx(ledger.loc["ale", "turns_ratio"])
    assert table.loc[0, "wall_clock_speedup_percent_n"] == 1
    assert (folder / "results/figures/fig1.pdf").is_file()
    pair = json.loads((folder / "results/paired/tiny-neox/ale/seed1.json").read_text())["payload"]
    assert pair["status"] == "ok"
    assert pair["probe_seconds"] is None
    assert pair["ratio_with_probe"] == pair["ratio"]
    table = pd.read_csv(folder / "results/paired/summary.csv")
    assert list(table["ratio_with_probe"]) == list(table["ratio"])


@pytest.mark.slow
def test_the_controls_of_a_small_study_are_answered_by_the_cost_model(tmp_path):
    folder = copy_project(tmp_path / "project")
    campaign = folder / "tests/cluster/one_campaign.yaml"
    draws = "".join(f"\n  random{n}: {{layers: random, draw: {n}, budget_percent: 50}}" for n in range(2))
    edit(
        campaign, "ale: {layers: gradient, budget_percent: 50}", f"ale: {{layers: gradient, budget_percent: 50}}{draws}"
    )
    edit(campaign, "steps: 600", "steps: 4, curve_every: 2")
    edit(campaign, "probe: {batches: 2}", "probe: {batches: 2}\ninterleaving: {rounds: 2, steps: 1}")
    done = snakemake(folder, "all", "controls", *CONTROL, "--max-threads", "1")
    assert done.returncode == 0, said(done)[-4000:]
    verified = run_script("verify.py", *CONTROL, cwd=folder)
    assert verified.returncode == 0, said(verified)
    answer = json.loads((folder / "results/controls/summary.json").read_text())["payload"]["campaigns"][0]
    (model,) = answer["models"]
    assert (model["clock"], model["loss"], model["draws"]) == ("cost model", "heldout", ["random0", "random1"])
    (test,) = model["tests"]
    assert (test["arm"], test["draws"], test["smallest_p"]) == ("ale", 2, 1 / 3)
    assert model["arms"]["std"]["run_time"] == pytest.approx(1)
    assert all(own["at_equal_time"]["n"] == 1 for own in model["arms"].values())
    assert "So few draws can never tell" in (folder / "results/controls/CONTROLS.md").read_text()


@pytest.fixture
def one(monkeypatch):
    monkeypatch.chdir(ROOT)
    return read_yaml(ROOT / "tests/cluster/one.yaml")


def with_layers(config, tmp_path, layers):
    campaign = read_yaml(ROOT / "tests/cluster/one_campaign.yaml")
    campaign["arms"]["ale"] = {"layers": layers} | ({} if isinstance(layers, list) else {"budget_percent": 50})
    (tmp_path / "campaign.yaml").write_text(json.dumps(campaign))
    study = load_study(merge(config, {"campaigns": [str(tmp_path / "campaign.yaml")]}))
    study.models["tiny-neox"] |= {"time": {"seconds_per_step": 1.0}, "parameters": 10**9}
    return study


@pytest.mark.parametrize("layers", ["first", "last", "random", [1]])
def test_a_control_plans_no_probe(one, tmp_path, layers):
    study = with_layers(one, tmp_path, layers)
    assert (study.probe_keys(), study.attributed_runs()) == ([], {})
    files = outputs.study_files(study)
    assert "probe" not in files.values()
    assert "select" in files.values()
    assert "results/figures/figS1.pdf" not in files


def test_the_stability_of_no_selection_is_one_sentence(one, tmp_path):
    with pytest.raises(UserError, match=r"^stability: expected an arm whose layers follow from a probe .*, found none"):
        inputs.stability_draws(with_layers(one, tmp_path, "last"), Paths())


def test_controls_without_a_random_draw_are_one_sentence(one, tmp_path):
    study = with_layers(one, tmp_path, "last")
    with pytest.raises(
        UserError, match=r"^controls: expected an arm with layers: random, .*, found none in this study"
    ):
        inputs.control_selections(study, Paths())
    assert outputs.controls_files(study) == {}


def test_controls_read_the_selections_of_campaigns_with_random_draws(one, tmp_path):
    study = with_layers(one, tmp_path, "random")
    selections = inputs.control_selections(study, Paths())
    assert selections == [path for path, rule in outputs.study_files(study).items() if rule == "select"]
    assert inputs.control_rates(study, Paths()) == []
    (campaign,) = sections.controls(study)
    assert campaign["models"]["tiny-neox"]["arms"]["ale"]["layers"] == "random"
    assert set(outputs.controls_files(study).values()) == {"controls_summary"}


def test_a_control_pays_for_no_probe_in_wall_time_and_estimate(one, tmp_path):
    site = read_site(str(ROOT / "profiles/leonardo/site.yaml"))
    scored, control = (with_layers(one, tmp_path, layers) for layers in ("gradient", "last"))
    model, minutes = "tiny-neox", [WallTimes(study, site) for study in (scored, control)]
    assert minutes[0].allocation(model, 1) - minutes[1].allocation(model, 1) == minutes[0].probe(model) > 0
    costs = [cost.training_seconds for study in (scored, control) for cost in estimate_costs(study)]
    settings = scored.run(model, "ale", 1).settings
    assert costs[0] - costs[1] == pytest.approx(probe_seconds(scored.models[model], settings))
