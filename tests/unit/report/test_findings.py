"""What was found, in six sentences: each case by hand, and that none says more than its numbers allow."""

import re

import numpy as np
import pandas as pd
import pytest

from aletheia.analysis import verdicts
from aletheia.analysis.controls import selecting_arm
from aletheia.analysis.ledger import build_ledger
from aletheia.analysis.stats import estimate, values_needed
from aletheia.provenance.artifacts import canonical_bytes, make_envelope
from aletheia.report.finding_scopes import digits_of
from aletheia.report.findings import findings, findings_text
from conftest import ROOT
from ledgers import LINEAGE, TWO_MODELS, evaluation, ledger_of, run, run_here, study, turned
from reports import summarise

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}
MODEL = "smollm2-135m"
SPEED, LOSS, TIME, CHOICES, FORGETTING, OPEN = range(6)


def by_hand(arms=("std", "ale"), *, ledger=None, **cells):
    """A ledger of one model and three seeds, without benchmarks, with some columns of its cells as given by arm."""
    frame = ledger_of(ONE, arms=arms, benchmarks=()) if ledger is None else ledger
    for name, values in cells.items():
        if name not in frame:
            frame[name] = np.nan
        for arm, own in values.items():
            frame.loc[frame["arm"] == arm, name] = own
    return frame


def told(frame):
    """Return the six sentences, held against what all of them must be."""
    found = findings(summarise(frame))
    assert len(found) == 6
    text = " ".join(found)
    assert not re.search(r"\b(nan|NaN|None|inf)\b|–", text)
    # Each interval, and each value without one, says its n in the same brackets.
    for brackets in re.findall(r"\((?:95 % interval|one value)[^)]*\)", text):
        assert re.search(r"n = \d+ (seed|round|model)", brackets), brackets
    assert text.count("interval ") == text.count("95 % interval ")
    return found


# --- speed ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (
            [80, 70, 75],
            "By the wall clock ale is faster than std: speedup 25 % (95 % interval 13 to 37, n = 3 seeds)",
        ),
        ([120, 130, 125], "ale is slower than std: speedup −25 %"),
        ([99, 101, 100], "ale is as fast as std, within 5 %: speedup 0.0 % (95 % interval −2.5 to 2.5, n = 3 seeds)"),
        ([60, 120, 90], "it cannot be told whether ale is faster than std: speedup 10 %"),
    ],
)
def test_speed_by_the_wall_clock(seconds, said):
    times = {"std": [100.0] * 3, "ale": seconds}
    found = told(by_hand(training_seconds=times, total_seconds=times))
    assert said in found[SPEED]
    assert ("speed of ale against std" in found[OPEN]) is ("cannot" in said)


def test_the_probe_can_take_the_speed_away():
    found = told(
        by_hand(
            training_seconds={"std": [100.0] * 3, "ale": [80, 70, 75]},
            total_seconds={"std": [100.0] * 3, "ale": [120, 110, 115]},
            probe_seconds={"ale": 40.0},
        )
    )[SPEED]
    assert "ale is faster than std: speedup 25 %" in found
    assert "with the probe counted ale is slower than std: −15 % (95 % interval −27 to −3, n = 3 seeds)" in found
    assert "probe" not in told(by_hand(probe_seconds={"ale": 0.0}))[SPEED]


def test_one_seed_has_values_and_no_verdict():
    found = told(ledger_of(ONE, seeds=(42,)))
    assert (
        "it cannot be told whether ale is faster than std: speedup 20 % (one value, so no interval, n = 1 seed)"
        in found[SPEED]
    )
    assert "it cannot be told whether ale ends better or worse than std" in found[LOSS]
    assert "One value each, to which a second seed gives an interval: speed of ale against std" in found[OPEN]
    assert "about" not in found[OPEN]


