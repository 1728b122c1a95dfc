"""The paper's study as data: its rows by name, its registries and tables, nothing of the default study in it."""

import math
import os
import re
import resource
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import ledgers
from aletheia.analysis import pairs
from aletheia.analysis.ledger import build_ledger
from aletheia.analysis.paper_tables import load_published
from aletheia.study.load import load_study
from aletheia.study.planned_runs import planned_runs
from aletheia.study.schema import read_yaml, schema, with_defaults
from aletheia.training.trainer import planned_steps
from conftest import ROOT, SCRIPTS, copy_project, said, snakemake

SEEDS = (42, 123, 999)
CAMPAIGN_1 = (
    "qwen2.5-0.5b",
    "tinyllama-1.1b",
    "qwen2.5-1.5b",
    "phi-3.5-mini",
    "mistral-7b",
    "qwen2.5-7b",
    "llama-3.1-8b",
    "qwen2.5-14b",
    "llama-3.1-70b",
    "qwen2.5-72b",
)
CAMPAIGN_2 = (
    "qwen2.5-3b",
    "qwen2.5-7b",
    "llama-3.1-8b",
    "stablelm-2-1.6b",
    "gpt-j-6b",
    "mixtral-8x7b",
    "pythia-1.4b",
)
MATCHED = ("qwen2.5-3b", "qwen2.5-7b", "llama-3.1-8b")
FURTHER = ("smollm2-1.7b", "yi-1.5-6b", "olmo-7b-0724")
SWEEP = ("std", "budget25", "ale", "budget75")
GPU_GIB = 64e9 / 2**30


def rows(models, arms):
    return {(model, arm, seed) for model in models for arm in arms for seed in SEEDS}


@pytest.fixture(scope="module")
def paper():
    before = Path.cwd()
    os.chdir(ROOT)
    yield load_study(read_yaml(Path("config/paper.yaml")))
    os.chdir(before)


@pytest.fixture(scope="module")
def models(paper):
    """Return the registry's entries of the paper's models by name."""
    return {name: paper.models[name] for name in paper.used_models()}


@pytest.fixture(scope="module")
def planned(paper):
    """Return the rows of each campaign by name, as aggregate plans them."""
    return {
        campaign["name"]: [(run["model"], run["arm"], run["seed"]) for run in planned_runs(campaign)]
        for campaign in paper.campaign_index()
    }


def test_campaign_1_is_30_pairs(planned):
    expected = rows(CAMPAIGN_1, ["std", "ale"])
    assert set(planned["campaign1"]) == expected
    assert len(planned["campaign1"]) == len(expected) == 60
    assert len({(model, seed) for model, _, seed in planned["campaign1"]}) == 30


def test_campaign_2_is_51_runs(planned):
    expected = rows(CAMPAIGN_2, ["std", "ale"]) | rows(MATCHED, ["cm"])
    assert set(planned["campaign2"]) == expected
    assert len(planned["campaign2"]) == len(expected) == 51
    assert sum(model == "pythia-1.4b" for model, _, _ in planned["campaign2"]) == 6


def test_the_papers_81_rows_are_111_of_the_ledger_from_99_trainings(paper, planned):
    pairs = {(model, seed) for model, _, seed in planned["campaign1"]}
    assert len(pairs) + len(planned["campaign2"]) == 81
    ledger = planned["campaign1"] + planned["campaign2"]
    assert len(ledger) == 111
    assert len(set(ledger)) == 99
    assert set(planned["campaign1"]) & set(planned["campaign2"]) == rows(["qwen2.5-7b", "llama-3.1-8b"], ["std", "ale"])
    assert set(ledger) <= set(paper.runs)


def test_the_closeout_is_12_and_18_runs_and_llama_70b_on_every_benchmark(paper, planned):
    by_part = [
        {row for row in planned["closeout"] if row[0] in part}
        for part in (("qwen2.5-3b",), FURTHER, ("llama-3.1-70b",))
    ]
    assert by_part == [
        rows(["qwen2.5-3b"], SWEEP),
        rows(FURTHER, ["std", "ale"]),
        rows(["llama-3.1-70b"], ["std", "ale"]),
    ]
    assert list(map(len, by_part)) == [12, 18, 6]
    assert sum(map(len, by_part)) == len(planned["closeout"])
    budgets = {arm: paper.runs["qwen2.5-3b", arm, 42].arm_settings.get("budget_percent") for arm in SWEEP[1:]}
    assert budgets == {"budget25": 25, "ale": 50, "budget75": 75}
    assert paper.model_benchmarks("llama-3.1-70b") == ["heldout", "mmlu", "gsm8k", "humaneval"]
    # Only what no campaign has is trained for it.
    new = set(planned["closeout"]) - set(planned["campaign1"]) - set(planned["campaign2"])
    assert new == rows(["qwen2.5-3b"], ["budget25", "budget75"]) | rows(FURTHER, ["std", "ale"])
    assert len(paper.runs) == 99 + len(new) + 30 == 153


