"""Every arm against std: known answers, lost pairs, turns, models; and the tables, figures and analyses of them."""

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from aletheia.analysis import aggregate, arms, verdicts
from aletheia.analysis.curves import curve_table, read_curve_table
from aletheia.analysis.frontier import pareto_set, points, relative_time
from aletheia.analysis.ledger import build_ledger, read_ledger, write_csv
from aletheia.analysis.stats import estimate
from aletheia.provenance.artifacts import canonical_bytes, make_envelope
from aletheia.report import analyses, arm_figures, plot_style, tables
from aletheia.report.arms_table import arms_table
from conftest import run_script
from ledgers import LINEAGE, SEEDS, TWO_MODELS, evaluation, ledger_of, run, run_here, study
from reports import summarise

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}
MODEL = "smollm2-135m"
T_TWO_DF = 4.302652729749464
STYLE = {**plot_style.STYLE, "dots_per_inch": 60}


def by_hand(**cells):
    """A ledger of std and the arm zz, one model and three seeds, with some columns of its cells as given."""
    frame = ledger_of(ONE, arms=("std", "zz"))
    for name, values in cells.items():
        frame[name] = pd.Series([*values["std"], *values["zz"]], index=frame.index).astype(
            frame[name].dtype if name in frame else "float64"
        )
    return frame


def compared(ledger, arm="zz", model=0):
    return summarise(ledger)["campaigns"][0]["models"][model]["against_std"][arm]


def table(ledger):
    return arms.arm_table(summarise(ledger)).set_index(["model", "arm", "measure"]).sort_index()


def test_differences_by_hand():
    found = compared(
        by_hand(
            eval_loss={"std": [2.0, 2.02, 2.04], "zz": [1.95, 2.0, 2.05]},
            training_seconds={"std": [100, 100, 100], "zz": [80, 70, 90]},
            total_seconds={"std": [100, 100, 100], "zz": [90, 80, 100]},
            probe_seconds={"std": [0, 0, 0], "zz": [9, 10, 10]},
            trainable_parameters={"std": [1000] * 3, "zz": [250] * 3},
            peak_memory_bytes={"std": [400] * 3, "zz": [300, 320, 340]},
        )
    )
    loss = found["heldout_loss_difference"]
    half = T_TWO_DF * 0.03 / math.sqrt(3)
    assert (loss["unit"], loss["n"], loss["lost"], loss["planned"]) == ("seed", 3, 0, 3)
    assert [loss[k] for k in ("mean", "sd", "low", "high")] == pytest.approx([-0.02, 0.03, -0.02 - half, -0.02 + half])
    t = 0.02 / (0.03 / math.sqrt(3))
    assert loss["p"] == pytest.approx(1 - t / math.sqrt(2 + t**2))  # t with 2 degrees of freedom, in closed form
    assert loss["p_holm"] == loss["p"]  # one headline model
    assert found["wall_clock_speedup_percent"]["mean"] == pytest.approx(20)
    assert found["wall_clock_speedup_with_probe_percent"]["mean"] == pytest.approx(10)
    assert found["trainable_parameters_ratio"]["mean"] == 0.25
    assert found["peak_memory_ratio"]["mean"] == pytest.approx(0.8)
    assert found["probe_share_percent"]["mean"] == pytest.approx(100 * (9 / 90 + 10 / 80 + 10 / 100) / 3)
    assert "speedup_percent" not in found
    assert "seconds_to_std_loss_ratio" not in found


def test_the_long_table_has_std_by_its_change_from_the_base():
    found = arms.arm_table(summarise(ledger_of(ONE, arms=("std", "zz"))))
    assert list(found.columns)[:9] == ["campaign", "model", "arm", "measure", "unit", "n", "mean", "low", "high"]
    std = found[(found["arm"] == "std") & (found["model"] == MODEL)]
    assert set(std["measure"]) == {"heldout_loss_from_base", "mmlu_pp_from_base", "humaneval_pp_from_base"}
    assert std.set_index("measure")["mean"]["mmlu_pp_from_base"] == pytest.approx(-1)
    zz = found[(found["arm"] == "zz") & (found["model"] == MODEL)].set_index("measure")
    assert zz["mean"]["mmlu_extra_pp"] == pytest.approx(0.5)


