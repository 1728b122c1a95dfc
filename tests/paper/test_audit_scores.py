"""What the paper says of scores, losses and counts, recomputed from its tables.

The numbers N1 to N25 are those of docs/paper.md ("What does not add up"); those of speed are in test_audit_speed.py.
"""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aletheia.analysis.published_claims import load_claims
from aletheia.inference.equivalence import tost
from aletheia.inference.power import detectable_effect
from aletheia.provenance.lineage import ROOT

PUBLISHED = ROOT / "config" / "published"
TABLE = {n: pd.read_csv(PUBLISHED / f"table{n}.csv").set_index("key") for n in range(1, 6)}
CORE = ["qwen2.5-3b", "qwen2.5-7b", "llama-3.1-8b", "mixtral-8x7b"]  # section 5.3
AT_CHANCE = ["tinyllama-1.1b", "phi-3.5-mini", "llama-3.1-70b"]  # or broken, by appendix A.1
AUTORESEARCH = pd.read_csv(PUBLISHED / "autoresearch.csv").set_index("name")


def equivalence_p(values, margin):
    return tost(values.mean(), stats.sem(values), len(values) - 1, margin).p


def interval(values):
    return tuple(
        round(float(end), 2) for end in stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    )


def test_n3_two_campaigns_disagree_on_the_same_runs_by_more_than_the_bound():
    both = TABLE[3].index.intersection(TABLE[4].index)
    assert set(both) == {"qwen2.5-7b", "llama-3.1-8b"}
    of_three = (6 * (TABLE[3]["ale_percent"] - TABLE[3]["std_percent"])).round()[both] / 6  # 3 × 200 questions
    gap = TABLE[4]["mmlu_extra_pp"][both] - of_three
    assert gap.round(2).to_dict() == {"qwen2.5-7b": 1.63, "llama-3.1-8b": -0.16}
    retest = math.sqrt((gap**2).mean() / 2)
    assert round(retest, 1) == 0.8
    assert 1.96 * retest > 3 * 0.50


def test_n4_base_scores_are_10_to_46_points_below_their_makers():
    makers = pd.read_csv(PUBLISHED / "makers_mmlu.csv").set_index("key")
    assert makers["source"].str.len().min() > 20
    assert set(TABLE[3].index) - set(makers.index) == {"tinyllama-1.1b"}
    below = makers["mmlu_percent"] - TABLE[3]["base_percent"][makers.index]
    assert (round(below.min(), 1), below.idxmin()) == (10.2, "qwen2.5-0.5b")
    assert below.drop("llama-3.1-70b").idxmax() == "phi-3.5-mini"
    assert round(below["phi-3.5-mini"], 1) == 46.0
    assert (below.drop("llama-3.1-70b") > 10).all()
    # Scores of a sample of 600 would have an SE of 2.1 points at most.
    assert below.min() > 4 * 100 * math.sqrt(0.25 / 600)


@pytest.mark.parametrize(("key", "correct"), [("qwen2.5-72b", 318), ("llama-3.1-70b", 136)])
def test_n5_two_models_have_one_score_in_base_std_and_ale(key, correct):
    row = TABLE[3].loc[key]
    for name in ("base", "std", "ale"):
        assert round(6 * row[f"{name}_percent"]) == correct
    assert (TABLE[3][["base_percent", "std_percent", "ale_percent"]].nunique(axis=1) == 1).sum() == 2


def test_n6_equivalence_within_half_a_point_is_shown_by_no_set_of_models():
    extra = TABLE[3]["extra_pp"]
    sets = (extra, extra.drop(AT_CHANCE), TABLE[4]["mmlu_extra_pp"][CORE])
    found = {margin: [equivalence_p(values, margin) for values in sets] for margin in (0.5, 1, 2)}
    assert found[0.5] == pytest.approx([0.169, 0.243, 0.159], abs=1e-3)
    assert found[1] == pytest.approx([0.020, 0.055, 0.010], abs=1e-3)
    assert max(found[2]) == pytest.approx(0.003, abs=5e-4)
    assert interval(extra) == (-0.70, 0.96)
    assert round(extra.mean(), 2) == 0.13


