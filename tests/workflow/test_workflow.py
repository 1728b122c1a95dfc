"""The smallest complete run of the real Snakefile, and what a user does to a finished study."""

import fcntl
import hashlib
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from aletheia.analysis.answers import read_answers
from aletheia.analysis.benchmarks import stem_of
from aletheia.analysis.ledger import read_ledger
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import compact_json
from aletheia.provenance.locking import hold_lock
from aletheia.study.benchmarks import BENCHMARKS, LOSSES
from conftest import ROOT, STUDY, append, copy_project, copy_study, dry, edit, said, sentences, snakemake

NOTHING = "Nothing to be done"


def test_the_whole_chain_leaves_what_the_study_is_for(finished):
    results = finished / "results"
    ledger = pd.read_csv(results / "aggregate" / "ledger.csv")
    assert len(ledger) == 7
    assert set(ledger["status"]) == {"ok"}
    assert set(ledger["arm"]) == {"std", "ale", "cm", "lean"}
    by_arm = ledger[ledger["model"] == "tiny-llama"].set_index("arm")
    assert by_arm["steps"].to_dict() == {"std": 4, "ale": 4, "cm": 6, "lean": 5}
    assert by_arm["layers_adapted"].to_dict() == {"std": 4, "ale": 2, "cm": 2, "lean": 4}
    differing = ["rank", "modules", "scaling", "batch_size", "learning_rate", "schedule", "warmup_from", "optimizer"]
    assert by_arm["differs_from_std"]["ale"] == "layers"
    assert set(by_arm["differs_from_std"]["lean"].split()) == {*differing, "steps"}
    assert by_arm["trainable_parameters"]["ale"] * 2 == by_arm["trainable_parameters"]["std"]
    for number in range(1, 6):
        assert (results / "tables" / f"table{number}.md").stat().st_size > 0
        assert (results / "figures" / f"fig{number}.pdf").read_bytes().startswith(b"%PDF")


def test_the_answers_give_each_score_and_loss_of_the_ledger_again(finished):
    ledger = read_ledger(finished / "results/aggregate/ledger.csv")
    answers = read_answers(finished / "results/aggregate/answers.parquet")
    by_run = dict(iter(answers.groupby(["model", "arm", "benchmark"], observed=True)))
    compared = 0
    for row in ledger.itertuples():
        for arm, suffix in ((row.arm, ""), ("base", "_base")):
            for name in (name for name in BENCHMARKS if (row.model, arm, name) in by_run):
                rows = by_run[row.model, arm, name]
                losses = (rows["loss"] * rows["tokens"]).sum() / rows["tokens"].sum() if name in LOSSES else None
                found = rows["correct"].mean() if losses is None else losses
                expected = getattr(row, stem_of(name) + suffix)
                # The base model answers what some arm does not.
                if not pd.isna(expected):
                    assert found == pytest.approx(expected, rel=1e-9), (row.model, arm, name)
                    compared += 1
    assert compared == 2 * (3 * 5 + 2 + 3)
    assert answers["seed"].isna().equals(answers["arm"] == "base")
    assert set(answers.loc[answers["benchmark"] == "mmlu", "status"]) == {"ok"}


def test_every_artifact_is_whole_and_its_inputs_are_those_that_are_there(finished):
    checked = 0
    for path in [*finished.glob("results/**/*.json"), *finished.glob("resources/**/*.json")]:
        if "adapter" in path.parent.name or path.parent.parent.name == "models":
            continue
        envelope = artifacts.read(path)
        checked += 1
        for name, described in envelope["lineage"]["inputs"].items():
            assert artifacts.sha256_file(finished / name) == described["sha256"], f"{path}: {name}"
    assert checked > 60


