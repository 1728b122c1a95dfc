"""Speed taken in turns: the ledger's columns, and what pairs, statistics, tables and figures show of them."""

import json

import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from aletheia.analysis import pairs
from aletheia.analysis import turns as columns
from aletheia.analysis.ledger import COLUMNS, build_ledger, read_ledger, write_csv
from aletheia.provenance.lineage import ROOT
from aletheia.report import figures, table_text
from ledgers import TEN_MODELS, TWO_MODELS, ledger_of, pair, study, turned
from reports import draw, summarise, table, words

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


# --- pairs and statistics ---------------------------------------------------------------------------------------------


def test_a_pair_s_speedup_is_from_turns_and_the_wall_clock_s_stands_beside():
    found = pairs.results_master(turned(ONE, fails=(("smollm2-135m", "ale", 123),))).set_index("seed")
    first = found.loc[42]
    assert first["speed"] == "turns"
    assert first["ratio"] == pytest.approx(1 / 0.702)
    assert first["speedup_percent"] == pytest.approx(100 * (1 - 0.702))
    assert first["speedup_with_probe_percent"] == pytest.approx(100 * (1 - 0.752))
    assert first["wall_clock_speedup_percent"] == pytest.approx(100 * (1 - 80 / 100))
    assert first["wall_clock_ratio"] == pytest.approx(100 / 80)
    assert first["speedup_percent_low"] < first["speedup_percent"] < first["speedup_percent_high"]
    assert first["same_speedup_percent"] == pytest.approx(100 * (1 - 1 / 1.001))
    # A measurement that failed is not made up for by the wall clock.
    lost = found.loc[123]
    assert pd.isna(lost["speedup_percent"])
    assert pd.notna(lost["wall_clock_speedup_percent"])


def test_seeds_that_a_campaign_does_not_time_in_turns_have_no_speedup_and_are_not_lost():
    (one,), runs, evaluations = study(ONE, arms=("std", "ale"), benchmarks=(), seeds=(42, 123, 999))
    one |= {"speed": "turns", "timed_seeds": [42]}
    ledger = build_ledger([one], runs, evaluations, turns={("smollm2-135m", "ale", 42): turned_pair("ale")})
    found = pairs.results_master(ledger).set_index("seed")
    assert found["speed"].tolist() == ["turns"] * 3
    assert found["speedup_percent"].notna().to_dict() == {42: True, 123: False, 999: False}
    assert found["wall_clock_speedup_percent"].notna().all()
    (model,) = summarise(ledger)["campaigns"][0]["models"]
    assert (model["speed"]["speedup_percent"]["n"], model["speed"]["turns"]["interval"]) == (1, "rounds")
    against = model["against_std"]["ale"]
    turns, clock = against["speedup_percent"], against["wall_clock_speedup_percent"]
    assert (turns["unit"], turns["planned"], turns["lost"]) == ("round", 1, 0)
    assert (clock["n"], clock["planned"]) == (3, 3)


def test_a_wall_clock_campaign_beside_one_of_turns_keeps_its_own_times():
    (one,), runs, evaluations = study(ONE, arms=("std", "ale"), benchmarks=(), seeds=(42,), name="one")
    (two,), *_ = study(ONE, arms=("std", "ale"), benchmarks=(), seeds=(42,), name="two")
    two["speed"] = "turns"
    ledger = build_ledger([one, two], runs, evaluations, turns={("smollm2-135m", "ale", 42): turned_pair("ale")})
    found = pairs.results_master(ledger).set_index("campaign")
    assert found["speed"].to_dict() == {"one": "wall_clock", "two": "turns"}
    assert found["ratio"].tolist() == pytest.approx([100 / 80, 1 / 0.8])
    assert found["speedup_percent"].tolist() == pytest.approx([20, 20])
    assert pd.isna(found.loc["one", "same_ratio"])
    first, second = (campaign["models"][0]["speed"] for campaign in summarise(ledger)["campaigns"])
    assert "turns" not in first
    assert first["speedup_percent"]["low"] is None
    assert second["turns"]["interval"] == "rounds"