@pytest.mark.parametrize("arm", ["zz", "n", "probe", "std_total", "paired"])
def test_an_arm_may_have_any_name(arm):
    found = summarise(ledger_of(ONE, arms=("std", arm)))["campaigns"][0]["models"][0]
    expected = summarise(ledger_of(ONE, arms=("std", "other")))["campaigns"][0]["models"][0]
    assert found["against_std"][arm] == expected["against_std"]["other"]
    assert found["extra"][arm] == expected["extra"]["other"]


@pytest.mark.parametrize("failed", ["zz", "std"])
def test_a_failed_partner_is_a_lost_pair_in_every_measure(failed):
    campaigns, runs, evaluations = study(ONE, arms=("std", "ale", "zz"))
    key = (MODEL, failed, 42)
    runs[key] = run(*key, status="out_of_memory", reason="needs 9 GiB", eval_loss=None)
    for benchmark in ("heldout", "mmlu", "humaneval"):
        evaluations[*key, benchmark] = evaluation(*key, benchmark, None, status="no_adapter", n=0)
    summary = summarise(build_ledger(campaigns, runs, evaluations))
    measures = summary["campaigns"][0]["models"][0]["against_std"]["zz"]
    assert {(m["n"], m["lost"], m["planned"]) for m in measures.values()} == {(2, 1, 3)}
    said = analyses.forgetting_deltas(summary)
    assert f"{MODEL}/{failed}/seed42: out_of_memory (needs 9 GiB)" in said
    row = next(line for line in said.splitlines() if "| zz | MMLU | +" in line)
    assert "| 2 of 3 |" in row
    shown = arms_table(summary).display.set_index("Arm")["Pairs"]
    assert shown["zz"] == "2 of 3"
    assert shown["std"] == ("2 of 3" if failed == "std" else "3 of 3")


def test_a_resumed_pair_has_a_loss_and_no_time():
    ledger = ledger_of(ONE, arms=("std", "zz"))
    ledger.loc[(ledger["arm"] == "zz") & (ledger["seed"] == 123), "comparable"] = False
    found = compared(ledger)
    assert (found["heldout_loss_difference"]["lost"], found["wall_clock_speedup_percent"]["lost"]) == (0, 1)


# What general text and the right choices became likely to the model


def test_retention_and_probabilities_by_hand(tmp_path):
    ledger = ledger_of(ONE, arms=("std", "zz"), benchmarks=("heldout", "mmlu", "retention"))
    before = compared(ledger)
    assert not [measure for measure in before if "probability" in measure]
    cells = {
        "retention_loss_base": [3.0] * 6,
        "retention_loss": [3.1, 3.2, 3.3, 3.05, 3.2, 3.2],
        "mmlu_probability_base": [0.5] * 6,
        "mmlu_probability": [0.4, 0.45, 0.5, 0.42, 0.46, 0.53],
    }
    ledger = ledger.assign(**cells)
    own, std = compared(ledger), compared(ledger, "std")
    differences = {
        "retention_loss_difference": (own, [-0.05, 0.0, -0.1]),
        "retention_loss_from_base": (std, [0.1, 0.2, 0.3]),
        "mmlu_probability_extra_pp": (own, [2.0, 1.0, 3.0]),
        "mmlu_probability_pp_from_base": (std, [-10.0, -5.0, 0.0]),
    }
    for measure, (found, values) in differences.items():
        expected = {"unit": "seed", **estimate(values), "lost": 0, "planned": 3}
        assert {k: found[measure][k] for k in expected} == pytest.approx(expected), measure
    ledger.loc[ledger["arm"] == "zz", "status"] = ["crashed", "ok", "ok"]
    lost = compared(ledger)
    assert {lost[name]["lost"] for name, (found, _) in differences.items() if found is own} == {1}
    write_csv(ledger, tmp_path / "ledger.csv")
    rows = table(read_ledger(tmp_path / "ledger.csv"))
    assert rows.loc[(MODEL, "std", "retention_loss_from_base"), "mean"] == pytest.approx(0.2)


