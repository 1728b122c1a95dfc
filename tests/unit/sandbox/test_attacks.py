"""The battery of attacks on the sandbox (attacks.txt): each is contained, counts as failed, leaves nothing behind."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import attacks
from aletheia.sandbox import judge
from conftest import SCRIPTS, missing

ATTACKS = attacks.attacks()
# Reading is what the weakest sandbox does not prevent: with it, these succeed, which also shows that they could.
READ = ("reads_home", "reads_model", "reads_users", "lists_the_disk", "climbs_out")
# Whether these succeed there depends on user and machine: passwords, environments of others, installed packages.
MAY_READ = ("reads_shadow", "reads_environment", "reads_another_process", "reads_packages")
BATTERIES = [(kind, who) for kind in ("bubblewrap", "landlock", "rlimits") for who in ("self", "nobody")]


def command(kind: str, who: str) -> list[str]:
    """Return the start of a command line: this interpreter, or one that another user can read, as that user."""
    if who == "self":
        if kind != "rlimits" or os.geteuid() != 0 or judge.why_unusable(kind) is None:
            return [sys.executable]
        become = []  # root's own interpreter is refused
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can become another user; the battery ran as an ordinary user already")
        become = attacks.AS_NOBODY
    python = attacks.readable_python()
    if python is None:
        missing("an interpreter that other users can read", "install Python 3.11 or newer below /usr")
    return [*become, python]


def battery(kind: str, who: str, names=tuple(ATTACKS)) -> dict[str, dict]:
    """Run attacks in one kind of sandbox, a few at a time; return what became of each."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        # Where any user can read it.
        place = Path(folder)
        place.chmod(0o755)
        shutil.copytree(SCRIPTS / "aletheia", place / "aletheia", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("attacks.py", "attacks.txt"):
            shutil.copy(Path(attacks.__file__).with_name(name), place)
        running = [
            subprocess.Popen(
                [*command(kind, who), "-B", str(place / "attacks.py"), kind, *names[start::4]],
                cwd="/",
                env={"PATH": os.environ["PATH"], "PYTHONPATH": folder},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for start in range(min(4, len(names)))
        ]
        found = {}
        for process in running:
            said, complaint = process.communicate()
            assert process.returncode == 0, complaint
            found |= {row.pop("name"): row for row in map(json.loads, said.splitlines())}
    return found


@pytest.fixture(scope="module")
def outcomes():
    """Return what runs a battery once."""

    @functools.cache
    def run(kind, who):
        if kind != "rlimits" and judge.why_unusable(kind) is not None:
            missing(kind, "run the tests on a machine whose kernel has it and allows it")
        return battery(kind, who)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "who"), BATTERIES)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_contained_counts_as_failed_and_leaves_nothing_behind(name, kind, who, outcomes):
    outcome = outcomes(kind, who)[name]
    assert outcome["left"] == []
    assert outcome["after"] == "passed"
    if kind == "rlimits" and name in READ:
        assert outcome["verdict"] == "passed"
    elif kind != "rlimits" or name not in MAY_READ:
        assert outcome["verdict"] in ATTACKS[name].verdicts, outcome["error"]


def test_a_program_without_namespaces_finds_no_test_in_the_memory_of_its_judge():
    """The one attack by which the weakest sandbox would let a program pass that knows nothing."""
    who = "nobody" if os.geteuid() == 0 else "self"
    name = "finds_the_test_in_pages"
    found = battery("rlimits", who, [name])[name]
    assert found["verdict"] in ATTACKS[name].verdicts


def test_the_battery_is_large_and_each_attack_can_only_fail():
    assert len(ATTACKS) >= 40
    assert all("passed" not in attack.verdicts for attack in ATTACKS.values())


def test_the_limit_on_processes_holds_by_itself_for_root_and_for_a_user(monkeypatch):
    """Without the filter of system calls, a fork bomb still finds no room: the program's user is not root."""
    if judge.why_unusable("bubblewrap") is not None:
        missing("bubblewrap", "install it on a machine that allows namespaces")
    rules = judge.command.rules
    monkeypatch.setattr(judge.command, "rules", lambda kind: {**rules(kind), "filter": None})
    forks = "import os, time\ndef f(x):\n    if os.fork() == 0:\n        time.sleep(30)\n    return 2\n"
    program = judge.Program(forks, "def check(f):\n    assert f(1) == 2\n", "f")
    verdict = judge.run(program, kind="bubblewrap", seconds=10)
    assert (verdict.verdict, verdict.error) == ("error", "BlockingIOError")


def test_what_got_past_the_filter_dies_with_the_sandbox(monkeypatch):
    """With neither filter nor limit, a daemon starts, and is gone when the verdict is there."""
    if judge.why_unusable("bubblewrap") is not None:
        missing("bubblewrap", "install it on a machine that allows namespaces")
    rules, token = judge.command.rules, "battery-daemon-of-this-test"
    interpreter = judge.command.interpreter
    unlimited = [part.replace('_limit("RLIMIT_NPROC", 0)', f"pass  # {token}") for part in interpreter()]
    assert token in unlimited[-1]
    monkeypatch.setattr(judge.command, "rules", lambda kind: {**rules(kind), "filter": None})
    monkeypatch.setattr(judge.command, "interpreter", lambda: unlimited)
    code = "import os, time\ndef f(x):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n"
    code += "            time.sleep(60)\n        os._exit(0)\n    return 2\n"
    program = judge.Program(code, "def check(f):\n    assert f(1) == 2\n", "f")
    assert judge.run(program, kind="bubblewrap", seconds=10).passed
    assert attacks.marked(token) == []