def test_over_seeds_the_interval_is_t_s_and_of_one_seed_the_rounds():
    def speed(**how):
        return summarise(turned(ONE, **how))["campaigns"][0]["models"][0]["speed"]

    several = speed()
    assert several["turns"]["interval"] == "values"
    assert several["speedup_percent"]["n"] == 3
    assert several["speedup_percent"]["sd"] > 0
    assert several["test"]["difference"]["mean"] > 0  # of log ratios
    assert several["test"]["p"] < 0.001
    one = speed(seeds=(42,))
    assert one["turns"]["interval"] == "rounds"
    assert one["speedup_percent"]["sd"] is None
    assert one["speedup_percent"]["low"] < one["speedup_percent"]["mean"] < one["speedup_percent"]["high"]
    ends = [one["turns"]["same_speedup_percent"][end] for end in ("low", "high")]
    assert ends == pytest.approx([100 * (1 - 1 / 0.99), 100 * (1 - 1 / 1.01)])


@pytest.mark.parametrize("how", [{}, {"seeds": (42,)}, {"arms": ("std", "cm")}, {"fails": (("glasslm", "ale", 42),)}])
def test_the_statistics_fit_their_schema(how):
    schema = json.loads((ROOT / "workflow/schemas/stats.schema.json").read_text())
    Draft202012Validator(schema).validate(summarise(turned(TWO_MODELS, **how)))


# --- tables, figures, the sentence ------------------------------------------------------------------------------------


def test_table_2_shows_std_against_std_and_the_wall_clock():
    found = table(2, turned(TWO_MODELS, fails=(("smollm2-135m", "ale", 123),)))
    first = found.display.iloc[0]
    assert first["Speedup (%)"] == "29.5 ± 0.5"
    assert first["Std against std (%)"] == "+0.1 [+0.1, +0.1]"
    assert first["Wall clock (%)"] == "19.8 ± 0.3"
    assert first["Faster"] == "2 of 3"
    assert first["Trained parameters, std → ale"] == "12,000 → 6,000"
    assert first["Peak memory, ale / std"] == "1.00"
    assert first["Probe's share (%)"] == "2.4"
    assert "taken in turns" in found.note
    assert "bootstrap over rounds" not in found.note
    assert "bootstrap over rounds" in table(2, turned(ONE, seeds=(42,))).note
    assert found.numbers.loc[0, ["wall_clock_speedup_percent_n", "planned_pairs", "faster_pairs"]].tolist() == [2, 3, 2]
    assert r"$\rightarrow$" in table_text.latex(found)


def test_table_2_of_the_wall_clock_has_what_an_arm_costs_and_no_turns():
    found = table(2, ledger_of())
    assert found.display.iloc[0]["Faster"] == "3 of 3"
    assert not {"Std against std (%)", "Wall clock (%)"} & set(found.display)
    assert "turns" not in found.note
    assert not [name for name in found.numbers if "same_" in name or "wall_clock" in name]


@pytest.mark.parametrize("how", [{}, {"seeds": (42,)}, {"benchmarks": ()}, {"fails": (("smollm2-135m", "ale", 42),)}])
def test_table_2_renders_for_every_shape_of_turns(how):
    found = table(2, turned(ONE, **how))
    text = table_text.markdown(found) + table_text.latex(found)
    assert "nan" not in text.lower()
    assert "None" not in text


def test_figure_1_draws_std_against_std_as_a_band():
    figure = draw("fig1", turned(TWO_MODELS))
    assert "Grey band: std against std." in words(figure)
    assert len(figure.axes[0].patches) == 2
    assert "Runs' times by steps taken in turns" in words(figure)
    assert "29.5 %" in words(figure)
    assert "Bars: 95 % bootstrap over rounds" in words(draw("fig1", turned(ONE, seeds=(42,))))
    plain = draw("fig1", ledger_of())
    assert not plain.axes[0].patches
    assert "std against std" not in words(plain)


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("how", [{}, {"seeds": (42,)}, {"arms": ("std", "ale"), "benchmarks": ()}])
def test_every_figure_for_every_shape_of_turns(name, how):
    drawn = words(draw(name, turned(TEN_MODELS, **how)))
    assert ("turns" in drawn) == (name in ("fig1", "fig3", "fig5"))
