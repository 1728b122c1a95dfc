"""Rows of one campaign that other code or settings made are refused or marked; the jobs record what really ran."""

import copy

import pytest

from aletheia.analysis.consistency import RowSource, check_uniform, deviations, mixed_rows
from aletheia.analysis.ledger import BASE, build_ledger, read_ledger
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from conftest import STUDY, append, dry, edit, said, sentences, snakemake
from ledgers import TWO_MODELS, study

MODEL = "smollm2-135m"
KEY = (MODEL, "ale", 123)
RUN = f"{MODEL}/ale/123"


@pytest.fixture
def campaign():
    """Return a uniform campaign with its runs and evaluations, whose settings and code a test may change."""
    (campaign,), runs, evaluations = study({MODEL: TWO_MODELS[MODEL]})
    settings = {"training": {"steps": 40, "batch_size": 2}, "model": {"dtype": "bf16"}}
    for (_, arm, _), envelope in runs.items():
        config = {**copy.deepcopy(settings), "arm": {"layers": arm}, "run": {"arm": arm}}
        envelope["lineage"] |= {"code": {"train.py": "ab", "aletheia.training.trainer": "cd"}, "config": config}
    return campaign, runs, evaluations


def rows_of(runs, evaluations):
    """Return the sources of each row, as aggregate gathers them."""
    rows = {}
    for key, envelope in runs.items():
        own = [RowSource("/".join(map(str, key)), envelope)]
        for (model, arm, seed, benchmark), evaluation in evaluations.items():
            if (model, arm, seed) == key:
                own.append(RowSource(f"{model}/{arm}/{seed}/{benchmark}", evaluation))
            elif (model, arm) == (key[0], BASE):
                own.append(RowSource(f"{model}/base/{benchmark}", evaluation, shared=True))
        rows[key] = own
    return rows


def test_a_uniform_campaign_has_no_mixed_row(campaign):
    _, runs, evaluations = campaign
    assert deviations(rows_of(runs, evaluations)) == {}


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        (lambda lineage: lineage["code"].update({"aletheia.training.trainer": "ee"}), "code aletheia.training.trainer"),
        (lambda lineage: lineage["code"].update({"aletheia.new": "01"}), "code aletheia.new"),
        (lambda lineage: lineage["config"]["training"].update(batch_size=4), "settings training.batch_size"),
        (lambda lineage: lineage["config"]["arm"].update(layers="last"), "settings arm.layers"),
    ],
)
def test_a_row_made_otherwise_is_named_with_what_differs(campaign, change, said_of_it):
    settings, runs, evaluations = campaign
    change(runs[KEY]["lineage"])
    rows = rows_of(runs, evaluations)
    found = deviations(rows)
    assert found == {RUN: said_of_it}
    assert mixed_rows(rows, found) == {KEY: said_of_it}
    with pytest.raises(UserError, match=f"found {RUN} made by other {said_of_it}; delete it"):
        check_uniform(settings, found)
    check_uniform({**settings, "mixed": "mark"}, found)
    ledger = build_ledger([settings], runs, evaluations, {(settings["name"], *KEY): said_of_it})
    assert ledger.set_index(["arm", "seed"])["mixed"].dropna().to_dict() == {("ale", 123): said_of_it}


def test_what_a_benchmark_asks_is_held_against_those_that_were_asked_it(campaign):
    """A model may have benchmarks that another has not; of one that several have, other wording is named."""
    _, runs, evaluations = campaign
    code = {"evaluate_run.py": "ab", "workflow/tasks/mmlu.yaml": "01"}
    for (_, arm, _, _), evaluation in evaluations.items():
        asked = code if arm != "std" else {"evaluate_run.py": "ab"}
        evaluation["lineage"] = {"step": "evaluate", "code": dict(asked), "config": {}}
    assert deviations(rows_of(runs, evaluations)) == {}
    evaluations[(*KEY, "mmlu")]["lineage"]["code"]["workflow/tasks/mmlu.yaml"] = "02"
    assert deviations(rows_of(runs, evaluations)) == {f"{RUN}/mmlu": "code workflow/tasks/mmlu.yaml"}
    evaluations[(*KEY, "mmlu")]["lineage"]["code"]["aletheia.new"] = "03"
    found = deviations(rows_of(runs, evaluations))
    assert found == {f"{RUN}/mmlu": "code aletheia.new, code workflow/tasks/mmlu.yaml"}


