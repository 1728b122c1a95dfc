"""Rows of one campaign that other code or settings made are refused or marked; the jobs record what really ran."""

import copy

import pytest

from aletheia import artifacts
from aletheia.errors import UserError
from aletheia.ledger import build_ledger, read_ledger
from aletheia.uniformity import check_uniform, mixed_rows
from conftest import STUDY, dry, edit, said, sentences, snakemake
from ledgers import TWO_MODELS, study

MODEL = "smollm2-135m"
KEY = (MODEL, "ale", 123)


@pytest.fixture
def rows():
    """Return a uniform campaign with its envelopes, whose settings and code a test may change."""
    (campaign,), runs, evaluations = study({MODEL: TWO_MODELS[MODEL]})
    settings = {"training": {"steps": 40, "batch_size": 2}, "model": {"dtype": "bf16"}}
    for (_, arm, _), envelope in runs.items():
        config = {
            **copy.deepcopy(settings),
            "arm": {"layers": "all" if arm == "std" else "gradient"},
            "run": {"arm": arm},
        }
        envelope["lineage"] |= {"code": {"train.py": "ab", "aletheia.training": "cd"}, "config": config}
    return campaign, runs, evaluations


def test_a_uniform_campaign_has_no_mixed_row(rows):
    assert mixed_rows(*rows) == {}


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        (lambda lineage: lineage["code"].update({"aletheia.training": "ee"}), "code aletheia.training"),
        (lambda lineage: lineage["code"].update({"aletheia.new": "01"}), "code aletheia.new"),
        (lambda lineage: lineage["config"]["training"].update(batch_size=4), "settings training.batch_size"),
        (lambda lineage: lineage["config"]["arm"].update(layers="last"), "settings arm.layers"),
    ],
)
def test_a_row_made_otherwise_is_named_with_what_differs(rows, change, said_of_it):
    campaign, runs, evaluations = rows
    change(runs[KEY]["lineage"])
    mixed = mixed_rows(campaign, runs, evaluations)
    assert mixed == {KEY: said_of_it}
    with pytest.raises(UserError, match=f"found {MODEL}/ale/seed123 made by other {said_of_it}; delete"):
        check_uniform(campaign, mixed)
    check_uniform({**campaign, "mixed": "mark"}, mixed)
    ledger = build_ledger([campaign], runs, evaluations, {(campaign["name"], *KEY): said_of_it})
    assert ledger.set_index(["arm", "seed"])["mixed"].dropna().to_dict() == {("ale", 123): said_of_it}


def test_another_evaluation_of_the_base_model_sets_no_row_apart_but_another_of_one_run_does(rows):
    campaign, runs, evaluations = rows
    evaluations[*KEY, "mmlu"]["lineage"] = {"step": "evaluate", "code": {"evaluate_run.py": "new"}, "config": {}}
    assert mixed_rows(campaign, runs, evaluations) == {KEY: "code evaluate_run.py"}


def test_a_module_edited_while_the_job_ran_sets_its_row_apart(rows):
    campaign, runs, evaluations = rows
    runs[KEY]["observed"]["code_edited_meanwhile"] = ["aletheia.training"]
    assert mixed_rows(campaign, runs, evaluations) == {KEY: "code aletheia.training (edited while the job ran)"}


def test_a_job_started_after_an_edit_records_the_code_that_ran_and_aggregate_refuses_or_marks(study):
    """A cluster job reads modules on its node, whatever its submitter saw; here the edit falls between two jobs."""
    run = "results/train/tiny-llama/ale/seed1/run.json"
    module = study / "workflow/scripts/aletheia/training.py"
    before = artifacts.read(study / run)["lineage"]["code"]
    module.write_text(module.read_text() + "# edited\n")
    (study / run).unlink()
    # The dry run would redo every training; told to trust what is there, it redoes the one that is missing.
    trust = ("--rerun-triggers", "mtime")
    done = snakemake(study, run, *STUDY, *trust)
    assert done.returncode == 0, said(done)[-2000:]
    after = artifacts.read(study / run)["lineage"]["code"]
    assert {name for name in after if after[name] != before[name]} == {"aletheia.training"}

    done = snakemake(study, "results/aggregate/ledger.csv", *STUDY, *trust)
    (sentence,) = sentences(done)
    assert "found tiny-llama/ale/seed1 made by other code aletheia.training" in sentence
    edit(study / "tests/study/campaign.yaml", "name: tiny\n", "name: tiny\nmixed: mark\n")
    done = snakemake(study, "results/aggregate/ledger.csv", *STUDY, "--rerun-triggers", "mtime")
    assert done.returncode == 0, said(done)[-2000:]
    ledger = read_ledger(study / "results/aggregate/ledger.csv").set_index(["model", "arm"])
    assert ledger["mixed"].dropna().to_dict() == {("tiny-llama", "ale"): "code aletheia.training"}
    assert dry(study)[0]["train_std"] == 2  # and the dry run still says what is out of date
