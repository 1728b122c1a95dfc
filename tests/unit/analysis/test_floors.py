"""What accuracy does not show: the probability of the right choice, and answers that are none."""

from __future__ import annotations

import math
import random
import statistics

import matplotlib as mpl
import pandas as pd
import pytest

from aletheia.analysis.degenerate_answers import degenerate_cell
from aletheia.analysis.floors import at_floor, is_base_flagged, is_flagged
from aletheia.analysis.ledger import build_ledger, read_ledger, write_csv
from aletheia.analysis.stats import above_floor
from aletheia.evaluation.degenerate import degenerate_answers, unparsed_programs
from aletheia.evaluation.outcomes import TABLES, Outcome, choice_probability, mean_probability, score_table
from aletheia.provenance.artifacts import make_envelope
from aletheia.report import analyses, figures, plot_style, table_text, tables
from aletheia.report.arms_table import arms_table
from aletheia.report.findings import findings
from ledgers import LINEAGE, TWO_MODELS, ledger_of, study
from reports import summarise

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}
# The right answers of the 24 questions of MMLU that the default study asks: eleven are B.
KEY = "B" * 11 + "A" * 4 + "C" * 5 + "D" * 4


def answered(values, answers, benchmark="mmlu"):
    """Return the outcome of log-likelihoods, one list a question."""
    samples = [{"arguments": [["prompt"]], "resps": [[(value, False)] for value in row]} for row in values]
    questions = [
        {"id": i, "answer": "ABCD".index(letter), "choices": ["x"] * len(row)}
        for i, (letter, row) in enumerate(zip(answers, values, strict=True))
    ]
    return score_table(TABLES[benchmark](questions, {"none": samples}, {}))


# The probability of the right choice


def test_the_probability_is_the_softmax_over_the_choices():
    values = [[math.log(w) - 300 for w in (1, 2, 3, 4)], [-0.5, -0.5, -1e4, -0.5]]
    outcome = answered(values, "DA")
    assert [row["probability"] for row in outcome.rows] == pytest.approx([0.4, 1 / 3])
    assert outcome.probability == pytest.approx((0.4 + 1 / 3) / 2)
    assert outcome.probability_stderr == pytest.approx(statistics.stdev([0.4, 1 / 3]) / math.sqrt(2))
    assert choice_probability(1, [-2000.0, 0.0]) == 1.0
    assert answered([[-1.0, -3.0]], "B", "piqa").probability == pytest.approx(1 / (1 + math.e**2))


def test_a_question_that_is_not_finite_has_none_and_is_counted():
    outcome = answered([[math.nan, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, -math.inf], [0.0] * 4], "ABC")
    assert [row["probability"] for row in outcome.rows] == [None, None, 0.25]
    assert (outcome.probability, outcome.probability_n, outcome.n) == (0.25, 1, 3)
    assert outcome.reason == "2 of 3 questions gave numbers that are not finite"
    assert "probability_stderr" not in outcome.summary()
    assert mean_probability([{"probability": None}, {"passed": True}]) == {}


def test_only_choices_have_it():
    assert not {"probability", "probability_n", "degenerate"} & set(Outcome(loss=1.0).summary())
    assert not {"probability", "degenerate"} & set(answered([[math.nan] * 4], "A").summary())


# Degenerate answers


def test_one_letter_whatever_is_asked_is_at_the_floor_although_it_scores_well():
    """The key has eleven B's: who always says B scores 45.8 %, which one guesser in fifty reaches."""
    outcome = answered([[-2.0, -1.0, -2.0, -2.0]] * 24, KEY)
    assert (outcome.n_correct, round(outcome.score, 3)) == (11, 0.458)
    assert outcome.degenerate == [{"kind": "one_choice", "answer": "B", "n": 24}]
    assert above_floor(11 / 24, 24, 0.25)
    cell = degenerate_cell(outcome.degenerate)
    assert cell == "one_choice B: 24"
    assert at_floor(n=24, n_correct=11, chance=0.25, degenerate=cell)
    assert not at_floor(n=24, n_correct=11, chance=0.25)


def test_nearly_always_one_letter_counts_and_a_reader_does_not():
    said = {"A": [0.0, -1.0, -1.0, -1.0], "B": [-1.0, 0.0, -1.0, -1.0]}
    for others, found in ((1, [{"kind": "one_choice", "answer": "A", "n": 23}]), (2, [])):
        values = [said["A"]] * (24 - others) + [said["B"]] * others
        assert answered(values, KEY).degenerate == found
    shuffled = random.Random(0).sample(KEY, len(KEY))
    right = answered([[0.0 if letter == choice else -1.0 for choice in "ABCD"] for letter in shuffled], shuffled)
    assert (right.score, right.degenerate) == (1.0, [])
    # One answer is no habit, and a question without an answer says nothing.
    nan = [math.nan] * 4
    assert answered([said["A"], nan], "AA").degenerate == []
    assert answered([said["A"], nan, said["A"]], "AAA").degenerate == [{"kind": "one_choice", "answer": "A", "n": 2}]