def test_an_old_evaluation_of_the_base_model_is_named_itself_and_marks_the_rows_that_rest_on_it(campaign):
    settings, runs, evaluations = campaign
    for (_, arm, _, _), evaluation in evaluations.items():
        if arm == BASE:
            evaluation["lineage"] = {"step": "evaluate", "code": {"evaluate_run.py": "old"}, "config": {}}
    rows = rows_of(runs, evaluations)
    found = deviations(rows)
    # Never the runs' fault, however few they are.
    assert set(found) == {f"{MODEL}/base/{benchmark}" for benchmark in ("heldout", "mmlu", "humaneval")}
    assert mixed_rows(rows, found) == dict.fromkeys(runs, "code evaluate_run.py")
    with pytest.raises(UserError, match=rf"found {MODEL}/base/\w+ made by other code evaluate_run.py \(and 2 more\)"):
        check_uniform(settings, found)


def test_a_plan_of_batches_of_another_shape_sets_its_rows_apart_and_one_of_another_length_does_not(campaign):
    _, runs, evaluations = campaign
    rows = rows_of(runs, evaluations)
    plans = {}
    for key, row in rows.items():
        shape = {"steps": 40, "batch_size": 2, "accumulation": 1}
        plan = {"lineage": {"step": "batches", "code": {"draw_batches.py": "ab"}, "config": {"batches": shape}}}
        row.append(RowSource(f"batches/{key[2]}", plans.setdefault(key[2], plan)))
    shape = plans[123]["lineage"]["config"]["batches"]
    shape["steps"] = 60
    assert deviations(rows) == {}
    shape["batch_size"] = 4
    found = deviations(rows)
    assert found == {"batches/123": "settings batches.batch_size"}
    assert set(mixed_rows(rows, found)) == {key for key in runs if key[2] == 123}


def test_another_evaluation_of_one_run_sets_its_row_apart(campaign):
    _, runs, evaluations = campaign
    evaluations[*KEY, "mmlu"]["lineage"] = {"step": "evaluate", "code": {"evaluate_run.py": "new"}, "config": {}}
    assert deviations(rows_of(runs, evaluations)) == {f"{RUN}/mmlu": "code evaluate_run.py"}


def test_a_module_edited_while_the_job_ran_sets_its_row_apart(campaign):
    _, runs, evaluations = campaign
    runs[KEY]["observed"]["code_edited_meanwhile"] = ["aletheia.training.trainer"]
    found = deviations(rows_of(runs, evaluations))
    assert found == {RUN: "code aletheia.training.trainer (edited while the job ran)"}


@pytest.mark.slow
def test_a_job_started_after_an_edit_records_the_code_that_ran_and_aggregate_refuses_or_marks(study):
    """A cluster job reads modules on its node, whatever its submitter saw; here the edit falls between two jobs."""
    run = "results/train/tiny-llama/ale/seed1/run.json"
    module = study / "workflow/scripts/aletheia/training/trainer.py"
    before = artifacts.read(study / run)["lineage"]["code"]
    append(module)
    (study / run).unlink()
    # The dry run would redo every training; told to trust what is there, it redoes the one that is missing.
    trust = ("--rerun-triggers", "mtime")
    done = snakemake(study, run, *STUDY, *trust)
    assert done.returncode == 0, said(done)[-2000:]
    after = artifacts.read(study / run)["lineage"]["code"]
    assert {name for name in after if after[name] != before[name]} == {"aletheia.training.trainer"}

    done = snakemake(study, "results/aggregate/ledger.csv", *STUDY, *trust)
    (sentence,) = sentences(done)
    assert f"found {run} made by other code aletheia.training.trainer; delete it" in sentence
    edit(study / "tests/study/campaign.yaml", "name: tiny\n", "name: tiny\nmixed: mark\n")
    done = snakemake(study, "results/aggregate/ledger.csv", *STUDY, "--rerun-triggers", "mtime")
    assert done.returncode == 0, said(done)[-2000:]
    ledger = read_ledger(study / "results/aggregate/ledger.csv").set_index(["model", "arm"])
    assert ledger["mixed"].dropna().to_dict() == {("tiny-llama", "ale"): "code aletheia.training.trainer"}
    assert dry(study)[0]["train_std"] == 3  # and the dry run still says what is out of date


@pytest.mark.slow
def test_a_selection_made_by_other_code_is_seen_although_no_run_imports_it(study):
    """Neither training nor evaluation reads the selecting module: only the selection's own lineage tells."""
    selection = study / "results/select/tiny-llama/ale/seed1.json"
    module = study / "workflow/scripts/aletheia/method/selection.py"
    append(module)
    selection.unlink()
    trust = ("--rerun-triggers", "mtime")
    assert snakemake(study, str(selection.relative_to(study)), *STUDY, *trust).returncode == 0
    # As after a job of an earlier hour: the training is newer than the selection.
    for path in sorted(study.glob("results/**/*")):
        if "select" not in path.parts:
            path.touch()
    (study / "results/aggregate/ledger.csv").unlink()
    done = snakemake(study, "results/aggregate/ledger.csv", *STUDY, *trust)
    (sentence,) = sentences(done)
    assert "found results/select/tiny-llama/ale/seed1.json made by other code aletheia.method.selection" in sentence
