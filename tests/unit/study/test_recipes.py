"""An arm as a recipe: what it states reaches its own runs, and no others."""

import copy
import itertools
import re
from pathlib import Path

import pytest
import yaml

from aletheia.analysis.consistency import RowSource, deviations
from aletheia.analysis.equal_settings import COLUMN, add_differences, differences
from aletheia.analysis.ledger import build_ledger, read_ledger, write_csv
from aletheia.cluster.cost import ATTRIBUTED_ARMS, estimate_costs, share_of_rows, training_seconds, turns_seconds
from aletheia.controller import inputs
from aletheia.controller.binding import model_with_arms
from aletheia.errors import UserError
from aletheia.study import sections
from aletheia.study.campaign_artifacts import campaign_artifacts
from aletheia.study.load import load_study
from aletheia.study.outputs import attribution_files, study_files
from aletheia.study.paths import Paths
from aletheia.study.planned_runs import planned_runs
from aletheia.study.recipes import EQUAL_IN_ALL_ARMS, SECTIONS
from aletheia.study.schema import schema
from aletheia.timing import step_attribution
from ledgers import TWO_MODELS
from ledgers import study as ledger_study

CAMPAIGN = {
    "name": "one",
    "models": ["small"],
    "seeds": [1, 2],
    "data": "rows",
    "arms": {"std": {"layers": "all"}, "ale": {"layers": "gradient"}, "mine": {"layers": "gradient", "rank": 4}},
    "training": {"steps": 40, "warmup_steps": 4, "batch_size": 2, "accumulation": 2},
    "benchmarks": ["heldout"],
}
MODELS = {name: {"source": {"type": "random", "config": {"model_type": "llama"}}} for name in ("small", "large")}
DATA = {"rows": {"source": {"type": "stdlib"}, "held_out": 300}}
# Another value for each key that an arm may state of the two sections.
STATED = {
    "adapter.rank": {"attention": 8, "v_proj": 2, "mlp": 1},
    "adapter.alpha": 5,
    "adapter.modules": ["v_proj", "down_proj"],
    "adapter.scaling": "rslora",
    "adapter.dropout": 0.1,
    "training.steps": 50,
    "training.epochs": 2.5,
    "training.batch_size": 1,
    "training.accumulation": 1,
    "training.learning_rate": 0.01,
    "training.schedule": "linear",
    "training.warmup_steps": 2,
    "training.warmup_from": "first_step",
    "training.max_grad_norm": 0.5,
    "training.optimizer": {"beta2": 0.99, "loraplus_lr_ratio": 4},
    "training.timing_warmup_steps": 1,
    "training.curve_every": 10,
    "training.layers_active": {"every": 5, "count": 1},
    "training.prefix_cache": "memory",
    "training.prefix_cache_gib": 1,
    "training.gradient_checkpointing": True,
    "training.time_limit_seconds": 60,
    "training.checkpoint_seconds": 60,
    "training.tensorboard": False,
}
NO_SECTION = {"checkpoint_seconds", "tensorboard", "prefix_cache_gib"}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Return a function that loads a study of one campaign, some of its keys changed."""
    monkeypatch.chdir(tmp_path)
    number = itertools.count()

    def loaded(registry=MODELS, data_registry=DATA, config=(), second=None, **keys):
        campaigns = [{**CAMPAIGN, **keys}]
        campaigns += [] if second is None else [{**campaigns[0], "name": "two", **second}]
        paths = [Path(f"campaign{next(number)}.yaml") for _ in campaigns]
        for path, campaign in zip(paths, campaigns, strict=True):
            path.write_text(yaml.safe_dump(campaign, sort_keys=False))
        Path("models.yaml").write_text(yaml.safe_dump(registry))
        Path("data.yaml").write_text(yaml.safe_dump(data_registry))
        places = {"campaigns": list(map(str, paths)), "models": "models.yaml", "data": "data.yaml"}
        return load_study({**places, **dict(config)})

    return loaded


def with_mine(**keys):
    return {**CAMPAIGN["arms"], "mine": {"layers": "gradient", **keys}}


def of_jobs(study, arm, seed=1):
    """Return the settings that the steps of a run read, by step."""
    key = ("small", arm, seed)
    return {
        "select": {"arm": sections.arm(study, *key), "adapter": sections.adapter_shape(study, *key)},
        "train": {
            **{"arm": sections.arm(study, *key), "adapter": sections.adapter(study, *key)},
            "training": sections.training(study, *key),
        },
        "batches": sections.batches(study, "small", seed),
        "precision": sections.precision(study, "small"),
        "probe": sections.probe(study, "small"),
    }


def test_every_key_of_the_two_sections_may_be_stated_but_for_what_measures_all_arms():
    properties = schema("campaign")["properties"]
    known = {f"{section}.{key}" for section in SECTIONS for key in properties[section]["properties"]}
    assert set(STATED) == known - {f"training.{key}" for key in EQUAL_IN_ALL_ARMS}


@pytest.mark.parametrize("name", STATED)
def test_what_an_arm_states_reaches_its_own_jobs_alone(load, name):
    """The rules' parameters are these sections: a job whose sections are equal doesn't run again."""
    section, key = name.split(".")
    before, after = load(arms=with_mine(rank=4)), load(arms=with_mine(**{"rank": 4, key: STATED[name]}))
    for arm, seed in (("std", 1), ("ale", 2)):
        old, new = of_jobs(before, arm, seed), of_jobs(after, arm, seed)
        # How long a plan epochs need is not known before it is drawn.
        assert (new.pop("batches") == old.pop("batches")) is (key != "epochs")
        assert new == old
    old, new = of_jobs(before, "mine"), of_jobs(after, "mine")
    assert (new["precision"], new["probe"]) == (old["precision"], old["probe"])
    # A resource reruns nothing; what a selection doesn't write down doesn't run it again.
    assert (new["train"] == old["train"]) is (key in NO_SECTION)
    assert (new["select"] == old["select"]) is (key not in {"rank", "alpha", "modules"})
    value, whole = after.run("small", "mine", 1).settings[section][key], STATED[name]
    common = before.run("small", "std", 1).settings[section][key]
    assert value == ({**common, **whole} if isinstance(common, dict) else whole)


def test_an_arm_written_as_a_recipe_is_the_arm_written_otherwise(load):
    """All settings in the campaign, or in the arm: the same run, so the same numbers."""
    keys = {"rank": 4, "alpha": 8, "dropout": 0.1}
    training = {**CAMPAIGN["training"], "learning_rate": 0.01, "schedule": "linear"}
    whole = load(arms={"mine": {"layers": "gradient"}}, adapter=keys, training=training)
    stated = load(arms=with_mine(**keys, learning_rate=0.01, schedule="linear"))
    assert of_jobs(stated, "mine") == of_jobs(whole, "mine")


def test_a_models_own_arms_replace_the_campaigns_and_add_to_them(load):
    own = {"ale": {"layers": [0, 2]}, "more": {"layers": "last", "learning_rate": 0.01}}
    study = load(models=["small", "large"], overrides={"large": {"arms": own}})
    assert study.run("small", "ale", 1).probes
    listed, more = study.run("large", "ale", 1), study.run("large", "more", 1)
    assert (listed.arm_settings["layers"], listed.probes, listed.selects) == ([0, 2], False, True)
    assert (more.settings["training"]["learning_rate"], more.arm_settings["budget_percent"]) == (0.01, 50)
    assert ("small", "more", 1) not in study.runs
    index = study.campaign_index()
    rows = {(run["model"], run["arm"]) for run in planned_runs(index[0])}
    assert rows == {("small", arm) for arm in CAMPAIGN["arms"]} | {
        ("large", arm) for arm in [*CAMPAIGN["arms"], "more"]
    }
    assert not {"recipes", "own_arms", "selecting", "probing", "arms"} & set(planned_runs(index[0])[0])
    found = campaign_artifacts(index, Paths(results="results"))
    assert {(model, arm) for model, arm, seed in found.probes if seed == 1} == {
        ("small", "ale"),
        ("small", "mine"),
        ("large", "mine"),
    }
    assert {(model, arm) for model, arm, _ in found.selections} == rows - {("small", "std"), ("large", "std")}


def test_a_plan_has_the_campaigns_shape_and_room_for_arms_of_another(load):
    study = load(arms=with_mine(batch_size=8, accumulation=4, steps=20))
    # 20 steps of 32 rows are 160 of the campaign's 4.
    assert study.batches["small", 1] == {"steps": 160, "batch_size": 2, "accumulation": 2}
    smaller = load(arms=with_mine(batch_size=1, accumulation=1, steps=160))
    assert smaller.batches["small", 1]["steps"] == 120


def test_an_arms_cost_follows_its_rows_and_its_losses_on_the_way(load):
    study = load(arms=with_mine(batch_size=8, accumulation=1, steps=20, curve_every=5))
    entry = {"parameters": 2**30, "time": {"seconds_per_step": 3.0}}
    std, mine = (study.run("small", arm, 1) for arm in ("std", "mine"))
    assert (share_of_rows(study, std), share_of_rows(study, mine)) == (1, 2)
    bare = training_seconds(entry, {"training": {**std.settings["training"], "steps": 0, "eval_rows": 0}})
    assert training_seconds(entry, std.settings) == pytest.approx(bare + 3 * (40 + 64 * 0.5 / 4))
    # Six losses: at the start, after 5, 10, 15 and 20 steps by that count, and at the end.
    assert training_seconds(entry, mine.settings, 2) == pytest.approx(bare + 6 * (20 + 6 * 64 * 0.5 / 8))


def test_a_rehearsal_lies_over_recipes_too(load):
    models = {"small": {**MODELS["small"], "stand_in": {"config": {"model_type": "llama"}}}}
    config = {"stand_ins": True, "rehearsal": {"training": {"steps": 4, "warmup_steps": 1, "timing_warmup_steps": 1}}}
    arms = with_mine(steps=50, warmup_steps=20, learning_rate=0.01)
    training = load(registry=models, config=config, arms=arms).run("small", "mine", 1).settings["training"]
    assert (training["steps"], training["warmup_steps"], training["learning_rate"]) == (4, 1, 0.01)
    # What sets two arms apart may be what the rehearsal levels.
    load(registry=models, config=config, arms={"std": {"layers": "all"}, "mine": {"layers": "all", "steps": 50}})


def test_an_arm_may_answer_some_benchmarks_alone_and_other_campaigns_add_to_them(load):
    data = {**DATA, "mmlu": {"source": {"type": "local", "path": "mmlu.jsonl", "format": "mmlu"}}}
    evaluation = {"mmlu": {"num_fewshot": 0}}
    keys = {"benchmarks": ["heldout", "mmlu"], "evaluation": evaluation, "data_registry": data}
    study = load(arms=with_mine(rank=4, benchmarks=["heldout"]), **keys)
    assert study.benchmarks_of("small", "mine") == ["heldout"]
    assert study.benchmarks_of("small", "base") == study.benchmarks_of("small", "std") == ["heldout", "mmlu"]
    assert study.benchmark_sets("evaluate") == {
        ("heldout", "mmlu"): {"small": ["base", "std", "ale"]},
        ("heldout",): {"small": ["mine"]},
    }
    (index,) = study.campaign_index()
    asked = {run["arm"]: run["benchmarks"] for run in planned_runs(index)}
    assert asked == {"std": ["heldout", "mmlu"], "ale": ["heldout", "mmlu"], "mine": ["heldout"]}
    evaluations = [str(path) for path in campaign_artifacts([index], Paths(results="results")).evaluations]
    assert "results/evaluate/small/mine/seed1/mmlu.json" not in evaluations
    both = load(arms=with_mine(rank=4, benchmarks=["heldout"]), second={"arms": with_mine(rank=4)}, **keys)
    assert both.benchmarks_of("small", "mine") == ["heldout", "mmlu"]


@pytest.mark.parametrize(
    ("path", "matches"),
    [
        ("a/base/x", True),
        ("a/std/seed1/x", True),
        ("a/stdx/seed1/x", False),
        ("a/ale/seed1/x", False),
        ("b/std/x", False),
    ],
)
def test_a_models_pattern_looks_at_the_arm_that_follows(path, matches):
    pattern = rf"(?P<model>{model_with_arms({'a': ['base', 'std'], 'b.c': ['ale']})})/(?P<run>.+)/x"
    assert bool(re.fullmatch(pattern, path)) is matches
    assert not re.match(model_with_arms({}), path)


# --- what the ledger says of it ---------------------------------------------------------------------------------------


@pytest.fixture
def measured(load):
    """Return a campaign's index, and runs that had its settings."""
    study = load(arms=with_mine(rank=4, learning_rate=0.01, batch_size=1))
    (index,) = study.campaign_index()
    _, runs, _ = ledger_study({"small": next(iter(TWO_MODELS.values()))}, arms=("std", "ale", "mine"), seeds=(1, 2))
    for key, envelope in runs.items():
        config = {name: copy.deepcopy(of_jobs(study, *key[1:])["train"][name]) for name in ("arm", *SECTIONS)}
        envelope["lineage"] |= {"step": "train", "code": {}, "config": config}
    return index, runs


