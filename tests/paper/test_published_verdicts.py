"""What the paper's own tables say of the claims of its text, claim by claim, and that its data fit together."""

from collections import Counter

import pandas as pd
import pytest

from aletheia.analysis.judged_claims import CANNOT_TELL, DOES_NOT_HOLD, HOLDS, NOT_GIVEN, judge
from aletheia.analysis.published_claims import ALL, QUANTITIES, RELATIONS, RULES, load_claims
from aletheia.analysis.published_numbers import published_numbers
from aletheia.provenance.lineage import ROOT
from aletheia.study.published import model_key
from aletheia.study.schema import read_yaml

PUBLISHED = ROOT / "config" / "published"
CLAIMS = {claim.id: claim for claim in load_claims(PUBLISHED / "claims.csv")}
FOUND = {name: judge(claim, published_numbers(PUBLISHED)) for name, claim in CLAIMS.items()}

VERDICTS = {
    HOLDS: """
        models speedup_range speedup_mean speedup_p speedup_wins speedup_every_run forgetting_std forgetting_ale
        large_models_forget_nothing core_mmlu_one_point family_qwen families_of_one mixtral_layers mixtral_runs
        compute_matched_loss pythia_runs
    """,
    DOES_NOT_HOLD: """
        rows families probe_passes core_extra_mmlu parameters autoresearch_quality compute_matched_time speedup_at_scale
        largest_extra family_llama
    """,
    CANNOT_TELL: "autoresearch_best core_extra_mmlu_mean core_gsm8k core_humaneval",
    NOT_GIVEN: "probe_overhead autoresearch_speedup mixtral_forgetting gradient_share closeout_llama_70b",
}
EXPECTED = {name: verdict for verdict, names in VERDICTS.items() for name in names.split()}


def test_every_claim_has_its_verdict():
    assert {name: found.verdict for name, found in FOUND.items()} == EXPECTED
    assert Counter(EXPECTED.values()) == {HOLDS: 16, DOES_NOT_HOLD: 10, CANNOT_TELL: 4, NOT_GIVEN: 5}


@pytest.mark.parametrize(
    ("name", "decided"),
    [
        ("core_extra_mmlu", {"qwen2.5-3b", "qwen2.5-7b"}),
        ("largest_extra", {"qwen2.5-7b"}),
        ("compute_matched_time", {"qwen2.5-7b", "llama-3.1-8b"}),
        ("autoresearch_quality", {"qwen2.5-3b"}),
    ],
)
def test_a_verdict_names_the_models_that_decided(name, decided):
    assert set(FOUND[name].decided) == decided


def test_what_decided_is_shown_with_its_numbers():
    assert [FOUND[name].estimate for name in ("speedup_mean", "core_extra_mmlu_mean")] == pytest.approx([23.09, -0.325])
    scale = FOUND["speedup_at_scale"]
    assert [round(number, 1) for number in (scale.estimate, scale.low, scale.high)] == [-8.1, -12.1, -4.2]
    assert FOUND["compute_matched_time"].missing == ("qwen2.5-3b",)
    assert [FOUND[name].n for name in ("speedup_mean", "core_gsm8k", "rows")] == [10, 4, 1]


def test_the_closed_lists_hold_nothing_that_no_claim_uses():
    used = {name: {getattr(claim, name) for claim in CLAIMS.values()} for name in ("quantity", "relation", "rule")}
    assert used["quantity"] == set(QUANTITIES)
    assert used["relation"] == set(RELATIONS)
    assert used["rule"] == set(RULES)


def test_claims_and_texts_numbers_speak_of_models_of_the_registry():
    registry = read_yaml(ROOT / "config" / "models.yaml")
    named = {model for claim in CLAIMS.values() for model in claim.models} - {ALL}
    for table in ("autoresearch", "closeout"):
        frame = pd.read_csv(PUBLISHED / f"{table}.csv")
        named |= {model_key(model) for cell in frame["model"] for model in cell.split(";")}
    assert named <= set(registry)


def test_the_closeouts_runs_are_those_of_its_campaign():
    frame = pd.read_csv(PUBLISHED / "closeout.csv")
    value = frame.groupby("name")["value"].apply(list)
    campaign = read_yaml(ROOT / "config" / "campaigns" / "closeout.yaml")
    budgets = {arm["budget_percent"] for arm in campaign["arms"].values() if "budget_percent" in arm}
    assert set(value["sweep_budget"]) == budgets
    seeds = len(campaign["seeds"])
    assert value["sweep_runs"] == [(len(budgets) + 1) * seeds]  # and std
    (families,) = frame["model"][frame["name"] == "family_runs"]
    assert value["family_runs"] == [len(families.split(";")) * 2 * seeds]
    assert value["sweep_seeds"] == [seeds]