@pytest.mark.slow
def test_a_ledger_changed_by_hand_is_refused_by_the_next_step(study):
    ledger = study / "results/aggregate/ledger.csv"
    ledger.write_text(ledger.read_text().replace("tiny-neox", "tiny-nexo", 1))
    (study / "results/stats/summary.json").unlink()
    done = snakemake(study, "results/stats/summary.json", *STUDY)
    assert done.returncode != 0
    (sentence,) = sentences(done)
    assert re.search(r"ledger\.csv: changed after it was written \(expected sha256 \w{64}, found \w{64}\)", sentence)


@pytest.mark.slow
def test_a_second_controller_in_the_same_folder_stops(study):
    (study / ".snakemake").mkdir(exist_ok=True)
    with open(study / ".snakemake" / "controller.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        (study / "results/stats/summary.json").unlink()
        done = snakemake(study, *STUDY)
        assert done.returncode != 0
        assert "another snakemake runs in this folder" in said(done)
        assert not (study / "results/stats/summary.json").exists()
    # The lock went with its holder: nothing has to be unlocked.
    assert snakemake(study, "results/tables/table1.md", *STUDY, "--until", "stats").returncode == 0


@pytest.mark.slow
def test_of_two_controllers_the_second_stops_and_the_first_goes_on(tmp_path):
    folder, lock = copy_project(tmp_path / "project"), "resources/data/rows.lock.json"
    (folder / lock).parent.mkdir(parents=True)
    command = [str(Path(sys.executable).parent / "snakemake"), lock, *STUDY]
    # The first one's job waits for the lock of its artifact.
    with hold_lock(folder / lock):
        first = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        before = list(itertools.takewhile(lambda line: "rule stage_data" not in line, first.stdout))
        second = snakemake(folder, "resources/data/mmlu.lock.json", *STUDY)
    after = first.communicate(timeout=120)[0]
    assert second.returncode != 0
    assert "another snakemake runs in this folder; wait for it, or stop it, and run this again" in said(second)
    assert "Traceback" not in said(second)
    assert not (folder / "resources/data/mmlu.lock.json").exists()
    assert (first.returncode, (folder / lock).is_file()) == (0, True), [*before, after]


def test_the_arms_did_the_same_work(finished):
    runs = {
        arm: artifacts.payload(finished / f"results/train/tiny-llama/{arm}/seed1/run.json", "run")
        for arm in ("std", "ale", "cm")
    }
    assert runs["std"]["batch_plan_sha256"] == runs["ale"]["batch_plan_sha256"]
    assert runs["std"]["tokens"] == runs["ale"]["tokens"]
    # Before the first update all adapters are silent, so the first loss is the base model's in every arm.
    assert runs["std"]["train_loss"][0] == runs["ale"]["train_loss"][0] == runs["cm"]["train_loss"][0]
    assert set(runs["ale"]["placement"]["modules"]) < set(runs["std"]["placement"]["modules"])


def test_an_arm_of_another_shape_trains_on_the_same_rows_in_the_same_order(finished):
    plan = artifacts.payload(finished / "results/batches/tiny-llama/seed1.json", "batches")
    lean = artifacts.payload(finished / "results/train/tiny-llama/lean/seed1/run.json", "run")
    # Five steps of two micro-batches of one row: the plan's first ten rows, each pair by length.
    cut = [[row] for row in plan["order"][:10]]
    pairs = [cut[step : step + 2] for step in range(0, 10, 2)]
    swapped = [[pair, pair[::-1]] for pair in pairs]
    digests = {
        hashlib.sha256(compact_json([row for pair in choice for row in pair]).encode()).hexdigest()
        for choice in itertools.product(*swapped)
    }
    assert lean["batch_plan_sha256"] in digests
    assert [point["step"] for point in lean["curve"]] == [0, 1, 2, 3, 4, 5]
    assert {name.rpartition(".")[2] for name in lean["placement"]["modules"]} == {"v_proj", "o_proj", "down_proj"}
    ranks = {name.rpartition(".")[2]: module["rank"] for name, module in lean["placement"]["modules"].items()}
    assert ranks == {"v_proj": 2, "o_proj": 2, "down_proj": 4}


@pytest.mark.parametrize("arm", ["ale", "lean"])
def test_the_adapter_loads_with_plain_peft_to_the_recorded_loss(finished, arm):
    from peft import PeftModel

    from aletheia.method import loading
    from aletheia.provenance import staged_files
    from aletheia.training import encoding, heldout_loss

    run = finished / f"results/train/tiny-llama/{arm}/seed1/run.json"
    lock = finished / "resources/models/tiny-llama.lock.json"
    dtype = artifacts.payload(finished / "results/precision/tiny-llama.json", "precision")["dtype"]
    model, tokenizer = loading.load(lock, dtype=dtype)
    model = PeftModel.from_pretrained(model, run.parent / "adapter")
    folder = staged_files.checked_folder(finished / "resources/data/rows.lock.json")
    examples = encoding.encode_rows(staged_files.read_rows(folder / "heldout.jsonl"), tokenizer, 320).examples
    rows = heldout_loss.row_losses(model, examples, batch_size=8, pad_token_id=tokenizer.pad_token_id)
    loss = heldout_loss.mean_loss(itertools.chain.from_iterable(rows))
    assert loss == pytest.approx(artifacts.payload(run, "run")["eval_loss"], rel=1e-3)


def test_an_evaluation_loads_its_model_once(finished):
    """As many loads as jobs, each of which answers all benchmarks of a run: two models' bases and their arms."""
    said = {path: path.read_text() for path in (finished / "logs/evaluate").rglob("*.log")}
    assert len(said) == 9
    assert [text.count("loaded resources/models/") for text in said.values()] == [1] * 9
    answered = [re.findall(r"^(\w+): ok, ", text, flags=re.MULTILINE) for text in said.values()]
    assert sorted(answered) == [
        *[["heldout"]] * 4,
        *[["heldout", "mmlu", "humaneval", "openbookqa", "retention"]] * 4,
        ["heldout", "retention"],
    ]


@pytest.mark.slow
def test_questions_are_put_as_the_registry_says(tmp_path):
    """With `prompt: registry`, the default: a chat model's through its template, another's as they are."""
    folder = copy_project(tmp_path / "project")
    with (folder / "tests/study/models.yaml").open("a") as handle:
        handle.write("  prompt: chat\n")

    def prompts():
        done = snakemake(folder, "-n", "-p", *STUDY)
        assert done.returncode == 0, said(done)[-2000:]
        commands = [line for line in said(done).splitlines() if "evaluate_run.py --" in line]
        pattern = r'models/([\w-]+)\.lock.*config:evaluation=\{.*?"prompt":"(\w+)"'
        return {re.search(pattern, line).groups() for line in commands}

    assert prompts() == {("tiny-llama", "plain"), ("tiny-neox", "chat")}
    # A campaign that names one puts it to all.
    edit(folder / "tests/study/campaign.yaml", "\nevaluation:\n", "\nevaluation:\n  prompt: plain\n")
    assert prompts() == {("tiny-llama", "plain"), ("tiny-neox", "plain")}


def test_a_second_run_has_nothing_to_do(finished, tmp_path):
    assert NOTHING in snakemake(copy_study(finished, tmp_path / "again"), *STUDY).stderr


def test_an_edited_module_is_named_in_the_reason(study):
    append(study / "workflow/scripts/aletheia/training/trainer.py")
    jobs, text = dry(study)
    assert {"train_std": 3, "train_ale": 2, "train_cm": 2}.items() <= jobs.items()
    assert re.search(
        r"before: 'code:aletheia\.training\.trainer=\w+' now: 'code:aletheia\.training\.trainer=\w+'", text
    )


REPORTED = {"aggregate", "stats", "figures"}
JUDGED = {"score_code", *REPORTED}
EVALUATED = {"evaluate_heldout", "evaluate_heldout_mmlu_humaneval_openbookqa_retention", *JUDGED}
SELECTED = {"select", "train_ale", "train_cm", *EVALUATED}
# An arm of all layers answers two benchmarks alone.
TRAINED = {"train_std", "evaluate_heldout_retention", *SELECTED} - {"select"}
STAGED = {"stage_model", "stage_data", "tokens", "precision", "batches", "probe", *SELECTED, *TRAINED}
LIBRARY = "workflow/scripts/aletheia"


def test_what_decides_nothing_plans_nothing_even_together(study):
    """In a moved study whose files have other times: prose of the code, comments in the configuration, a note.

    Comments, docstrings, layout, annotations and error sentences of every module decide no result.
    """
    for path in (study / "workflow/scripts").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(('"""', 'r"""')), path
        path.write_text(text.replace('"""', '"""Reworded: ', 1) + "\n# a comment\n", encoding="utf-8")
    edit(
        study / LIBRARY / "provenance/job.py",
        "expected a path of its own for each output",
        "wanted a path of its own for each output",
    )
    for name in ("campaign.yaml", "models.yaml", "config.yaml"):
        append(study / "tests/study" / name, "# a comment\n")
    edit(study / "tests/study/data.yaml", "  held_out: 8\n", "  held_out: 8\n  note: Written by hand.\n")
    for path in study.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            path.touch()
    jobs, text = dry(study)
    assert jobs == {}
    assert NOTHING in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "rules"),
    [
        (f"{LIBRARY}/staging/stage.py", STAGED),
        (f"{LIBRARY}/method/selection.py", SELECTED),
        (f"{LIBRARY}/training/trainer.py", TRAINED),
        ("workflow/tasks/mmlu.yaml", EVALUATED - {"evaluate_heldout"}),
        # No campaign of this study asks it.
        ("workflow/tasks/gsm8k.yaml", set()),
        (f"{LIBRARY}/report/plot_style.py", {"figures"}),
        # Nothing that a rule runs imports it.
        (f"{LIBRARY}/audit/verification.py", set()),
        ("envs/gpu.yaml", {"tokens", "precision", "batches", "probe", *SELECTED, *TRAINED}),
        ("envs/light.yaml", SELECTED),
    ],
)
def test_an_edited_file_touches_the_rules_that_use_it_and_what_follows(study, file, rules):
    append(study / file)
    assert set(dry(study)[0]) - {"all"} == rules