def test_table_s1_shows_the_retention_loss_and_keeps_probabilities_to_its_numbers():
    ledger = ledger_of(ONE, arms=("std", "zz"), benchmarks=("heldout", "mmlu", "retention"))
    found = arms_table(summarise(ledger.assign(mmlu_probability_base=0.5, mmlu_probability=0.4)))
    shown = found.display.set_index("Arm")["Retention loss (nats)"]
    # By the laws of the synthetic study: std 0.02, 0.01 and 0 below the base; zz 0.005 above std in each seed.
    assert shown["std"] == "−0.010 [−0.035, +0.015]"
    assert shown["zz"].startswith("+0.005 [+0.005, +0.005]")
    assert not [name for name in found.display if "robab" in name]
    numbers = found.numbers.set_index("arm")["mmlu_probability_extra_pp_mean"]
    assert numbers.to_dict() == pytest.approx({"std": -10.0, "zz": 0.0})
    assert "Retention loss (nats)" not in arms_table(summarise(ledger_of(ONE, arms=("std", "zz")))).display


# Arms timed in turns


def in_turns(ratios):
    n = len(ratios)
    return {
        "turns_ratio": {"std": [1.0, 1.01, 0.99][:n], "zz": ratios},
        "turns_ratio_low": {"std": [0.98] * n, "zz": [1.0] * n},
        "turns_ratio_high": {"std": [1.02] * n, "zz": [2.0] * n},
        "turns_ratio_with_probe": {"std": [1.0] * n, "zz": [1.0] * n},
        "turns_ratio_with_probe_low": {"std": [1.0] * n, "zz": [0.8] * n},
        "turns_ratio_with_probe_high": {"std": [1.0] * n, "zz": [1.25] * n},
        "turns_rounds": {"std": [12] * n, "zz": [12] * n},
    }


def test_turns_over_seeds_have_the_interval_of_the_seeds():
    found = compared(by_hand(**in_turns([1.25, 2.0, 1.6])))["speedup_percent"]
    expected = estimate([20.0, 50.0, 37.5])
    assert (found["unit"], found["n"], found["lost"]) == ("seed", 3, 0)
    assert [found[k] for k in ("mean", "low", "high")] == pytest.approx([expected[k] for k in ("mean", "low", "high")])


def test_turns_of_one_seed_have_the_interval_of_their_rounds():
    ledger = by_hand(**in_turns([1.25, 2.0, 1.6]))
    ledger = ledger[ledger["seed"] == 42]
    found = compared(ledger)
    speed = found["speedup_percent"]
    assert (speed["unit"], speed["n"], speed["planned"], speed["lost"]) == ("round", 12, 1, 0)
    assert [speed[k] for k in ("mean", "low", "high")] == pytest.approx([20.0, 0.0, 50.0])
    assert found["wall_clock_speedup_percent"]["unit"] == "seed"
    share, how = relative_time(found)
    assert how == "in turns"
    assert [share[k] for k in ("mean", "low", "high")] == pytest.approx([1.0, 0.8, 1.25])
    assert compared(ledger, "std")["aa_speedup_percent"]["mean"] == pytest.approx(0.0)


def test_a_campaign_by_wall_clock_beside_one_in_turns_has_no_such_measure():
    nothing = {"std": [np.nan] * 3, "zz": [np.nan] * 3}
    found = compared(by_hand(**dict.fromkeys(in_turns([1.0]), nothing)))
    assert "speedup_percent" not in found
    assert relative_time(found)[1] == "wall clock"


def test_turns_are_read_from_csv_and_a_ledger_without_them_too(tmp_path):
    ledger = by_hand(**in_turns([1.25, 2.0, 1.6]))
    for frame in (ledger, ledger_of()):
        write_csv(frame, tmp_path / "ledger.csv")
        pd.testing.assert_frame_equal(table(read_ledger(tmp_path / "ledger.csv")), table(frame))


# Time to std's loss