def test_the_ledger_says_in_what_each_arm_differs_from_std(measured, tmp_path):
    index, runs = measured
    for (_, arm, _), envelope in runs.items():
        envelope["payload"] |= {
            "steps": 40,
            "placement": {"layers": [0, 1] if arm == "std" else [1], "layers_total": 2},
        }
    ledger = build_ledger([{**index, "models": {"small": {**index["models"]["small"], "benchmarks": []}}}], runs, {})
    write_csv(ledger, tmp_path / "ledger.csv")
    said = read_ledger(tmp_path / "ledger.csv").set_index(["arm", "seed"])[COLUMN]
    assert said["ale", 1] == "layers"
    assert said["mine", 2] == "layers rank batch_size learning_rate"
    assert said[["std"]].isna().all()
    del runs["small", "ale", 1]["payload"]["placement"]
    assert differences(runs["small", "std", 1], runs["small", "ale", 1]) == ["layers"]
    assert add_differences(ledger, {}) is ledger


def test_an_arm_that_answers_fewer_benchmarks_is_not_set_apart(measured):
    index, runs = measured
    rows = {}
    for key, envelope in runs.items():
        asked = ["heldout"] if key[1] == "mine" else ["heldout", "mmlu"]
        config = {"evaluation": {"benchmarks": asked, "batch_size": 8, **{name: {"rows": 9} for name in asked}}}
        one = {**envelope, "lineage": {"step": "evaluate", "code": {}, "config": config}}
        rows[key] = [RowSource("/".join(map(str, key)), envelope), RowSource(f"evaluated {key}", one)]
    assert deviations(rows, index) == {}
    rows["small", "mine", 1][1].envelope["lineage"]["config"]["evaluation"]["heldout"] = {"rows": 8}
    (found,) = deviations(rows, index).values()
    assert found == "settings evaluation.heldout.rows"


