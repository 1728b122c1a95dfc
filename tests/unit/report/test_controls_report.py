"""What a reader is told of the controls: the answer in words, table S2, figure S6."""

import itertools
import json

import matplotlib as mpl
import pytest
from jsonschema import Draft202012Validator
from matplotlib.text import Text

from aletheia.analysis.controls_summary import summarise_controls
from aletheia.analysis.ledger import write_csv
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import ROOT, compact_json
from aletheia.report import plot_style
from aletheia.report.controls_figure import controls_figure
from aletheia.report.controls_table import controls_table
from aletheia.report.controls_text import controls_text
from aletheia.report.table_text import latex, markdown
from conftest import run_script
from controlled_study import entries, evidence, section, selection
from ledgers import sealed
from reports import STYLE, words

SEED = 1


def told(ale=1.95, *, draws=20, models=("tiny",), arms=None, further=None, **how):
    losses = {"std": 1.9, "ale": ale, **(further or {})} | {f"random{i}": 2.0 + i / 100 for i in range(draws)}
    arms = arms or entries(draws)
    return summarise_controls(section(arms, *models), evidence(dict.fromkeys(models, losses), **how))


def first_paragraph(summary):
    return controls_text(summary).split("\n\n")[1]


def test_the_best_of_twenty_is_called_better_with_its_p_and_the_smallest_that_is_possible():
    text = first_paragraph(told())
    assert "ended at a held-out loss of 1.9500 nats; 20 random draws of layers ended between 2.0000 and 2.1900" in text
    assert "None of the 20 were as good or better: p = 0.048, and no smaller p than 0.048 is possible" in text
    assert "So its choice is better than a random one." in text


def test_one_in_the_middle_cannot_be_told_which_speaks_against_the_paper():
    text = first_paragraph(told(2.105))
    assert "11 of the 20 were as good or better: p = 0.571" in text
    assert "we cannot tell its choice from a random one" in text
    assert "is not shown here" in text


def test_the_worst_is_called_worse():
    assert "worse than a random one, which speaks against the paper" in first_paragraph(told(2.5))


def test_few_draws_can_never_tell():
    assert "So few draws can never tell a good choice from luck" in first_paragraph(told(draws=5))


def test_one_seed_has_no_interval_and_says_so():
    assert "+0.0500 nats (one seed, so no interval: cannot tell)" in first_paragraph(told())


def test_several_seeds_say_how_far_from_the_draws_and_what_they_vary():
    text = first_paragraph(told(draws=3, seeds=(1, 2, 3)))
    assert "From the mean of the draws it differs by −0.0600 [" in text
    assert "over 3 seeds, which vary rows and starting values, and draws, but hardly its own choice)" in text
    assert "From the mean of the draws" not in first_paragraph(told())


def test_other_ways_to_choose_that_ended_lower_are_named():
    arms = entries(20, last={"layers": "last"}, first={"layers": "first"})
    text = first_paragraph(told(arms=arms, further={"last": 1.93, "first": 2.2}))
    assert "Of 2 other ways to choose as many layers, 1 ended lower (last 1.9300); whether" in text


def test_two_models_together_have_one_more_sentence():
    text = first_paragraph(told(models=("one", "two")))
    assert "Over the 2 headline models together, against random draws of layers, ale has p = 0.002" in text


def test_a_model_without_a_choice_by_gradient_says_that_nothing_is_answered():
    arms = {arm: entry for arm, entry in entries(2).items() if arm != "ale"}
    summary = summarise_controls(
        section(arms, "tiny"), evidence({"tiny": {"std": 1.0, "random0": 1.1, "random1": 1.2}})
    )
    assert "tiny has no arm that chooses by gradient, so this is not answered for it." in controls_text(summary)