def test_time_to_loss_is_averaged_as_a_ratio_and_counts_those_that_never_did():
    column = {"std": [1.0, 1.0, 1.0], "zz": [0.5, 2.0, np.nan]}
    found = compared(by_hand(seconds_to_std_loss_ratio=column))["seconds_to_std_loss_ratio"]
    assert (found["n"], found["lost"], found["planned"]) == (2, 1, 3)
    assert found["mean"] == pytest.approx(1.0)  # twice as fast and half as fast
    assert found["low"] == pytest.approx(1 / found["high"])
    shown = arms_table(summarise(by_hand(seconds_to_std_loss_ratio=column))).display.set_index("Arm")
    assert shown["Time to std's loss, arm / std"]["zz"].endswith("(2 of 3)")


# Models


def test_models_are_the_unit_over_models_and_only_the_headline_counts():
    models = {f"m{i}": {"family": "x", "std": 100.0, "ale": 80.0 - 10 * i} for i in range(3)}
    models["toy"] = {"family": "x", "std": 100.0, "ale": 10.0, "headline": False}
    found = table(ledger_of(models))
    rows = found.loc["all", "ale"]
    means = found.loc[(["m0", "m1", "m2"], "ale", "wall_clock_speedup_percent"), "mean"]
    expected = estimate(means)
    speed = rows.loc["wall_clock_speedup_percent"]
    assert (speed["unit"], speed["n"], speed["planned"]) == ("model", 3, 3)
    assert speed[["mean", "low", "high"]].tolist() == pytest.approx([expected[k] for k in ("mean", "low", "high")])
    assert "Headline models" in set(arms_table(summarise(ledger_of(models))).display["Model"])


def test_holm_runs_over_headline_models_of_one_arm():
    # cm of one seed pattern has p = 0.0742 for every model: of two headline models Holm doubles it.
    models = {**ONE, "b": ONE[MODEL], "toy": TWO_MODELS["glasslm"]}
    summary = summarise(ledger_of(models))
    tests = [model["against_std"]["cm"]["heldout_loss_difference"] for model in summary["campaigns"][0]["models"]]
    p = tests[0]["p"]
    assert [test["p_holm"] for test in tests] == [pytest.approx(2 * p), pytest.approx(2 * p), None]
    extras = [model["extra"]["ale"]["mmlu"] for model in summary["campaigns"][0]["models"]]
    assert [test["p_holm"] for test in extras] == [pytest.approx(2 * extras[0]["p"])] * 2 + [None]
    matched = [model["compute_matched"]["cm"]["eval_loss"]["p_holm"] for model in summary["campaigns"][0]["models"]]
    assert matched == [test["p_holm"] for test in tests]


def test_families_hold_headline_models_alone():
    models = {**ONE, "toy": {**TWO_MODELS["glasslm"], "family": "llama"}}
    (family,) = summarise(ledger_of(models))["campaigns"][0]["families"]
    assert (family["models"], family["unit"], family["speedup_percent"]["n"]) == (1, "seeds", 3)


# Shapes of studies


@pytest.mark.parametrize(
    ("how", "seen"),
    [
        ({"arms": ("ale", "zz")}, {}),
        ({"arms": ("std",)}, {"std"}),
        ({"arms": ("std", "zz"), "seeds": (42,)}, {"std", "zz"}),
        ({"arms": ("std", "zz"), "benchmarks": ()}, {"std", "zz"}),
    ],
)
def test_every_shape_of_study_is_told_without_nan(how, seen):
    ledger = ledger_of(ONE, **how)
    summary = summarise(ledger)
    whole = make_envelope("stats", summary, LINEAGE, {}, "summary.json")  # held against its schema
    assert b"NaN" not in canonical_bytes(whole)
    assert set(summary["campaigns"][0]["models"][0]["against_std"]) == set(seen)
    assert arms.has_pairs(ledger) is (len(seen) > 1)
    assert list(arms.arm_table(summary).columns) == list(arms.COLUMNS)
    if len(seen) > 1:
        assert "nan" not in arms_table(summary).display.to_csv().lower()


def test_a_standard_run_of_no_time_gives_no_infinity():
    zero = {"std": [0.0, 100.0, 100.0], "zz": [80.0, 80.0, 80.0]}
    found = compared(by_hand(training_seconds=zero))["wall_clock_speedup_percent"]
    assert (found["n"], found["lost"], found["mean"]) == (2, 1, pytest.approx(20))