def test_turns_come_with_std_against_itself_and_the_wall_clock():
    one = told(turned(ONE, seeds=(42,)))[SPEED]
    assert "In turns ale is faster than std: speedup 29.8 % (95 % interval 29.1 to 30.5, n = 6 rounds)" in one
    assert "std against itself 0.1 % (95 % interval −1.0 to 1.0, n = 6 rounds)" in one
    assert one.endswith("by the wall clock of its runs 20 % (one value, so no interval, n = 1 seed).")
    assert "n = 3 seeds" in told(turned(ONE))[SPEED]


def test_a_speed_that_std_has_against_itself_is_none():
    frame = turned(ONE, seeds=(42,))
    of_std = frame["arm"] == "std"
    frame.loc[of_std, ["turns_ratio", "turns_ratio_low", "turns_ratio_high"]] = [1.3, 1.1, 1.6]
    found = told(frame)
    assert "it cannot be told whether ale is faster than std (std differs as much from itself)" in found[SPEED]
    assert "speed of ale against std" in found[OPEN]


@pytest.mark.parametrize(
    ("same", "verdict"),
    [
        ((0.0, -4.0, 4.0), "faster"),
        ((5.0, -3.0, 10.0), "faster"),  # the intervals overlap, that of the difference, 1.8 to 16, leaves out 0
        ((-5.0, -10.0, 3.0), "faster"),
        ((8.0, 2.0, 14.0), "cannot tell: std differs as much from itself"),
        ((-12.0, -15.0, -9.0), "cannot tell: std differs as much from itself"),
    ],
)
def test_a_speedup_is_more_than_what_std_has_over_itself(same, verdict):
    def estimate(mean, low, high):
        return {"n": 12, "mean": mean, "low": low, "high": high}

    mirrored = estimate(*(-end for end in (14.0, 19.0, 9.0)))
    assert verdicts.speed(estimate(14.0, 9.0, 19.0), estimate(*same), 5) == verdict
    assert verdicts.speed(mirrored, estimate(*same), 5) == verdict.replace("faster", "slower")


def test_without_turns_that_ended_well_the_wall_clock_says_so():
    found = told(turned(ONE, seeds=(42,), fails=((MODEL, "ale", 42),)))[SPEED]
    assert "By the wall clock (no measurement in turns ended well) it cannot be told" in found


# --- loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([1.9, 1.91, 1.92], "ale ends better than std: held-out loss, ale − std, −0.090 nats"),
        (
            [2.1, 2.11, 2.12],
            "ale ends worse than std: held-out loss, ale − std, +0.110 nats (95 % interval +0.085 to +0.135",
        ),
        ([2.001, 1.999, 2.0], "ale ends equivalent to std: held-out loss, ale − std, 0.0000 nats"),
        (
            [1.99, 1.985, 1.987],
            "ale ends better than std: held-out loss, ale − std, −0.013 nats",
        ),
        (
            [1.9, 2.1, 2.0],
            "it cannot be told whether ale ends better or worse than std: held-out loss, ale − std, 0.00 nats",
        ),
    ],
)
def test_loss_at_equal_steps(losses, said):
    found = told(by_hand(eval_loss={"std": 2.0, "ale": losses}))
    assert f"After equal steps {said}" in found[LOSS]
    assert ("loss of ale against std" in found[OPEN]) is ("cannot" in said)
    word, _ = verdicts.of_estimate(estimate(np.subtract(losses, 2.0)), 0.01, higher_is_better=False)
    assert word in said or word == "cannot tell"


def test_the_perplexity_is_that_of_the_loss():
    found = told(by_hand(eval_loss={"std": 2.0, "ale": [2.1, 2.11, 2.12]}))[LOSS]
    assert "n = 3 seeds; perplexity +11.6 %, 95 % interval +8.9 to +14.4)" in found  # e^0.11, e^0.08516, e^0.13484


def test_other_steps_say_nothing_at_equal_steps():
    found = told(by_hand(steps={"ale": 50}))
    assert "nothing is said at equal steps" in found[LOSS]