def test_a_failed_choice_is_said_and_its_row_stays():
    summary = told(changes={"ale": {"status": "diverged", "eval_loss": None}})
    assert "On tiny, no run of ale ended well, so this cannot be told." in first_paragraph(summary)
    assert "Runs that did not end well: ale (seed 1: diverged)." in controls_text(summary)
    table = controls_table(summary)
    assert table.numbers.set_index("arm").loc["ale", "failures"] == "seed 1: diverged"
    assert table.display.set_index("Arm").loc["ale", "Runs"] == "0 of 1"


def test_a_claim_that_does_not_hold_stands_in_bold_before_the_answer_with_both_numbers():
    arms = entries(2, twin={"layers": "first", "equal": {"parameters": "ale"}})
    summary = told(draws=2, arms=arms, further={"twin": 2.0}, changes={"twin": {"trainable_parameters": 5000}})
    bold = controls_text(summary).split("\n\n")[1]
    claimed = "twin says that it has as many trained parameters as ale"
    assert bold == f"**Not equal: {claimed}, but on tiny it has 5,000 against 6,000.**"
    assert "**does not hold**" in controls_text(summary)


def test_a_rate_that_was_chosen_is_shown_as_such():
    arms = entries(2, own={"layers": "last", "learning_rate": {"best_of": ["a", "b"]}})
    losses = {"tiny": {"std": 1.0, "ale": 1.0, "own": 1.0, "random0": 1.1, "random1": 1.2}}
    made = evidence(losses)
    made.rates["tiny", "own", SEED] = 2e-3
    row = controls_table(summarise_controls(section(arms, "tiny"), made)).display.set_index("Arm").loc["own"]
    assert row["Rate"] == "0.002 (chosen)"


def test_rows_of_table_s2_are_std_then_the_named_arm_and_draws_by_number_last():
    arms = dict(reversed(entries(12, fisher={"layers": "fisher"}, last={"layers": "last"}).items()))
    order = list(controls_table(told(draws=12, arms=arms, further={"fisher": 1.9, "last": 1.9})).numbers["arm"])
    assert order == ["std", "ale", "fisher", "last", *(f"random{i}" for i in range(12))]


def many_arms():
    """Return a summary of 45 arms: 25 draws, and 20 others of several kinds."""
    scores = ("l2", "sum_of_norms", "relative", "gradient_times_weight")
    ways = ("fisher", "block_influence", "activation_norm", "weight_snr", "adapter_update", "bottom", "first", "last")
    further = {f"gradient_{score}": {"layers": "gradient", "score": score} for score in scores[1:]}
    further |= {way: {"layers": way} for way in (*ways, "every_other")}
    further |= {f"half_rank_{n}": {"layers": "all", "rank": n} for n in range(1, 7)}
    losses = {arm: 1.9 + 0.01 * (i % 7) for i, arm in enumerate(further)}
    kinds = {
        ("tiny", arm, 1): selection(list(range(i % 6, 6 + i % 6))) for i, arm in enumerate(further) if "half" not in arm
    }
    picked = {("tiny", f"random{i}", 1): selection([i % 6, 6, 7, 8, 9, 10]) for i in range(25)}
    picked |= {**kinds, ("tiny", "ale", 1): selection([1, 2, 3, 4, 5, 6])}
    return told(draws=25, arms=entries(25, **further), further=losses, selections=picked)


def draw(summary):
    with mpl.rc_context(plot_style.rc(STYLE)):
        return controls_figure(summary, STYLE)


def test_draws_are_dots_others_are_named_once_and_std_is_a_line():
    figure = draw(many_arms())
    (axis,) = figure.axes
    marks = {line.get_gid(): line for line in axis.lines if line.get_gid()}
    assert len(marks["random"].get_xdata()) == 25
    assert set(marks["std"].get_ydata()) == {1.9}
    names = [text.get_text() for text in axis.texts]
    assert len(names) == len({*names}) == 19
    assert {"ale", "block_influence", "half_rank_1"} <= {*names}
    assert "Time of a run, arm / std (cost model; the probe counted)" in words(figure)


