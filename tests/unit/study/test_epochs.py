"""Runs of epochs: what states them, which settings reach jobs, and what is known of their steps before they run."""

import itertools
from pathlib import Path

import pytest
import yaml

from aletheia.analysis.consistency import RowSource, deviations
from aletheia.cli import step_parser
from aletheia.cluster.cost import estimate_costs
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes
from aletheia.errors import UserError
from aletheia.study import sections
from aletheia.study.load import load_study
from aletheia.study.schema import read_yaml
from aletheia.training.trainer import TimeRatio, planned_steps
from conftest import ROOT

MODEL, SEED = "tiny-neox", 1
STEPS = {"steps": 4, "epochs": None}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads the tiny study with other keys of `training`, and further arms and settings."""
    monkeypatch.chdir(ROOT)
    campaign = read_yaml(Path("tests/study/campaign.yaml"))
    training = {key: value for key, value in campaign["training"].items() if key != "steps"}

    def loaded(length, *, arms=(), rows=None, registry_rows=None, rehearsed=None, **keys):
        whole = {**campaign, **keys, "training": {**training, **length}, "arms": {**campaign["arms"], **dict(arms)}}
        (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
        data = read_yaml(Path("tests/study/data.yaml"))
        data["rows"] |= {} if registry_rows is None else {"rows": registry_rows}
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
        models = read_yaml(Path("tests/study/models.yaml"))
        for entry in models.values():
            entry["stand_in"] = {"config": entry["source"]["config"]}
        (tmp_path / "models.yaml").write_text(yaml.safe_dump(models))
        config = {"stand_ins": True, "rehearsal": {"training": rehearsed}} if rehearsed else {}
        config |= {"campaigns": [str(tmp_path / "campaign.yaml")]}
        config |= {name: str(tmp_path / f"{name}.yaml") for name in ("models", "data")}
        study = load_study(config, None, lambda *_: rows)
        for model in study.models.values():
            model |= {"time": {"seconds_per_step": 5.0}, "parameters": 10**9}
        return study

    return loaded


def length_of(study, arm="std", model=MODEL):
    training = study.run(model, arm, SEED).settings["training"]
    return {key: training[key] for key in STEPS}


def of_jobs(study, arm="ale"):
    """Return the sections that hold a run's length, by step."""
    key = (MODEL, arm, SEED)
    return {
        "train": sections.training(study, *key),
        "turns": sections.timed_training(study, *key),
        "attribute": sections.attributed_training(study, MODEL),
        "batches": sections.batches(study, MODEL, SEED),
    }


def test_what_is_stated_last_holds_alone(load):
    own = {"own": {"layers": "last", "epochs": 0.5}, "fixed": {"layers": "last", "steps": 7}}
    overrides = {"tiny-llama": {"training": {"steps": 9}}}
    study = load({"epochs": 2}, arms=own, overrides=overrides)
    assert length_of(study) == length_of(study, "ale") == {"steps": None, "epochs": 2}
    assert length_of(study, "own") == {"steps": None, "epochs": 0.5}
    assert length_of(study, "fixed") == {"steps": 7, "epochs": None}
    assert length_of(study, model="tiny-llama") == {"steps": 9, "epochs": None}
    reverse = load({"steps": 4}, arms=own, overrides={"tiny-llama": {"training": {"epochs": 2.5}}})
    assert length_of(reverse) == STEPS
    assert length_of(reverse, "own") == {"steps": None, "epochs": 0.5}
    assert length_of(reverse, model="tiny-llama") == {"steps": None, "epochs": 2.5}
    assert length_of(load({}, overrides={})) == {"steps": 200, "epochs": None}


@pytest.mark.parametrize(
    ("length", "rehearsed"), [({"epochs": 2}, {"steps": 3}), ({"steps": 4}, {"epochs": 2}), ({"epochs": 2}, {})]
)
def test_a_rehearsal_lies_over_either(load, length, rehearsed):
    own = {"own": {"layers": "last", "epochs": 3}}
    study = load(length, rehearsed={**rehearsed, "timing_warmup_steps": 0}, arms=own, overrides={})
    expected = {**dict.fromkeys(STEPS), **(rehearsed or length)}
    assert length_of(study) == expected
    assert length_of(study, "own") == (expected if rehearsed else {"steps": None, "epochs": 3})


def test_sections_of_steps_know_nothing_of_epochs(load):
    for name, section in of_jobs(load({"steps": 4})).items():
        assert "epochs" not in section, name
        assert section["steps"] == (12 if name == "batches" else 4)


def test_sections_of_epochs_leave_the_steps_open(load):
    study = load({"epochs": 2})
    found = of_jobs(study)
    assert found.pop("batches") == {"epochs": 6, "batch_size": 2, "accumulation": 2}
    assert all((section["steps"], section["epochs"]) == (None, 2) for section in found.values())
    longer = load(
        {"epochs": 2}, arms={"long": {"layers": "last", "epochs": 9}, "fixed": {"layers": "last", "steps": 70}}
    )
    assert of_jobs(longer)["batches"] == {"epochs": 9, "steps": 70, "batch_size": 2, "accumulation": 2}


