"""The code digest follows imports, and only those."""

import json
import shutil
import subprocess
import sys

import pytest

from aletheia.cli import step_parser
from aletheia.errors import UserError
from aletheia.provenance import artifacts, lineage
from aletheia.provenance.locking import hold_lock
from conftest import ROOT, append


def test_a_script_reaches_what_it_imports_at_any_depth():
    code = lineage.code_digests("train.py")
    assert {
        "train.py",
        "aletheia.training.run",
        "aletheia.training.trainer",
        "aletheia.method.adapters",
        "aletheia.method.loading",
        "aletheia.method.layers",
    } <= set(code)


@pytest.mark.parametrize(
    ("script", "foreign"),
    [
        (
            "probe.py",
            {
                "aletheia.training.trainer",
                "aletheia.training.run",
                "aletheia.evaluation.evaluate",
                "aletheia.report.figures",
            },
        ),
        (
            "train.py",
            {
                "aletheia.method.probe",
                "aletheia.evaluation.evaluate",
                "aletheia.report.figures",
                "aletheia.staging.stage",
            },
        ),
        (
            "select_layers.py",
            {
                "aletheia.method.probe",
                "aletheia.training.trainer",
                "aletheia.training.encoding",
                "aletheia.method.loading",
            },
        ),
        (
            "evaluate_run.py",
            {
                "aletheia.training.trainer",
                "aletheia.report.figures",
                "aletheia.sandbox.judge",
                "aletheia.evaluation.vllm_backend",
            },
        ),
        ("generate.py", {"aletheia.training.trainer", "aletheia.report.figures", "aletheia.sandbox.judge"}),
        ("score_code.py", {"aletheia.training.trainer", "aletheia.evaluation.harness", "aletheia.method.loading"}),
        ("stats.py", {"aletheia.training.trainer", "aletheia.method.loading", "aletheia.report.figures"}),
        ("figures.py", {"aletheia.training.trainer", "aletheia.method.loading"}),
        ("aggregate.py", {"aletheia.training.trainer", "aletheia.method.loading", "aletheia.report.figures"}),
    ],
)
def test_a_step_does_not_depend_on_another_steps_module(script, foreign):
    # Else an edit of the one would rerun the other.
    assert not foreign & set(lineage.code_digests(script))


def test_tokens_name_module_and_section():
    names = [token.split("=")[0] for token in lineage.code_facts("select_layers.py")]
    assert {"code:select_layers.py", "code:aletheia.method.selection"} <= set(names)
    tokens = ["code:aletheia.x=ab", "env:envs/gpu.yaml=cd", 'config:training={"steps":3,"name":"a=b"}']
    tokens.append("inputs:declared=ef")
    assert lineage.parse_facts(tokens) == {
        "code": {"aletheia.x": "ab"},
        "env": {"envs/gpu.yaml": "cd"},
        "config": {"training": {"steps": 3, "name": "a=b"}},
        "inputs": {"declared": "ef"},
    }


def test_settings_by_hand_start_from_the_defaults():
    parser = step_parser("train", None, script="train.py", sections=("training", "arm", "model"))
    args = parser.parse_args(["--set", "training.steps=30", "arm.layers=last"])
    assert args.config["training"]["steps"] == 30
    assert args.config["training"]["optimizer"]["beta2"] == 0.95
    assert args.config["arm"] == {"layers": "last", "budget_percent": 50, "score": "l2", "draw": 0}
    assert args.config["model"] == {
        "dtype": "bf16",
        "quantization": None,
        "attention": None,
        "learning_rate_scale": 1,
        "prompt": "plain",
        "gpus": 1,
    }


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("trainign.steps=3", "unknown section 'trainign'; did you mean 'training'?"),
        ("figures.font_size=3", "unknown section 'figures'; known are adapter, arm, training"),
        ("training.setps=3", "unknown key 'setps' in training; did you mean 'steps'?"),
        ("training.optimizer.beta3=0", "unknown key 'beta3' in training.optimizer; did you mean 'beta2'?"),
        ("arm.rank.attn=3", "unknown key 'attn' in arm.rank; did you mean 'attention'?"),
        (
            "training.steps.most=3",
            "expected a mapping at training.steps, found 200; set it whole, training.steps={most: …}",
        ),
        (
            "adapter.rank.mlp=3",
            "expected a mapping at adapter.rank, found 16; set it whole, adapter.rank={mlp: …}",
        ),
        (
            "training.steps=[3",
            "expected YAML (expected ',' or ']', but got '<stream end>')",
        ),
        ("training.steps=\x07", "expected YAML, found the character #x0007; delete it"),
        ("training.steps=2020-13-45", "found 2020-13-45, which YAML reads as a date; put it in quotes: '2020-13-45'"),
        ("training.steps=042", "found 042, which YAML reads as 34; write 42"),
        ("training.eval_rows={a: 1, a: 2}", "found the key 'a' again"),
    ],
)
def test_a_mistake_in_a_setting_by_hand_is_one_sentence(item, sentence):
    parser = step_parser("train", None, script="train.py", sections=("training", "arm", "adapter"))
    with pytest.raises(UserError) as raised:
        parser.parse_args(["--set", item])
    assert str(raised.value).startswith(f"--set {item}: {sentence}")