def test_n7_the_bound_is_stated_twice_and_differently():
    claims = {claim.id: claim for claim in load_claims(PUBLISHED / "claims.csv")}
    bounds = [claims[name].threshold for name in ("core_extra_mmlu", "core_extra_mmlu_mean", "core_mmlu_one_point")]
    assert bounds == [("-0.50",), ("-0.50",), ("-1", "1")]
    assert len({claims[name].models for name in ("core_extra_mmlu", "core_mmlu_one_point")}) == 1


def test_n8_gsm8k_on_the_core_models_is_not_shown_within_a_point():
    extra = TABLE[4]["gsm8k_extra_pp"][CORE]
    assert (round(extra.mean(), 2), extra.min(), interval(extra)) == (-0.96, -1.67, (-2.19, 0.27))
    assert equivalence_p(extra, 1) == pytest.approx(0.46, abs=0.005)


def test_n16_the_recipe_search_has_no_winner_and_its_loss_is_above_std():
    best, second = AUTORESEARCH.loc["attn16_eval_loss"], AUTORESEARCH.loc["ffn_only_eval_loss"]
    test = stats.ttest_ind_from_stats(second["value"], second["sd"], 3, best["value"], best["sd"], 3)
    assert (round(test.statistic, 2), round(test.pvalue, 2)) == (0.74, 0.50)
    se = math.sqrt((best["sd"] ** 2 + second["sd"] ** 2) / 3)
    assert detectable_effect(se, 4) == pytest.approx(0.0035, abs=1e-4)
    above = best["value"] - TABLE[5]["std_eval_loss"]["qwen2.5-3b"]
    assert round(above / best["sd"]) == 28


def test_n18_the_81_rows_hold_75_finished_ones_and_111_runs():
    first, second = (TABLE[1]["campaigns"].str.contains(name).sum() for name in ("1", "2"))
    failed = 51 - second * 2 * 3 - len(TABLE[5]) * 3
    assert (first * 3, failed, first * 3 + 51 - failed) == (30, 6, 75)
    assert 2 * first * 3 + 51 == 111  # a row of campaign 1 is a pair of runs
    assert first + second - 2 == len(TABLE[1]) == 14


def test_n19_tables_3_to_5_have_no_sd():
    assert not [name for n in (3, 4, 5) for name in TABLE[n].columns if name.endswith("_sd")]
    assert [name for name in TABLE[2].columns if name.endswith("_sd")]


def test_n21_compute_matched_losses_are_higher_by_more_than_chance():
    higher = TABLE[5]["cm_eval_loss"] - TABLE[5]["std_eval_loss"]
    assert (100 * np.expm1(higher)).round(1).tolist() == [5.9, 4.6, 7.0]
    assert round(higher.mean(), 3) == 0.057
    low, high = stats.t.interval(0.95, 2, higher.mean(), stats.sem(higher))
    assert (round(low, 3), round(high, 3)) == (0.028, 0.085)
    assert "ale_eval_loss" not in TABLE[5].columns


def test_n23_the_core_has_four_models_or_three():
    claims = {claim.id: claim for claim in load_claims(PUBLISHED / "claims.csv")}
    assert list(claims["core_extra_mmlu"].models) == CORE
    assert set(TABLE[5].index) == set(CORE) - {"mixtral-8x7b"}


def test_n24_a_cell_of_a_hundredth_of_a_point_needs_thousands_of_questions():
    """Three scores on n questions differ in steps of 100 / 3n points."""
    fewest = next(n for n in range(1, 5000) if 0.005 <= 100 / (3 * n) < 0.015)
    assert fewest == 2223
    cells = TABLE[4]["mmlu_extra_pp"]
    assert cells.abs().idxmin() == "llama-3.1-8b"
    assert cells["llama-3.1-8b"] == 0.01


def test_one_humaneval_cell_is_a_difference_of_two_seeds_rounded_first():
    """100 and 95 of 2 × 164: their difference is 1.52, that of their scores with two digits 1.53."""
    assert round(100 * 5 / 328, 2) == 1.52
    assert round(round(100 * 100 / 328, 2) - round(100 * 95 / 328, 2), 2) == 1.53
    assert TABLE[4]["humaneval_extra_pp"]["llama-3.1-8b"] == 1.53


def test_a_gain_of_2_4_points_of_humaneval_is_four_problems_of_one_evaluation():
    closeout = pd.read_csv(PUBLISHED / "closeout.csv").set_index("name")
    assert round(100 * 4 / 164, 1) == closeout["value"]["humaneval_gain"] == 2.4
