"""Statistics against hand formulas; what is undefined is null."""

import json
import math

import numpy as np
import pytest

from aletheia.analysis import verdicts
from aletheia.analysis.ledger import build_ledger, write_csv
from aletheia.analysis.stats import above_floor, estimate, paired_test
from aletheia.inference.multiplicity import holm
from aletheia.provenance.artifacts import canonical_bytes
from aletheia.report import analyses
from conftest import run_script
from ledgers import TEN_MODELS, TWO_MODELS, evaluation, ledger_of, run, study
from reports import summarise

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}
T_TWO_DF = 4.302652729749464  # t(0.975, 2), from a printed table to more digits


def test_estimate_by_hand():
    found = estimate([1.0, 2.0, 6.0])
    sd = math.sqrt((4 + 1 + 9) / 2)
    half = T_TWO_DF * sd / math.sqrt(3)
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(3)
    assert found["sd"] == pytest.approx(sd)
    assert (found["low"], found["high"]) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_too_few_values_give_null_not_nan():
    nothing = {"n": 0, "mean": None, "sd": None, "low": None, "high": None}
    assert estimate([]) == estimate([float("nan")]) == nothing
    assert estimate([5.0]) == {**nothing, "n": 1, "mean": 5.0}


def test_paired_test_by_hand():
    first, second = [10.0, 12.0, 15.0], [8.0, 9.0, 14.0]
    d = np.subtract(first, second)
    mean, sd = d.mean(), d.std(ddof=1)
    found = paired_test(first, second)
    assert found["t"] == pytest.approx(mean / (sd / math.sqrt(3)))
    assert found["d"] == pytest.approx(mean / sd)
    assert found["d"] == pytest.approx(found["t"] / math.sqrt(3))
    # Two-sided p of t with 2 degrees of freedom in closed form: 1 - |t| / sqrt(2 + t^2).
    assert found["p"] == pytest.approx(1 - found["t"] / math.sqrt(2 + found["t"] ** 2))


def test_paired_test_drops_the_whole_pair_of_a_failed_member():
    found = paired_test([10.0, float("nan"), 15.0], [8.0, 9.0, 14.0])
    assert found["difference"]["n"] == 2
    assert found["difference"]["mean"] == pytest.approx(1.5)


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([3.0, 3.1, 3.2], [2.0, 2.1, 2.2]), ([], [])])
def test_undefined_tests_are_null(first, second):
    found = paired_test(first, second)
    assert (found["t"], found["p"], found["d"]) == (None, None, None)


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([None]) == [None]


def campaign_of(ledger):
    return summarise(ledger)["campaigns"][0]


def test_overall_takes_models_as_the_unit_and_shows_pairs_too():
    found = campaign_of(ledger_of(TEN_MODELS))["overall"]
    means = [
        np.mean([100 * (1 - (law["ale"] + i) / (law["std"] + i)) for i in range(3)]) for law in TEN_MODELS.values()
    ]
    assert found["models"]["speedup_percent"]["n"] == 10
    assert found["pairs"]["speedup_percent"]["n"] == 30
    assert found["models"]["speedup_percent"]["mean"] == pytest.approx(np.mean(means))
    assert found["models"]["speedup_percent"]["sd"] == pytest.approx(np.std(means, ddof=1))
    assert found["models"]["wins"] == 10
    # Repeating each model three times narrows the interval without any new model.
    widths = [found[u]["speedup_percent"]["high"] - found[u]["speedup_percent"]["low"] for u in ("models", "pairs")]
    assert widths[1] < widths[0]


def test_models_outside_the_headline_are_shown_but_not_counted():
    found = campaign_of(ledger_of())
    assert [m["headline"] for m in found["models"]] == [True, False]
    assert found["models"][1]["speed"]["speedup_percent"]["n"] == 3
    assert found["overall"]["models"]["speedup_percent"]["n"] == 1
    assert found["overall"]["pairs"]["speedup_percent"]["n"] == 3


@pytest.mark.slow
def test_families_over_models_or_over_seeds():
    found = {f["family"]: f for f in campaign_of(ledger_of(TEN_MODELS))["families"]}
    assert (found["family-0"]["unit"], found["family-0"]["speedup_percent"]["n"]) == ("models", 3)
    lone = campaign_of(ledger_of(ONE))["families"][0]
    assert (lone["unit"], lone["speedup_percent"]["n"]) == ("seeds", 3)


def test_a_failed_run_leaves_every_mean_of_pairs():
    campaigns, runs, evaluations = study(ONE)
    key = ("smollm2-135m", "ale", 42)
    runs[key] = run(*key, status="out_of_memory", reason="needs 9 GiB", eval_loss=None)
    for benchmark in ("heldout", "mmlu", "humaneval"):
        evaluations[*key, benchmark] = evaluation(*key, benchmark, None, status="no_adapter", n=0)
    found = campaign_of(build_ledger(campaigns, runs, evaluations))
    assert found["runs"]["failed"] == [
        {"model": key[0], "arm": "ale", "seed": 42, "status": "out_of_memory", "reason": "needs 9 GiB"}
    ]
    model = found["models"][0]
    assert model["speed"]["std_seconds"]["n"] == 2
    assert model["extra"]["ale"]["mmlu"]["difference"]["n"] == 2
    assert model["arms"]["std"]["training_seconds"]["n"] == 3