def test_an_archived_study_without_snakemake_s_records_has_nothing_to_do(finished, tmp_path):
    # As long as files keep their times: without its records Snakemake knows nothing else. `make audit` holds such
    # results against their own lineage.
    study = copy_study(finished, tmp_path / "unpacked", records=False)
    assert NOTHING in dry(study)[1]


def test_another_models_settings_touch_that_model_alone(study):
    edit(
        study / "tests/study/campaign.yaml",
        "{benchmarks: [heldout], headline: false}",
        "{benchmarks: [heldout], headline: false, training: {batch_size: 1}}",
    )
    jobs, text = dry(study)
    assert jobs["train_std"] == jobs["train_ale"] == jobs["train_cm"] == 1
    assert "results/train/tiny-llama" not in text.replace("Input files updated", "").split("rule aggregate")[0]


def test_the_look_of_figures_touches_figures_alone(study):
    with (study / "tests/study/config.yaml").open("a") as handle:
        handle.write("figures: {font_size: 11}\n")
    assert set(dry(study)[0]) == {"figures", "all"}


@pytest.mark.slow
def test_one_figure_is_rebuilt_alone(study):
    (study / "results/figures/fig1.pdf").unlink()
    done = snakemake(study, "results/figures/fig1.pdf", *STUDY)
    assert done.returncode == 0, said(done)
    assert re.search(r"^1 of 1 steps", said(done), flags=re.MULTILINE)
    assert (study / "results/figures/fig1.pdf").is_file()