def test_settings_without_a_default_are_known_by_their_schema():
    parser = step_parser("train", None, script="train.py", sections=("run", "model", "arm", "evaluation", "humaneval"))
    items = [
        "arm.rank.attention=3",
        "arm.rank.mlp=3",
        "arm.layers=last",
        "arm.steps=measured",
        "run.model=m",
        "evaluation.benchmarks=[mmlu]",
    ]
    more = ["evaluation.mmlu.num_fewshot=0", "model.attention=fp32", "humaneval.sandbox=rlimits"]
    settings = parser.parse_args(["--set", *items, *more]).config
    assert settings["arm"]["rank"] == {"attention": 3, "mlp": 3}
    assert settings["arm"]["steps"] == "measured"
    assert settings["humaneval"]["sandbox"] == "rlimits"


def test_settings_by_hand_go_over_those_of_the_rule():
    parser = step_parser("train", None, script="train.py")
    section = json.dumps({"steps": 3, "optimizer": {"beta1": 0.9}})
    args = parser.parse_args(["--lineage", f"config:training={section}", "--set", "training.optimizer.beta1=0.8"])
    assert args.config == {"training": {"steps": 3, "optimizer": {"beta1": 0.8}}}
    with pytest.raises(UserError, match=r"SECTION\.KEY=VALUE"):
        parser.parse_args(["--set", "steps=3"])


def install(folder, name, metadata):
    """Put a distribution into a folder."""
    (folder / f"{name}.dist-info").mkdir(parents=True)
    (folder / f"{name}.dist-info" / "METADATA").write_text(metadata)


def test_of_two_distributions_the_one_that_is_imported_counts(tmp_path, monkeypatch):
    install(tmp_path / "first", "Twice-1.0", "Name: Twice\nVersion: 1.0\n")
    install(tmp_path / "second", "twice-2.0", "Name: twice\nVersion: 2.0\n")
    install(tmp_path / "first", "broken-1.0", "")
    (tmp_path / "second" / "~roken-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    assert lineage.environment.__wrapped__()["packages"] == {"twice": "1.0"}


def test_a_commit_is_dirty_clean_or_not_known(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(lineage, "ROOT", tmp_path.resolve())
    assert lineage.commit.__wrapped__() == {"commit": None, "dirty": None}
    (tmp_path / "tracked").write_text("one")
    git("init")
    git("add", "tracked")
    git("commit", "-m", "one")
    clean = lineage.commit.__wrapped__()
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    (tmp_path / "tracked").write_text("two")
    assert lineage.commit.__wrapped__() == {**clean, "dirty": True}
    # Git can still name the commit, but no longer compare.
    (tmp_path / ".git" / "index").write_bytes(b"damaged")
    assert lineage.commit.__wrapped__() == {**clean, "dirty": None}


# Says where it is, and goes on when it is told to.
STEP = """
import dataclasses
import sys
from pathlib import Path
from aletheia.study import planned_runs
from aletheia.provenance.job import Job
from aletheia.cli import step_parser

out = Path(sys.argv.pop(1))
args = step_parser("precision", None, script=__file__).parse_args()
asked = dataclasses.replace(args.step, extra_code=("workflow/tasks/asked.yaml",))
job = Job(asked, inputs=[], outputs=[out])
print("waits", flush=True)
with job:
    from aletheia.training import deadlines

    print("holds", flush=True)
    sys.stdin.readline()
    job.write_json(out, kind="precision", payload={"dtype": "fp32", "candidates": ["fp32"]})
"""


@pytest.fixture
def step(tmp_path):
    """Return a function that starts a step of a project of its own, what it writes, and a module that it imports."""
    workflow, started = tmp_path / "workflow", []
    for name in ("scripts", "schemas"):
        shutil.copytree(ROOT / "workflow" / name, workflow / name, ignore=shutil.ignore_patterns("__pycache__"))
    (workflow / "scripts" / "step.py").write_text(STEP)
    (workflow / "tasks").mkdir()
    (workflow / "tasks" / "asked.yaml").write_text("task: asked")
    out = tmp_path / "out.json"

    def start():
        command = [sys.executable, "-s", str(workflow / "scripts" / "step.py"), str(out)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start, out, workflow / "scripts" / "aletheia" / "study" / "planned_runs.py"
    for process in started:
        process.kill()
        process.communicate()


def test_a_module_that_is_edited_while_its_job_waits_is_recorded_as_it_ran(step):
    start, out, module = step
    ran = lineage.file_digest.__wrapped__(module)
    with hold_lock(out):
        process = start()
        assert process.stdout.readline() == "waits\n"
        later = module.parents[1] / "training" / "deadlines.py"
        for edited in (module, later):
            append(edited)
    assert process.communicate("on\n", timeout=60)[0] == "holds\n"
    envelope = artifacts.read(out)
    assert envelope["lineage"]["code"]["aletheia.study.planned_runs"] == ran
    # Imported after the wait, as most of what computes: what ran is what stood there by then.
    assert envelope["lineage"]["code"]["aletheia.training.deadlines"] == lineage.file_digest.__wrapped__(later)
    assert envelope["observed"]["code_edited_meanwhile"] == ["aletheia.study.planned_runs"]


def test_what_is_edited_or_deleted_while_its_job_runs_is_recorded(step):
    start, out, module = step
    process = start()
    assert process.stdout.readline() + process.stdout.readline() == "waits\nholds\n"
    module.unlink()
    (module.parents[3] / "tasks" / "asked.yaml").write_text("task: another")
    (module.parents[1] / "method" / "probe.py").write_text("# reached by no import of the step\n")
    process.communicate("on\n", timeout=60)
    edited = ["aletheia.study.planned_runs", "workflow/tasks/asked.yaml"]
    assert artifacts.read(out)["observed"]["code_edited_meanwhile"] == edited


def test_a_job_whose_code_stays_says_so(step):
    start, out, _ = step
    start().communicate("on\n", timeout=60)
    assert artifacts.read(out)["observed"]["code_edited_meanwhile"] == []