# --- before the run ---------------------------------------------------------------------------------------------------


def test_nominal_steps_are_by_the_registry_or_by_what_is_staged(load):
    for rows, registry_rows, steps in ((None, None, None), (31, None, 14), (None, 20, 10), (31, 20, 10)):
        study = load({"epochs": 2}, rows=rows, registry_rows=registry_rows)
        assert study.nominal_steps(study.run(MODEL, "cm", SEED)) == steps
    fixed = load({"steps": 4})
    assert fixed.nominal_steps(fixed.run(MODEL, "std", SEED)) == 4


def test_the_wall_time_and_the_estimate_follow_from_the_rows(load):
    site = read_site(str(ROOT / "profiles/leonardo/site.yaml"))
    by_steps, by_rows = load({"steps": 16}), load({"epochs": 2}, rows=32)
    assert [cost.training_seconds for cost in estimate_costs(by_rows)] == [
        cost.training_seconds for cost in estimate_costs(by_steps)
    ]
    times = [WallTimes(study, site).training(MODEL, "cm", SEED) for study in (by_steps, by_rows)]
    assert times[0] == times[1]


def test_rows_that_nobody_has_counted_give_the_sites_own_wall_time_and_no_estimate(load):
    site = read_site(str(ROOT / "profiles/leonardo/site.yaml"))
    study = load({"epochs": 2})
    assert WallTimes(study, site).training(MODEL, "std", SEED) == site.gpu["minutes"]
    with pytest.raises(UserError, match="trains for 2 epochs of rows, whose rows are not counted yet; stage it first"):
        estimate_costs(study)


def test_what_contradicts_the_steps_is_told_once_the_rows_are_known(load):
    settings = {"epochs": 1, "warmup_steps": 8}
    load(settings, overrides={})
    says = r"training\.warmup_steps: expected less than the 8 steps of training\.epochs \(1\), found 8: the rate"
    with pytest.raises(UserError, match=says):
        load(settings, rows=35, overrides={})
    few = {"longer": {"layers": "last", "extra_steps_percent": 5}}
    with pytest.raises(UserError, match=r"arms\.longer\.extra_steps_percent: found 5, which adds no step to the 8 of"):
        load({"epochs": 1}, rows=35, overrides={}, arms=few)
    own = {"own": {"layers": "last", "epochs": 0.25}}
    with pytest.raises(UserError, match=r"arms\.own: curve_every, which the campaign decides for it: expected less"):
        load({"steps": 4}, rows=35, overrides={}, arms=own)


# --- arms of other lengths --------------------------------------------------------------------------------------------


def test_an_arm_may_take_the_time_of_one_of_epochs(load):
    arms = {
        "timed": {"layers": "last", "steps": {"seconds_of": "cm"}},
        "own": {"layers": "last", "epochs": 3},
        "as_own": {"layers": [0, 1], "steps": {"seconds_of": "own"}},
    }
    study = load({"epochs": 2}, arms=arms, rows=32)
    timed = study.run(MODEL, "timed", SEED)
    assert length_of(study, "timed") == {"steps": None, "epochs": 2}
    assert length_of(study, "as_own") == {"steps": None, "epochs": 3}
    # Half as many steps more, which cm adds; a step of its own takes as long.
    resolved = {**timed.settings["training"], "steps": 16}
    assert planned_steps(resolved, timed.arm_settings, time_ratio=TimeRatio(1.0)) == 24
    assert study.nominal_steps(timed) == 24


@pytest.mark.parametrize("length", [{"epochs": 2}, {"steps": 4}])
def test_arms_of_their_own_lengths_are_not_rows_of_other_settings(load, length):
    arms = {
        "own": {"layers": "last", "epochs": 3},
        "fixed": {"layers": "last", "steps": 7},
        "timed": {"layers": "last", "steps": {"seconds_of": "own"}},
    }
    study = load(length, arms=arms, overrides={})
    (index,) = study.campaign_index()
    rows = {}
    for arm, name in itertools.product(("std", "ale", *arms), ("train", "batches")):
        key = (MODEL, arm, SEED)
        config = {"training": sections.training(study, *key)} if name == "train" else {}
        lineage = {"step": name, "code": {}, "config": {**config, "batches": sections.batches(study, MODEL, SEED)}}
        rows.setdefault(key, []).append(RowSource(f"{arm}/{name}", {"lineage": lineage}))
    assert deviations(rows, index) == {}


def test_epochs_by_hand_replace_the_default_steps():
    for step, section in (("train", "training"), ("batches", "batches")):
        parser = step_parser(step, None, script="train.py", sections=("run", "encoding", "arm", section))
        found = parser.parse_args(["--set", f"{section}.epochs=1.5"]).config[section]
        assert (found["steps"], found["epochs"]) == (None, 1.5)
        assert parser.parse_args([]).config[section]["steps"] == 200