def test_what_is_open_says_what_would_have_been_found():
    # SD 0.1: t(0.975, n - 1)·0.1/√n is 0.01002 at 386 and 0.01 at 387 values, by scipy's quantiles.
    values = estimate([1.9, 2.0, 2.1])
    assert values["sd"] == pytest.approx(0.1)
    needed = values_needed(values, 0.01)
    assert needed == 387
    assert values_needed(values, 0.001) is None
    assert values_needed(estimate([1.0]), 0.01) is None
    found = told(by_hand(eval_loss={"std": 2.0, "ale": [1.9, 2.0, 2.1]}))[OPEN]
    # The noncentral t with 2 degrees of freedom: 5.65 standard errors are found with 80 %.
    needs = "such data find 0.33 nats with 80 %; the margin is 0.01; n = 3 seeds now"
    assert f"loss of ale against std ({needs})" in found


# --- time to the loss -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([0.5, 0.52, 0.51], "ale reached the loss that std ends at, sooner than std: after 0.510 of the time of std"),
        ([1.5, 1.52, 1.51], "later than std: after 1.510"),
        ([1.0, 1.01, 0.99], "as soon as std, within 5 %: after 1.000"),
        ([0.5, 2.0, np.nan], "but it cannot be told whether sooner or later than std: after 1"),
    ],
)
def test_time_to_the_loss_that_std_ends_at(ratios, said):
    found = told(by_hand(seconds_to_std_loss_ratio={"std": 1.0, "ale": ratios}))
    assert said in found[TIME]
    never = int(np.isnan(ratios).sum())
    assert f"in {never} of 3 planned seeds it never did" in found[TIME]
    assert f"n = {3 - never} seeds" in found[TIME]
    assert ("time of ale to the loss that std ends at" in found[OPEN]) is ("cannot" in said)


def test_a_seed_without_times_is_none_that_never_reached_it():
    ratios = {"std": 1.0, "ale": [0.5, 0.6, np.nan]}
    frame = by_hand(seconds_to_std_loss_ratio=ratios)
    frame.loc[(frame["arm"] == "ale") & (frame["seed"] == 999), "comparable"] = False
    found = told(frame)
    assert "in 0 of 3 planned seeds it never did" in found[TIME]
    assert "1 pair without comparable times (a run was resumed)." in found[OPEN]


def test_no_curve_and_no_seed_that_reached_it():
    assert "no losses were taken on the way" in told(by_hand())[TIME]
    found = told(by_hand(seconds_to_std_loss_ratio={"std": 1.0, "ale": np.nan}))[TIME]
    assert "ale reached the loss that std ends at in none of 3 planned seeds" in found


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ([99, 100, 101], "which matches: cm ends better than std, held-out loss, cm − std, −0.500 nats"),
        ([50, 51, 52], "compute does not match (less time than std), so its loss says nothing at equal compute."),
        ([80, 120, 100], "compute is not known to match, so its loss says nothing at equal compute."),
    ],
)
def test_the_compute_matched_arm_has_a_loss_only_where_compute_matched(seconds, said):
    times = {"std": 100.0, "ale": 80.0, "cm": seconds}
    losses = {"std": 2.0, "ale": 2.0, "cm": [1.49, 1.5, 1.51]}
    found = told(by_hand(("std", "ale", "cm"), total_seconds=times, training_seconds=times, eval_loss=losses))
    assert said in found[TIME]
    assert ("whether cm matches std in compute" in found[OPEN]) is ("not known" in said)
    assert "No arm was matched in compute." in told(by_hand())[TIME]


# --- other choices of layers ------------------------------------------------------------------------------------------


def test_the_arm_against_others_is_paired_by_seed_between_the_two():
    losses = {"std": 2.0, "ale": [2.0, 2.01, 2.05], "random50": [2.01, 2.025, 2.06], "last50": [2.0, 2.0, 2.1]}
    frame = by_hand(("std", "ale", "random50", "last50", "cm"), eval_loss=losses)
    found = told(frame)
    random = estimate([-0.01, -0.015, -0.01])
    low, high = (f"{random[end]:.3f}".replace("-", "−") for end in ("low", "high"))
    assert f"random50 −0.012 nats (95 % interval {low} to {high}, n = 3 seeds)" in found[CHOICES]
    assert "ale has a lower loss than random50, is not told apart in loss from last50." in found[CHOICES]
    assert "cm" not in found[CHOICES]
    assert "loss of ale against last50" in found[OPEN]
    difference = summarise(frame)["campaigns"][0]["against_controls"]["last50"]["heldout_loss_difference"]
    assert (difference["unit"], difference["n"]) == ("model", 1)


