"""What a reader of `aletheia fit` is told: REPORT.md, its figure, and the artifact that both are made from."""

import json

import matplotlib as mpl
import pytest
from jsonschema import Draft202012Validator

from aletheia.analysis.answers import write_answers
from aletheia.analysis.ledger import write_csv
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import ROOT, compact_json
from aletheia.report import plot_style
from aletheia.report.fit_answer import less_time
from aletheia.report.fit_figure import fit_figure
from aletheia.report.fit_text import fit_text
from conftest import run_script
from fitted_study import MODEL, SECTION, evidence, fitted
from ledgers import sealed
from reports import STYLE, words

FASTER = {"ale": 70.0}
FAILED = {"status": "diverged", "reason": "not finite", "eval_loss": None}
WORTH = {"gains": {"std": 0.5, "ale": 0.5}, "seconds": FASTER, "row_noise": 0.005}
NOT_WORTH = {"gains": {"std": 0.5, "ale": 0.4}, "seconds": FASTER}
CANNOT_TELL = {"gains": {"std": 0.5, "ale": 0.49}, "seconds": FASTER, "noise": 0.01}
ONE_SEED = {"gains": {"std": 0.5, "ale": 0.49}, "seeds": (42,)}
NO_STD = {"gains": {"ale": 0.5}}
ALL_FAILED = {"gains": {"std": 0.5, "ale": 0.5}, "changes": {"std": FAILED, "ale": FAILED}}
ONE_FAILED = {"gains": {"std": 0.5, "ale": 0.5}, "changes": {"ale": FAILED}}
KINDS = [WORTH, NOT_WORTH, CANNOT_TELL, ONE_SEED, NO_STD, ALL_FAILED, ONE_FAILED]


def told(**how):
    return fit_text(fitted(**how))


def first_paragraph(**how):
    return told(**how).split("\n\n")[1]


def test_worth_it_says_what_was_saved_and_what_was_given_away_and_where_the_adapter_lies():
    text = first_paragraph(**WORTH)
    assert text.startswith("**Fine-tuning helped**: on 64 test rows the loss of `ale` is 0.5")
    assert "`ale` in place of standard LoRA on all layers: **worth it**; its held-out loss is equivalent" in text
    assert "and took 29.0 % less time (95 %: 28.9 to 29.0 less), its probe counted (3 seeds; wall clock)." in text
    assert "Use `results/train/model/ale/seed" in text
    assert text.endswith(": worth it.")


def test_not_worth_it_says_how_much_loss_was_given_away():
    text = first_paragraph(**NOT_WORTH)
    assert "`ale` in place of standard LoRA on all layers: **not worth it**; its held-out loss is higher." in text
    assert "It ended 0.1019 nats higher (95 %: 0.0906 to 0.1132 higher) than `std` (3 seeds)" in text
    assert text.endswith("no other arm is worth it.")


def test_cannot_tell_says_so_recommends_std_and_says_what_would_have_been_found():
    text = told(**CANNOT_TELL)
    assert "**cannot tell**; whether it gives loss away cannot be told." in text
    assert "Use `results/train/model/std/seed" in text
    assert "): no other arm is shown to be worth it." in text
    assert "nats from std would have been found with a probability of 80 %" in text


def test_an_interval_across_no_difference_names_both_sides():
    assert "lower to " in (text := first_paragraph(**CANNOT_TELL))
    assert " higher) than `std`" in text


def test_one_seed_says_what_it_can_and_what_it_cannot_say():
    text = told(**ONE_SEED)
    assert "Each arm ran once: that says how these very adapters do on further rows like these" in text
    assert "whether it gives loss away cannot be told (one seed says nothing of others)" in text
    assert "took 1.0 % more time, its probe counted (one seed; wall clock)" in text
    assert "three make it a comparison: `seeds: [42, 123, 999]` in campaign.yaml" in text
    assert "101.0 s (one run)" in text


def test_one_seed_names_the_adapter_at_hand_that_is_lower_on_these_rows():
    sentence = "Of these very adapters that of `ale` has the lower loss on rows like these, whatever other seeds give."
    assert first_paragraph(gains={"std": 0.4, "ale": 0.5}, seeds=(42,)).endswith(sentence)
    assert "Of these very adapters" not in first_paragraph(**ONE_SEED)
    assert "Of these very adapters" not in first_paragraph(**WORTH)


def test_two_seeds_say_how_wide_their_intervals_are():
    assert "Two seeds: intervals over them are very wide" in told(**{**CANNOT_TELL, "seeds": (1, 2)})


