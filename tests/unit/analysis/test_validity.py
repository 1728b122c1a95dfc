"""A base score far below a published one: marked, explained, and in no conclusion."""

from __future__ import annotations

import pandas as pd
import pytest

from aletheia.analysis.ledger import build_ledger, read_ledger, write_csv
from aletheia.analysis.paper_tables import load_published
from aletheia.analysis.validity import IMPLAUSIBLE_BASE, PLAUSIBLE, is_implausible, standard_error
from aletheia.errors import UserError
from aletheia.provenance.artifacts import make_envelope
from aletheia.provenance.lineage import ROOT
from aletheia.report import analyses, table_text, tables
from aletheia.report.arms_table import arms_table
from aletheia.report.findings import findings
from aletheia.study.registries import read_models
from ledgers import LINEAGE, study
from reports import draw, summarise, words

SOURCE = "a model card, https://example.org/card"
CLAIM = {"score": 79.3, "tolerance": 10.0, "source": SOURCE}
# Four models that score 40 % of MMLU; what is published of the first cannot be met so.
MODELS = {f"model-{i}": {"family": "x", "std": 100.0 + i, "ale": 80.0} for i in range(4)}
PUBLISHED = {"model-0": {"mmlu": CLAIM}, "model-1": {"mmlu": CLAIM | {"score": 45.0}}}


def ledger_with(published, models=MODELS, **how):
    how = {"arms": ("std", "ale"), "benchmarks": ("heldout", "mmlu"), **how}
    return build_ledger(*study(models, **how), published=published)


@pytest.mark.parametrize(
    ("right", "n", "implausible"),
    [(136, 600, True), (131, 200, False), (126, 200, False), (124, 200, True), (0, 8, True), (3, 4, False)],
)
def test_a_score_is_implausible_below_the_tolerance_by_two_standard_errors(right, n, implausible):
    """The bound is 69.3 %; 62 % of 200 questions are below it by more than 2 · 3.4 points, 63 % are not."""
    assert is_implausible(right / n, n, published=79.3, tolerance=10.0) is implausible


def test_five_of_the_papers_eight_base_scores_would_not_have_counted():
    """Table 3, each of 200 questions, beside the registry's published scores."""
    models, table = read_models(ROOT / "config/models.yaml"), load_published(ROOT / "config/published")[3]
    claims = {name: models[name]["published_scores"]["mmlu"] for name in table if "published_scores" in models[name]}
    found = {
        name: is_implausible(
            table[name]["base_percent"] / 100, 200, published=claim["score"], tolerance=claim["tolerance"]
        )
        for name, claim in claims.items()
    }
    assert [name for name in found if found[name]] == [
        *("mistral-7b", "qwen2.5-7b", "qwen2.5-14b", "llama-3.1-70b", "qwen2.5-72b"),
    ]
    assert [name for name in found if not found[name]] == ["qwen2.5-0.5b", "qwen2.5-1.5b", "llama-3.1-8b"]


def test_a_score_of_none_has_an_error_too():
    assert standard_error(0.0, 8) == pytest.approx((2 / 12 * 10 / 12 / 12) ** 0.5)
    assert standard_error(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)


def test_the_ledger_has_the_published_scores_and_what_follows(tmp_path):
    ledger, without = ledger_with(PUBLISHED), ledger_with({})
    own = ["mmlu_published_percent", "mmlu_tolerance_points", "mmlu_published_source", "mmlu_validity"]
    assert [name for name in ledger.columns if name not in without.columns] == own
    by_model = ledger.groupby("model", sort=False)["mmlu_validity"].first()
    assert by_model.dropna().to_dict() == {"model-0": IMPLAUSIBLE_BASE, "model-1": PLAUSIBLE}
    write_csv(ledger, tmp_path / "ledger.csv")
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "ledger.csv"), ledger)


def test_a_base_whose_evaluation_failed_is_neither():
    campaigns, runs, evaluations = study(MODELS, arms=("std", "ale"), benchmarks=("heldout", "mmlu"))
    evaluations["model-0", "base", None, "mmlu"]["payload"] |= {"status": "failed", "score": None}
    ledger = build_ledger(campaigns, runs, evaluations, published=PUBLISHED)
    assert ledger.loc[ledger["model"] == "model-0", "mmlu_validity"].isna().all()


def test_it_is_in_no_pool_no_mean_and_no_verdict():
    summary = summarise(ledger_with(PUBLISHED))
    (campaign,) = summary["campaigns"]
    first, second = campaign["models"][:2]
    found = {
        "status": IMPLAUSIBLE_BASE,
        "base": 0.4,
        "questions": 200,
        "published_percent": 79.3,
        "tolerance_points": 10.0,
        "source": SOURCE,
    }
    assert first["base_validity"] == {"mmlu": found}
    assert second["base_validity"] == {"mmlu": found | {"status": PLAUSIBLE, "published_percent": 45.0}}
    assert campaign["models"][2]["base_validity"] == {}
    block = next(each for each in campaign["effects"] if each["measure"] == "mmlu")
    assert block["pooled"]["n"] == 3
    assert block["models"][0]["verdict"]["verdict"] is None
    assert "implausible" in block["models"][0]["verdict"]["reason"]
    assert campaign["against_std"]["ale"]["mmlu_extra_pp"]["n"] == 3
    assert campaign["against_std"]["ale"]["heldout_loss_difference"]["n"] == 4
    make_envelope("stats", summary, LINEAGE, {}, "summary.json")  # held against its schema


def test_it_is_marked_and_explained_wherever_it_is_shown():
    ledger = ledger_with(PUBLISHED, dict(list(MODELS.items())[:1]))
    summary = summarise(ledger)
    published = {number: {} for number in range(1, 6)}
    shown = {n: table_text.markdown(tables.TABLES[n](summary, published)) for n in (3, 4)}
    shown |= {"S1": table_text.markdown(arms_table(summary)), "forgetting": analyses.forgetting_deltas(summary)}
    shown["fig2"] = words(draw("fig2", ledger))
    for name, text in shown.items():
        assert table_text.IMPLAUSIBLE_NOTE in text.replace("\n", " "), name
        assert text.count(table_text.IMPLAUSIBLE) > 1, name
        assert table_text.FLOOR not in text, name
    sentence = "40.0 % of 200 questions right, and 79.3 % is published (a model card, https://example.org/card)"
    assert sentence in shown["forgetting"]
    assert "1 result of a single model is left out" in shown["forgetting"] or "nothing to say" in shown["forgetting"]
    found = findings(summary)
    assert sentence in found[5]
    assert "MMLU" not in found[4] or "base implausible: MMLU" in found[4]
    assert table_text.tex_text("40.0§") == r"40.0\textsuperscript{\S}"


def test_the_registry_takes_published_scores_of_benchmarks_with_questions_alone(tmp_path):
    path = tmp_path / "models.yaml"
    entry = "m:\n  source: {type: local, path: x}\n  published_scores:\n    %s\n"
    path.write_text(entry % f"mmlu: {{score: 60.9, tolerance: 10, source: '{SOURCE}'}}")
    assert read_models(path)["m"]["published_scores"]["mmlu"]["score"] == 60.9
    for wrong, named in (
        ("retention: {score: 2, tolerance: 1, source: x}", "retention"),
        ("mmlu: {score: 60, tolerance: 10}", "source"),
        ("mmlu: {score: 600, tolerance: 10, source: x}", "600"),
        ("mmlu: {score: 60, tolerance: 10, source: x, shots: 5}", "shots"),
    ):
        path.write_text(entry % wrong)
        with pytest.raises(UserError, match=named):
            read_models(path)