def test_settings_that_an_arm_states_set_no_row_apart_and_others_do(measured):
    index, runs = measured
    rows = {key: [RowSource("/".join(map(str, key)), envelope)] for key, envelope in runs.items()}
    assert deviations(rows, index) == {}
    # Without the index nobody knows that the arm states its rate.
    assert "small/mine/1" in deviations(rows)
    runs["small", "mine", 2]["lineage"]["config"]["training"]["schedule"] = "linear"
    assert deviations(rows, index) == {"small/mine/2": "settings training.schedule"}
    runs["small", "mine", 2]["lineage"]["config"]["training"]["learning_rate"] = 0.5
    assert "settings training.learning_rate" in deviations(rows, index)["small/mine/2"]


# --- a rate that is chosen among other arms ---------------------------------------------------------------------------

TESTED = {"rows": {**DATA["rows"], "test": 50}}
JUDGED_APART = {"data_registry": TESTED, "evaluation": {"heldout": {"split": "test"}}}
TUNED = {
    "std": {"layers": "all"},
    "slow": {"layers": "gradient", "learning_rate": 0.001},
    "usual": {"layers": "gradient"},
    "tuned": {"layers": "gradient", "learning_rate": {"best_of": ["slow", "usual"]}},
}


def test_a_chosen_rate_waits_for_the_trials_at_the_first_seed(load):
    study = load(arms=TUNED, seeds=[2, 1], **JUDGED_APART)
    paths = Paths()
    for seed in (1, 2):
        trials = inputs.trials(study, paths, "small", "tuned", seed)
        assert trials == [paths.run("small", "slow", 2), paths.run("small", "usual", 2)]
        # What is timed in turns has the first one's rate; the choice itself is the training's.
        assert study.run("small", "tuned", seed).settings["training"]["learning_rate"] == 0.001
    assert inputs.trials(study, paths, "small", "usual", 1) == []
    assert study.run("small", "usual", 1).settings["training"]["learning_rate"] == 0.0005
    assert study.run("small", "tuned", 1).arm_settings["learning_rate"] == {"best_of": ["slow", "usual"]}
    (index,) = study.campaign_index()
    assert index["models"]["small"]["recipes"]["tuned"] == {"training": ["learning_rate"]}