def test_an_arm_that_differs_in_more_or_trains_all_layers_is_no_choice_of_layers():
    frame = by_hand(("std", "ale", "tuned", "lean"))
    frame["differs_from_std"] = frame["arm"].map({"ale": "layers", "tuned": "layers learning_rate", "lean": "layers"})
    frame.loc[frame["arm"] == "lean", "layers_adapted"] = 12
    assert "No other arm trains some of the layers for as many steps" in told(frame)[CHOICES]


def test_of_many_controls_the_ends_are_shown_and_all_that_are_open_named():
    arms = ("std", "ale", *(f"random{n:02}" for n in range(6)))
    losses = {arm: np.add([2.0, 2.01, 2.03], 0.001 * n) for n, arm in enumerate(arms[2:])}
    found = told(by_hand(arms, eval_loss={"std": 2.0, "ale": [2.0, 2.05, 1.98], **losses}))
    assert "random00, random01, random02, random03 and 2 more" in found[CHOICES]
    assert found[CHOICES].count("nats (95 %") == 2
    assert all(f"loss of ale against {arm}" in found[OPEN] for arm in arms[2:])


def test_in_turns_two_arms_are_timed_by_their_ratios():
    found = told(turned(ONE, arms=("std", "ale", "random50"), seeds=(42,)))[CHOICES]
    assert "speedup 0.0 % (one value, so no interval, n = 1 seed) in turns, probe counted" in found


# --- forgetting -------------------------------------------------------------------------------------------------------


def with_retention(base, difference):
    """Return the summary of a study that measured the loss on general text: std − base, and ale − std."""
    frame = ledger_of(ONE, benchmarks=("heldout", "mmlu", "humaneval", "retention")).assign(retention_loss_base=2.0)
    std = 2.0 + np.array(base)
    for arm, losses in (("std", std), ("ale", std + np.array(difference))):
        frame.loc[frame["arm"] == arm, "retention_loss"] = losses
    return summarise(frame)


def test_general_text_comes_first_where_it_was_measured():
    found = findings(with_retention([0.1, 0.12, 0.11], [-0.05, -0.06, -0.055]))
    assert (
        "Training std raised the loss on general text: +0.110 nats (95 % interval +0.085 to +0.135" in found[FORGETTING]
    )
    assert "There ale ends better than std: ale − std −0.055 nats" in found[FORGETTING]
    assert found[FORGETTING].index("general text") < found[FORGETTING].index("MMLU")
    wide = findings(with_retention([0.1, -0.12, 0.11], [-0.05, 0.06, 0.0]))
    assert "Training std is not known to have changed the loss on general text" in wide[FORGETTING]
    assert "loss of ale on general text" in wide[OPEN]


def test_the_loss_on_general_text_comes_from_the_ledger():
    found = told(ledger_of(ONE, arms=("std", "ale"), benchmarks=("heldout", "mmlu", "retention")))
    assert (
        "Training std is not known to have changed the loss on general text: −0.010 nats (95 % interval −0.035 to "
        "+0.015, n = 3 seeds)." in found[FORGETTING]
    )
    assert "it cannot be told whether ale ends better or worse than std: ale − std +0.007 nats" in found[FORGETTING]
    assert "loss of ale on general text (such data find" in found[OPEN]