def test_asymmetric_ranks_are_30_further_trainings_of_campaign_1s_models(paper, planned):
    assert set(planned["asymmetric"]) == rows(CAMPAIGN_1, ["std", "ale", "ale_asym"])
    own = rows(CAMPAIGN_1, ["ale_asym"])
    assert set(planned["asymmetric"]) - own == set(planned["campaign1"])
    for model, arm, seed in own:
        theirs, ale = paper.runs[model, arm, seed], paper.runs[model, "ale", seed]
        assert theirs.settings["adapter"] == {**ale.settings["adapter"], "rank": {"attention": 16, "mlp": 64}}
        assert (theirs.settings["training"], theirs.arm_settings) == (ale.settings["training"], ale.arm_settings)


def test_the_ledger_and_the_tables_take_the_papers_campaigns(paper):
    """The real index, with made-up measurements: 30 and 51 rows, Pythia's failures among them."""
    runs = {key: ledgers.run(*key) for key in paper.runs}
    for (model, *_), envelope in runs.items():
        if model == "pythia-1.4b":
            envelope["payload"] |= {"status": "diverged", "reason": "loss is NaN", "eval_loss": None}
    asked = {(*key, benchmark) for key in paper.runs for benchmark in paper.model_benchmarks(key[0])}
    asked |= {(model, "base", None, b) for model in paper.used_models() for b in paper.model_benchmarks(model)}
    evaluations = {key: ledgers.evaluation(*key, score=0.5) for key in asked}
    ledger = build_ledger(paper.campaign_index(), runs, evaluations)
    assert ledger["campaign"].value_counts().to_dict() == {
        **{"campaign1": 60, "campaign2": 51, "closeout": 36},
        "asymmetric": 90,
    }
    assert len(pairs.results_master(ledger)) == 30
    assert set(pairs.results_master(ledger)["model"]) == set(CAMPAIGN_1)
    second = pairs.results_runs(ledger)
    assert len(second) == 51
    assert second.loc[second["status"] == "diverged", "model"].value_counts().to_dict() == {"pythia-1.4b": 6}
    # Campaign 1 asks for MMLU alone, whatever campaign 2 asks of a model that both have.
    first = ledger[ledger["campaign"] == "campaign1"]
    assert first["gsm8k"].isna().all()
    assert first["mmlu"].notna().all()


def test_the_protocol_is_the_papers(paper):
    """Section 3.4: the values that it states, in each run."""
    for run in paper.runs.values():
        training, adapter = run.settings["training"], run.settings["adapter"]
        optimizer = {"beta1": 0.9, "beta2": 0.95, "epsilon": 1e-7, "weight_decay": 0.01, "loraplus_lr_ratio": 1}
        assert (training["optimizer"], training["accumulation"]) == (optimizer, 2)
        assert (training["steps"], training["schedule"], training["warmup_steps"]) == (200, "cosine", 20)
        rank = {"attention": 16, "mlp": 64} if run.arm == "ale_asym" else 16
        assert (training["learning_rate"], adapter["rank"], adapter["alpha"]) == (5e-4, rank, 32)
        assert paper.shared[run.model]["probe"]["batches"] == 5
        assert planned_steps(training, run.arm_settings) == (250 if run.arm == "cm" else 200)
    sizes = {name: entry.get("rows") for name, entry in paper.data.items() if name in paper.used_data()}
    assert sizes == {"alpaca-cleaned": None, "mmlu-200": 200, "gsm8k-200": 200, "humaneval-164": None}


def test_the_registry_is_table_1(paper, models):
    table = load_published(ROOT / "config/published")[1]
    assert set(models) == set(table) | {"pythia-1.4b", *FURTHER}
    assert len(models) == 18
    # One registry for all studies, with the default study's two.
    registry = read_yaml(ROOT / "config/models.yaml")
    assert set(registry) == {*models, "smollm2-135m", "glasslm"} == set(paper.models)
    for key, row in table.items():
        entry = models[key]
        assert (entry["family"], entry["layers"]) == (row["family"], row["layers"])
        # The table drops digits: its 7B have 7.2 and 7.6 billion.
        assert entry["parameters"] / 1e9 == pytest.approx(row["parameters_billions"], rel=0.1)
        campaigns = [name for name, models in (("1", CAMPAIGN_1), ("2", CAMPAIGN_2)) if key in models]
        assert row["campaigns"] == " ".join(campaigns)


def test_the_stage_step_knows_the_papers_models_by_hand(paper, monkeypatch):
    monkeypatch.chdir(ROOT)
    registered = runpy.run_path(str(SCRIPTS / "stage.py"))["registry_entry"]
    for name in paper.used_models():
        assert registered("model", name)["source"]["id"] == paper.models[name]["source"]["id"]


def test_precision_and_gpus_are_the_papers(models):
    for name, entry in models.items():
        assert entry["dtype"] == ("bf16" if entry["family"] in ("Qwen", "Phi") else "fp16")
        assert entry["gpus"] == (4 if name == "mixtral-8x7b" else 1)
        assert entry["source"]["revision"] is None
        assert entry["attention"] is None  # the paper's Pythia fails
    assert {name for name, entry in models.items() if entry.get("gated")} == {"llama-3.1-8b", "llama-3.1-70b"}


