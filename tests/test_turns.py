"""Speed taken in turns: the ledger's columns, and what pairs, statistics, tables and figures show of them."""

import pandas as pd
import pytest

from aletheia.analysis import turns as columns
from aletheia.analysis.ledger import COLUMNS, build_ledger, read_ledger, write_csv
from ledgers import TWO_MODELS, ledger_of, study, turned

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}


def row(ledger, arm, seed=42):
    return ledger[(ledger["arm"] == arm) & (ledger["seed"] == seed)].iloc[0]


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_a_campaign_of_the_wall_clock_has_none_of_the_columns():
    assert not set(columns.COLUMNS) & set(ledger_of(ONE).columns)


def test_an_arm_s_ratio_is_of_whole_runs_and_std_s_is_its_own():
    ledger = turned(ONE, benchmarks=())
    assert list(ledger.columns) == [*COLUMNS, *columns.COLUMNS]
    ale, std = row(ledger, "ale"), row(ledger, "std")
    # Medians of 1 % around 0.702 of a step; the runs of this ledger have 40 steps, the probe takes two steps of std.
    assert ale["turns_ratio"] == pytest.approx(1 / 0.702)
    assert ale["turns_ratio_low"] < ale["turns_ratio"] < ale["turns_ratio_high"]
    assert ale["turns_ratio_with_probe"] == pytest.approx(40 / (40 * 0.702 + 2))
    assert (ale["turns_rounds"], ale["turns_status"]) == (6, "ok")
    assert std[["turns_ratio", "turns_ratio_low", "turns_ratio_high"]].tolist() == [1.001, 0.99, 1.01]
    assert std["turns_ratio_with_probe"] == std["turns_ratio"]


def test_an_arm_of_more_steps_counts_them():
    campaigns, runs, evaluations = study(ONE, arms=("std", "cm"), benchmarks=(), seeds=(42,))
    campaigns[0]["speed"] = "turns"
    runs["smollm2-135m", "cm", 42]["payload"]["steps"] = 50
    turns = {("smollm2-135m", "cm", 42): turned_pair("cm")}
    cm = row(build_ledger(campaigns, runs, evaluations, turns=turns), "cm")
    assert cm["turns_ratio"] == pytest.approx(40 / (50 * 0.8))
    assert cm["turns_ratio_with_probe"] == pytest.approx(40 / (50 * 0.8 + 2))


def turned_pair(arm):
    from ledgers import pair

    return pair("smollm2-135m", arm, 42, std=1.0, seconds=0.8, probe_seconds=2.0)


def test_a_measurement_that_failed_is_a_status_and_std_takes_the_next():
    lost = ("smollm2-135m", "ale", 42)
    ledger = turned(ONE, benchmarks=(), fails=(lost,))
    ale = row(ledger, "ale")
    assert ale["turns_status"] == "out_of_memory"
    assert ale[[*columns.RATIOS, "turns_rounds"]].isna().all()
    assert row(ledger, "std")[["turns_status", "turns_ratio"]].tolist() == ["ok", 1.001]
    both = turned(ONE, benchmarks=(), fails=(lost, ("smollm2-135m", "cm", 42)))
    assert row(both, "std")["turns_status"] == "out_of_memory"
    assert pd.isna(row(both, "std")["turns_ratio"])


def test_a_campaign_beside_one_of_turns_has_empty_cells():
    (one,), runs, evaluations = study(ONE, arms=("std", "ale"), benchmarks=(), seeds=(42,), name="one")
    (two,), *_ = study(ONE, arms=("std", "ale"), benchmarks=(), seeds=(42,), name="two")
    two["speed"] = "turns"
    ledger = build_ledger([one, two], runs, evaluations, turns={("smollm2-135m", "ale", 42): turned_pair("ale")})
    assert ledger.set_index(["campaign", "arm"])["turns_status"].isna().tolist() == [True, True, False, False]


def test_the_columns_survive_the_file(tmp_path):
    ledger = turned(ONE, benchmarks=(), fails=(("smollm2-135m", "ale", 42),))
    write_csv(ledger, tmp_path / "ledger.csv")
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "ledger.csv"), ledger)


# --- the order in time ------------------------------------------------------------------------------------------------


def test_the_order_is_when_each_arm_began():
    campaigns, runs, evaluations = study(ONE, benchmarks=(), seeds=(42, 123))
    for minute, key in enumerate([("cm", 42), ("std", 42), ("ale", 42), ("std", 123), ("ale", 123)]):
        runs["smollm2-135m", *key]["observed"]["started"] = f"2026-01-01T00:{minute:02}:00+00:00"
    order = build_ledger(campaigns, runs, evaluations).set_index(["arm", "seed"])["order"]
    assert [order[arm, 42] for arm in ("std", "ale", "cm")] == [2, 3, 1]
    assert [order[arm, 123] for arm in ("std", "ale")] == [1, 2]
    assert pd.isna(order["cm", 123])
