"""The console script: its table, its help, and mistakes in one sentence."""

import importlib.util
import os
import subprocess
import sys

import pytest

from aletheia.commands.main import COMMANDS
from conftest import SCRIPTS
from console_script import aletheia
from heavy_packages import HEAVY

# All in one process, for what one of them imports is there for all.
ASK = """
import contextlib, io, sys
from aletheia.commands import main
for words in [["--help"], *([name, "--help"] for name in NAMES)]:
    sys.argv = ["aletheia", *words]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main.main()
    assert "usage: aletheia" in said.getvalue(), words
    loaded = HEAVY & set(sys.modules)
    assert not loaded, (words, loaded)
"""
ONE = """
import contextlib, io, sys
sys.argv = ["aletheia", "verify", "--help"]
from aletheia.commands import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main.main()
print([name for name in sys.modules if name.startswith("aletheia.commands.")])
"""
HERE = [name for name, (module, _) in COMMANDS.items() if importlib.util.find_spec(module)]


def test_help_imports_nothing_heavy():
    heavy = HEAVY | {"snakemake", "yaml", "jsonschema"}
    code = ASK.replace("NAMES", repr(HERE)).replace("HEAVY", repr(heavy))
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"fit", "probe", "select", "verify", "audit"} <= set(HERE)


def test_only_the_command_that_is_asked_for_is_imported():
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", ONE], env=environment, capture_output=True, text=True, check=True)
    assert "aletheia.commands.verify" in done.stdout
    assert not [name for name in HERE if name != "verify" and f"'aletheia.commands.{name}'" in done.stdout]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("fit", "--out", "new"), "--out new: expected a folder that `aletheia fit` made, found no config.yaml in it"),
        (("fit", "--out", "new", "--epochs", "2"), "--epochs: expected MODEL and DATA beside it, found neither"),
        (("fit", "m", "--out", "new"), "DATA: expected a file of rows after MODEL, found none"),
        (("fit", "m/n", "no.jsonl", "--out", "new"), "DATA: expected a file of rows"),
        (("fit", "m/n", "d", "--out", "new", "--time", "ten"), "--time: expected a time such as 90s"),
        (("fit", "m/n", "d", "--out", "new", "--profile", "slrum"), "--profile: expected a folder, or one of"),
        (("fit", "m/n", "d", "--out", "new", "--dry-run", "--time", "9m"), "--dry-run: expected no --time beside it"),
        (
            ("fit", "m/n", "d", "--out", "new", "--arms", "mlp,last_halb"),
            "--arms: expected presets of a search, found 'last_halb'; did you mean 'last_half'",
        ),
        (("verify", "nowhere"), "DIR: expected the folder of a study, found none at nowhere"),
        (
            ("audit", "."),
            "DIR: expected the folder of a study, found none of config.yaml, config, results, re",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(words, sentence, tmp_path):
    done = aletheia(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {sentence}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_refused_before_model_and_rows_are_looked_at(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    done = aletheia("fit", "m", "d", "--out", "letter.txt", cwd=tmp_path)
    assert (done.returncode, done.stderr[:50]) == (2, "error: --out letter.txt: expected a new or an empt")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "profile/config.yaml: expected a configuration file here and found none"),
        (
            "executor: nowhere-known\n",
            "profile/config.yaml: expected an executor that is installed, found nowhere-known; "
            "pip install snakemake-executor-plugin-nowhere-known",
        ),
    ],
)
def test_a_profile_without_its_executor_is_one_sentence(content, sentence, tmp_path):
    """Snakemake would answer with its whole usage."""
    (tmp_path / "profile").mkdir()
    if content:
        (tmp_path / "profile" / "config.yaml").write_text(content)
    done = aletheia("fit", "m/n", "d", "--out", "new", "--profile", "profile", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"error: {sentence}\n")
    assert not (tmp_path / "new").exists()


def test_arguments_are_refused_in_argparses_words(tmp_path):
    for words, sentence in (
        (("fti",), "invalid choice: 'fti'"),
        (("fit", "m", "d"), "the following arguments are required: --out"),
        (
            ("fit", "m", "d", "--out", "x", "--seeds", "9"),
            "expected a whole number of at least 1 and at most 3, found 9",
        ),
        (("fit", "m", "d", "--out", "x", "--columns", "q"), "expected a pair such as instruction=question, found 'q'"),
        (("fit", "m", "d", "--out", "x", "--rate", "0"), "expected a number above 0, found '0'"),
    ):
        done = aletheia(*words, cwd=tmp_path)
        assert done.returncode == 2
        assert sentence in done.stderr
