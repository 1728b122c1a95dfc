"""The paper's cells beside ours: fed as ours they agree, moved away they do not, and reasons for the rest."""

import numpy as np
import pandas as pd
import pytest

from aletheia.analysis.published_cells import published_cells
from aletheia.analysis.replication import replicate
from aletheia.errors import UserError
from aletheia.inference.replication import INSIDE, NOT_COMPARABLE, NOT_INFORMATIVE, OPPOSITE_SIGN, SAME_SIGN
from ledgers import SEEDS, ledger_of
from published_study import TABLES, published_ledger
from reports import PLAN


@pytest.fixture(scope="module")
def same():
    """The paper's numbers as ours."""
    return replicate(published_ledger(), TABLES, PLAN)


def cells(summary, **wanted):
    return [c for c in summary["cells"] if all(c[name] == value for name, value in wanted.items())]


def cell(summary, key, quantity, **wanted):
    (found,) = cells(summary, key=key, quantity=quantity, **wanted)
    return found


def test_every_published_cell_is_a_row():
    found = published_cells(TABLES)
    # 14 models x 4; 10 x 5 and an overall row of 3; 10 x 6; 6 x 3; 3 x 3; and what follows: 10 speedups, 3 losses.
    assert len([c for c in found if not c.derived]) == 14 * 4 + 10 * 5 + 3 + 10 * 6 + 6 * 3 + 3 * 3
    assert len([c for c in found if c.derived]) == 10 + 3


def test_the_papers_own_numbers_lie_inside_everywhere(same):
    judged = [c for c in same["cells"] if c["low"] is not None]
    assert len(judged) > 90
    assert all(c["low"] <= c["published_mean"] <= c["high"] for c in judged)
    assert {c["verdict"] for c in judged} <= {INSIDE, NOT_INFORMATIVE}
    assert {c["verdict"] for c in cells(same, kind="speedup")} == {INSIDE}
    assert {c["verdict"] for c in cells(same, comparable="exact")} == {"equal"}
    assert all(group["inside"] == group["k"] for group in same["groups"])


def test_its_overall_test_is_rebuilt_from_seconds(same):
    """As config/published/README.md: t = 9.53 over 30 pairs, 5.31 over models; 4.9 is the SD of 30 rows."""
    for side in ("ours", "published"):
        pairs, models = (same["rebuilt"][side][unit] for unit in ("pairs", "models"))
        assert (pairs["n"], models["n"]) == (30, 10)
        # Of ours with the spread of seeds, of the paper's rows without.
        assert pairs["t"] == pytest.approx(9.53, abs=0.03 if side == "ours" else 0.005)
        assert models["t"] == pytest.approx(5.31, abs=0.01)
        assert round(pairs["speedup_sd"], 1) == 4.9
        assert round(models["speedup_sd"], 1) == 5.1


def test_three_standard_errors_away_they_are_outside(same):
    shift = {key: 3 * cell(same, key, "speedup_percent")["se"] for key in TABLES[3]}
    moved = replicate(published_ledger(speedup_shift=shift), TABLES, PLAN)
    assert {c["verdict"] for c in cells(moved, quantity="speedup_percent")} == {SAME_SIGN}
    (speed,) = (group for group in moved["groups"] if group["group"] == "speed")
    assert (speed["k"], speed["inside"], speed["same_sign"]) == (10, 0, 10)
    assert speed["p_as_few"] == pytest.approx(0.05**10)
    assert speed["q_p"] < 1e-5


def test_a_slowdown_has_the_opposite_sign_as_speedup_and_as_ratio():
    moved = replicate(published_ledger(speedup_shift={"qwen2.5-7b": -40}), TABLES, PLAN)
    for quantity in ("speedup_percent", "ratio"):
        assert cell(moved, "qwen2.5-7b", quantity)["verdict"] == OPPOSITE_SIGN


def test_both_readings_of_the_published_sd_are_there(same):
    found = cell(same, "phi-3.5-mini", "speedup_percent")
    assert found["low"] < found["low_sample_sd"] < found["published_mean"] < found["high_sample_sd"] < found["high"]


def test_speed_from_another_device_is_an_indication_and_its_seconds_are_nothing():
    found = replicate(published_ledger(device="cpu"), TABLES, PLAN)
    speedup, seconds = (cell(found, "mistral-7b", quantity) for quantity in ("speedup_percent", "std_seconds"))
    assert (speedup["comparable"], speedup["verdict"]) == ("indicative", INSIDE)
    assert "measured on cpu" in speedup["reason"]
    assert (seconds["comparable"], seconds["verdict"], seconds["low"]) == ("no", NOT_COMPARABLE, None)
    assert "A100-SXM4-64GB" in seconds["reason"]
    assert cell(found, "overall", "speedup_percent")["comparable"] == "indicative"