@pytest.mark.parametrize("later", ["chooses", "trials"])
def test_trials_may_be_arms_of_another_campaign(load, later):
    trials = {name: TUNED[name] for name in ("slow", "usual")}
    others = {name: TUNED[name] for name in ("std", "tuned")}
    first, second = (trials, others) if later == "chooses" else (others, trials)
    study = load(arms=first, second={"arms": second, "seeds": [1, 3]}, **JUDGED_APART)
    assert study.run("small", "tuned", 1).trial_seed == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"evaluation": {}}, "rows that choose must not judge; write evaluation: {heldout: {split: test}}"),
        (
            {"benchmarks": ["retention"], "evaluation": {}},
            "other rows must judge; add heldout to the benchmarks",
        ),
        (
            {"slow": None},
            "best_of names 'slow', and small has no arm of that name with seed 1, the first of the campaign",
        ),
        ({"slow": {"rank": 4}}, "best_of names slow, which has another rank: its rate is the best of another arm"),
        ({"slow": {"layers": "last"}}, "best_of names slow, which has another layers"),
        ({"slow": {"steps": 50}}, "best_of names slow, which has another steps"),
        ({"slow": {"extra_steps_percent": 50}}, "best_of names slow, which has another extra_steps_percent"),
        ({"slow": {"learning_rate": {"best_of": ["usual"]}}}, "best_of names slow, whose own rate is chosen"),
        ({"tuned": {"learning_rate": {"best_of": ["tuned"]}}}, "best_of names tuned, whose own rate is chosen"),
        ({"tuned": {"learning_rate": {"best_of": []}}}, "learning_rate.best_of: expected at least 1 entry, found []"),
        ({"tuned": {"learning_rate": "best"}}, "arms.tuned.learning_rate: "),
    ],
)
def test_a_rate_that_nothing_could_choose_is_one_sentence(load, changes, says):
    kept = [name for name in TUNED if changes.get(name, {}) is not None]
    arms = {name: {**TUNED[name], **changes.get(name, {})} for name in kept}
    campaign = {key: value for key, value in changes.items() if key not in TUNED}
    data = {**TESTED, "retention": {"source": {"type": "local", "path": "texts.jsonl", "format": "retention"}}}
    with pytest.raises(UserError) as raised:
        load(arms=arms, **{**JUDGED_APART, "data_registry": data, **campaign})
    assert says in str(raised.value)