# Compute


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.96, 1.04, "matched"),
        (1.01, 1.04, "matched"),
        (0.18, 1.93, "cannot tell"),
        (1.01, 1.20, "more time than std"),
        (0.97, 1.09, "cannot tell"),
        (1.06, 1.20, "more time than std"),
        (0.50, 0.94, "less time than std"),
    ],
)
def test_time_is_matched_only_when_its_interval_says_so(low, high, said):
    share = {"n": 3, "mean": (low + high) / 2, "sd": 0.1, "low": low, "high": high}
    assert verdicts.time(share, 5) == said
    assert (verdicts.at_equal_compute("worse", said) == "worse") is (said == "matched")


def test_one_seed_cannot_tell_whether_compute_matched():
    assert verdicts.time(estimate([1.0]), 5).startswith("cannot tell")
    assert verdicts.time(estimate([]), 5) == "not measured"


def test_an_arm_of_more_steps_is_compute_matched_whatever_its_name():
    campaigns, runs, evaluations = study(ONE, arms=("std", "ale", "cm", "longer"))
    for key, envelope in runs.items():
        if key[1] == "longer":
            envelope["payload"]["steps"] = 50
    summary = summarise(build_ledger(campaigns, runs, evaluations))
    assert set(summary["campaigns"][0]["models"][0]["compute_matched"]) == {"cm", "longer"}
    assert list(tables.compute_matched_table(summary, {5: {}}).display["Arm"]) == ["cm", "longer"]
    said = analyses.compute_matched(summary)
    assert "smollm2-135m, longer: time " in said
    assert "40 / 50" in said


# The frontier


def test_the_pareto_set_by_hand():
    at = {"std": (1.0, 0.0), "fast": (0.5, 0.3), "dominated": (0.8, 0.4), "twin": (1.0, 0.0), "best": (1.2, -0.1)}
    found = {arm: ({"mean": time}, {"mean": loss}) for arm, (time, loss) in at.items()}
    assert pareto_set(found) == ["fast", "std", "twin", "best"]


def test_points_of_a_model_are_all_in_turns_or_all_by_the_clock():
    ledger = ledger_of(ONE, arms=("std", "ale", "zz"))
    timed = {"std": 1.0, "ale": 1.5, "zz": 2.0}
    for name in ("turns_ratio", "turns_ratio_with_probe"):
        ledger[name] = ledger["arm"].map(timed)
        ledger[f"{name}_low"], ledger[f"{name}_high"] = ledger[name], ledger[name]
    ledger["turns_rounds"] = 12
    found, how = points(summarise(ledger)["campaigns"][0]["models"][0])
    assert how == "in turns"
    assert [found[arm][0]["mean"] for arm in timed] == pytest.approx([1, 1 / 1.5, 1 / 2])
    ledger.loc[ledger["arm"] == "zz", "turns_ratio_with_probe"] = np.nan
    found, how = points(summarise(ledger)["campaigns"][0]["models"][0])
    assert how == "wall clock"
    assert found["ale"][0]["mean"] == pytest.approx(np.mean([(82 + i) / (100 + i) for i in range(3)]))


def words(figure):
    axes = [t for a in figure.axes for t in (a.get_xlabel(), a.get_ylabel(), a.get_title("left"))]
    legends = [text.get_text() for a in figure.axes if a.get_legend() for text in a.get_legend().get_texts()]
    inside = [text.get_text() for axis in figure.axes for text in axis.texts]
    return " | ".join([*(text.get_text() for text in figure.texts), *inside, *axes, *legends])


@pytest.fixture
def drawn(tmp_path):
    def draw(make, *data):
        with mpl.rc_context(plot_style.rc(STYLE)):
            figure = make(*data, STYLE)
            plot_style.save(figure, tmp_path / "x.png")
        return words(figure)

    return draw


def test_the_frontier_names_its_arms_its_clock_and_its_best(drawn):
    said = drawn(arm_figures.frontier, summarise(ledger_of(arms=("std", "ale", "zz"))))
    assert "Time, arm / std (wall clock)" in said
    assert "(smollm2-135m: ale, std; glasslm†: std)" in said
    assert "† no part of the headline" in said
    assert said.endswith("std | ale | zz")
    many = drawn(
        arm_figures.frontier, summarise(ledger_of({f"m{i}": ONE[MODEL] for i in range(6)}, seeds=(42,), benchmarks=()))
    )
    assert "2 further models: tables/tableS1.csv" in many.replace("\n", " ")
    assert "No pair" in drawn(arm_figures.frontier, summarise(ledger_of(arms=("ale",))))