def test_benchmarks_stand_in_where_their_base_is_above_the_floor():
    found = told(ledger_of({MODEL: {**ONE[MODEL], "mmlu": 0.25}}))
    assert "HumanEval +0.7 points (95 % interval −0.8 to +2.1, n = 3 seeds): equivalent." in found[FORGETTING]
    assert "MMLU" not in found[FORGETTING]
    assert (
        f"At the floor, so that only questions which the base model does not guess would settle it: MMLU of {MODEL}."
        in found[OPEN]
    )
    guessed = told(ledger_of({MODEL: {**ONE[MODEL], "mmlu": 0.25}}, benchmarks=("heldout", "mmlu")))[FORGETTING]
    assert "Nothing that could be forgotten was measured (base at the floor: MMLU)." in guessed
    assert "Nothing that could be forgotten was measured." in told(by_hand())[FORGETTING]


# --- failures, scopes, files ------------------------------------------------------------------------------------------


def test_failed_runs_are_named_and_the_pairs_they_cost_counted():
    campaigns, runs, evaluations = study(ONE, arms=("std", "ale", "random50"))
    key = (MODEL, "std", 42)
    runs[key] = run(*key, status="diverged", reason="loss is NaN", eval_loss=None)
    for benchmark in ("heldout", "mmlu", "humaneval"):
        evaluations[*key, benchmark] = evaluation(*key, benchmark, None, status="no_adapter", n=0)
    found = told(build_ledger(campaigns, runs, evaluations))
    assert f"1 run failed: {MODEL}/std/seed42 (diverged); 2 pairs with std lost." in found[OPEN]
    assert "n = 2 seeds" in found[LOSS]


def test_a_study_in_which_every_run_of_an_arm_failed():
    campaigns, runs, evaluations = study(ONE, arms=("std", "ale", "cm", "random50"), benchmarks=())
    for key in [key for key in runs if key[1] != "std"]:
        runs[key] = run(*key, status="out_of_memory", reason="needs 9 GiB", eval_loss=None, placement=None)
    found = told(build_ledger(campaigns, runs, evaluations))
    assert "No pair of ale and std has times that can be compared" in found[SPEED]
    assert "No pair of ale and std has a held-out loss" in found[LOSS]
    assert "Of cm, the compute-matched arm, no pair has both a loss and a time" in found[TIME]
    assert "9 runs failed" in found[OPEN]


def test_whose_numbers_they_are():
    found = told(ledger_of(dict.fromkeys("abc", ONE[MODEL]), benchmarks=("heldout", "mmlu")))
    assert all("(3 headline models, campaign synthetic)" in sentence for sentence in found[:5])
    assert all("n = 3 models" in found[i] for i in (SPEED, LOSS, TIME, FORGETTING))
    assert f"({MODEL}, campaign synthetic)" in told(ledger_of())[SPEED]  # the other is no part of the headline
    two = {**ONE, "b": ONE[MODEL]}
    assert f"({MODEL}, first of 2 headline models, campaign synthetic)" in told(ledger_of(two))[SPEED]
    toy = {"toy": {**ONE[MODEL], "headline": False}}
    assert "(toy, no part of the headline, campaign synthetic)" in told(ledger_of(toy))[SPEED]


def test_a_sentence_takes_the_first_campaign_that_measured_it():
    first = ledger_of(ONE, arms=("std", "ale"), benchmarks=(), name="one")
    second = ledger_of(ONE, arms=("std", "ale", "cm", "random50"), name="two")
    found = told(pd.concat([first, second], ignore_index=True))
    assert f"({MODEL}, campaign one)" in found[SPEED]
    assert f"arm cm ({MODEL}, campaign two) took" in found[TIME]
    assert all(f"({MODEL}, campaign two)" in found[i] for i in (CHOICES, FORGETTING))


def test_another_name_of_the_selecting_arm():
    frame = by_hand(("std", "last50", "grad25", "random25"), probe_seconds={"last50": 0, "random25": 0})
    assert "the probe counted grad25 is as fast as std, within 5 %" in told(frame)[SPEED]
    plain = by_hand(("std", "first50"), probe_seconds={"first50": 0})
    # Equal times in all seeds have no spread to judge an error by.
    assert "it cannot be told whether first50 is faster than std" in told(plain)[SPEED]
    assert "the selection of first50 is worth is not known" in told(plain)[CHOICES]


