"""The ledger: one row a run and campaign, failures included; pairs; scripts as a rule runs them."""

import json

import pandas as pd
import pytest

from aletheia.analysis import pairs
from aletheia.analysis.answers import read_answers
from aletheia.analysis.ledger import COLUMNS, build_ledger, read_ledger, write_csv
from aletheia.errors import UserError
from answer_tables import answer_rows, write_answer_table
from conftest import run_script
from ledgers import SEEDS, TEN_MODELS, TWO_MODELS, evaluation, ledger_of, plan, run, sealed, study, write_study

ONE = {"smollm2-135m": TWO_MODELS["smollm2-135m"]}


def test_columns_start_as_promised_and_every_run_is_a_row():
    ledger = ledger_of()
    start = ["campaign", "model", "family", "arm", "seed", "status", "reason"]
    assert list(ledger.columns)[:7] == start
    assert list(ledger.columns) == list(COLUMNS)
    assert len(ledger) == 2 * 3 * 3


def test_a_failed_run_is_a_row_with_empty_cells():
    campaigns, runs, evaluations = study(ONE)
    key = ("smollm2-135m", "ale", 42)
    runs[key] = run(*key, status="diverged", reason="loss is NaN at step 7", step=7, eval_loss=None, seconds=12.0)
    for benchmark in ("heldout", "mmlu", "humaneval"):
        evaluations[*key, benchmark] = evaluation(*key, benchmark, None, status="no_adapter", n=0)
    ledger = build_ledger(campaigns, runs, evaluations)
    row = ledger[(ledger["arm"] == "ale") & (ledger["seed"] == 42)].iloc[0]
    assert (row["status"], row["reason"], row["steps_done"]) == ("diverged", "loss is NaN at step 7", 7)
    measured = ["eval_loss", "total_seconds", "training_seconds", "median_step_seconds", "tokens_per_second"]
    assert row[[*measured, "heldout_loss", "mmlu", "mmlu_n", "humaneval"]].isna().all()
    assert row["mmlu_status"] == "no_adapter"
    assert row["mmlu_base"] == 0.4
    master = pairs.results_master(ledger)
    assert len(master) == 3
    assert master.set_index("seed").loc[42, ["speedup_percent", "mmlu_extra_pp"]].isna().all()


def test_a_run_that_kept_its_frozen_prefix_says_where_and_what_it_was_charged():
    campaigns, runs, evaluations = study(ONE, benchmarks=())
    kept = runs["smollm2-135m", "ale", 42]["observed"]
    kept["prefix_cache"], kept["time"]["prefix_seconds"] = {"store": "disk"}, 1.5
    runs["smollm2-135m", "std", 42]["observed"]["prefix_cache"] = {"store": "off", "reason": "layer 0 is adapted"}
    ledger = build_ledger(campaigns, runs, evaluations).set_index(["arm", "seed"])
    assert tuple(ledger.loc[("ale", 42), ["prefix_cache", "prefix_seconds"]]) == ("disk", 1.5)
    assert ledger["prefix_cache"].notna().sum() == 1


def test_a_pair_follows_the_formulas():
    row = pairs.results_master(ledger_of(ONE)).iloc[0]
    assert row["speedup_percent"] == pytest.approx(100 * (1 - 80 / 100))
    assert row["ratio"] == pytest.approx(100 / 80)
    assert row["speedup_with_probe_percent"] == pytest.approx(100 * (1 - 82 / 100))
    assert row["mmlu_delta_std_pp"] == pytest.approx(-2)
    assert row["mmlu_delta_ale_pp"] == pytest.approx(-1)
    assert row["mmlu_extra_pp"] == pytest.approx(+1)


def test_paired_by_device_only_on_one_host_and_device():
    campaigns, runs, evaluations = study(ONE, benchmarks=())
    runs["smollm2-135m", "ale", 42] = run("smollm2-135m", "ale", 42, host="node2")
    runs["smollm2-135m", "ale", 123] = run("smollm2-135m", "ale", 123, device=None)
    ledger = build_ledger(campaigns, runs, evaluations).set_index(["arm", "seed"])["paired"]
    assert [ledger["ale", seed] for seed in SEEDS] == ["model", "model", "device"]
    assert (ledger["cm"] == "device").all()


