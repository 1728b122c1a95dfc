"""The estimate of a study's cost: counts each job once, follows the published times, and keeps to a budget."""

import copy
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from aletheia.analysis.paper_tables import load_published
from aletheia.cluster.cost import SMALL_JOB_SECONDS, estimate_costs, evaluation_seconds, load_seconds, training_seconds
from aletheia.errors import UserError
from aletheia.study.load import load_study
from aletheia.study.schema import read_yaml
from conftest import ROOT


@pytest.fixture
def paper(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_study(read_yaml(Path("config/paper.yaml")))


def run(*arguments):
    command = [sys.executable, "workflow/scripts/estimate.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_each_job_counts_once(paper):
    costs = estimate_costs(paper)
    assert sum(cost.trainings for cost in costs) == len(paper.runs)
    assert sum(cost.evaluations for cost in costs) == len(paper.runs) + len(paper.used_models())
    by_campaign: Counter[str] = Counter()
    for cost in costs:
        by_campaign[cost.campaign] += cost.trainings
    assert by_campaign == {"campaign1": 60, "campaign2": 39, "closeout": 24, "asymmetric": 30}


def test_probes_and_small_jobs_count_once_a_model_and_seed(paper):
    """What trainings cost beyond themselves: in the first campaign probes and batches of three seeds; selections."""
    whole = {(cost.campaign, cost.model): cost for cost in estimate_costs(paper)}
    for (campaign, model), probes, small in (
        (("campaign1", "qwen2.5-7b"), 3, 3 + 3),
        (("campaign2", "qwen2.5-7b"), 0, 3),
        (("closeout", "qwen2.5-3b"), 0, 6),
    ):
        entry, settings = paper.models[model], paper.runs[model, "std", 42].settings
        cost = whole[campaign, model]
        beyond = cost.training_seconds - cost.trainings * training_seconds(entry, settings)
        expected = (
            probes * (load_seconds(entry) + 5 / 2 * entry["time"]["seconds_per_step"]) + small * SMALL_JOB_SECONDS
        )
        assert beyond == pytest.approx(expected, abs=1e-6)


def test_turns_count_once_for_each_arm_beside_std(paper):
    before = {(cost.campaign, cost.model): cost for cost in estimate_costs(paper)}
    for campaign in paper.campaigns:
        campaign["speed"] = "turns"
    after = {(cost.campaign, cost.model): cost for cost in estimate_costs(paper)}
    entry, pace = paper.models["qwen2.5-7b"], paper.shared["qwen2.5-7b"]["interleaving"]
    one = load_seconds(entry) + 3 * 13 * entry["time"]["seconds_per_step"]
    assert pace == {"rounds": 12, "steps": 1, "seeds": None}
    # Three seeds of ale in the first campaign; of cm in the second, which shares ale.
    for campaign in ("campaign1", "campaign2"):
        key = (campaign, "qwen2.5-7b")
        assert after[key].training_seconds - before[key].training_seconds == pytest.approx(3 * one)


def test_a_training_takes_the_published_seconds_and_what_stands_around_them(paper):
    for key, row in load_published(ROOT / "config/published")[2].items():
        if key == "overall":
            continue
        entry, settings = paper.models[key], paper.runs[key, "std", 42].settings
        bare = training_seconds(entry, settings) - load_seconds(entry)
        held_out = settings["training"]["eval_rows"] / (2 * 2 * settings["training"]["batch_size"])
        assert bare * 200 / (200 + held_out) == pytest.approx(row["std_seconds_mean"], rel=1e-9)


def test_a_job_of_four_gpus_counts_four_times(paper):
    mixtral = next(cost for cost in estimate_costs(paper) if cost.model == "mixtral-8x7b")
    assert mixtral.gpu_hours == pytest.approx(4 * (mixtral.training_seconds + mixtral.evaluation_seconds) / 3600)


@pytest.mark.parametrize("change", ["shots", "tokens", "questions", "weights"])
def test_an_evaluation_grows_with_what_it_asks(paper, change):
    entry, shared = copy.deepcopy(paper.models["llama-3.1-70b"]), copy.deepcopy(paper.shared["llama-3.1-70b"])
    settings, questions = paper.runs["llama-3.1-70b", "std", 42].settings, {"mmlu": 200, "gsm8k": 200}
    before = evaluation_seconds(entry, settings, shared["evaluation"], questions)
    if change == "shots":
        shared["evaluation"]["mmlu"]["num_fewshot"] += 1
    elif change == "tokens":
        shared["evaluation"]["gsm8k"]["max_new_tokens"] *= 2
    elif change == "questions":
        questions["gsm8k"] += 8
    else:
        # Reading 16 bits once is less than reading 4, writing 16 and reading them again.
        entry["quantization"] = None
    after = evaluation_seconds(entry, settings, shared["evaluation"], questions)
    assert (after < before) if change == "weights" else (after > before)


@pytest.mark.slow
def test_the_table_sums_up_and_holds_the_budget():
    found = json.loads(run("--json").stdout)
    assert found["gpu_hours"] == pytest.approx(sum(row["gpu_hours"] for row in found["rows"]))
    assert found["core_hours"] == pytest.approx(8 * found["gpu_hours"])
    shown = run()
    assert shown.returncode == 0
    table, told = shown.stdout.split("\n\n", 1)
    assert told.startswith("campaign")
    last = table.splitlines()[-1].split()
    assert last[:4] == ["all", "all", "153", "171"]
    assert float(last[-2]) == pytest.approx(found["gpu_hours"], abs=0.06)
    beyond = run("--budget", str(found["gpu_hours"] - 1))
    assert beyond.returncode == 1
    assert "over the budget" in beyond.stderr
    assert run("--budget", str(found["gpu_hours"] + 1)).returncode == 0


def test_a_registry_without_times_is_one_sentence(paper):
    del paper.models["gpt-j-6b"]["time"]
    with pytest.raises(UserError, match="model gpt-j-6b: the registry lacks time, from which its time is estimated"):
        estimate_costs(paper)
    done = run("--configfile", "config/config.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_a_study_can_tell_needs_no_times():
    done = run("--power", "--configfile", "config/config.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "GPU-h" not in done.stdout
    assert [line.split()[0] for line in done.stdout.split("\n\n")[0].splitlines()] == ["campaign", *5 * ["default"]]
    assert "default (ale) cannot show equivalence within ±2 points on PIQA" in done.stdout
    assert "--power" in run("--power", "--budget", "9").stderr


@pytest.mark.slow
def test_the_plan_of_the_analysis_decides_what_is_told(tmp_path):
    stated = (ROOT / "config/analysis.yaml").read_text()
    (tmp_path / "loose.yaml").write_text(
        stated.replace("verdict_points: 2 ", "verdict_points: 20 ").replace("2] ", "20] ")
    )
    whole, loose = (
        json.loads(run("--json", *more).stdout)["power"] for more in ((), ("--analysis", tmp_path / "loose.yaml"))
    )
    assert whole["wanted"] == 0.8
    assert whole["assumed"]["discordance"] == 0.1
    for before, after in zip(whole["rows"], loose["rows"], strict=True):
        wider = before["unit"] == "points"
        assert after["margin"] == (20 if wider else before["margin"])
        assert (after["power"] > before["power"]) == wider
        assert before["sentence"] is None or before["sentence"].startswith(before["campaign"])
    alone = json.loads(run("--power", "--json").stdout)
    assert alone == {"power": whole}
    missing = run("--analysis", tmp_path / "none.yaml")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    assert "none.yaml" in missing.stderr


@pytest.mark.parametrize(
    "arguments", [("--budget", "-1"), ("--budget", "nan"), ("--budget", "much"), ("--cores-per-gpu", "0")]
)
def test_a_wrong_argument_is_refused(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
