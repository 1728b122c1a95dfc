"""What tests of the sandbox share: one program in each kind of sandbox that works here."""

from __future__ import annotations

import os

import pytest

import attacks
from aletheia.sandbox import command, judge
from aletheia.sandbox.judge import Program, run
from conftest import missing

CHECK = "def check(f):\n    assert f(1) == 2\n"
GOOD = "def f(x):\n    return x + 1\n"


@pytest.fixture(scope="module")
def interpreters():
    """Where root's interpreter is its own alone, and so refused, run the weakest kind with one that all can read."""
    python = attacks.readable_python() if os.geteuid() == 0 and judge.why_unusable("rlimits") is not None else None
    with pytest.MonkeyPatch.context() as patch:
        if python is not None:
            plain = command.command
            patch.setattr(
                command,
                "command",
                lambda kind, **more: [python, *plain(kind, **more)[1:]] if kind == "rlimits" else plain(kind, **more),
            )
        yield


@pytest.fixture(scope="module", params=command.KINDS)
def kind(request):
    """Return one kind of sandbox after the other; skip those that do not work here."""
    require(request.param)
    return request.param


def require(kind):
    """Skip a test whose kind of sandbox does not work here."""
    if judge.why_unusable(kind) is not None:
        missing(kind, "run the tests on a machine that has it and whose kernel allows it")


def judged(code, kind, *, seconds=5.0, test=CHECK, **limits):
    """Return the verdict on one program."""
    return run(Program(code, test, "f"), kind=kind, seconds=seconds, **limits)