def test_the_ledger_tells_a_chosen_rate_from_a_stated_one(load):
    study = load(arms=TUNED, **JUDGED_APART)

    def envelope(arm, rate):
        config = {"arm": sections.arm(study, "small", arm, 1), **study.run("small", arm, 1).settings}
        return {"payload": {"learning_rate": rate, "steps": 40}, "lineage": {"config": config}}

    assert differences(envelope("usual", 0.0005), envelope("tuned", 0.0005)) == ["learning_rate"]
    assert differences(envelope("tuned", 0.001), envelope("tuned", 0.001)) == []
    assert differences(envelope("tuned", 0.001), envelope("tuned", 0.0005)) == ["learning_rate"]


# --- steps by equal time, and what arms claim -------------------------------------------------------------------------

TIMED = {
    **CAMPAIGN["arms"],
    "wide": {"layers": "all", "rank": 8, "steps": 60},
    "timed": {"layers": "last", "steps": {"seconds_of": "wide"}, "equal": {"seconds": "wide", "layers": "ale"}},
}


def test_steps_by_equal_time_wait_for_the_costs_of_the_model(load):
    study, paths, key = load(arms=TIMED), Paths(), ("small", "timed", 2)
    decided = inputs.deciding(study, paths, *key)
    # The other arm adapts all layers and has no selection; the costs are those of the first probed seed.
    assert {name: found for name, found in decided.items() if found} == {"costs": paths.attribution("small", 1)}
    ale = load(arms={**TIMED, "timed": {**TIMED["timed"], "steps": {"seconds_of": "ale"}}})
    assert inputs.deciding(ale, paths, *key)["timed"] == paths.selection("small", "ale", 2)
    run = study.run(*key)
    assert (run.kind, run.settings["training"]["steps"]) == ("train_cm", 60)
    assert run.arm_settings["steps"]["adapter"]["rank"] == 8
    made = paths.attribution("small", 1)
    assert study_files(study)[made] == "attribute"
    assert made not in attribution_files(study)
    assert made not in study_files(load())
    assert made in attribution_files(load())