def test_one_seed_on_another_device_has_no_spread_and_on_an_a100_the_papers():
    lost = tuple(("mistral-7b", "ale", seed) for seed in SEEDS[1:])
    other, same_class = (
        cell(replicate(published_ledger(device=device, fails=lost), TABLES, PLAN), "mistral-7b", "speedup_percent")
        for device in ("cpu", "NVIDIA A100-SXM4-40GB")
    )
    assert (other["comparable"], other["verdict"]) == ("no", NOT_COMPARABLE)
    assert "one seed on cpu, whose spread is not known" in other["reason"]
    assert (same_class["comparable"], same_class["df"]) == ("comparable", pytest.approx(2, abs=0.3))


def test_a_failed_run_leaves_its_cells_with_fewer_seeds_and_a_model_of_failed_runs_with_its_status():
    lost = tuple(("qwen2.5-7b", "ale", seed) for seed in SEEDS)
    found = replicate(published_ledger(fails=(*lost, ("mistral-7b", "ale", 42))), TABLES, PLAN)
    one = cell(found, "mistral-7b", "speedup_percent")
    assert (one["ours_n"], one["ours_planned"]) == (2, 3)
    assert "2 of 3 seeds, the others failed (ale/seed42: nan_loss)" in one["reason"]
    none = cell(found, "qwen2.5-7b", "speedup_percent")
    assert (none["comparable"], none["verdict"], none["ours_mean"]) == ("failed", NOT_COMPARABLE, None)
    assert "ale/seed999: nan_loss" in none["reason"]
    assert cell(found, "overall", "speedup_percent")["comparable"] == "not run"


def test_scores_and_losses_are_never_compared_but_their_differences(same):
    assert {c["comparable"] for c in cells(same, kind="score")} == {"no"}
    assert {c["comparable"] for c in cells(same, kind="loss")} == {"no"}
    assert {c["verdict"] for c in cells(same, kind="loss difference")} == {INSIDE}


def test_a_model_at_the_floor_is_not_compared(same):
    found = cell(same, "llama-3.1-70b", "mmlu_extra_pp", table=3)
    assert found["comparable"] == "no"
    assert "ours at the floor" in found["reason"]


def answers(model, *, questions=200, flips=4):
    """Return answers of one model: ale has ``flips`` questions right that std has wrong, and as many the other way."""
    right = np.arange(questions) % 2 == 0
    moved = right.copy()
    moved[: 2 * flips] = ~moved[: 2 * flips]
    sides = [("base", [None], right), ("std", SEEDS, right), ("ale", SEEDS, moved)]
    rows = [
        {"model": model, "arm": arm, "seed": seed, "benchmark": "mmlu", "item": str(i), "cluster": None, "correct": ok}
        for arm, seeds, answered in sides
        for seed in seeds
        for i, ok in enumerate(answered)
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"})


def test_answers_question_by_question_give_both_sides_their_error():
    found = replicate(published_ledger(), TABLES, PLAN, answers("qwen2.5-14b"))
    own = cell(found, "qwen2.5-14b", "mmlu_extra_pp", table=3)
    # Eight of 200 questions differ by 100 points, one way as often as the other.
    variance = 100**2 * 8 / 199 / 200
    assert (own["question_noise"], own["questions"]) == ("measured", 200)
    assert own["question_se"] == pytest.approx(variance**0.5)
    assert own["se"] == pytest.approx((2 * variance + 0.1**2 / 12) ** 0.5)
    bound = cell(found, "qwen2.5-7b", "mmlu_extra_pp", table=3)
    assert bound["question_noise"] == "bound"
    assert bound["se"] > 2 * own["se"]


def test_values_and_answers_that_are_all_equal_are_no_certainty():
    found = replicate(published_ledger(), TABLES, PLAN, answers("qwen2.5-14b"))
    own = cell(found, "qwen2.5-14b", "mmlu_std_delta_pp")
    assert (own["question_noise"], own["question_se"]) == ("measured", 0)
    assert (own["comparable"], own["verdict"]) == ("no", NOT_COMPARABLE)
    assert "no spread is known" in own["reason"]


def test_a_study_without_a_model_of_the_paper_is_one_sentence():
    with pytest.raises(UserError, match=r"^replication: expected a model of the paper's table 1 .*, found smollm2-"):
        replicate(ledger_of(), TABLES, PLAN)


def test_a_study_of_one_model_says_what_it_does_not_measure():
    law = {"family": "Qwen", "std": 100.0, "ale": 75.0, "parameters": 494_000_000}
    found = replicate(ledger_of({"qwen2.5-0.5b": law}, reports=["speed"]), TABLES, PLAN)
    assert found["models"]["shared"] == ["Qwen2.5-0.5B"]
    assert cell(found, "qwen2.5-0.5b", "layers")["verdict"] == "not equal"
    assert cell(found, "qwen2.5-0.5b", "parameters_billions")["verdict"] == "equal"
    assert {c["comparable"] for c in cells(found, key="mistral-7b", kind="speedup")} == {"not run"}
    assert [group["group"] for group in found["groups"]] == ["speed", "quality", "all"]