def test_empty_texts_and_programs_that_do_not_parse_are_counted():
    rows = [{"status": status, "prediction": "1"} for status in ("empty", "ok", "empty", "nan")]
    assert degenerate_answers(rows) == [{"kind": "empty", "n": 2}]
    assert degenerate_answers(rows[1:2]) == []
    good = "def f():\n    return '\\d'\n"
    bad = ["def f():\n```", "def f():\nreturn 1", "x = '\0'", "-" * 200_000 + "1", "a." * 100_000 + "b"]
    # It would raise, and loop for ever, if it ran.
    unrun = ["raise SyntaxError\n", "while True: pass\n"]
    assert unparsed_programs([good, *bad, *unrun]) == [{"kind": "syntax_error", "n": len(bad)}]
    assert unparsed_programs([good]) == []
    assert degenerate_cell([{"kind": "empty", "n": 2}, {"kind": "syntax_error", "n": 5}]) == "empty: 2; syntax_error: 5"
    assert degenerate_cell([]) is degenerate_cell(None) is None


@pytest.mark.parametrize(
    ("n", "n_correct", "chance", "cell", "floor"),
    [
        (200, 121, 0.5, None, False),
        (200, 108, 0.5, float("nan"), True),
        (200, 121, 0.5, "one_choice A: 199", True),
        (8, 0, 0.0, "empty: 3; syntax_error: 5", True),
        (8, 1, 0.0, "syntax_error: 7", False),
        (8, 0, 0.0, None, True),
    ],
)
def test_the_floor(n, n_correct, chance, cell, floor):
    assert at_floor(n=n, n_correct=n_correct, chance=chance, degenerate=cell) is floor


# In the ledger


def test_the_ledger_has_both_where_evaluations_note_them(tmp_path):
    campaigns, runs, evaluations = study(TWO_MODELS, benchmarks=("heldout", "mmlu", "piqa"))
    before = build_ledger(campaigns, runs, evaluations)
    for (_, arm, seed, benchmark), envelope in evaluations.items():
        if benchmark == "mmlu":
            likely = 0.3 if arm == "base" else 0.4 + 0.01 * seed
            always = [{"kind": "one_choice", "answer": "A", "n": 200}] if arm == "base" else []
            envelope["payload"] |= {"probability": likely, "degenerate": always}
    ledger = build_ledger(campaigns, runs, evaluations)
    own = ["mmlu_probability_base", "mmlu_probability", "mmlu_degenerate", "mmlu_base_degenerate"]
    assert [name for name in ledger.columns if name not in before.columns] == own
    assert set(ledger["mmlu_probability_base"]) == {0.3}
    assert ledger["mmlu_probability"].tolist() == pytest.approx((0.4 + 0.01 * ledger["seed"]).tolist())
    assert ledger["mmlu_degenerate"].isna().all()
    assert set(ledger["mmlu_base_degenerate"]) == {"one_choice A: 200"}
    write_csv(ledger, tmp_path / "ledger.csv")
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "ledger.csv"), ledger)
    write_csv(before, tmp_path / "old.csv")
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "old.csv"), before)


# In the statistics and wherever a score is shown


def always_b(*, base="one_choice B: 24", own=None):
    """Return a ledger in which the base model scores 11 of 24, and what is degenerate of its answers and of std's."""
    ledger = ledger_of(ONE).assign(mmlu_n=24, mmlu_base=11 / 24, mmlu=0.5)
    ledger["mmlu_base_degenerate"] = pd.Series([base] * len(ledger), index=ledger.index, dtype="str")
    of_std = (ledger["arm"] == "std") & (ledger["seed"] == 42)
    ledger["mmlu_degenerate"] = pd.Series([own if here else None for here in of_std], index=ledger.index, dtype="str")
    return ledger


def model_of(ledger):
    return summarise(ledger)["campaigns"][0]["models"][0]