def test_a_claim_changes_no_run_and_stands_in_the_index(load):
    without = {name: {k: v for k, v in arm.items() if k != "equal"} for name, arm in TIMED.items()}
    study, plain = load(arms=TIMED), load(arms=without)
    assert of_jobs(study, "timed") == of_jobs(plain, "timed")
    (index,), (other,) = study.campaign_index(), plain.campaign_index()
    assert index.pop("claims") == {"timed": {"seconds": "wide", "layers": "ale"}}
    assert index == other
    (own,) = load(
        overrides={"small": {"arms": {"timed": {"layers": "last", "equal": {"layers": "ale"}}}}}
    ).campaign_index()
    assert own["models"]["small"]["claims"] == {"timed": {"layers": "ale"}}
    assert all("claims" not in run for run in planned_runs(own))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"steps": {"seconds_of": "wider"}},
            "found 'wider', and small has no arm of that name with seed 1",
        ),
        ({"steps": {"seconds_of": "timed"}}, "found timed, whose own steps follow from times"),
        (
            {"steps": {"seconds_of": "cm"}},
            "found cm, whose own steps follow from times",
        ),
        ({"steps": {"seconds": "ale"}}, "arms.timed.steps"),
        ({"batch_size": 4}, "and batch_size differs among them; make it equal in all three"),
        ({"modules": ["v_proj"]}, "and modules differs among them; make it equal in all three"),
        ({"extra_steps_percent": 50}, "extra_steps_percent: found one beside steps: "),
        ({"layers_active": {"every": 2, "count": 1}}, "know nothing of layers_active, which timed has"),
        (
            {"equal": {"layers": "alle"}},
            "arms.timed.equal.layers: found 'alle', and small has no other arm",
        ),
        ({"equal": {"layers": "timed"}}, "arms.timed.equal.layers: found 'timed', and small has no other arm"),
        ({"equal": {}}, "arms.timed.equal: expected at least 1"),
        ({"equal": {"layer": "ale"}}, "arms.timed.equal: unknown key 'layer'"),
    ],
)
def test_equal_time_or_claims_that_hold_for_no_arm_are_one_sentence(load, changes, says):
    cm = {"layers": "gradient", "steps": "measured"}
    with pytest.raises(UserError) as raised:
        load(arms={**TIMED, "cm": cm, "timed": {**TIMED["timed"], **changes}})
    assert says in str(raised.value)


def test_equal_time_needs_a_probed_arm(load):
    arms = {"std": {"layers": "all"}, "timed": {"layers": "last", "steps": {"seconds_of": "std"}}}
    with pytest.raises(UserError, match="needs the step costs of small, which are measured with the layers of a probe"):
        load(arms=arms)


def test_steps_by_equal_time_may_follow_from_adapters_that_are_each_model_s_own(load):
    narrower = {"large": {"arms": {"wide": {**TIMED["wide"], "rank": 4}}}}
    study = load(models=["small", "large"], arms=TIMED, overrides=narrower)
    (index,) = study.campaign_index()
    rows = {}
    for key in itertools.product(("small", "large"), ("wide", "timed"), (1, 2)):
        run = study.run(*key)
        config = {"arm": run.arm_settings, **{section: run.settings[section] for section in SECTIONS}}
        rows[key] = [RowSource("/".join(map(str, key)), {"lineage": {"step": "train", "code": {}, "config": config}})]
    assert study.run("small", "timed", 1).arm_settings != study.run("large", "timed", 1).arm_settings
    assert deviations(rows, index) == {}


def test_an_attribution_that_steps_follow_from_is_planned_once(load):
    timed = {"seconds_per_step": 2.0, "origin": "fitted"}
    registry = {"small": {**MODELS["small"], "time": timed, "parameters": 1000, "layers": 4}}
    matched = {**TIMED, "timed": {"layers": "last", "steps": 60}}
    costs = [
        sum(cost.training_seconds for cost in estimate_costs(load(registry=registry, arms=each, second={})))
        for each in (matched, TIMED)
    ]
    pace = load(registry=registry).shared["small"]["interleaving"]
    assert costs[1] - costs[0] == pytest.approx(turns_seconds(registry["small"], pace, arms=ATTRIBUTED_ARMS))
    assert len(step_attribution.arms(4, [0, 1], recomputed=False)) == ATTRIBUTED_ARMS