def test_without_std_nothing_is_held_against_anything():
    text = told(**NO_STD)
    assert "`ale` in place of standard LoRA on all layers: **cannot tell**; there is no std to hold it against." in text
    assert "No std was trained, so that no arm was held against anything." in text
    assert "## Against standard LoRA" not in text
    assert "(`ale`, seed " in text


def test_a_failed_arm_keeps_its_row_and_is_named():
    text = told(**ONE_FAILED)
    assert "**cannot tell**; no seed has a run of it and of std that both ended well." in text
    assert "| ale | – | – | – | – | – | – | – | 0 of 3 |" in text.replace("0.93 [0.93, 0.93] GiB", "–")
    assert "Runs that did not end well: `ale` (seed 42: diverged, seed 123: diverged, seed 999: diverged)." in text


def test_nothing_that_ended_well_is_a_report_that_says_so():
    text = told(**ALL_FAILED)
    assert "No run ended well, so nothing can be said." in text
    assert "No adapter is recommended: no run ended well." in text
    assert "## The adapter" not in text
    assert "No run ended well." in words(draw(**ALL_FAILED))


def test_worse_than_the_base_model_is_said_first():
    text = first_paragraph(gains={"std": -0.3})
    assert text.startswith(
        "**Fine-tuning made it worse**: on 64 test rows the loss of `std` is 0.2969 nats higher (95 %:"
    )
    assert text.endswith(
        "No adapter is recommended: std, which would be, has a higher held-out loss than the base model."
    )


def test_more_forgetting_is_not_worth_it():
    text = first_paragraph(**{**WORTH, "forgets": {"ale": 0.1}})
    assert "**not worth it**; its loss on general text is higher." in text


def test_chosen_rates_are_told_with_the_noise_floor_and_the_edge():
    trial = {
        f"rate{n}": {"learning_rate": rate, "eval_loss": loss, "status": "ok"}
        for n, (rate, loss) in enumerate([(3e-4, 2.6), (1e-3, 2.505), (3e-3, 2.5)])
    }
    text = told(gains={"std": 0.5}, rates={"std": trial})
    assert "`std`: 0.003, the best of 0.0003 (2.6000), 0.001 (2.5050), 0.003 (2.5000) by the held-out loss" in text
    assert "the highest that was tried, so a higher one may be better still; 0.001 cannot be told from it." in text
    assert "Noise floor: two runs of std that differ in their seed alone differ by an SD of 0.0" in text
    one = told(gains={"std": 0.5}, rates={"std": trial}, seeds=(1,))
    assert "Noise floor: not known, since std has fewer than two seeds with a loss." in one
    assert "## Learning rates" not in told(**WORTH)


def test_the_adapter_of_the_rows_that_judge_is_said_to_look_too_good():
    assert "so its own loss is too good" in told(gains={"std": 0.5}, split="heldout")
    assert "so its own loss is too good" not in told(gains={"std": 0.5})


def test_std_comes_first_whatever_the_campaigns_order():
    text = told(gains={"ale": 0.4, "std": 0.5})
    assert text.index("\n| std |") < text.index("\n| ale |")


def test_busy_and_resumed_runs_are_counted():
    text = told(gains={"std": 0.5, "ale": 0.5}, changes={"ale": {"resumed_at": [3]}})
    assert "3 runs went on after a stop; such times are not compared." in text
    assert "whether it saves time cannot be told" in told(**{**WORTH, "changes": {"ale": {"resumed_at": [3]}}})


@pytest.mark.parametrize("how", KINDS)
def test_the_artifact_is_what_its_schema_says_and_each_arm_has_its_rows(how):
    schema = json.loads((ROOT / "workflow" / "schemas" / "fit.schema.json").read_text(encoding="utf-8"))
    summary = fitted(**how)
    assert list(Draft202012Validator(schema).iter_errors(summary)) == []
    text = fit_text(summary)
    for arm in summary["arms"]:
        assert text.count(f"\n| {arm} |") == 2
    assert "nan" not in text.lower()


def draw(**how):
    with mpl.rc_context(plot_style.rc(STYLE)):
        return fit_figure(fitted(**how), STYLE)


def lines(axis):
    return {line.get_gid(): line for line in axis.lines if line.get_gid()}