def test_paired_by_device_only_in_one_allocation():
    """A node's devices have one name, and two jobs on it may have had two of them."""
    campaigns, runs, evaluations = study(ONE, benchmarks=())
    for (_, arm, seed), envelope in runs.items():
        envelope["observed"]["slurm_job"] = (None if arm == "cm" else "7") if seed == 42 else f"{arm}{seed}"
    ledger = build_ledger(campaigns, runs, evaluations).set_index(["arm", "seed"])["paired"]
    assert [ledger[arm, 42] for arm in ("std", "ale", "cm")] == ["device", "device", "model"]
    assert [ledger["ale", seed] for seed in SEEDS[1:]] == ["model", "model"]


def test_without_std_nothing_is_paired():
    ledger = ledger_of(ONE, arms=("ale",), benchmarks=())
    assert ledger["paired"].isna().all()
    assert pairs.results_master(ledger).empty


def test_a_run_shared_by_two_campaigns_is_a_row_in_each_and_views_follow_reports():
    (first,), runs, evaluations = study(ONE, arms=("std", "ale"), reports=["speed"], name="one")
    (second,), *_ = study(ONE, arms=("std",), reports=["downstream"], name="two")
    ledger = build_ledger([first, second], runs, evaluations)
    assert ledger["campaign"].value_counts().to_dict() == {"one": 6, "two": 3}
    assert len(pairs.results_master(ledger)) == 3
    assert set(pairs.results_runs(ledger)["campaign"]) == {"two"}


def test_the_papers_shape():
    """Campaign 1: 10 models, 30 pairs; campaign 2: 6 models, 3 of them with cm, and a failed one: 51 rows."""
    (one,), runs, evaluations = study(TEN_MODELS, arms=("std", "ale"), reports=["speed"], name="campaign1")
    six = dict(list(TEN_MODELS.items())[:6])
    (two,), more, asked = study(six, arms=("std", "ale"), reports=["downstream", "compute_matched"], name="campaign2")
    (cm,), cm_runs, cm_asked = study(dict(list(six.items())[:3]), arms=("cm",))
    pythia = {"pythia": {"family": "gpt_neox", "std": 50.0, "ale": 40.0}}
    (bad,), bad_runs, bad_asked = study(pythia, arms=("std", "ale"))
    for envelope in bad_runs.values():
        envelope["payload"] |= {"status": "diverged", "reason": "loss is NaN", "eval_loss": None}
    two["runs"] += cm["runs"] + bad["runs"]
    ledger = build_ledger([one, two], runs | more | cm_runs | bad_runs, evaluations | asked | cm_asked | bad_asked)
    assert len(ledger) == 111
    assert len(pairs.results_master(ledger)) == 30
    assert len(pairs.results_runs(ledger)) == 51


@pytest.mark.parametrize("table", ["runs", "evaluations"])
def test_a_missing_file_is_named(table):
    campaigns, runs, evaluations = study(ONE)
    (runs if table == "runs" else evaluations).popitem()
    with pytest.raises(UserError, match=r"smollm2-135m/cm/999.* found none"):
        build_ledger(campaigns, runs, evaluations)


@pytest.mark.parametrize(
    ("name", "base", "found"),
    [
        ("questions_sha256", "1" * 64, "2" * 64),
        ("fewshot_sha256", "3" * 64, "4" * 64),
        ("prompt", "plain", "chat"),
        ("padding", "left", "none"),
        ("sandbox", "bubblewrap", "rlimits"),
    ],
)
def test_what_was_asked_otherwise_than_of_the_base_model_is_refused(name, base, found):
    campaigns, runs, evaluations = study(ONE, benchmarks=("humaneval",))
    for envelope in evaluations.values():
        envelope["payload"][name] = base
    evaluations["smollm2-135m", "ale", 42, "humaneval"]["payload"][name] = found
    with pytest.raises(UserError, match=rf"humaneval with the base model's {name} \({base}\), found {found};"):
        build_ledger(campaigns, runs, evaluations)