def test_weights_fit_the_gpus_that_a_model_asks_for(models):
    for entry in models.values():
        sixteen_bits = 2 * entry["parameters"] / 2**30
        if entry["quantization"] is None:
            assert entry["memory_gib"] == pytest.approx(sixteen_bits, abs=0.05)
        else:
            assert sixteen_bits / 4 < entry["memory_gib"] <= sixteen_bits
        assert entry["memory_gib"] < entry["gpus"] * GPU_GIB


def test_published_scores_are_the_makers_and_each_says_where_it_stands(models):
    published = {name: entry["published_scores"] for name, entry in models.items() if "published_scores" in entry}
    assert len(published) == 10
    makers = pd.read_csv(ROOT / "config/published/makers_mmlu.csv").set_index("key")["mmlu_percent"]
    for name, scores in published.items():
        assert set(scores) == {"mmlu"}
        assert re.search(r", https://\S+$", scores["mmlu"]["source"])
        assert makers.get(name, scores["mmlu"]["score"]) == scores["mmlu"]["score"]


def test_step_times_are_table_2s_or_the_line_through_them(models):
    table = load_published(ROOT / "config/published")[2]
    seconds = {
        key: row["std_seconds_mean"] / 200 for key, row in table.items() if not math.isnan(row["std_seconds_mean"])
    }
    billions = {name: entry["parameters"] / 1e9 for name, entry in models.items()}
    slope, fixed = np.polyfit([billions[key] for key in seconds], list(seconds.values()), 1)
    for name, entry in models.items():
        expected = seconds.get(name, fixed + slope * billions[name])
        assert entry["time"]["origin"] == ("published" if name in seconds else "fitted")
        assert entry["time"]["seconds_per_step"] == pytest.approx(expected, rel=2e-3)
    assert len(seconds) == 10


def leaves(node, prefix=()):
    """Yield (path, value) of every setting in a tree."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def test_nothing_of_the_default_study_is_in_the_papers(paper):
    default = load_study(read_yaml(ROOT / "config/config.yaml"))
    assert not set(default.used_models()) & set(paper.used_models())
    assert not set(default.used_data()) & set(paper.used_data())
    sections = ("encoding", "adapter", "training", "evaluation", "probe")
    # What the default study scales down: all that it sets otherwise than the schema, whose defaults are the paper's.
    raw, root = read_yaml(ROOT / "config/campaigns/default.yaml"), schema("campaign")
    fresh = dict(leaves({s: with_defaults({}, root["properties"][s], root) for s in sections}))
    own = leaves({s: raw[s] for s in sections if s in raw})
    # A micro-batch of one row is also what the registry says of large models.
    scaled = {path: value for path, value in own if fresh[path] != value and path != ("training", "batch_size")}
    assert len(scaled) >= 8
    assert {("training", "steps"): 24, ("encoding", "max_tokens"): 128}.items() <= scaled.items()
    for run in paper.runs.values():
        settings = dict(leaves({s: run.settings[s] for s in sections}))
        assert [path for path, value in scaled.items() if settings[path] == value] == []


def test_one_repository_has_one_commit_in_both_registries(paper):
    default = yaml.safe_load((ROOT / "config/data.yaml").read_text())
    pinned = [
        {e["source"]["id"]: e["source"].get("revision") for e in registry.values() if e["source"]["type"] == "hub"}
        for registry in (default, paper.data)
    ]
    shared = set(pinned[0]) & set(pinned[1])
    assert {"cais/mmlu", "openai/gsm8k"} <= shared
    assert [name for name in shared if pinned[0][name] != pinned[1][name]] == []


@pytest.mark.slow
def test_the_dry_run_lists_every_job(paper, tmp_path):
    """In 5 s on a quiet machine: by its processor's time, nearly all of it, which others here change little."""
    folder = copy_project(tmp_path / "fresh")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = snakemake(folder, "-n", "--configfile", "config/paper.yaml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, said(done)[-2000:]
    counted = {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", said(done), flags=re.MULTILINE)}
    kinds = Counter(run.kind for run in paper.runs.values())
    assert kinds == {"train_std": 54, "train_ale": 90, "train_cm": 9}
    wanted = {**kinds, "stage_model": 18, "stage_data": 4, "tokens": 18, "aggregate": 1}
    wanted |= {"probe": 54, "batches": 54, "select": 99}
    # A run with HumanEval has a job that judges its programs; so has its base model.
    planned = [run for campaign in paper.campaign_index() for run in planned_runs(campaign)]
    judged = {(run["model"], run["arm"], run["seed"]) for run in planned if "humaneval" in run["benchmarks"]}
    wanted["score_code"] = len(judged) + len({model for model, *_ in judged})
    assert {rule: counted[rule] for rule in wanted} == wanted
    evaluations = sum(number for rule, number in counted.items() if rule.startswith("evaluate_"))
    assert evaluations == len(paper.used_models()) + len(paper.runs)
    print(f"dry run of {counted['total']} jobs: {seconds:.1f} s")
    # Beside other work processor time grows, too; `make rehearsal` measures the reach of 5 s.
    assert seconds < 10