# Losses on the way


def curved():
    campaigns, runs, evaluations = study(ONE, arms=("std", "zz"), benchmarks=())
    for envelope in runs.values():
        envelope["payload"]["curve"] = [{"step": 20 * i, "heldout_loss": 3.0 - i / 2} for i in range(3)]
        envelope["observed"]["curve_seconds"] = [0.0, 10.0, 20.0]
    return campaigns, runs, evaluations


def test_curves_are_a_table_with_a_row_a_point(tmp_path):
    campaigns, runs, _ = curved()
    diverged, resumed, bare = runs[MODEL, "zz", 42], runs[MODEL, "zz", 123], runs[MODEL, "zz", 999]
    diverged["payload"]["curve"][2]["heldout_loss"] = None
    resumed["observed"]["time"]["comparable"] = False
    bare["payload"]["curve"] = []
    bare["observed"].pop("curve_seconds")
    found = curve_table(campaigns, runs)
    assert list(found.columns) == ["campaign", "model", "arm", "seed", "step", "seconds", "heldout_loss"]
    assert len(found) == 3 * 3 + 2 * 3
    of = {seed: found[(found["arm"] == "zz") & (found["seed"] == seed)] for seed in SEEDS}
    assert of[42]["heldout_loss"].tolist()[:2] == [3.0, 2.5]
    assert of[42]["heldout_loss"].isna().tolist() == [False, False, True]
    assert of[123]["seconds"].isna().all()
    assert of[999].empty
    write_csv(found, tmp_path / "curves.csv")
    pd.testing.assert_frame_equal(read_curve_table(tmp_path / "curves.csv"), found)


def test_aggregate_makes_the_table_where_a_campaign_has_curves():
    campaign = {"reports": [], "models": {}}
    assert "curves.csv" not in aggregate.tables([campaign])
    assert aggregate.tables([campaign, {**campaign, "curves": True}]) == ["ledger.csv", "curves.csv"]


def test_curves_are_drawn_an_arm_a_line(drawn):
    campaigns, runs, _ = curved()
    found = curve_table(campaigns, runs)
    said = drawn(arm_figures.loss_curves, found)
    assert "n = 3 seeds an arm" in said
    assert "Training seconds" in said
    assert said.endswith("std | zz")
    assert "comparable times" in drawn(arm_figures.loss_curves, found.assign(seconds=np.nan))


def test_figure_s5_without_its_table_is_one_sentence(monkeypatch, capsys, tmp_path):
    options = (
        "--ledger",
        tmp_path / "x",
        "--stats",
        tmp_path / "y",
        "--figure",
        "figS5",
        "--out-dir",
        tmp_path / "out",
    )
    ended, said = run_here(monkeypatch, capsys, "figures.py", *options)
    assert ended == 2
    assert said.strip() == "error: figS5 shows curves: expected --curves with the curves.csv of aggregate, found none"


@pytest.mark.slow
def test_the_script_writes_arms_and_table_s1_from_an_old_ledger(tmp_path):
    write_csv(ledger_of(arms=("std", "zz"), reports=[]), tmp_path / "old.csv")
    folders = ("--stats-dir", tmp_path / "stats", "--tables-dir", tmp_path / "tables")
    done = run_script("stats.py", "--ledger", tmp_path / "old.csv", *folders)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "stats").iterdir()} >= {"summary.json", "arms.csv", "arms.csv.lineage.json"}
    assert {p.name for p in (tmp_path / "tables").glob("*.csv")} == {"table1.csv", "tableS1.csv"}
    assert "zz" in set(pd.read_csv(tmp_path / "stats" / "arms.csv")["arm"])
    assert "**Table S1.**" in (tmp_path / "tables" / "tableS1.md").read_text()
    assert r"\label{tab:tableS1}" in (tmp_path / "tables" / "tableS1.tex").read_text()