def test_one_seed_one_model_no_cm_no_benchmark():
    ledger = ledger_of(ONE, arms=("std", "ale"), seeds=(42,), benchmarks=())
    found = campaign_of(ledger)
    model = found["models"][0]
    assert model["compute_matched"] == {}
    assert model["extra"] == {}
    assert model["speed"]["speedup_percent"] == {
        "n": 1,
        "mean": pytest.approx(20),
        "sd": None,
        "low": None,
        "high": None,
    }
    canonical_bytes(summarise(ledger))  # refuses NaN


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.5, 0.4, "equivalent"),
        (0.1, 1.9, "equivalent"),  # and above 0, which is not said too
        (-2.5, 0.4, "cannot tell"),
        (-9.0, 9.0, "cannot tell"),
        (-3.0, -0.5, "worse"),
        (2.5, 5.0, "better"),
    ],
)
def test_verdicts_follow_the_interval(low, high, word):
    interval = {"n": 3, "mean": (low + high) / 2, "low": low, "high": high}
    assert verdicts.of_estimate(interval, 2.0, higher_is_better=True) == (word, None)
    mirrored = {"better": "worse", "worse": "better"}.get(word, word)
    assert verdicts.of_estimate(interval, 2.0, higher_is_better=False) == (mirrored, None)


def test_a_verdict_needs_two_seeds():
    word, reason = verdicts.of_estimate(estimate([0.0]), 2.0, higher_is_better=True)
    assert (word, reason) == ("cannot tell", "one value gives no interval")


@pytest.mark.parametrize(
    ("correct", "questions", "chance", "above"),
    [(10, 40, 0.25, False), (15, 40, 0.25, False), (16, 40, 0.25, True), (0, 8, 0.0, False), (1, 8, 0.0, True)],
)
def test_a_base_model_that_guesses_is_at_the_floor(correct, questions, chance, above):
    # P(X ≥ 15) = 0.0544 and P(X ≥ 16) = 0.0262 for Binomial(40, 1/4).
    assert above_floor(correct / questions, questions, chance) is above


def test_analyses_state_rule_and_margin_and_failed_runs():
    campaigns, runs, evaluations = study(ONE)
    key = ("smollm2-135m", "std", 999)
    runs[key] = run(*key, status="diverged", reason="loss is NaN", eval_loss=None)
    found = summarise(build_ledger(campaigns, runs, evaluations))
    for text in (analyses.forgetting_deltas(found), analyses.compute_matched(found)):
        assert "0.5, 1, 2 points of a benchmark (verdicts take 2)" in text
        assert "smollm2-135m/std/seed999: diverged (loss is NaN)" in text
        assert "8 of 9 runs ended well" in text
        assert "nan" not in text.lower().replace("loss is nan", "")


def test_analyses_of_a_study_without_benchmarks_or_cm():
    found = summarise(ledger_of(ONE, arms=("std", "ale"), benchmarks=()))
    assert "nothing to say of extra forgetting" in analyses.forgetting_deltas(found)
    assert "nothing can be said at equal compute" in analyses.compute_matched(found)


@pytest.mark.slow
def test_stats_as_a_rule_runs_it(tmp_path):
    write_csv(ledger_of(), tmp_path / "ledger.csv")
    folders = ("--stats-dir", tmp_path / "stats", "--tables-dir", tmp_path / "tables")
    done = run_script(
        "stats.py", "--ledger", tmp_path / "ledger.csv", *folders, "--lineage", 'config:reports=["speed"]'
    )
    assert done.returncode == 0, done.stderr
    names = {
        "summary.json",
        *(name + end for name in ("arms.csv", "FINDINGS.md", "INFERENCE.md") for end in ("", ".lineage.json")),
    }
    assert {p.name for p in (tmp_path / "stats").iterdir()} == names
    assert {p.name for p in (tmp_path / "tables").glob("*.tex")} == {f"table{n}.tex" for n in (1, 2, 3, "S1")}
    payload = json.loads((tmp_path / "stats" / "summary.json").read_text())["payload"]
    assert payload["confidence_level"] == 0.95


@pytest.mark.slow
def test_stats_makes_every_report_of_the_ledger_by_itself(tmp_path):
    write_csv(ledger_of(), tmp_path / "ledger.csv")
    folders = ("--stats-dir", tmp_path / "stats", "--tables-dir", tmp_path / "tables")
    assert run_script("stats.py", "--ledger", tmp_path / "ledger.csv", *folders).returncode == 0
    assert (tmp_path / "stats" / "FORGETTING_DELTAS_ANALYSIS.md").is_file()
    assert (tmp_path / "stats" / "COMPUTE_MATCHED_ANALYSIS.md").is_file()
    assert len(list((tmp_path / "tables").glob("table*.csv"))) == 6
