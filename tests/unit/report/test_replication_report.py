"""What a reader is told of the paper's cells beside ours: the answer in words, the cells, figure R1."""

import json

import matplotlib as mpl
import pytest
from jsonschema import Draft202012Validator

from aletheia.analysis.ledger import write_csv
from aletheia.analysis.published_claims import load_claims
from aletheia.analysis.published_numbers import published_numbers
from aletheia.analysis.replication import replicate
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import ROOT
from aletheia.report import plot_style
from aletheia.report.replication_figure import replication_figure
from aletheia.report.replication_text import quantity_text, replication_text
from conftest import run_script
from ledgers import SEEDS, ledger_of
from published_study import TABLES, published_ledger
from reports import PLAN, PUBLISHED, STYLE, words

ONE = {"qwen2.5-0.5b": {"family": "Qwen", "std": 100.0, "ale": 75.0}}


def told(ledger):
    claims, numbers = load_claims(PUBLISHED / "claims.csv"), published_numbers(PUBLISHED)
    return replicate(ledger, TABLES, PLAN, claims=claims, published=numbers)


@pytest.fixture(scope="module")
def mixed():
    """The paper's numbers as ours, but one speedup less, one a slowdown, and one model's runs failed."""
    lost = tuple(("phi-3.5-mini", "ale", seed) for seed in SEEDS)
    return told(published_ledger(speedup_shift={"qwen2.5-7b": -3, "llama-3.1-8b": -60}, fails=lost))


def draw(summary):
    with mpl.rc_context(plot_style.rc(STYLE)):
        return replication_figure(summary, STYLE)


def first_paragraph(summary):
    return replication_text(summary).split("\n\n")[1]


def test_the_answer_counts_agreement_disagreement_and_what_cannot_be_told(mixed):
    text = first_paragraph(mixed)
    assert text.startswith("This study has 14 of the paper's 14 models. 37 results of the paper")
    assert "10 agree within the error of both sides, 2 disagree, 1 of them with the opposite sign, and for 25" in text
    assert "By chance alone 1.9 would disagree. More disagree, or by more, than chance explains" in text
    assert "in speedup (table 2)." in text
    assert "our runs failed, which is no agreement" in text


def test_agreement_is_no_disagreement_beyond_chance():
    law = {"qwen2.5-0.5b": {"family": "Qwen", "std": 100.0, "ale": 73.9}}
    text = first_paragraph(told(ledger_of(law, reports=["speed"], benchmarks=("heldout",))))
    assert "This study has 1 of the paper's 14 models. 1 result of the paper" in text
    assert "1 agrees within the error of both sides, 0 disagree, and for 0" in text
    assert "so this is no disagreement beyond chance." in text
    assert "All of them are indications only" in text


def test_without_a_result_to_compare_nothing_is_said_of_agreement():
    text = first_paragraph(told(ledger_of(ONE, arms=("std",), benchmarks=("heldout",), reports=[])))
    assert "None of its results" in text
    assert "nothing is said of agreement" in text


def test_what_does_not_agree_stands_before_all_else(mixed):
    text = replication_text(mixed)
    part = text.split("## What does not agree")[1].split("##")[0]
    assert "| Llama-3.1-8B | speedup (%) | 26.7 ± 0.2 | −33.3 ± 0.2 (n = 3) | [−33.9, −32.7] | outside, opp" in part
    assert "| Qwen2.5-7B | speedup (%) |" in part
    assert "Mistral-7B" not in part
    assert "Equal: parameters (billions) of 14 of 14 models, layers of 14 of 14 models." in text
    assert "runs of ours failed: ale/seed42: nan_loss" in text


def test_each_claim_has_a_verdict_of_the_papers_numbers_and_of_ours(mixed):
    claims = {claim["id"]: claim for claim in mixed["claims"]}
    assert claims["speedup_wins"]["published_verdict"] == "holds"
    assert claims["speedup_wins"]["ours_verdict"] == "does not hold"
    assert "llama-3.1-8b -33.3" in claims["speedup_wins"]["ours_why"]
    assert claims["models"]["ours_verdict"] == "holds"
    assert claims["autoresearch_speedup"]["ours_verdict"] == "not in the numbers"
    assert "“100% per-model speed win rate”" in replication_text(mixed)


def test_a_part_of_the_study_says_nothing_of_the_papers_counts():
    claims = {claim["id"]: claim["ours_verdict"] for claim in told(ledger_of(ONE, reports=["speed"]))["claims"]}
    assert claims["models"] == claims["rows"] == claims["families"] == "not in the numbers"
    assert claims["speedup_range"] == "holds"


def test_quantities_are_named_with_their_unit():
    assert quantity_text({"quantity": "speedup_with_probe_percent"}) == "speedup with probe (%)"
    assert quantity_text({"quantity": "gsm8k_extra_pp"}) == "GSM8K extra (pp)"
    assert quantity_text({"quantity": "cm_minus_std_eval_loss"}) == "cm − std eval loss (nats)"


def test_the_figure_has_a_line_a_cell_and_says_where_a_model_is_in_two_tables(mixed):
    figure = draw(mixed)
    speed, points, losses = figure.axes
    lines = [len(axis.get_yticklabels()) for axis in (speed, points, losses)]
    shown = [c for c in mixed["cells"] if c["low"] is not None and c["kind"] == "points"]
    assert lines == [9, len(shown), 3]
    assert "Qwen2.5-7B, MMLU, extra (3) | " in words(figure)
    assert "Qwen2.5-7B, MMLU, extra (4) | " in words(figure)
    # No line of text reaches into the next one.
    inches = points.get_position().height * figure.get_figheight()
    size = points.get_yticklabels()[0].get_fontsize()
    assert size >= plot_style.SMALLEST_POINTS
    assert inches / len(shown) > size / 72


def test_a_figure_of_nothing_says_so():
    assert "No cell of the paper can be compared" in words(draw(told(ledger_of(ONE, arms=("std",), reports=[]))))


def test_the_payload_is_the_schemas(mixed):
    schema = json.loads((ROOT / "workflow" / "schemas" / "replication.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(mixed)


@pytest.mark.slow
def test_the_script_writes_summary_tables_text_and_figure(tmp_path):
    write_csv(ledger_of(ONE, reports=["speed"]), tmp_path / "ledger.csv")
    out = tmp_path / "replication" / "summary.json"
    options = ("--ledger", tmp_path / "ledger.csv", "--answers", "--out", out)
    done = run_script("replication.py", *options, "--published", PUBLISHED, "--analysis", ROOT / "config/analysis.yaml")
    assert done.returncode == 0, done.stderr
    names = {"REPLICATION.md", "cells.csv", "claims.csv", "figR1.pdf", "figR1.png", "figR1.svg"}
    made = {path.name for path in out.parent.iterdir()}
    assert made == {out.name, *names, *(f"{name}.lineage.json" for name in names)}
    assert artifacts.payload(out, "replication")["models"]["shared"] == ["Qwen2.5-0.5B"]


@pytest.mark.slow
def test_a_call_by_hand_without_a_model_of_the_paper_is_one_sentence(tmp_path):
    write_csv(ledger_of(), tmp_path / "ledger.csv")
    options = ("--ledger", tmp_path / "ledger.csv", "--out", tmp_path / "summary.json")
    done = run_script("replication.py", *options, "--published", PUBLISHED, "--analysis", ROOT / "config/analysis.yaml")
    assert done.returncode == 2
    assert "replication: expected a model of the paper's table 1" in done.stderr
    assert "Traceback" not in done.stderr