def test_names_of_45_arms_do_not_cover_each_other():
    figure = draw(many_arms())
    figure.draw_without_rendering()
    # Of the words alone; an annotation's own extent has its line too.
    boxes = sorted((Text.get_window_extent(text) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in itertools.pairwise(boxes))
    assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)


def test_without_times_kinds_of_choices_stand_side_by_side():
    figure = draw(told(costs=False))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["random draws", "by a score", "controls", "others"]


def test_an_arm_of_unknown_time_is_named_below_the_figure():
    arms = entries(2, small={"layers": "all", "batch_size": 1})
    picked = {("tiny", arm, 1): selection([0, 2, 4]) for arm in ("ale", "random0", "random1")}
    figure = draw(told(draws=2, arms=arms, further={"small": 1.8}, selections=picked))
    assert "Left out, since their time is not known: small." in words(figure).replace("\n", " ")


def test_each_model_has_its_panel():
    assert [axis.get_title("left") for axis in draw(told(models=("one", "two"))).axes] == ["one", "two"]


def test_nothing_measured_is_a_figure_that_says_so():
    failed = {arm: {"status": "crashed", "eval_loss": None} for arm in entries(2)}
    assert "No run ended well." in words(draw(told(draws=2, changes=failed)))


@pytest.mark.parametrize("summary", [told(), many_arms(), told(draws=2, models=("one", "two"), costs=False)])
def test_the_artifact_is_what_its_schema_says_and_the_table_has_a_row_an_arm(summary):
    schema = json.loads((ROOT / "workflow" / "schemas" / "controls.schema.json").read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(summary)) == []
    table = controls_table(summary)
    arms = sum(len(model["arms"]) for campaign in summary["campaigns"] for model in campaign["models"])
    assert len(table.numbers) == len(table.display) == arms
    assert markdown(table).count("\n| ") == arms + 2
    assert r"\bottomrule" in latex(table)


@pytest.mark.slow
def test_the_script_writes_summary_text_table_and_figure(tmp_path):
    arms = entries(3)
    losses = {"tiny": {"std": 1.0, "ale": 1.1, "random0": 1.2, "random1": 1.3, "random2": 1.4}}
    write_csv(evidence(losses).ledger, tmp_path / "ledger.csv")
    chosen = tmp_path / "select" / "tiny" / "ale" / "seed1.json"
    chosen.parent.mkdir(parents=True)
    sealed(chosen, "selection", selection([6, 7, 8, 9, 10, 11]))
    out = tmp_path / "controls" / "summary.json"
    config = f"config:controls={compact_json(section(arms, 'tiny'))}"
    options = ("--ledger", tmp_path / "ledger.csv", "--curves", "--selections", chosen, "--attributions", "--runs")
    done = run_script("controls.py", *options, "--out", out, "--lineage", config)
    assert done.returncode == 0, done.stderr
    names = {"CONTROLS.md", "tableS2.csv", "tableS2.md", "tableS2.tex", "figS6.pdf", "figS6.png", "figS6.svg"}
    assert {path.name for path in out.parent.iterdir()} == {
        out.name,
        *names,
        *(f"{name}.lineage.json" for name in names),
    }
    (test,) = artifacts.payload(out, "controls")["campaigns"][0]["models"][0]["tests"]
    assert test["p"] == 1 / 4


@pytest.mark.parametrize(("option", "found"), [((), "none"), (("--set", "controls.x=1"), "{'x': 1}")])
def test_a_call_by_hand_without_arms_is_one_sentence(tmp_path, option, found):
    done = run_script("controls.py", "--ledger", tmp_path / "none.csv", "--out", tmp_path / "summary.json", *option)
    expected = "the settings section controls (a list of campaigns, each with name and models)"
    assert (done.returncode, done.stderr) == (2, f"error: controls: expected {expected}, found {found}; see --help\n")
