"""What Snakemake says about a user's mistake is one sentence, and what it says about anything else stays."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aletheia.controller.messages import OneSentenceFilter, shorten_command
from aletheia.errors import UserError
from aletheia.provenance.locking import hold_lock
from conftest import STUDY, as_ordinary_user, copy_project, said, snakemake

COMMAND = (
    'set -euo pipefail; export ALETHEIA_SCRIPTS=/a/scripts ALETHEIA_PYTHON=/a/python;  "$ALETHEIA_PYTHON" -s x.py '
    '--seed 1 --lineage code:a=1 \'config:b={"c":">"}\' > logs/x.log 2>&1'
)


def rewritten(exception, text, check=lambda target: None):
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, text, None, None)
    record.exception = exception
    assert OneSentenceFilter(check).filter(record)
    return record.getMessage()


def test_what_our_own_functions_raise_stands_alone():
    page = (
        'InputFunctionException in rule train_ale in file "/p/rules/train.smk", line 67:\nError:\n  WorkflowError:\n'
        "    a/b: expected x, found y\nWildcards:\n  model=a\n  seed=7\nTraceback:\n"
        '  File "/p/rules/paths.smk", line 72, in path'
    )
    assert rewritten("InputFunctionException", page) == "error: a/b: expected x, found y"
    parsed = (
        'WorkflowError in file "/p/rules/common.smk", line 29:\nc.yaml: expected\nx\n'
        '  File "/p/Snakefile", line 20, in <module>'
    )
    assert rewritten("WorkflowError", parsed) == "error: c.yaml: expected\nx"


@pytest.mark.parametrize(
    ("exception", "text"),
    [
        ("WorkflowError", "At least one job did not complete successfully."),
        (
            "InputFunctionException",
            'InputFunctionException in rule x in file "y", line 1:\nError:\n  KeyError: 3\nTraceback:',
        ),
        ("MissingRuleException", "MissingRuleException:\nNo rule to produce x (if you use input functions …"),
        ("ValueError", "Traceback: …"),
    ],
)
def test_anything_else_passes_as_it_is(exception, text):
    assert rewritten(exception, text) == text


def test_an_unknown_target_is_what_the_study_says_of_it():
    def check(target):
        raise UserError(f"{target}: expected y")

    text = "MissingRuleException:\nNo rule to produce x z (if you use input functions make sure …)"
    assert rewritten("MissingRuleException", text, check) == "error: x z: expected y"


def test_a_failed_command_is_shown_without_its_digests():
    assert shorten_command(COMMAND) == '"$ALETHEIA_PYTHON" -s x.py --seed 1 --lineage … > logs/x.log 2>&1'
    assert shorten_command("cp a b") == "cp a b"


@pytest.mark.slow
def test_targets_that_the_study_does_not_make(finished):
    cases = {
        "results/figures/fig9.pdf": "did you mean results/figures/fig",
        "results/train/tiny-llama/alf/seed1/run.json": "did you mean results/train/tiny-llama/ale/seed1/run.json?",
        "results/train/tiny-llama/ale/seed7/run.json": "that arm has the seeds 1",
        "stag": "did you mean stage?",
    }
    for target, expected in cases.items():
        done = snakemake(finished, target, "-n", *STUDY)
        (sentence,) = [line for line in said(done).splitlines() if line.startswith("error: ")]
        assert done.returncode == 1
        assert expected in sentence
        assert "Traceback" not in said(done)
        assert "input functions" not in said(done)


@pytest.mark.slow
def test_a_table_that_no_campaign_reports_says_which_report_it_is_of(tmp_path):
    folder = copy_project(tmp_path / "project")
    campaign = folder / "tests/study/campaign.yaml"
    text = campaign.read_text()
    line = next(line for line in text.splitlines() if line.startswith("reports:"))
    campaign.write_text(text.replace(line, "reports: [downstream]"))
    done = snakemake(folder, "results/figures/fig1.pdf", "-n", *STUDY)
    assert "belongs to the report speed, which no campaign makes; add it to a campaign's reports" in said(done)


def waits_for(lock):
    """Tell whether another process has opened a lock."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.parts[2] != str(os.getpid()) and os.readlink(link) == str(lock):
                return True
        except OSError:
            continue
    return False


@pytest.mark.slow
def test_ctrl_c_is_one_sentence(tmp_path):
    folder, target = copy_project(tmp_path / "project"), "resources/data/rows.lock.json"
    (folder / target).parent.mkdir(parents=True)
    command = [str(Path(sys.executable).parent / "snakemake"), target, *STUDY]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # The job is at work: it waits for the lock of its artifact.
    with (
        hold_lock(folder / target),
        subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes) as process,
    ):
        deadline = time.time() + 120
        while not waits_for(folder / "resources/data/.rows.lock.json.lock") and time.time() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        text = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert "error: interrupted; run the same command again, and it goes on from what is there" in text
    assert "Traceback" not in text
    assert "code:aletheia" not in text


@pytest.mark.slow
def test_another_users_folder_is_one_sentence(tmp_path):
    """Whoever may not write there may still verify and read lineage."""
    folder = copy_project(tmp_path / "project")
    (folder / ".snakemake").mkdir(mode=0o555)
    command = [str(Path(sys.executable).parent / "snakemake"), "-n", *STUDY]
    done = subprocess.run(as_ordinary_user(*command), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected a folder that this user may write, found one that is another's or read-only" in said(done)
    assert "Traceback" not in said(done)
    shutil.rmtree(folder / ".snakemake")
    folder.chmod(0o555)
    done = subprocess.run(as_ordinary_user(*command), cwd=folder, capture_output=True, text=True, check=False)
    folder.chmod(0o755)
    assert "expected a folder that this user may write" in said(done)
