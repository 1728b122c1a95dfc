"""Sweeps of the budget: found in campaigns, told with n and a trend, with every failed run named."""

from __future__ import annotations

import json

import pytest

from aletheia.analysis.dose_response import FALLS, NO_TREND, RISES, TOO_FEW, dose_response
from aletheia.analysis.ledger import build_ledger, write_csv
from aletheia.analysis.validity import IMPLAUSIBLE_BASE
from aletheia.provenance.artifacts import make_envelope
from aletheia.report.closeout import closeout
from aletheia.study.budget_sweeps import budget_sweeps
from ledgers import LINEAGE, run_here, study
from reports import PLAN, summarise

BUDGETS = {"budget25": 25, "ale": 50, "budget75": 75, "std": 100}
MODELS = {"swept": {"family": "q", "std": 100.0, "ale": 80.0}, "new": {"family": "y", "std": 50.0, "ale": 44.0}}
SWEEPS = [{"campaign": "synthetic", "model": "swept", "budgets": BUDGETS}]


def swept(*, failed=(), models=MODELS, seeds=(42, 123, 999), published=None):
    """Return a ledger in which loss falls and time rises with the budget, and scores do neither."""
    arms = tuple(BUDGETS)
    campaigns, runs, evaluations = study(models, arms=arms, seeds=seeds)
    campaigns[0]["runs"] = [r for r in campaigns[0]["runs"] if r["model"] == "swept" or r["arm"] in ("std", "ale")]
    for seed in seeds:
        for arm, percent in BUDGETS.items():
            evaluations["swept", arm, seed, "heldout"]["payload"]["loss"] = 2.5 - percent / 1000 + seed / 1e5
            evaluations["swept", arm, seed, "mmlu"]["payload"]["score"] = 0.4 + (percent + seed) % 7 / 100
            runs["swept", arm, seed]["observed"]["time"]["training_seconds"] = 60.0 + 0.4 * percent + seed / 1e3
    for key in failed:
        runs[key]["payload"] |= {"status": "diverged", "reason": "loss is nan at step 3"}
        for name in ("heldout", "mmlu", "humaneval"):
            evaluations[*key, name]["payload"] |= {"status": "failed", "loss": None, "score": None}
    return build_ledger(campaigns, runs, evaluations, published=published)


def by_measure(ledger):
    (sweep,) = dose_response(ledger, SWEEPS)
    return {found["measure"]: found for found in sweep["measures"]}


def test_loss_falls_time_rises_and_scores_show_no_trend():
    found = by_measure(swept())
    assert {name: each["verdict"] for name, each in found.items()} == {
        "heldout_loss": FALLS,
        "time": RISES,
        "mmlu": NO_TREND,
        "humaneval": NO_TREND,
    }
    loss = found["heldout_loss"]
    assert (loss["seeds"], loss["planned"]) == (3, 3)
    assert loss["trend"]["slope"] == pytest.approx(-1 / 1000)
    assert loss["p_holm"] == pytest.approx(4 * 2 / 24**3)
    assert [level["percent"] for level in loss["levels"]] == [25, 50, 75, 100]
    assert found["time"]["levels"][-1]["mean"] == 1.0


def test_a_seed_whose_run_failed_counts_where_it_can_and_not_in_the_trend():
    found = by_measure(swept(failed=[("swept", "budget75", 123)]))["heldout_loss"]
    assert (found["seeds"], found["planned"]) == (2, 3)
    assert [level["n"] for level in found["levels"]] == [3, 3, 2, 3]
    assert found["trend"]["n_blocks"] == 2


def test_one_seed_shows_no_trend_and_says_why():
    found = by_measure(swept(seeds=(42,)))["heldout_loss"]
    assert (found["verdict"], found["reason"], found["p_holm"]) == (TOO_FEW, "one seed", None)
    lost = by_measure(swept(failed=[("swept", "std", 42)], seeds=(42,)))["heldout_loss"]
    assert (lost["verdict"], lost["reason"]) == (TOO_FEW, "no seed has every budget")