@pytest.mark.slow
def test_the_scheduler_looks_when_a_job_ends_and_not_by_the_clock(study):
    targets = [f"results/figures/fig{number}.pdf" for number in (1, 2, 3)]
    for target in targets:
        (study / target).unlink()
    done = snakemake(study, *targets, "--cores", "1", "--verbose", *STUDY)
    assert done.returncode == 0, said(done)
    assert 3 <= said(done).count("Ready jobs:") <= 4


@pytest.mark.slow
def test_a_figure_whose_report_is_not_in_the_study_is_no_target(study):
    edit(study / "tests/study/campaign.yaml", "reports: [speed, downstream, compute_matched]", "reports: [speed]")
    done = snakemake(study, "-n", "results/figures/fig4.pdf", *STUDY)
    assert done.returncode != 0
    assert "fig4.pdf" in said(done)
    assert "fig4" not in " ".join(dry(study)[1])


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        ("campaign.yaml", "training:", "trainig:", r"unknown key 'trainig'; did you mean 'training'\?"),
        # Here through Snakemake; test_bad_configuration.py has such by the hundred.
        pytest.param(
            "campaign.yaml",
            "tiny-neox]",
            "tiny-nox]",
            r"model 'tiny-nox' is not in the registry; did you mean 'tiny-neox'\?",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "campaign.yaml",
            "steps: 4",
            "steps: four",
            r"training\.steps: expected a value of type integer, found 'four'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "config.yaml",
            "campaign.yaml",
            "campain.yaml",
            r"tests/study/campain\.yaml: expected a configuration file here and found none",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_one_sentence(study, file, old, new, sentence):
    edit(study / "tests/study" / file, old, new)
    done = snakemake(study, "-n", *STUDY)
    assert done.returncode != 0
    assert re.search(sentence, said(done))
    assert "Traceback" not in said(done)


@pytest.mark.slow
def test_a_staged_file_that_changed_is_named_with_both_hashes(study):
    weights = study / "resources/models/tiny-llama/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (study / "results/probe/tiny-llama/seed1.json").unlink()
    done = snakemake(study, "results/probe/tiny-llama/seed1.json", *STUDY)
    assert done.returncode != 0
    (sentence,) = sentences(done)
    assert re.search(r"model\.safetensors: .*expected sha256 \w{64}, found \w{64}", sentence)


def test_an_empty_training_file_is_named(study):
    (study / "tests/study/rows.jsonl").write_text("")
    (study / "resources/data/rows.lock.json").unlink()
    shutil.rmtree(study / "resources/data/rows")
    done = snakemake(study, "resources/data/rows.lock.json", *STUDY)
    assert done.returncode != 0
    (sentence,) = sentences(done)
    assert "error: tests/study/rows.jsonl" in sentence
    assert not (study / "resources/data/rows.lock.json").exists()


def test_an_edit_of_the_users_own_file_is_noticed(study):
    path = study / "tests/study/rows.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0].replace('"output": "', '"output": "And ')]))
    jobs, _ = dry(study)
    assert jobs["stage_data"] == 1
    assert "stage_model" not in jobs


@pytest.mark.slow
def test_a_missing_file_of_the_users_is_named_and_a_staged_one_is_not_missed(study):
    (study / "tests/study/rows.jsonl").unlink()
    assert dry(study)[0] == {}
    (study / "resources/data/rows.lock.json").unlink()
    done = snakemake(study, "resources/data/rows.lock.json", *STUDY)
    assert done.returncode != 0
    assert re.search(r"tests/study/rows\.jsonl.*is looked for from", said(done))
    assert "Traceback" not in said(done)


def test_an_unknown_run_is_one_sentence(study):
    done = snakemake(study, "-n", "results/train/tiny-llama/ale/seed9/run.json", *STUDY)
    assert done.returncode != 0
    assert "expected a run of some campaign (that arm has the seeds 1), found none of that name" in said(done)


def test_too_old_a_python_says_so(tmp_path):
    code = ROOT / "workflow" / "scripts" / "check_python.py"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.version_info = (3, 9, 1, 'final', 0); exec(open({str(code)!r}).read())",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected Python 3.11, 3.12 or 3.13, found 3.9")