def test_a_campaign_of_rates_alone_has_no_std_and_still_an_arm_whose_selection_is_its_own():
    frame = by_hand(("std", "grad_rate1", "grad_rate2"))
    rates = frame[frame["arm"] != "std"].astype({"steps": "Int64"})
    assert selecting_arm(rates) == "grad_rate1"


def test_nothing_open_is_said_too():
    times = {"std": 100.0, "ale": [80.0, 81.0, 82.0]}
    frame = by_hand(training_seconds=times, total_seconds=times, eval_loss={"std": 2.0, "ale": [1.9, 1.91, 1.92]})
    assert "No planned comparison is too wide or at the floor" in told(frame)[OPEN]


@pytest.mark.parametrize(
    ("low", "high", "digits"), [(-0.026, 0.063, 3), (19.3, 20.3, 1), (-4.8, 42.7, 0), (1, 1 + 1e-12, 1), (0, 1e-9, 6)]
)
def test_numbers_have_two_digits_of_the_width(low, high, digits):
    assert digits_of({"mean": (low + high) / 2, "low": low, "high": high}) == digits


def test_a_summary_keeps_its_schema_and_a_study_without_a_pair_one_sentence():
    whole = make_envelope(
        "stats", summarise(ledger_of(ONE, arms=("std", "ale", "random50"))), LINEAGE, {}, "summary.json"
    )
    assert b"NaN" not in canonical_bytes(whole)
    assert "nothing to compare" in findings_text(summarise(ledger_of(ONE, arms=("ale",))))


def test_the_demo_ends_with_what_was_found(monkeypatch, capsys, tmp_path):
    (tmp_path / "stats").mkdir()
    (tmp_path / "stats" / "summary.json").touch()
    assert "No arm was compared with std." in run_here(monkeypatch, capsys, "summarize.py", tmp_path)[1]
    text = findings_text(summarise(ledger_of()))
    (tmp_path / "stats" / "FINDINGS.md").write_text(text, encoding="utf-8")
    ended, said = run_here(monkeypatch, capsys, "summarize.py", tmp_path)
    assert ended == 0
    assert said.endswith(text.strip() + "\n")


@pytest.fixture
def first_page():
    """Return what Snakemake makes of the page's first text: Jinja, then reStructuredText."""
    from docutils.core import publish_parts
    from jinja2 import Environment

    source = (ROOT / "workflow" / "report" / "workflow.rst").read_text(encoding="utf-8")
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(source)
    return lambda files: publish_parts(template.render(files=files), writer="html")["html_body"]


def test_the_report_page_begins_with_them(first_page, tmp_path):
    class Record:
        target, path = "FINDINGS.md", tmp_path / "FINDINGS.md"

    plain = first_page([])
    assert "What was found" not in plain
    frame = by_hand(("std", "ale", "rnd_"))  # a name that reStructuredText would take for a reference
    Record.path.write_text(findings_text(summarise(frame)), encoding="utf-8")
    page = first_page([Record])
    assert page.count("<li>") == 6
    assert "system-message" not in page
    assert "rnd_" in page
    assert page.index("What was found") < page.index("<li>") < page.index("Which layers of a language model")


@pytest.mark.slow
def test_a_finished_study_has_six(finished):
    lines = (finished / "results" / "stats" / "FINDINGS.md").read_text(encoding="utf-8").splitlines()
    assert [line[:2] for line in lines if line[:1].isdigit()] == [f"{n}." for n in range(1, 7)]
    assert "(tiny-llama, campaign tiny)" in lines[2]
    assert "Training std" in lines[6]
    assert "the loss on general text" in lines[6]
    arms = pd.read_csv(finished / "results" / "stats" / "arms.csv").set_index(["model", "arm", "measure"])
    retention = arms.loc[("tiny-llama", "ale", "retention_loss_difference")]
    assert (retention["unit"], retention["n"]) == ("seed", 1)
    assert ("tiny-llama", "std", "retention_loss_from_base") in arms.index
