"""The configuration is closed, whole in each campaign, and each mistake in it is one sentence."""

import itertools
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from aletheia.errors import UserError
from aletheia.study import sections
from aletheia.study.campaign_artifacts import campaign_artifacts
from aletheia.study.load import load_study
from aletheia.study.paths import Paths
from aletheia.study.planned_runs import planned_runs, runs_in_turns
from aletheia.study.schema import schema, trees
from conftest import ROOT

CAMPAIGN = {
    "name": "one",
    "models": ["small"],
    "seeds": [1, 2],
    "data": "rows",
    "arms": {
        "std": {"layers": "all"},
        "ale": {"layers": "gradient"},
        "cm": {"layers": "gradient", "extra_steps_percent": 25},
    },
    "benchmarks": ["heldout"],
}
MODELS = {name: {"source": {"type": "random", "config": {"model_type": "llama"}}} for name in ("small", "large")}
DATA = {
    "rows": {"source": {"type": "stdlib"}, "held_out": 8},
    "whole": {"source": {"type": "stdlib"}},
    "mmlu": {"source": {"type": "local", "path": "mmlu.jsonl", "format": "mmlu"}, "fewshot": {"file": "dev.jsonl"}},
    "unsolved": {"source": {"type": "local", "path": "mmlu.jsonl", "format": "mmlu"}},
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Return a function that loads a study of the given campaigns."""
    monkeypatch.chdir(tmp_path)
    number = itertools.count()

    def load(*campaigns, models=MODELS, data=DATA, **config):
        paths = []
        for campaign in campaigns:
            path = Path(f"campaign{next(number)}.yaml")
            path.write_text(campaign if isinstance(campaign, str) else yaml.safe_dump(campaign))
            paths.append(str(path))
        Path("models.yaml").write_text(yaml.safe_dump(models))
        Path("data.yaml").write_text(yaml.safe_dump(data))
        return load_study({"campaigns": paths, "models": "models.yaml", "data": "data.yaml", **config})

    return load


def changed(**keys):
    return {**CAMPAIGN, **keys}


def test_runs_are_models_times_arms_times_seeds(study):
    runs = study(CAMPAIGN).runs
    assert len(runs) == 6
    assert {key: run.kind for key, run in runs.items() if key[2] == 1} == {
        ("small", "std", 1): "train_std",
        ("small", "ale", 1): "train_ale",
        ("small", "cm", 1): "train_cm",
    }


def test_defaults_are_the_papers(study):
    settings = study(CAMPAIGN).runs["small", "std", 1].settings
    assert settings["adapter"] == {"rank": 16, "alpha": 32, "modules": "all", "scaling": "standard", "dropout": 0}
    training = settings["training"]
    assert (training["steps"], training["accumulation"], training["warmup_steps"]) == (200, 2, 20)
    assert training["optimizer"] == {
        "beta1": 0.9,
        "beta2": 0.95,
        "epsilon": 1e-7,
        "weight_decay": 0.01,
        "loraplus_lr_ratio": 1,
    }
    assert settings["probe"]["batches"] == 5


def test_an_override_changes_one_model_alone(study):
    campaign = changed(models=["small", "large"], overrides={"large": {"training": {"batch_size": 1}}})
    runs = study(campaign).runs
    assert runs["large", "std", 1].settings["training"]["batch_size"] == 1
    assert runs["large", "std", 1].settings["training"]["steps"] == 200
    assert runs["small", "std", 1].settings["training"]["batch_size"] == 4


@pytest.mark.parametrize(
    ("training", "override", "expected"),
    [({}, {}, 3), ({"batch_size": 4}, {}, 4), ({}, {"batch_size": 1}, 1), ({"batch_size": 2}, {"batch_size": 1}, 1)],
)
def test_the_registrys_batch_size_holds_where_the_campaign_says_none(study, training, override, expected):
    registry = {**MODELS, "small": {**MODELS["small"], "batch_size": 3}}
    overrides = {"small": {"training": override}, "large": {"training": {"eval_rows": 4}}}
    runs = study(changed(models=["small", "large"], training=training, overrides=overrides), models=registry).runs
    assert runs["small", "std", 1].settings["training"]["batch_size"] == expected
    # Nor has the campaign's default another model's.
    assert runs["large", "std", 1].settings["training"]["batch_size"] == training.get("batch_size", 4)


def test_an_arm_may_belong_to_some_models_alone(study):
    arms = {**CAMPAIGN["arms"], "cm": {**CAMPAIGN["arms"]["cm"], "models": ["large"]}}
    loaded = study(changed(models=["small", "large"], arms=arms), changed(name="two", models=["large"]))
    expected = {("small", "std"), ("small", "ale"), ("large", "std"), ("large", "ale"), ("large", "cm")}
    assert {(model, arm) for model, arm, _ in loaded.runs} == expected
    one, two = loaded.campaign_index()
    assert {(run["model"], run["arm"]) for run in planned_runs(one)} == expected
    assert len(planned_runs(one)) == 2 * len(expected)
    assert {run["arm"] for run in planned_runs(two)} == {"std", "ale", "cm"}
    # Which models have an arm decides no run, so both campaigns mean the same one; and no run carries the list.
    assert "models" not in loaded.runs["large", "cm", 1].arm_settings
    assert not any("arms" in run for run in planned_runs(one))


def test_a_campaign_takes_its_speed_from_the_wall_clock_or_from_turns(study):
    arms = {**CAMPAIGN["arms"], "random50": {"layers": "random"}}
    loaded = study(changed(arms=arms), changed(name="two", arms=arms, seeds=[2], speed="turns"))
    assert [campaign.get("speed") for campaign in loaded.campaign_index()] == [None, "turns"]
    timed = [(run.arm, run.seed) for run in loaded.runs_timed_in_turns()]
    assert timed == [(arm, 2) for arm in arms if arm != "std"]
    assert {run.arm for run in loaded.paired_runs()} == set(arms) - {"std"}
    declared = campaign_artifacts(loaded.campaign_index(), Paths()).turns
    assert set(declared) == {("small", *key) for key in timed}
    first = study(changed(arms=arms, speed="turns", interleaving={"seeds": 1}))
    assert [(run.arm, run.seed) for run in first.runs_timed_in_turns()] == [(arm, 1) for arm in arms if arm != "std"]
    without = {arm: entry for arm, entry in arms.items() if arm != "std"}
    (alone,) = study(changed(arms=without, reports=[])).campaign_index()
    assert runs_in_turns({**alone, "speed": "turns"}) == []


def test_two_campaigns_share_equal_runs_and_the_model_gets_all_benchmarks(study):
    loaded = study(CAMPAIGN, changed(name="two", benchmarks=["mmlu"]))
    assert len(loaded.runs) == 6
    assert loaded.model_benchmarks("small") == ["heldout", "mmlu"]
    assert [c["name"] for c in loaded.campaign_index()] == ["one", "two"]


def test_reports_decide_tables_and_figures(study):
    loaded = study(changed(reports=["compute_matched"]))
    assert (loaded.tables(), loaded.figure_names()) == ([1, 5, "S1"], ["fig4", "figS1", "figS2", "figS4"])
    assert loaded.analyses() == ["FINDINGS.md", "INFERENCE.md", "COMPUTE_MATCHED_ANALYSIS.md"]
    assert loaded.result_tables() == ["RESULTS_CAMPAIGN2.csv", "layers.csv", "answers.parquet"]


def test_a_sweep_of_the_budget_brings_its_analysis(study):
    low, high = ({"layers": "gradient", "budget_percent": percent} for percent in (25, 75))
    arms = CAMPAIGN["arms"]
    assert study(changed(arms={**arms, "low": low})).analyses()[-1] == "CLOSEOUT.md"
    swept = study(changed(arms={**arms, "high": high, "low": low}))
    budgets = {"low": 25, "ale": 50, "high": 75, "std": 100}
    assert sections.budget_sweeps(swept) == [{"campaign": "one", "model": "small", "budgets": budgets}]
    assert "CLOSEOUT.md" not in study(CAMPAIGN).analyses()
    assert sections.budget_sweeps(study(CAMPAIGN)) == []


SCORED = {"mmlu": {"score": 60, "tolerance": 10, "source": "a card, https://example.org"}}


def test_a_published_score_reaches_the_ledger_alone_and_no_stand_in(study):
    scored = {**MODELS, "small": {**MODELS["small"], "published_scores": SCORED}}
    plain, judged = study(CAMPAIGN), study(CAMPAIGN, models=scored)
    assert (sections.published_scores(plain), sections.published_scores(judged)) == ({}, {"small": SCORED})
    assert judged.runs == plain.runs
    assert sections.campaigns(judged) == sections.campaigns(plain)
    for section in (sections.model_source, sections.loading, sections.trained_model, sections.probe):
        assert section(judged, "small") == section(plain, "small")
    stood_in = {"small": {**scored["small"], "stand_in": {"config": {"model_type": "llama"}}}}
    assert sections.published_scores(study(CAMPAIGN, models=stood_in, stand_ins=True)) == {}


def test_losses_on_the_way_bring_their_table_and_figure(study):
    loaded = study(CAMPAIGN, changed(name="two", models=["large"], training={"curve_every": 1}))
    assert loaded.result_tables()[-2:] == ["curves.csv", "answers.parquet"]
    assert loaded.figure_names()[-1] == "figS5"
    assert [index.get("curves") for index in loaded.campaign_index()] == [None, True]


def test_a_study_of_one_arm_compares_nothing(study):
    loaded = study(changed(arms={"std": CAMPAIGN["arms"]["std"]}, reports=[]))
    assert (loaded.tables(), loaded.figure_names()) == ([1], [])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"trainig": {}}, r"campaign0\.yaml, line \d+: unknown key 'trainig'; did you mean 'training'\?"),
        ({"training": {"step": 3}}, r"training: unknown key 'step'; did you mean 'steps'\?"),
        ({"training": {"steps": "many"}}, r"training\.steps: expected a value of type integer, found 'many'"),
        ({"training": {"steps": 0}}, r"training\.steps: expected at least 1, found 0"),
        (
            {"arms": {"ale": {"layers": "gradient", "budget_percent": 0}}},
            r"arms\.ale\.budget_percent: expected more than 0, found 0",
        ),
        ({"arms": {"ale": {"layers": "gradients"}}}, r"arms\.ale\.layers: expected one of all, gradient"),
        (
            {"benchmarks": ["mlu"]},
            r"benchmarks\.0: expected one of heldout, mmlu, gsm8k, humaneval, piqa, openbookqa, retention, found 'mlu'",
        ),
        ({"models": ["smal"]}, r"model 'smal' is not in the registry; did you mean 'small'\?"),
        ({"data": "row"}, r"needs the data 'row', which is not in the registry; did you mean 'rows'\?"),
        ({"benchmarks": ["humaneval"]}, r"needs the data 'humaneval', which is not in the registry"),
        (
            {"arms": {"cm": {"layers": "gradient", "steps": "measured"}}},
            r"measured needs the arms std and ale",
        ),
        (
            {"arms": {"std": {"layers": "all"}, "ale": {"layers": "gradient", "models": ["smal"]}}},
            r"arms\.ale\.models\.0: 'smal' is no model of the campaign; did you mean 'small'\?",
        ),
        (
            {"models": ["small", "large"], "arms": {"std": {"layers": "all", "models": ["small"]}}},
            r"no arm has the model 'large'; name it in one, or take it out",
        ),
        ({"data": "whole"}, r"small trains on 'whole', which sets no rows aside for the held-out loss"),
        (
            {"benchmarks": ["mmlu"], "evaluation": {"mmlu": {"num_fewshot": 6}}},
            r"evaluation\.mmlu\.num_fewshot is 6, and mmlu has 5 few-shot examples; give it fewshot \(file, rows\)",
        ),
        (
            {"benchmarks": ["mmlu"], "evaluation": {"mmlu": {"questions": "unsolved"}}},
            r"evaluation\.mmlu\.num_fewshot is 5, and unsolved has 0 few-shot examples",
        ),
        ({"seeds": [1, 1]}, r"seeds: expected entries without repetition"),
        ({"overrides": {"smal": {}}}, r"overrides\.smal: 'smal' is no model of the campaign; did you mean 'small'\?"),
    ],
)
def test_a_mistake_in_a_campaign_is_one_sentence(study, keys, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        study(changed(**keys))
    assert "\n" not in str(error.value)


def test_a_missing_key_and_broken_yaml(study):
    without = {k: v for k, v in CAMPAIGN.items() if k != "arms"}
    with pytest.raises(UserError, match="expected the key 'arms', which is missing"):
        study(without)
    with pytest.raises(UserError, match=r"campaign\d\.yaml, line 2: expected YAML \("):
        study("name: x\n  models: [a\n")
    with pytest.raises(UserError, match="expected a configuration file here and found none"):
        load_study({"campaigns": ["nowhere.yaml"], "models": "models.yaml", "data": "data.yaml"})


def test_a_clash_of_two_campaigns_is_one_sentence(study):
    with pytest.raises(UserError, match="small/ale/seed1 has other training settings in an earlier campaign"):
        study(CAMPAIGN, changed(name="two", training={"steps": 70}))
    with pytest.raises(UserError, match="arm 'ale' of small means something else"):
        study(CAMPAIGN, changed(name="two", arms={"ale": {"layers": "last"}}))
    with pytest.raises(UserError, match=r"small has other evaluation.batch_size settings in an earlier campaign"):
        study(CAMPAIGN, changed(name="two", arms={"last50": {"layers": "last"}}, evaluation={"batch_size": 1}))
    with pytest.raises(UserError, match="two campaigns are named 'one'"):
        study(CAMPAIGN, CAMPAIGN)


SHORT = {"steps": 3, "warmup_steps": 0, "timing_warmup_steps": 1}
STOOD_IN = {name: {**MODELS[name], "stand_in": {"config": {"model_type": "qwen2"}}} for name in ("small", "large")}


def test_stand_ins_take_the_place_of_the_models(study):
    hub = {"source": {"type": "hub", "id": "them/small"}, "parameters": 7, "licence": "MIT", "gated": True, "gpus": 4}
    models = {"small": {**hub, "stand_in": STOOD_IN["small"]["stand_in"]}, "large": MODELS["large"]}
    plain, stood_in = study(CAMPAIGN, models=models), study(CAMPAIGN, models=models, stand_ins=True)
    assert plain.models["small"]["source"] == hub["source"]
    entry = stood_in.models["small"]
    assert entry["source"] == {"type": "random", "config": {"model_type": "qwen2"}, "seed": 0, "tokenizer": "bytes"}
    # What plans its jobs is the model's; nobody licenses random numbers.
    assert (entry["parameters"], entry["gpus"]) == (7, 4)
    assert not {"licence", "gated"} & set(entry)
    assert {key: run.settings for key, run in stood_in.runs.items()} == {
        key: run.settings for key, run in plain.runs.items()
    }
    # Only the campaigns' models need one.
    assert stood_in.models["large"]["source"] == MODELS["large"]["source"]
    with pytest.raises(
        UserError, match=r"^model small: the study is made of stand-ins, and the registry has none for it"
    ):
        study(CAMPAIGN, stand_ins=True)


def test_a_rehearsals_settings_lie_over_each_campaigns_and_below_its_overrides(study):
    first = changed(training={"steps": 150, "batch_size": 8}, overrides={"large": {"training": {"batch_size": 1}}})
    second = changed(name="two", seeds=[3], models=["large"], training={"batch_size": 1})
    loaded = study(
        {**first, "models": ["small", "large"]},
        second,
        models=STOOD_IN,
        stand_ins=True,
        rehearsal={"training": {**SHORT, "optimizer": {"beta1": 0.5}}, "encoding": {"max_tokens": 64}},
    )
    found = {(model, seed): loaded.runs[model, "std", seed].settings for model, seed in loaded.batches}
    assert {key: own["training"]["steps"] for key, own in found.items()} == dict.fromkeys(found, 3)
    assert {key: own["encoding"]["max_tokens"] for key, own in found.items()} == dict.fromkeys(found, 64)
    sizes = {key: own["training"]["batch_size"] for key, own in found.items()}
    assert sizes == {("small", 1): 8, ("small", 2): 8, ("large", 1): 1, ("large", 2): 1, ("large", 3): 1}
    optimizer = found["small", 1]["training"]["optimizer"]
    assert (optimizer["beta1"], optimizer["beta2"]) == (0.5, 0.95)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"rehearsal": {"training": {"steps": 3}}},
            r"^config: rehearsal would lay its settings over those of real models",
        ),
        (
            {"rehearsal": {"training": {"step": 3}}, "stand_ins": True},
            r"training: unknown key 'step'; did you mean 'steps'",
        ),
        (
            {"rehearsal": {"training": {"steps": 0}}, "stand_ins": True},
            r"^config: rehearsal: training\.steps: expected at",
        ),
        ({"rehearsal": {"seeds": [1]}, "stand_ins": True}, r"^config: rehearsal: unknown key 'seeds'"),
        (
            {"rehearsal": {"trainig": {}}, "stand_ins": True},
            r"rehearsal: unknown key 'trainig'; did you mean 'training'",
        ),
        ({"stand_ins": "yes"}, r"^config: stand_ins: expected a value of type boolean, found 'yes'"),
    ],
)
def test_a_mistake_in_a_rehearsal_is_one_sentence(study, config, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        study(CAMPAIGN, models=STOOD_IN, **config)
    assert "\n" not in str(error.value)


def test_unknown_keys_of_the_study_and_the_registries(study):
    with pytest.raises(UserError, match=r"config: unknown key 'figure'; did you mean 'figures'\?"):
        study(CAMPAIGN, figure={})
    with pytest.raises(UserError, match="bf61"):
        study(CAMPAIGN, models={"small": {**MODELS["small"], "dtype": "bf61"}})


def test_every_setting_of_the_schemas_is_described():
    def walk(node, path):
        for key, child in node.get("properties", {}).items():
            assert "description" in child or "$ref" in child or "const" in child, f"{path}.{key}"
            walk(child, f"{path}.{key}")

    for name in ("config", "campaign", "models", "data"):
        Draft202012Validator.check_schema(schema(name))
        walk(schema(name), name)
    for path in (ROOT / "workflow" / "schemas").iterdir():
        assert "$schema" in path.read_text(encoding="utf-8"), path.name


def test_the_default_study_loads(monkeypatch):
    monkeypatch.chdir(ROOT)
    loaded = load_study(yaml.safe_load(Path("config/config.yaml").read_text()))
    assert len(loaded.runs) == 15
    assert loaded.tables() == [1, 2, 3, 4, 5, "S1"]


@pytest.mark.parametrize(
    ("pathvars", "sentence"),
    [
        (
            {"results": "./results"},
            "pathvars.results: expected a folder in its shortest spelling, results, found",
        ),
        ({"resources": "kept/"}, "pathvars.resources: expected a folder in its shortest spelling, kept, found 'kept/'"),
        (
            {"results": "a/../b"},
            "pathvars.results: expected a folder in its shortest spelling, b, found 'a/../b'",
        ),
        (["a"], "pathvars: expected a value of type object, found ['a']"),
        (None, "pathvars: expected a value of type object, found nothing"),
        ({"results": 3}, "pathvars.results: expected a value of type string, found 3"),
        ({"result": "other"}, "pathvars: unknown key 'result'; did you mean 'results'?"),
    ],
)
def test_a_mistake_in_the_trees_is_one_sentence(study, pathvars, sentence):
    for read in (lambda: trees({"pathvars": pathvars}), lambda: study(CAMPAIGN, pathvars=pathvars)):
        with pytest.raises(UserError) as raised:
            read()
        assert str(raised.value).startswith(f"config: {sentence}")


def test_trees_stand_where_the_path_variables_say():
    assert trees({}) == ("results", "resources")
    assert trees({"pathvars": {"results": "../there", "resources": "/disk/kept"}}) == ("../there", "/disk/kept")
