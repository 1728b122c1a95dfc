"""The audit names what would be made again and why, with its cost, and what no dry run sees."""

import json
import os
import pty
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from aletheia.audit.dry_run import Job
from aletheia.audit.remedies import Remedies
from aletheia.audit.rerun_reasons import changes, differences, other_packages
from aletheia.audit.verification import Finding
from aletheia.provenance import artifacts
from aletheia.provenance.lineage import environment
from conftest import ROOT, STUDY, append, as_ordinary_user, copy_study, edit, snakemake

NOTHING = "nothing to do: every artifact is whole, and made by the present code and settings\n"
PROBE = "results/probe/tiny-neox/seed1.json"
ENCODED = "results/tokens/tiny-neox.safetensors"
TABLE = "results/tables/table1.md"
FIGURE = "results/figures/fig1.pdf"
DRAW = "results/stability/tiny-neox/seed0.json"
CONFIGURED = " ".join(STUDY)


def audit(folder, *arguments, study=STUDY):
    """Run the audit as `make audit` does."""
    return subprocess.run(
        [sys.executable, "workflow/scripts/audit.py", *arguments, *study],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def undisturbed(done):
    """What an audit prints, but for the runs that had company: tests run beside each other."""
    lines = done.stdout.splitlines(keepends=True)
    return "".join(line for line in lines if "was timed on a busy machine" not in line)


def rows(folder):
    """Return {artifact: row} of an audit that finds something, and the whole."""
    done = audit(folder, "--json")
    assert done.returncode == 1, done.stderr or done.stdout
    found = json.loads(done.stdout)
    by_artifact = {row["artifact"]: row for row in found["rows"]}
    assert len(by_artifact) == len(found["rows"])
    return by_artifact, found


def seconds(path):
    return artifacts.read(path)["observed"]["seconds"]


def tamper(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def do(folder, remedy):
    """Run the command of a remedy, just as it is printed."""
    command = shlex.split(re.search(r"run (snakemake [^;]*)", remedy).group(1))
    done = snakemake(folder, *command[1:])
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_a_finished_study_has_nothing_to_do(study):
    done = audit(study)
    assert (done.returncode, undisturbed(done)) == (0, NOTHING)
    found = json.loads(audit(study, "--json").stdout)
    found.pop("busy")  # tests run beside each other
    assert found == {"rows": [], "notes": [], "other_study": None, "seconds": 0}


def test_each_rerun_has_its_reason_and_its_measured_cost(study):
    append(study / "workflow/scripts/aletheia/training/trainer.py")
    append(study / "envs/score_code.yaml")
    edit(study / "tests/study/campaign.yaml", "headline: false}", "headline: false, training: {batch_size: 1}}")
    found, whole = rows(study)
    std, ale = (f"results/train/tiny-neox/{arm}/seed1/run.json" for arm in ("std", "ale"))
    assert found[std]["rule"] == "train_std"
    assert found[std]["changes"] == ["code aletheia.training.trainer", "training.batch_size: 2 → 1", "follows batches"]
    assert found[ale]["changes"] == found[std]["changes"]
    assert found["results/train/tiny-llama/std/seed1/run.json"]["changes"] == ["code aletheia.training.trainer"]
    base = found["results/evaluate/tiny-llama/base/humaneval.json"]
    assert base["changes"] == ["envs/score_code.yaml"]
    judged = found["results/evaluate/tiny-llama/std/seed1/humaneval.json"]
    assert judged["changes"][0] == "envs/score_code.yaml"
    assert judged["changes"][1].startswith("follows evaluate_heldout_mmlu_humaneval_openbookqa_retention")
    assert found[FIGURE]["changes"][0].startswith("follows ")
    for name in (std, ale):
        assert found[name]["seconds"] == seconds(study / name)
        assert not found[name]["estimated"]
    assert whole["seconds"] == pytest.approx(sum(row["seconds"] for row in found.values()))
    assert {row["kind"] for row in found.values()} == {"rerun"}
    assert PROBE not in found


@pytest.mark.slow
def test_the_cost_of_what_is_not_there_is_the_median_of_its_rule(study):
    shutil.rmtree(study / "results/train/tiny-llama/std/seed1")
    (study / "results/evaluate/tiny-llama/std/seed1/heldout.json").unlink()
    shutil.rmtree(study / "results/evaluate/tiny-neox")
    (study / "results/aggregate/ledger.csv").unlink()
    found, _ = rows(study)
    run = found["results/train/tiny-llama/std/seed1/run.json"]
    assert run["changes"] == ["not there"]
    assert run["estimated"]
    others = (seconds(study / f"results/train/{run}/seed1/run.json") for run in ("tiny-llama/lean", "tiny-neox/std"))
    assert run["seconds"] == pytest.approx(statistics.median(others))
    part = found["results/evaluate/tiny-llama/std/seed1/heldout.json"]
    assert part["changes"] == ["missing: results/evaluate/tiny-llama/std/seed1/heldout.json", "follows train_std"]
    assert not part["estimated"]
    unmeasured = found["results/evaluate/tiny-neox/base/heldout.json"]
    assert unmeasured["seconds"] is None
    assert re.search(r"of work, one job after another, and 4 that nothing has measured yet$", undisturbed(audit(study)))


def test_what_no_dry_run_sees_is_named_with_its_remedy(study):
    tampered = f"{FIGURE.removesuffix('pdf')}svg"
    tamper(study / tampered)
    (study / PROBE).unlink()
    for name in (TABLE, f"{TABLE}.lineage.json"):
        (study / name).unlink()
    (study / "results/notes.txt").write_text("mine")
    moved = "results/select/tiny-llama/mine.json"
    (study / "results/select/tiny-llama/ale/seed1.json").rename(study / moved)
    found, whole = rows(study)
    assert found[tampered]["changes"] == ["changed after it was written"]
    assert found[tampered]["remedy"] == f"delete it and run snakemake {tampered} {CONFIGURED}"
    assert found[tampered]["kind"] == "changed"
    assert found[PROBE]["remedy"] == f"run snakemake {PROBE} {CONFIGURED}"
    assert (found[PROBE]["rule"], found[PROBE]["changes"]) == ("probe", ["missing"])
    assert found["results/notes.txt"]["changes"] == ["no artifact vouches for this file"]
    assert found[moved]["remedy"] == "move it back to results/select/tiny-llama/ale/seed1.json"
    # The table is a target, so Snakemake plans it; what is made from the probe again follows it.
    assert found["results/stats/summary.json"]["changes"] == [f"missing: {TABLE}"]
    follower = found["results/select/tiny-neox/ale/seed1.json"]
    assert (follower["kind"], follower["changes"]) == ("follows", ["follows probe"])
    assert whole["seconds"] == pytest.approx(sum(row["seconds"] or 0 for row in found.values()))


@pytest.mark.slow
def test_the_remedies_mend_what_they_say(study):
    generations = "results/evaluate/tiny-llama/base/humaneval.generations.parquet"
    scored = "results/evaluate/tiny-llama/base/humaneval.parquet"
    tamper(study / scored)
    (study / "results/notes.txt").write_text("mine")
    (study / f"{generations}.lineage.json").rename(study / "aside.json")
    found, _ = rows(study)
    assert {scored, "results/notes.txt"} <= set(found)
    # Aggregate reads the table that was changed, so Snakemake plans it, and with it what it misses.
    assert f"missing: {generations}.lineage.json" in {change for row in found.values() for change in row["changes"]}
    (study / "aside.json").rename(study / f"{generations}.lineage.json")
    (study / "results/notes.txt").unlink()
    assert found[scored]["remedy"].startswith("delete it and run snakemake ")
    (study / scored).unlink()
    do(study, found[scored]["remedy"])
    done = snakemake(study, *STUDY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert undisturbed(audit(study)) == NOTHING


@pytest.mark.slow
def test_what_cannot_be_read_is_a_row(study):
    (study / PROBE).chmod(0)
    command = [sys.executable, ROOT / "workflow" / "scripts" / "audit.py", "--json", *STUDY]
    done = subprocess.run(as_ordinary_user(*map(str, command)), cwd=study, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert (row["artifact"], row["kind"]) == (PROBE, "unreadable")
    assert row["changes"] == ["cannot be read (Permission denied)"]
    assert row["remedy"] == f"make it readable for this user, or delete it and run snakemake {PROBE} {CONFIGURED}"
    (note,) = found["notes"]
    assert note == (
        "what would be made again is not known: Snakemake cannot plan over what cannot be read "
        f"(snakemake -n {CONFIGURED} says where it stops)"
    )


@pytest.fixture
def unrecorded(finished, tmp_path):
    """Return a finished study as an archive would bring it: the same times, and no records of Snakemake's."""
    return copy_study(finished, tmp_path / "unpacked", records=False)


@pytest.mark.slow
def test_results_without_snakemake_s_records_are_held_against_code_and_settings(unrecorded):
    study = unrecorded
    assert undisturbed(audit(study)) == NOTHING
    append(study / "workflow/scripts/aletheia/report/plot_style.py")
    edit(study / "tests/study/campaign.yaml", "max_new_tokens: 4", "max_new_tokens: 5")
    found, _ = rows(study)
    assert found[FIGURE]["kind"] == "unseen"
    assert found[FIGURE]["changes"] == ["code aletheia.report.plot_style"]
    heldout = found["results/evaluate/tiny-llama/std/seed1/heldout.json"]
    assert heldout["changes"] == ["evaluation.humaneval.max_new_tokens: 4 → 5"]
    assert found["results/aggregate/ledger.csv"]["kind"] == "follows"
    assert "results/train/tiny-llama/std/seed1/run.json" not in found


def snapshot(folder):
    """Return the bytes of every file of a study, but for Snakemake's own time stamps."""
    files = [p for tree in ("results", "resources") for p in (folder / tree).rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name != ".snakemake_timestamp"}


@pytest.mark.slow
def test_files_that_are_newer_by_their_time_alone_are_kept_by_touching(unrecorded):
    (unrecorded / "resources/models/tiny-neox.lock.json").touch()
    before = snapshot(unrecorded)
    found, whole = rows(unrecorded)
    assert {row["kind"] for row in found.values()} == {"newer"}
    kept = "same code, settings and inputs; newer by time alone"
    assert found[ENCODED]["changes"] == ["newer by its time alone: resources/models/tiny-neox.lock.json", kept]
    assert found[PROBE]["changes"] == ["follows tokens (2 files)", kept]
    assert found[PROBE]["seconds"] == seconds(unrecorded / PROBE)
    assert whole["seconds"] == pytest.approx(sum(row["seconds"] for row in found.values()))
    assert "results/train/tiny-llama/std/seed1/run.json" not in found
    (remedy,) = {row["remedy"] for row in found.values()}
    assert remedy == f"to keep it, run snakemake --touch {CONFIGURED}"
    do(unrecorded, remedy)
    assert undisturbed(audit(unrecorded)) == NOTHING
    assert snapshot(unrecorded) == before


@pytest.mark.slow
def test_what_is_newer_by_its_time_alone_is_made_again_where_nobody_touches_it(unrecorded):
    (unrecorded / "resources/models/tiny-neox.lock.json").touch()
    started = artifacts.read(unrecorded / PROBE)["observed"]["started"]
    found, _ = rows(unrecorded)
    done = snakemake(unrecorded, PROBE, *STUDY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert found[PROBE]["kind"] == "newer"
    assert artifacts.read(unrecorded / PROBE)["observed"]["started"] > started


@pytest.mark.slow
def test_touching_what_is_newer_leaves_what_is_truly_other_to_run(unrecorded):
    (unrecorded / "resources/models/tiny-neox.lock.json").touch()
    append(unrecorded / "workflow/scripts/aletheia/analysis/pairs.py")
    found, _ = rows(unrecorded)
    others = {name for name, row in found.items() if row["kind"] == "rerun"}
    assert {"results/aggregate/ledger.csv", "results/stats/summary.json", FIGURE} <= others
    assert PROBE not in others
    targets = [name for name, row in found.items() if f" --touch {name} " in row["remedy"]]
    assert set(targets) == found.keys() - others
    # All at once, for a command each would take long.
    do(unrecorded, found[PROBE]["remedy"].replace(PROBE, " ".join(targets)))
    assert rows(unrecorded)[0].keys() == others


@pytest.mark.slow
def test_another_command_is_no_matter_of_time(study):
    edit(study / "rules/probe.smk", "$ALETHEIA_SCRIPTS/probe.py", "$ALETHEIA_SCRIPTS/./probe.py")
    found, _ = rows(study)
    assert found[PROBE]["changes"] == ["the command of rule probe"]
    assert {row["kind"] for row in found.values()} == {"rerun"}


@pytest.mark.slow
def test_a_result_on_demand_that_is_there_is_held_against_code_and_settings(study):
    """A probe of one draw, as other code made it, and nothing else of its target."""
    envelope = artifacts.read(study / PROBE)
    made = {**envelope["lineage"], "output": DRAW}
    made["code"] = {**made["code"], "aletheia.method.probe": "0" * 16}
    sealed = artifacts.make_envelope("probe", envelope["payload"], made, envelope["observed"], DRAW)
    (study / DRAW).parent.mkdir(parents=True)
    (study / DRAW).write_bytes(artifacts.canonical_bytes(sealed))
    found, _ = rows(study)
    assert "code aletheia.method.probe" in found[DRAW]["changes"]
    assert found[DRAW]["remedy"].startswith(f"delete it and run snakemake {DRAW} {CONFIGURED};")
    summary = found["results/stability/summary.json"]
    assert (summary["rule"], summary["remedy"]) == ("stability_summary", f"run snakemake stability {CONFIGURED}")
    # One of its draws, no other target's, and nothing of the study's own.
    assert {Path(name).parts[1] for name in found} == {"stability"}


ZIP = "results/evidence/evidence.zip"


@pytest.mark.parametrize(
    ("finding", "remedy"),
    [
        (
            Finding("a/b.json", "missing", kind="missing", owner="a/b.json"),
            "run snakemake a/b.json --configfile 'my study.yaml' more.yaml",
        ),
        (
            Finding("a/b/c.bin", "changed", owner="a/b.lineage.json"),
            "delete a/b.lineage.json and run snakemake a/b.lineage.json --configfile 'my study.yaml' more.yaml",
        ),
        (
            Finding(f"{ZIP}.lineage.json", "made from another x", kind="outdated", owner=f"{ZIP}.lineage.json"),
            "delete it and run snakemake bundle --configfile 'my study.yaml' more.yaml",
        ),
    ],
)
def test_a_remedy_names_the_configuration_and_the_archives_target(finding, remedy):
    demanded = {ZIP: "bundle", f"{ZIP}.lineage.json": "bundle"}
    assert Remedies([Path("my study.yaml"), Path("more.yaml")], demanded).for_finding(finding) == remedy


def test_keeping_all_names_the_targets_that_snakemake_does_not_take_by_itself():
    remedies = Remedies([], {"b": "stability"})
    assert remedies.touch(["a"]) == "to keep it, run snakemake --touch"
    assert remedies.touch(["a", "b"]) == "to keep it, run snakemake --touch all stability"


def test_what_is_planned_for_an_archive_alone_is_made_with_it():
    """Snakemake without a target plans no intermediate that an up-to-date figure does not miss; an archive needs it."""
    assert Remedies([], {}).make_again("results/probe/a.json") == ""
    demanded = {ZIP: "bundle", "b": "stability"}
    assert Remedies([], demanded).make_again("results/probe/a.json") == "run snakemake bundle"
    assert Remedies([], demanded).make_again("b") == "run snakemake stability"


@pytest.mark.slow
def test_what_no_run_of_this_study_asks_for_is_not_to_be_deleted(study):
    edit(study / "tests/study/campaign.yaml", "models: [tiny-llama, tiny-neox]", "models: [tiny-llama]")
    edit(study / "tests/study/campaign.yaml", "  tiny-neox: {benchmarks: [heldout], headline: false}\n", "")
    run = "results/train/tiny-neox/ale/seed1/run.json"
    tamper(study / run)
    (study / "results/notes.txt").write_text("mine")
    found, _ = rows(study)
    assert found[run]["remedy"] == "restore it, or run the study that asks for it"
    assert found["results/notes.txt"]["remedy"] == "delete it, or keep it elsewhere"


def test_each_configfile_counts(study):
    assert one_sentence(audit(study, "--configfile", "none.yaml")).startswith("error: none.yaml: ")


@pytest.mark.slow
def test_a_run_of_a_busy_machine_is_a_note_with_the_command_that_times_it_again(study):
    run = study / "results/train/tiny-neox/std/seed1/run.json"
    content = json.loads(run.read_text())
    content["observed"]["load"] = {"others_share": 0.4, "steal_share": 0.0, "step_spread": None}
    del content["sha256"]
    run.write_bytes(artifacts.canonical_bytes(artifacts.seal(content)))
    (note,) = [
        line for line in audit(study).stdout.splitlines() if line.startswith("note: tiny-neox, seed 1 was timed")
    ]
    assert "std: other processes took 40% of the cores" in note
    paths = [f"results/train/tiny-neox/{arm}/seed1/run.json" for arm in ("std", "ale", "cm")]
    command = re.search(r"run (snakemake .* --force --configfile \S+), then (snakemake --configfile \S+)$", note)
    assert set(paths) <= set(shlex.split(command[1]))
    planned = snakemake(study, *shlex.split(command[1])[1:], "-n")
    assert "train_std" in planned.stdout


@pytest.mark.slow
def test_a_pipe_gets_aligned_text_and_a_terminal_a_table(study):
    append(study / "workflow/scripts/aletheia/report/plot_style.py")
    heading, first, *_ = audit(study).stdout.splitlines()
    for column in ("rule", "what changed"):
        assert first[heading.index(column) - 1] == " " != first[heading.index(column)]
    controller, terminal = pty.openpty()
    command = [sys.executable, "workflow/scripts/audit.py", *STUDY]
    done = subprocess.run(command, cwd=study, stdout=terminal, env={**os.environ, "COLUMNS": "140"}, check=False)
    os.close(terminal)
    assert done.returncode == 1
    shown = os.read(controller, 1 << 16).decode()
    os.close(controller)
    assert re.search(rf"│ {FIGURE} *│ figures *│ +[\d.]+ s │ code aletheia.report.plot_style *│", shown)


def one_sentence(done):
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_a_mistake_is_one_sentence(study):
    edit(study / "tests/study/campaign.yaml", "training:", "trainig:")
    assert "unknown key 'trainig'; did you mean 'training'?" in one_sentence(audit(study))
    edit(study / "tests/study/campaign.yaml", "trainig:", "training:")
    append(study / "Snakefile", "rule broken:\n    outptu: 1\n")
    sentence = one_sentence(audit(study))
    assert sentence.startswith("error: snakemake cannot plan: SyntaxError in file ")
    assert sentence.endswith("Unexpected keyword outptu in rule definition:")


LINEAGE = {
    "code": {"train.py": "1", "aletheia.old": "2", "aletheia.training.trainer": "3"},
    "environment": {"envs/gpu.yaml": "4", "python": "3.11.7", "packages": {}},
    "config": {"training": {"steps": 4, "optimizer": {"beta1": 0.9}}, "campaigns": [{"name": "a", "seeds": [1]}]},
}
TOKENS = ("code:train.py=1", "code:aletheia.new=5", "code:aletheia.training.trainer=6", "env:envs/gpu.yaml=7")


def test_differences_name_modules_environments_and_keys():
    config = (
        'config:training={"steps":5,"optimizer":{"beta1":0.9},"schedule":"cosine"}',
        'config:campaigns=[{"name":"a","seeds":[1,2]}]',
    )
    assert differences(LINEAGE, [*TOKENS, *config]) == [
        "code aletheia.new (new)",
        "code aletheia.old (no longer used)",
        "code aletheia.training.trainer",
        "envs/gpu.yaml",
        "campaigns.a.seeds: [1] → [1, 2]",
        'training.schedule: absent → "cosine"',
        "training.steps: 4 → 5",
    ]


def test_code_from_before_the_packages_is_one_reason():
    """Its modules have other names and digests of another kind: each would be named twice."""
    earlier = {"train.py": "1", "aletheia.errors": "1", "aletheia.training": "2", "aletheia.loop": "3"}
    now = [*TOKENS, 'config:training={"steps":4}']
    found = differences({**LINEAGE, "code": earlier, "config": {"training": {"steps": 5}}}, now)
    assert found == [
        "code of an earlier version, before its modules had packages",
        "envs/gpu.yaml",
        "training.steps: 5 → 4",
    ]


def test_other_packages_are_named_where_snakemake_s_own_environment_made_it():
    here = environment()
    there = {**here, "python": "3.9.1", "packages": {**here["packages"], "numpy": "0", "gone": "1"}}
    assert other_packages({"environment": here}) == []
    assert other_packages({"environment": there}) == [
        f"python 3.9.1 → {here['python']}",
        "gone (no longer used)",
        "numpy",
    ]


def test_packages_of_a_rule_s_own_environment_are_not_held_against_those_that_run_the_audit():
    own = {"envs/light.yaml": "4", "python": "3.9.1", "packages": {"jsonschema": "4.0", "pyyaml": "6.0"}}
    assert other_packages({"environment": own}) == []


@pytest.mark.parametrize(
    ("made", "reason", "expected"),
    [
        (False, "Missing output files: a, a.lineage.json, b", ["not there"]),
        (True, "Missing output files: a, a.lineage.json", ["missing: a"]),
        (
            False,
            "Updated input files: w, x, y, z; Code has changed since last execution",
            ["another input: w, x, y and 1 more", "the command of rule r"],
        ),
        (False, "Input files updated by another job: i, k", ["follows maker (2 files)"]),
        (False, "Set of input files has changed since last execution", ["another set of inputs"]),
        (False, "Incomplete output files: a", ["left half done by a job that was killed"]),
        (
            False,
            "Params have changed since last execution: before: x now: y",
            ["code or settings, as Snakemake recorded them"],
        ),
        (False, "Something of a later Snakemake", ["Something of a later Snakemake"]),
    ],
)
def test_each_of_snakemakes_reasons_has_its_words(made, reason, expected):
    job = Job("r", ("a", "a.lineage.json", "b"), (), reason, ())
    maker = Job("maker", ("i", "k"), (), "", ())
    lineage = {"code": {}, "environment": {}, "config": {}} if made else None
    assert changes(job, lineage, {"i": maker, "k": maker}) == expected