def test_a_run_listed_twice_is_refused():
    campaigns, runs, evaluations = study(ONE)
    with pytest.raises(UserError, match="twice"):
        build_ledger([*campaigns, *campaigns], runs, evaluations)


def test_a_base_model_that_timed_out_leaves_no_delta():
    campaigns, runs, evaluations = study(ONE)
    evaluations["smollm2-135m", "base", None, "mmlu"]["payload"] |= {"status": "timeout", "score": None}
    ledger = build_ledger(campaigns, runs, evaluations)
    assert ledger["mmlu_base"].isna().all()
    assert set(ledger["mmlu_status"]) == {"base timeout"}
    assert pairs.results_master(ledger)["mmlu_extra_pp"].isna().all()


def test_csv_round_trip_and_bytes(tmp_path):
    ledger = ledger_of()
    ledger.loc[0, "host"] = "NA"  # a name, not a missing value
    write_csv(ledger, tmp_path / "a.csv")
    again = read_ledger(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(again, ledger)
    write_csv(again, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_ledger_without_a_column_is_one_sentence(tmp_path):
    ledger_of().drop(columns="paired").to_csv(tmp_path / "x.csv", index=False)
    with pytest.raises(UserError, match="column paired"):
        read_ledger(tmp_path / "x.csv")


def test_a_run_says_when_it_was_measured(tmp_path):
    campaigns, runs, evaluations = study(ONE)
    runs["smollm2-135m", "ale", 42]["observed"]["ended"] = "2026-01-02T03:04:05+00:00"
    write_csv(build_ledger(campaigns, runs, evaluations), tmp_path / "ledger.csv")
    ended = read_ledger(tmp_path / "ledger.csv").set_index(["arm", "seed"])["ended"]
    assert ended.dropna().to_dict() == {("ale", 42): "2026-01-02T03:04:05+00:00"}


def test_a_ledger_of_an_earlier_version_does_not_know_when_runs_were_measured(tmp_path):
    ledger = ledger_of()
    write_csv(ledger.drop(columns="ended"), tmp_path / "old.csv")
    pd.testing.assert_frame_equal(read_ledger(tmp_path / "old.csv"), ledger)


def test_aggregate_as_a_rule_runs_it(tmp_path):
    arguments = write_study(tmp_path, *study(ONE))
    out = tmp_path / "aggregate"
    done = run_script("aggregate.py", *arguments, "--out-dir", out)
    assert done.returncode == 0, done.stderr
    names = {"ledger.csv", "RESULTS_MASTER.csv", "RESULTS_CAMPAIGN2.csv"}
    assert {p.name for p in out.glob("*.csv")} == names
    sidecar = json.loads((out / "ledger.csv.lineage.json").read_text())
    assert sidecar["payload"]["about"]["rows"] == 9
    assert len(sidecar["lineage"]["inputs"]) == 9 + 3 * (9 + 1)
    assert len(read_ledger(out / "ledger.csv")) == 9
    assert "already there" in run_script("aggregate.py", *arguments, "--out-dir", out).stdout


def test_only_what_the_campaigns_report_is_written(tmp_path):
    arguments = write_study(tmp_path, *study(ONE, arms=("std", "ale"), benchmarks=(), reports=["speed"]))
    done = run_script("aggregate.py", *arguments, "--out-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out" / "RESULTS_CAMPAIGN2.csv").exists()


def test_aggregate_without_campaigns_is_one_sentence(tmp_path):
    arguments = write_study(tmp_path, *study(ONE, benchmarks=()))[:-2]
    done = run_script("aggregate.py", *arguments, "--out-dir", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "campaigns" in done.stderr


def short(campaign, models):
    """Return a campaign in its short form, as the rule passes it."""
    facts = {m: {"family": law["family"], "headline": True, "benchmarks": ["mmlu"]} for m, law in models.items()}
    return {
        "name": campaign["name"],
        "reports": campaign["reports"],
        "arms": ["std", "ale", "cm"],
        "seeds": list(SEEDS),
        "models": facts,
    }


def test_the_short_form_of_a_campaign_means_every_model_arm_and_seed():
    (campaign,), runs, evaluations = study(ONE, benchmarks=("mmlu",))
    brief = build_ledger([short(campaign, ONE)], runs, evaluations).drop(columns="parameters")
    whole = build_ledger([campaign], runs, evaluations).drop(columns="parameters")
    pd.testing.assert_frame_equal(brief, whole)


@pytest.mark.slow
def test_aggregate_finds_the_files_of_the_campaigns(tmp_path):
    (campaign,), runs, evaluations = study(ONE, benchmarks=("mmlu",))
    write_study(tmp_path, [campaign], runs, evaluations)
    for kind, folder in (("run", "train"), ("evaluation", "evaluate")):
        for path in (tmp_path / kind).iterdir():
            payload = json.loads(path.read_text())["payload"]
            base = payload["arm"] == "base"
            place = tmp_path / folder / payload["model"] / payload["arm"] / ("" if base else f"seed{payload['seed']}")
            place.mkdir(parents=True, exist_ok=True)
            path.rename(place / ("run.json" if kind == "run" else f"{payload['benchmark']}.json"))
            if kind == "evaluation":
                write_answer_table(place / "mmlu.parquet", "mmlu", answer_rows("mmlu", ["law/0", "anatomy/1"]))
    brief = short(campaign, ONE)
    brief["models"]["smollm2-135m"]["measured_precision"] = True
    arguments = ["--out-dir", tmp_path / "aggregate", "--lineage", f"config:campaigns={json.dumps([brief])}"]
    precision = tmp_path / "precision" / "smollm2-135m.json"
    plans = [tmp_path / "batches" / "smollm2-135m" / f"seed{seed}.json" for seed in SEEDS]
    made = {path: ("batches", plan("smollm2-135m", seed)) for path, seed in zip(plans, SEEDS, strict=True)}
    made[precision] = ("precision", {"dtype": "fp32", "candidates": ["fp32"]})
    tokens = tmp_path / "tokens" / "smollm2-135m.safetensors.lineage.json"
    made[tokens] = ("file", {"name": "smollm2-135m.safetensors", "files": {}, "about": {}})
    for path, (kind, payload) in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        sealed(path, kind, payload)
    done = run_script("aggregate.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert len(read_ledger(tmp_path / "aggregate" / "ledger.csv")) == 9
    assert len(read_answers(tmp_path / "aggregate" / "answers.parquet")) == 2 * (9 + 1)
    # What all arms of a model share makes their rows too.
    for path in (plans[1], precision, tokens):
        kind, payload = made[path]
        sealed(path, kind, payload, code_edited_meanwhile=["aletheia.training.batch_plan"])
        done = run_script("aggregate.py", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert (
            f"found {path} made by other code aletheia.training.batch_plan (edited while the job ran); delete"
            in done.stderr
        )
        sealed(path, kind, payload)
    answers = tmp_path / "evaluate" / "smollm2-135m" / "base" / "mmlu.parquet"
    whole = answers.read_bytes()
    for spoil, sentence in (
        (lambda: answers.write_bytes(whole[:-1]), "base/mmlu.parquet: changed after it was written"),
        (answers.unlink, "base/mmlu.parquet: expected an input file here and found none"),
    ):
        spoil()
        done = run_script("aggregate.py", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert sentence in done.stderr
    answers.write_bytes(whole)
    (tmp_path / "train" / "smollm2-135m" / "cm" / "seed42" / "run.json").unlink()
    done = run_script("aggregate.py", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cm/seed42/run.json" in done.stderr


def test_a_model_without_a_named_family_is_its_own():
    campaigns, runs, evaluations = study({"mine": {"family": None, "std": 10.0, "ale": 9.0}})
    assert set(build_ledger(campaigns, runs, evaluations)["family"]) == {"mine"}