def test_arms_lie_over_their_seconds_and_the_base_model_is_a_line_in_both_panels():
    figure = draw(**WORTH)
    left, right = figure.axes
    marks = lines(left)
    assert {"std", "ale", "base", "std loss", "ale loss", "std seconds", "ale seconds"} == {*marks}
    assert marks["ale"].get_xdata()[0] == pytest.approx(71.1)
    assert {marks[arm].get_marker() for arm in ("std", "ale")} == {"o", "s"}
    assert marks["base"].get_linestyle() == lines(right)["base"].get_linestyle() == "--"
    assert [label.get_text() for label in right.get_yticklabels()] == ["std", "ale"]
    assert left.get_xlim()[0] == 0
    said = words(figure)
    assert all(text in said for text in ("Seconds of a run, its probe counted", "Held-out loss (nats)", "base model"))
    assert "Loss on general text (nats)" in said


def test_the_interval_of_a_loss_is_that_of_its_difference_from_the_base_model():
    summary = fitted(**ONE_SEED)
    with mpl.rc_context(plot_style.rc(STYLE)):
        marks = lines(fit_figure(summary, STYLE).axes[0])
    found, base = summary["arms"]["std"]["heldout_from_base"], summary["base"]["heldout"]
    assert list(marks["std loss"].get_ydata()) == pytest.approx([base + found["low"], base + found["high"]])
    assert "std seconds" not in marks


def test_an_arm_without_a_time_and_one_without_a_run_are_named_below_the_figure():
    resumed, failed = {"resumed_at": [3]}, FAILED
    figure = draw(gains={"std": 0.5, "ale": 0.5, "last": 0.4}, changes={"ale": resumed, "last": failed})
    small = words(figure).replace("\n", " ")
    assert "Left out of the left panel, since their times are not known: ale." in small
    assert "No run ended well: last." in small
    assert "ale" in [label.get_text() for label in figure.axes[1].get_yticklabels()]


@pytest.mark.slow
def test_the_script_writes_summary_report_and_figure(tmp_path):
    made = evidence({"std": 0.5, "ale": 0.4}, seeds=(42, 123))
    write_csv(made.ledger, tmp_path / "ledger.csv")
    write_answers(made.answers, tmp_path / "answers.parquet")
    stats = sealed(tmp_path / "stats.json", "stats", made.stats)
    runs = []
    for (arm, seed), payload in made.runs.items():
        path = tmp_path / "train" / MODEL / arm / f"seed{seed}" / "run.json"
        path.parent.mkdir(parents=True)
        runs.append(sealed(path, "run", payload))
    out = tmp_path / "fit" / "summary.json"
    read = ("--ledger", tmp_path / "ledger.csv", "--stats", stats, "--answers", tmp_path / "answers.parquet")
    plan = ("--analysis", ROOT / "config" / "analysis.yaml", "--lineage", f"config:fit={compact_json(SECTION)}")
    done = run_script("fit_report.py", *read, "--runs", *runs, "--out", out, *plan)
    assert done.returncode == 0, done.stderr
    names = {"REPORT.md", "report.pdf", "report.png", "report.svg"}
    assert {path.name for path in out.parent.iterdir()} == {
        out.name,
        *names,
        *(f"{name}.lineage.json" for name in names),
    }
    found = artifacts.payload(out, "fit")["recommended"]
    assert found["adapter"] == (tmp_path / f"train/{MODEL}/std/seed{found['seed']}/adapter").as_posix()


@pytest.mark.parametrize(("option", "found"), [((), "none"), (("--set", "fit.x=1"), "{'x': 1}")])
def test_a_call_by_hand_without_a_campaign_is_one_sentence(tmp_path, option, found):
    names = ("ledger.csv", "stats.json", "run.json")
    files = (tmp_path / name for name in names)
    options = [word for pair in zip(("--ledger", "--stats", "--runs"), files, strict=True) for word in pair]
    done = run_script("fit_report.py", *options, "--out", tmp_path / "summary.json", *option)
    expected = "the settings section fit (campaign, model and split)"
    assert (done.returncode, done.stderr) == (2, f"error: fit: expected {expected}, found {found}; see --help\n")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.82, 0.92), "14.0 % less time (95 %: 8.0 to 18.0 less)"),
        ((0.5, 9.5), "14.0 % less time (95 %: 50.0 less to 850.0 more)"),
        ((0.001, 9440), "14.0 % less time (the 95 % interval goes beyond 10 times as long and tells nothing)"),
        ((None, None), "14.0 % less time"),
    ],
)
def test_an_interval_of_a_time_that_tells_nothing_says_so(ends, said):
    """Two seeds whose times differ much have such an interval."""
    assert less_time({"mean": 0.86, **dict(zip(("low", "high"), ends, strict=True))}) == said