def test_a_base_that_says_one_letter_has_nothing_to_forget_whatever_it_scores():
    old = ledger_of(ONE).assign(mmlu_n=24, mmlu_base=11 / 24, mmlu=0.5)
    for ledger, at_the_floor in ((always_b(), True), (always_b(base=None), False), (old, False)):
        summary = summarise(ledger[ledger["arm"] != "cm"])
        model = summary["campaigns"][0]["models"][0]
        test = model["extra"]["ale"]["mmlu"]
        assert (test["base_above_floor"], test["flagged"]) == (not at_the_floor, at_the_floor)
        scores = model["arms"]["ale"]["benchmarks"]
        assert (scores["mmlu"]["base_flagged"], scores["mmlu"]["flagged"]) == (at_the_floor, at_the_floor)
        assert not scores["humaneval"]["flagged"]
        assert not scores["heldout"]["flagged"]
        found = findings(summary)
        assert ("MMLU" in found[4]) is not at_the_floor
        assert ("At the floor" in found[5]) is at_the_floor
    make_envelope("stats", summary, LINEAGE, {}, "summary.json")  # held against its schema


def test_an_arm_s_own_answers_are_flagged_and_the_base_is_not():
    model = model_of(always_b(base=None, own="one_choice A: 24"))
    scores = {arm: own["benchmarks"]["mmlu"] for arm, own in model["arms"].items()}
    assert {arm: score["flagged"] for arm, score in scores.items()} == {"std": True, "ale": False, "cm": False}
    assert not any(score["base_flagged"] for score in scores.values())
    # The extra of ale is a difference from std's.
    assert (model["extra"]["ale"]["mmlu"]["base_above_floor"], model["extra"]["ale"]["mmlu"]["flagged"]) == (True, True)
    guesses = always_b(base=None)
    guesses.loc[guesses["arm"] == "ale", "mmlu"] = 0.25
    assert model_of(guesses)["arms"]["ale"]["benchmarks"]["mmlu"]["flagged"]


def test_a_few_empty_answers_are_wrong_ones_and_most_of_them_none():
    for cell, flagged in (("empty: 3; syntax_error: 9", False), ("empty: 4; syntax_error: 9", True)):
        model = model_of(always_b(base=None, own=cell))
        assert model["arms"]["std"]["benchmarks"]["mmlu"]["flagged"] is flagged


def shown(ledger):
    """Return what a reader sees of scores: tables 3, 4, 5 and S1, both analyses and figures 2, 4 and 5."""
    summary = summarise(ledger)
    published = {number: {} for number in range(1, 6)}
    found = {f"table{n}": table_text.markdown(tables.TABLES[n](summary, published)) for n in (3, 4, 5)}
    found["tableS1"] = table_text.markdown(arms_table(summary))
    found |= {"forgetting": analyses.forgetting_deltas(summary), "matched": analyses.compute_matched(summary)}
    style = {**plot_style.STYLE, "dots_per_inch": 60}
    with mpl.rc_context(plot_style.rc(style)):
        for name in ("fig2", "fig4", "fig5"):
            figure = figures.FIGURES[name](ledger, summary, style)
            inside = [text for axis in figure.axes for text in axis.texts]
            found[name] = "\n".join(text.get_text() for text in (*inside, *figure.texts))
    return found


def test_the_flag_stands_beside_every_score_and_is_explained_where_it_is_used():
    marked, plain = shown(always_b()), shown(always_b(base=None))
    for name, text in marked.items():
        assert table_text.FLOOR_NOTE in text.replace("\n", " "), name
        assert text.count(table_text.FLOOR) > text.replace("\n", " ").count(table_text.FLOOR_NOTE), name
        assert table_text.FLOOR not in plain[name], name
    assert "45.8‡ | 50.0‡ | +4.2 ± 0.0‡ | 50.0‡ | +4.2 ± 0.0‡ | 0.0 [0.0, 0.0]‡ |" in marked["table3"]
    assert "0.00 [0.00, 0.00]‡ (n = 3)" in marked["table4"]
    assert "more forgetting" in plain["fig5"]
    assert "forgetting" not in marked["fig5"].replace(table_text.FLOOR_NOTE, "")
    assert "smollm2-135m‡" in marked["fig5"]
    row = next(line for line in marked["forgetting"].splitlines() if "| ale | MMLU | 0.00" in line)
    assert row.endswith("| says nothing: the base model only guesses |")
    # One mark an arm and benchmark; HumanEval has none.
    assert [marked[name].count(table_text.FLOOR) - 1 for name in ("fig2", "fig4")] == [2, 3]
    assert table_text.tex_text("45.8‡") == r"45.8$^\ddagger$"


def test_a_model_whose_evaluations_all_failed_has_no_flag():
    """Its cells are NA, as those of a model that diverged: neither a number nor a flag follows from them."""
    rows = pd.DataFrame({"humaneval_n": pd.array([None], "Int64"), "humaneval": [None], "humaneval_base": [None]})
    rows = rows.assign(humaneval_degenerate=[None], humaneval_base_degenerate=["empty: 2; syntax_error: 5"])
    assert (is_base_flagged(rows, "humaneval"), is_flagged(rows, "humaneval")) == (False, False)
