"""What parsing a source gave is remembered, and never in the place of what parsing it now would give."""

import ast
import json
import shutil
import subprocess
import sys

import pytest

from aletheia.provenance import parsed_source
from aletheia.provenance.behaviour import behaviour_digest
from conftest import SCRIPTS, as_ordinary_user

SOURCE = b"from aletheia.study import load\nimport aletheia.errors, os\n\nVALUE = 1\n"
NAMES = frozenset({"aletheia.study", "aletheia.study.load", "aletheia.errors"})
# Prints what a process finds in a source, and how many sources it was told of by earlier ones.
PROGRAM = """
import sys
from aletheia.provenance import parsed_source
told = len(parsed_source._remembered())
digest, names = parsed_source.parsed(sys.argv[1].encode())
parsed_source.remember()
print(told, digest, *sorted(names))
"""


@pytest.fixture
def process(tmp_path):
    """Return a function that lets a process of another copy of the code parse a source, and what that copy keeps."""
    package = tmp_path / "scripts" / "aletheia"
    unread = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SCRIPTS / "aletheia/provenance", package / "provenance", ignore=unread)
    shutil.copy(SCRIPTS / "aletheia/__init__.py", package)
    kept = package.parent / parsed_source.KEPT.relative_to(SCRIPTS)

    def run(source=SOURCE):
        command = as_ordinary_user(sys.executable, "-c", PROGRAM, source.decode())
        done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        told, digest, *names = done.stdout.split()
        assert (digest, frozenset(names)) == (behaviour_digest(ast.parse(source)), NAMES)
        return int(told)

    return run, kept


def test_a_later_process_is_told_what_an_earlier_one_found(process):
    run, kept = process
    assert [run(), run(), run()] == [0, 1, 1]
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_an_edited_source_is_parsed_and_both_are_remembered(process):
    run, _ = process
    assert [run(), run(SOURCE + b"OTHER = 2\n"), run()] == [0, 1, 2]


def test_what_other_code_has_found_is_not_taken(process):
    run, kept = process
    run()
    with (kept.parents[1] / "aletheia/provenance/behaviour.py").open("a") as module:
        module.write("\n")
    assert [run(), run()] == [0, 1]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"by": 1}', b"\xff"])
def test_a_damaged_file_is_as_none(process, damage):
    run, kept = process
    kept.parent.mkdir()
    kept.write_bytes(damage)
    assert [run(), run()] == [0, 1]


def test_where_nothing_can_be_kept_each_process_parses(process):
    run, kept = process
    kept.parent.mkdir(mode=0o555)
    assert [run(), run()] == [0, 0]
    assert list(kept.parent.iterdir()) == []


def test_sources_that_nobody_asks_for_are_dropped_where_there_are_many(process):
    run, kept = process
    run()
    found = json.loads(kept.read_bytes())
    old = {str(number): ["0", []] for number in range(parsed_source.MOST)}
    kept.write_text(json.dumps(found | {"sources": old}))
    assert [run(), run()] == [parsed_source.MOST, 1]


def test_what_is_no_python_is_refused_each_time():
    for _ in range(2):
        with pytest.raises(SyntaxError):
            parsed_source.parsed(b"def")
