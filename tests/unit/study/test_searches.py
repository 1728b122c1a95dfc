"""A campaign's search: its trials are declared arms with whole settings, which no target of the study asks for."""

import itertools
import json
from pathlib import Path

import pytest
import yaml

from aletheia.cluster import cost
from aletheia.cluster.cost import estimate_costs
from aletheia.cluster.search_cost import estimate_searches, most_asked
from aletheia.cluster.site import read_site
from aletheia.cluster.wall_time import WallTimes
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.study import sections
from aletheia.study.load import load_study
from aletheia.study.outputs import made_on_demand, search_files, study_files
from aletheia.study.paths import Paths
from aletheia.study.schema import merge
from aletheia.study.search_rungs import asked_trials, timings
from conftest import ROOT

SEARCH = {
    "budget": {"runs": 40},
    "rates": [5.0e-4, 1.0e-3],
    "steps": {"scan": 12, "full": 40},
    "seeds": {"floor": [1, 2, 3], "search": 1, "confirm": [11, 12, 13]},
    "std": {"extras": {"accumulation": 1, "schedule": "linear"}},
    "presets": ["last_half"],
    "recipes": {"mine": {"layers": "gradient", "rank": 4}},
    "moves": ["rate x2", "rank x2"],
}
CAMPAIGN = {
    "name": "one",
    "models": ["small"],
    "seeds": [1],
    "data": "rows",
    "arms": {"std": {"layers": "all"}},
    "search": SEARCH,
    "training": {"steps": 40, "warmup_steps": 4, "batch_size": 2, "accumulation": 2},
    "benchmarks": ["heldout"],
    "evaluation": {"heldout": {"split": "test", "rows": 50}},
}
MODELS = {
    "small": {
        "source": {"type": "random", "config": {"model_type": "llama"}},
        **{"layers": 4, "parameters": 1_000_000, "time": {"seconds_per_step": 1.0, "origin": "measured"}},
    }
}
DATA = {
    "rows": {"source": {"type": "stdlib"}, "held_out": 300, "test": 100},
    "passages": {"source": {"type": "local", "path": "passages.jsonl", "format": "retention"}},
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads a study of one campaign with a search, some of its keys changed."""
    monkeypatch.chdir(tmp_path)
    number = itertools.count()

    def loaded(search=(), **keys):
        path = Path(f"campaign{next(number)}.yaml")
        campaign = {**CAMPAIGN, **keys, "search": {**SEARCH, **dict(search)}}
        path.write_text(yaml.safe_dump(campaign, sort_keys=False))
        Path("models.yaml").write_text(yaml.safe_dump(MODELS))
        Path("data.yaml").write_text(yaml.safe_dump(DATA))
        return load_study({"campaigns": [str(path)], "models": "models.yaml", "data": "data.yaml"})

    return loaded


def test_trials_are_declared_and_not_planned(load):
    study = load()
    assert list(study.runs) == [("small", "std", 1)]
    assert study.trials
    names = {arm for _, arm, _ in study.trials}
    assert not any(name in path for path in study_files(study) for name in names)
    assert [campaign["arms"] for campaign in study.campaign_index()] == [["std"]]
    assert made_on_demand(study) == {}
    known = {arm for rule in ("train_std", "train_ale", "train_cm") for arm in study.arms_of_rule(rule)}
    assert names <= known


def test_a_trial_has_the_settings_of_its_recipe_and_steps_by_its_measured_cost(load):
    study = load()
    trial = study.run("small", "s_mine_r1em3", 1)
    assert trial.arm_settings["steps"] == {"seconds_of": "std"}
    assert trial.timed_as == ("t_mine", 1)
    assert study.run("small", "c_mine_r1em3", 12).timed_as == study.run("small", "h_mine_r1em3", 13).timed_as
    assert study.run("small", "c_mine_r1em3", 12).timed_as == ("ta_mine", 11)
    wanted = {"steps": 12, "epochs": None, "learning_rate": 1e-3, "accumulation": 1, "schedule": "linear"}
    assert wanted.items() <= trial.settings["training"].items()
    assert trial.settings["adapter"]["rank"] == 4
    standard = study.run("small", "s_std_r1em3", 1)
    assert standard.timed_as is None
    assert "steps" not in standard.arm_settings
    assert standard.settings["training"]["accumulation"] == 2


def test_the_search_changes_no_settings_of_the_studys_own_runs(load):
    with_search = load().run("small", "std", 1)
    campaign = {key: value for key, value in CAMPAIGN.items() if key != "search"}
    Path("plain.yaml").write_text(yaml.safe_dump(campaign))
    plain = load_study({"campaigns": ["plain.yaml"], "models": "models.yaml", "data": "data.yaml"})
    assert plain.run("small", "std", 1) == with_search


def test_a_recipe_is_timed_beside_the_paper_shapes_std(load):
    study = load()
    assert sections.standard_arm(study, "small", "t_mine", 1)["training"]["accumulation"] == 2
    assert study.run("small", "t_mine", 1).settings["training"]["accumulation"] == 1


def test_only_confirming_trials_are_evaluated(load):
    asked = {arm: benchmarks for (_, arm), benchmarks in load().asked.items()}
    assert {arm[0] for arm, benchmarks in asked.items() if benchmarks and arm != "std"} == {"c", "h"}
    bounded = load(search={"retention_bound": 0.1}, **WITH_RETENTION)
    asked = {arm: benchmarks for (_, arm), benchmarks in bounded.asked.items()}
    assert asked["f_mine_r1em3"] == ["retention"]
    assert asked["c_mine_r1em3"] == ["heldout", "retention"]


WITH_RETENTION = {
    "benchmarks": ["heldout", "retention"],
    "evaluation": {**CAMPAIGN["evaluation"], "retention": {"passages": "passages"}},
}


def stand(folder, rung, payload):
    """Put an artifact of a rung where a search has it; nothing but its payload is read."""
    made_by = {"step": "search", "inputs": {}, "code": {}, "config": {}, "commit": None, "dirty": None}
    made_by |= {"environment": {"python": "3", "packages": {}}, "output": f"{folder}/{rung}.json"}
    path = Path(folder, f"{rung}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    envelope = artifacts.make_envelope(rung, payload, made_by, {"ended": "now"}, path)
    path.write_bytes(artifacts.canonical_bytes(envelope))


SPENT = {
    **{"runs": 0, "seconds": 0.0, "measuring": 0.0, "probes": 0.0, "total": 0.0, "left": 1.0},
    "of": {"unit": "runs", "budget": 1},
}


def promoted(rung, asked, kept=()):
    verdict = {"outcome": "kept", "reason": "the best", "rate": 1e-3, "loss": 1.0, "arm": None, "score": 1.0}
    verdict |= {"behind": 0.0, "at_edge": False}
    payload = {"model": "small", "rung": rung, "rows": [], "asked": asked, "delta": 0.01, "dropped": []}
    payload |= {"kept": [{**verdict, "recipe": name} for name in kept], "std": {**verdict, "recipe": "std"}}
    return payload | {"spent": SPENT, "beyond_budget": []}


def test_what_a_rung_asks_for_is_read_from_the_artifact_before_it(load):
    study = load()
    search, paths = study.searches["small"], Paths()
    assert asked_trials(search, "full", paths) == []
    entry = {"rung": "full", "arm": "f_mine_r1em3", "recipe": "mine", "rate": 1e-3, "seed": 1}
    stand("results/search/small", "scan", promoted("scan", [entry], ["mine"]))
    assert [trial.arm_name for trial in asked_trials(search, "full", paths)] == ["f_mine_r1em3"]
    files = search_files(study)
    assert files["results/train/small/f_mine_r1em3/seed1/run.json"] == "train_cm"
    assert files["results/train/small/s_std_r1em3/seed1/run.json"] == "train_std"
    assert "results/train/small/f_last_half_r1em3/seed1/run.json" not in files
    assert files["results/search/small/decision.json"] == "search_decision"
    assert not set(files) & set(study_files(study))


def test_a_recipe_is_timed_where_it_is_first_needed_and_again_for_its_confirmation(load):
    study = load()
    search, paths = study.searches["small"], Paths()
    assert timings(search, "cost", paths) == [("t_std_extras", 1), ("t_last_half", 1), ("t_mine", 1)]
    moved = {"rung": "push", "arm": "p_mine__rank_x2_r1em3", "recipe": "mine__rank_x2", "rate": 1e-3, "seed": 1}
    stand("results/search/small", "full", promoted("full", [moved], ["mine"]) | {"moves": []})
    assert timings(search, "push", paths) == [("t_mine__rank_x2", 1)]
    names = ["c_std_r1em3", "c_mine_r1em3", "c_mine__paper_r1em3", "h_mine_r1em3"]
    asked = [{"rung": "confirm", "arm": name, "recipe": "", "rate": 1e-3, "seed": 11} for name in names]
    pushed = promoted("push", asked, ["mine"]) | {"costs": {}, "cells": [], "reason": None}
    stand("results/search/small", "push", {key: each for key, each in pushed.items() if key != "beyond_budget"})
    assert timings(search, "factorial", paths) == [("ta_mine", 11), ("ta_mine__paper", 11)]
    files = search_files(study)
    assert files["results/paired/small/t_mine__rank_x2/seed1.json"] == "interleave_recipe"
    assert files["results/paired/small/ta_mine/seed11.json"] == "interleave_again"


def test_the_estimate_counts_the_most_that_the_search_can_ask(load):
    study = load()
    (estimated,) = estimate_searches(study)
    most = most_asked(study, study.searches["small"])
    assert most.trainings == {"floor": 3, "scan": 8, "full": 8, "push": 2, "confirm": 15, "short": 3}
    assert estimated.trainings == sum(most.trainings.values())
    assert estimated.evaluations == 18
    assert [each.trainings for each in estimate_costs(study)] == [1]
    fewer = load(search={"budget": {"runs": 16}})
    assert most_asked(fewer, fewer.searches["small"]).trainings["full"] == 5


BAD = [
    ({"recipes": {"mine": {"layers": "gradient", "rnak": 4}}}, "unknown key 'rnak'; did you mean 'rank'"),
    ({"recipes": {"mine": {"layers": "gradient", "rank": 0}}}, "found 0"),
    ({"recipes": {"mine": {"layers": "gradient", "learning_rate": 1e-3}}}, "its own best one of rates"),
    ({"recipes": {"mine": {"layers": "gradient", "steps": 4}}}, "seconds of std's"),
    ({"recipes": {"mine": {"layers": "gradient", "epochs": 2}}}, "equal seconds"),
    ({"recipes": {"mine": {"layers": "cost_aware", "time_percent": 75}}}, "found cost_aware"),
    ({"recipes": {"mine": {"layers": "last", "score": "l2"}}}, "which does not read it"),
    ({"recipes": {"mine": {"layers": [1, 9]}}}, "found layer 9"),
    ({"recipes": {"mine": {"layers": "gradient", "warmup_steps": 12}}}, "expected less than training.steps"),
    ({"std": {"extras": {"modules": "mlp"}}}, "expected keys of training"),
    ({"presets": ["last_tenth"]}, "found 'last_tenth'"),
    ({"moves": ["rate x3"]}, "found 'rate x3'"),
    ({"presets": [], "recipes": {}}, "expected at least 2 recipes"),
    ({"rates": [1.0e-3]}, "expected at least 2 rates"),
    ({"steps": {"scan": 40, "full": 40}}, "expected less than steps.full"),
    ({"seeds": {**SEARCH["seeds"], "confirm": [3, 12, 13]}}, "by which the search chooses"),
    ({"budget": {"runs": 8}}, "expected at least"),
    ({"budget": {"runs": 40, "seconds": 5}}, "found runs beside seconds"),
    ({"retention_bound": 0.1}, "add retention to benchmarks"),
]


@pytest.mark.parametrize(("search", "sentence"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_a_bad_space_is_one_sentence_with_its_place(load, search, sentence):
    with pytest.raises(UserError) as error:
        load(search=search)
    text = str(error.value)
    assert sentence in text
    assert text.startswith("campaign0.yaml")
    assert "\n" not in text


def test_rows_that_choose_cannot_judge(load):
    with pytest.raises(UserError, match="other rows must confirm"):
        load(evaluation={"heldout": {"split": "heldout"}})


def test_a_trials_name_is_no_other_arms(load):
    with pytest.raises(UserError, match="one of its trials is named s_mine_r1em3"):
        load(arms={"std": {"layers": "all"}, "s_mine_r1em3": {"layers": "last"}})


def test_the_section_of_a_search_is_json(load):
    study = load()
    assert json.loads(json.dumps(sections.search(study, "small")))["model"] == "small"
    assert merge(sections.searches(study), {}) == {"small": sections.search(study, "small")}


def test_an_arm_takes_the_keys_of_a_recipes_file_under_its_own(load):
    Path("recipe.yaml").write_text("# found\nlayers: last\nbudget_percent: 25\nlearning_rate: 0.004\n")
    arms = {"std": {"layers": "all"}, "found": {"recipe": "recipe.yaml", "budget_percent": 75}}
    run = load(arms=arms).run("small", "found", 1)
    assert run.arm_settings == {**run.arm_settings, "layers": "last", "budget_percent": 75}
    assert run.settings["training"]["learning_rate"] == 0.004
    assert "recipe" not in run.arm_settings


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "none.yaml: expected a configuration file here and found none"),
        ("steps: 4", "expected a file with the keys of one arm"),
        ("layers: last\nrnak: 4", "unknown key 'rnak'"),
    ],
)
def test_a_recipes_file_that_holds_no_arm_is_one_sentence(load, content, sentence):
    if content:
        Path("none.yaml").write_text(content)
    with pytest.raises(UserError, match=sentence) as error:
        load(arms={"std": {"layers": "all"}, "found": {"recipe": "none.yaml"}})
    assert "\n" not in str(error.value)


def test_an_allocation_has_time_for_the_most_trials_that_share_it(load):
    study = load()
    site = read_site(str(ROOT / "profiles/leonardo/site.yaml"))
    times = WallTimes(study, site)
    seconds = cost.training_seconds(MODELS["small"], study.run("small", "f_std_r1em3", 1).settings)
    full = site.minutes(seconds)
    assert times.training("small", "f_std_extras_r1em3", 1) == full
    # Of the confirmation: five cells at full length, one short, and what they need.
    assert times.allocation("small", 11) >= 5 * full
    assert times.allocation("small", 11) < times.allocation("small", 1)