def test_an_implausible_base_has_no_trend_and_no_share_in_the_correction():
    claim = {"score": 79.3, "tolerance": 10, "source": "a card, https://example.org"}
    ledger = swept(published={"swept": {"mmlu": claim}})
    assert set(ledger.loc[ledger["model"] == "swept", "mmlu_validity"]) == {IMPLAUSIBLE_BASE}
    found = by_measure(ledger)
    assert (found["mmlu"]["verdict"], found["mmlu"]["p_holm"]) == (None, None)
    assert found["heldout_loss"]["p_holm"] == pytest.approx(3 * 2 / 24**3)


def test_the_analysis_names_trend_n_new_families_and_failed_runs():
    claim = {"score": 45.0, "tolerance": 10, "source": "a card, https://example.org"}
    failed = [("swept", "budget75", 123), ("new", "ale", 42)]
    ledger = swept(failed=failed, published={"new": {"mmlu": claim}})
    summary = summarise(ledger, PLAN, sweeps=SWEEPS)
    make_envelope("stats", summary, LINEAGE, {}, "summary.json")  # held against its schema
    text = closeout(summary)
    assert "In swept, over 25, 50, 75, 100 % of the layers (2 seeds with every budget)" in text
    row = next(line for line in text.splitlines() if line.startswith("| held-out loss"))
    assert "2.4302 ± 0.0068 (n = 2)" in row
    assert "2 of 3" in row
    assert "| new | y | MMLU | 200 | 40.0 | 45.0 |" in text
    assert "| new | synthetic | held-out loss | ale − std |" in text
    for key in ("swept/budget75/seed123", "new/ale/seed42"):
        assert f"synthetic: {key}: diverged (loss is nan at step 3)" in text
    assert "nan" not in text.replace("loss is nan", "")
    assert "None" not in text


def test_sweeps_of_another_campaign_are_left_aside():
    assert dose_response(swept(), [{**SWEEPS[0], "campaign": "other"}]) == []


def arm(layers="gradient", budget=50, **more):
    return {"layers": layers, "budget_percent": budget, "score": "l2", "draw": 0, **more}


def campaign(**arms):
    return {"name": "one", "models": ["m"], "overrides": {}, "arms": {"std": arm("all"), **arms}}


def test_a_sweep_is_arms_that_differ_in_their_budget_alone():
    whole = campaign(high=arm(budget=75), ale=arm(), low=arm(budget=25))
    assert budget_sweeps([whole]) == [
        {"campaign": "one", "model": "m", "budgets": {"low": 25, "ale": 50, "high": 75, "std": 100}}
    ]
    for others in (
        {"ale": arm()},
        {"ale": arm(), "drawn": arm("random", 25)},
        {"ale": arm(rank=4), "low": arm(budget=25)},
        {"ale": arm(), "list": arm([1, 2], 25)},
    ):
        assert budget_sweeps([campaign(**others)]) == []
    # The standard arm is no part of a sweep whose arms have another rank; its three budgets are one.
    ranks = {name: arm(budget=budget, rank=4) for name, budget in (("a", 25), ("b", 50), ("c", 75))}
    assert budget_sweeps([campaign(**ranks)])[0]["budgets"] == {"a": 25, "b": 50, "c": 75}


@pytest.mark.slow
def test_stats_writes_it_where_its_settings_name_a_sweep(tmp_path, monkeypatch, capsys):
    write_csv(swept(), tmp_path / "ledger.csv")
    folders = ("--stats-dir", tmp_path / "stats", "--tables-dir", tmp_path / "tables")
    arguments = ("stats.py", "--ledger", tmp_path / "ledger.csv", *folders, "--lineage")
    ended, printed = run_here(monkeypatch, capsys, *arguments, f"config:budget_sweeps={json.dumps(SWEEPS)}")
    assert ended == 0, printed
    assert "swept, campaign synthetic" in (tmp_path / "stats" / "CLOSEOUT.md").read_text()
