"""The sandbox's verdicts: what passes, what does not, and what a program cannot do to look as if it passed."""

from __future__ import annotations

import fractions
import json
import math
import time

import pytest

from aletheia.sandbox import judge, wire_format
from aletheia.sandbox.judge import Program, run, run_all
from aletheia.sandbox.process import SandboxError
from judging import CHECK, GOOD, judged

pytestmark = pytest.mark.usefixtures("interpreters")


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (GOOD, "passed"),
        ("def f(x):\n    return x\n", "wrong"),
        ("def f(x):\n    return missing\n", "error"),
        ("g = 1\n", "error"),
        ("def f(x)\n", "syntax"),
        ("  def f(x):\n return 1", "syntax"),
        ("", "error"),
        ("import sys\nsys.exit(0)\n", "exit"),
        ("exit(0)\n", "error"),
        ("import os\nos._exit(0)\n", "exit"),
        ("raise SystemExit\n", "exit"),
        ("def f(x):\n    raise KeyboardInterrupt\n", "error"),
        ("import ctypes\nctypes.string_at(0)\n", "crashed"),
        ("def f(x):\n    return f(x)\n", "error"),
        ("import json, re, math, itertools, collections, typing, hashlib\n" + GOOD, "passed"),
        ("# ünïcode\n" + GOOD, "passed"),
    ],
)
def test_verdicts(code, verdict, kind):
    assert judged(code, kind).verdict == verdict


def test_an_endless_loop_ends_at_the_time_limit(kind):
    started = time.monotonic()
    assert judged("def f(x):\n    while True:\n        pass\n", kind, seconds=0.5).verdict == "timeout"
    assert time.monotonic() - started < 3


def test_a_sleeping_program_ends_at_the_time_limit(kind):
    assert judged("import time\ntime.sleep(60)\n", kind, seconds=0.5).verdict == "timeout"


def test_a_memory_bomb_hits_its_limit(kind):
    bomb = "def f(x):\n    kept = []\n    while True:\n        kept.append(bytearray(1 << 24))\n"
    assert judged(bomb, kind, memory_bytes=256 << 20).verdict == "memory"


def test_huge_output_neither_blocks_nor_is_kept(kind, capfd):
    loud = "import sys\ndef f(x):\n    print('x' * 10_000_000)\n    sys.stderr.write('y' * 10_000_000)\n"
    loud += "    return 2\n"
    assert judged(loud, kind).passed
    assert capfd.readouterr() == ("", "")


def test_a_huge_file_hits_its_limit(kind):
    big = "def f(x):\n    open('big', 'wb').write(b'x' * (1 << 22))\n    return 2\n"
    assert judged(big, kind).verdict in ("error", "crashed")


def test_what_is_no_function_fails_when_it_is_called(kind):
    verdict = judged("f = None\n", kind, test="def check(f):\n    assert f(1) is None\n")
    assert (verdict.verdict, verdict.error) == ("error", "TypeError")


@pytest.mark.parametrize(
    "value",
    [
        *(
            None,
            True,
            False,
            0,
            -1,
            2**53,
            -(2**64),
            10**5000,
            0.1,
            -0.0,
            math.inf,
            1e300,
            1 + 2j,
            "",
            "ünï\ud800",
            b"\0\xff",
        ),
        *((), [], {}, set(), frozenset(), (1,), [[1], (2, [3])], {1: "a", (2, 3): None, "x": {4}}, {(1, 2), "b"}),
        *(frozenset({1}), range(1, 10, 3), fractions.Fraction(1, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_come_back_as_they_were(value):
    found = wire_format.decode(json.loads(json.dumps(wire_format.encode(value))))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("returned", "assertion", "verdict"),
    [
        ("float('nan')", "f(1) != f(1)", "passed"),
        ("(n for n in [1, 2])", "list(f(1)) == [1, 2]", "passed"),
        ("(n for n in [1, 2])", "f(1) == [1, 2]", "wrong"),
        ("{1: 2}.keys()", "sorted(f(1)) == [1] and len(f(1)) == 1", "passed"),
        ("(1, 2)", "f(1) == [1, 2]", "wrong"),
        ("True", "f(1) is True", "passed"),
        ("1", "f(1) is True", "wrong"),
        ("__import__('collections').Counter('aa')", "f(1) == {'a': 2}", "passed"),
        ("__import__('decimal').Decimal('0.5')", "f(1) == 0.5", "passed"),
        ("lambda: 1", "f(1) == 1", "wrong"),
        ("object()", "f(1) != f(1)", "passed"),
        ("'2'", "f(1) + 1 == 3", "error"),
    ],
)
def test_values_mean_in_the_test_what_they_mean_in_the_program(returned, assertion, verdict, kind):
    test = f"def check(f):\n    assert {assertion}\n"
    assert judged(f"def f(x):\n    return {returned}\n", kind, test=test).verdict == verdict
    # The same in one interpreter, as the benchmark's own harness runs it.
    space = {}
    exec(f"def f(x):\n    return {returned}\n{test}", space)
    outcome = "passed"
    try:
        space["check"](space["f"])
    except AssertionError:
        outcome = "wrong"
    except TypeError:
        outcome = "error"
    assert outcome == verdict


def test_a_program_keeps_its_state_between_calls_and_takes_keywords(kind):
    code = "kept = []\ndef f(x, *, more=0):\n    kept.append(x + more)\n    return kept\n"
    test = "def check(f):\n    assert f(1) == [1]\n    assert f(1, more=2) == [1, 3]\n"
    assert judged(code, kind, test=test).passed


def test_a_test_uses_the_helpers_of_the_prompt_and_not_those_of_the_program(kind):
    helpers = "def twice(x):\n    return 2 * x\n\ndef f(x):\n    pass\n"
    test = "def check(f):\n    assert f(1) == twice(1)\n"
    assert run(Program(GOOD, test, "f", helpers=helpers), kind=kind).passed
    cheat = Program("def twice(x):\n    return 0\ndef f(x):\n    return 0\n", test, "f", helpers=helpers)
    assert run(cheat, kind=kind).verdict == "wrong"
    unfinished = Program(GOOD, CHECK, "f", helpers="def f(x):\n")
    assert run(unfinished, kind=kind).passed


def test_a_test_may_call_the_function_by_its_name(kind):
    assert judged(GOOD, kind, test="def check(g):\n    assert f(1) == 2\n").passed


def test_a_program_never_runs_in_the_interpreter_of_its_test(kind):
    marks = "import builtins\nbuiltins.mark = 1\ndef f(x):\n    return 2\n"
    test = "import builtins\ndef check(f):\n    assert f(1) == 2\n    assert not hasattr(builtins, 'mark')\n"
    assert judged(marks, kind, test=test).passed


@pytest.mark.parametrize(("failures", "raises"), [(1, False), (2, True)])
def test_a_sandbox_that_does_not_work_is_tried_once_more(failures, raises, monkeypatch):
    calls = []

    def run(program, **more):
        calls.append(program)
        if len(calls) <= failures:
            raise SandboxError("no room")
        return judge.Verdict("passed", None, 0.0)

    monkeypatch.setattr(judge, "run", run)
    if raises:
        with pytest.raises(SandboxError):
            run_all([Program(GOOD, CHECK, "f")], kind="rlimits")
    else:
        assert run_all([Program(GOOD, CHECK, "f")], kind="rlimits")[0].passed
    assert len(calls) == 2


def test_programs_and_tests_are_modules_that_others_find(kind):
    code = (
        "from __future__ import annotations\nimport pickle, typing\nfrom dataclasses import dataclass, fields\n"
        "@dataclass\nclass Node:\n    v: int\n    more: typing.ClassVar[int] = 1\n    next: 'Node' = None\n"
        "def f(x):\n    assert [field.name for field in fields(Node)] == ['v', 'next']\n"
        "    return pickle.loads(pickle.dumps(Node(x))).v + 1\n"
    )
    assert judged(code, kind).passed
    assert judged(GOOD, kind, test=code.replace("def f(x)", "def g(x)") + CHECK + "    assert g(1) == 2\n").passed


@pytest.mark.parametrize(
    ("raised", "expected", "verdict"),
    [
        ("ValueError('no')", "ValueError", "passed"),
        ("ValueError('no')", "TypeError", "error"),
        ("ZeroDivisionError()", "ArithmeticError", "passed"),
        ("EOFError()", "EOFError", "passed"),
        ("RecursionError()", "RecursionError", "passed"),
        ("UnicodeDecodeError('utf8', b'', 0, 1, '')", "UnicodeDecodeError", "passed"),
        ("ExceptionGroup('', [ValueError()])", "Exception", "passed"),
        ("type('Own', (Exception,), {})()", "Exception", "passed"),
        ("SystemExit()", "SystemExit", "passed"),
        ("SystemExit()", "Exception", "exit"),
        ("type('print', (Exception,), {})()", "Exception", "passed"),
    ],
)
def test_a_test_meets_the_exception_that_it_expects(raised, expected, verdict, kind):
    test = f"def check(f):\n    try:\n        f(1)\n    except {expected}:\n        return\n    assert False\n"
    assert judged(f"def f(x):\n    raise {raised}\n", kind, test=test).verdict == verdict


@pytest.mark.parametrize("clause", ["except Exception", "except BaseException", "except", "finally"])
def test_no_test_takes_a_program_that_left_for_one_that_raised(clause, kind):
    test = f"def check(f):\n    try:\n        f(1)\n    {clause}:\n        return\n"
    assert judged("import os\ndef f(x):\n    os._exit(0)\n", kind, test=test).verdict == "exit"


def test_a_test_does_not_go_on_after_a_program_that_left(kind):
    test = (
        "def check(f):\n    while True:\n        try:\n            f(1)\n        except Exception:\n            pass\n"
    )
    assert judged("import os\ndef f(x):\n    os._exit(0)\n", kind, test=test).verdict == "exit"


@pytest.mark.parametrize("said", ['{"raised": null}', '{"raised": 1}', '{"raised": {}}', '"raised"', "null", "[]"])
def test_a_strange_answer_is_an_invalid_one(said, kind):
    code = "import os\ndef f(x):\n    for fd in range(3, 400):\n        try:\n"
    code += f"            os.write(fd, {said.encode()!r} + b'\\n')\n"
    code += "        except OSError:\n            pass\n"
    assert judged(code, kind).error == "InvalidAnswer"


def test_hashes_of_strings_do_not_vary(kind):
    ordered = "def f(x):\n    return ','.join({'one', 'two', 'three', 'four'})\n"
    record = "def check(f):\n    raise type(f(1), (Exception,), {})\n"
    errors = {judged(ordered, kind, test=record).error for _ in range(3)}
    assert len(errors) == 1


def test_run_all_keeps_the_order(kind):
    programs = [Program(f"def f(x):\n    return {value}\n", CHECK, "f") for value in (2, 1, 2, 3)]
    verdicts = run_all(programs, kind=kind, workers=2)
    assert [v.verdict for v in verdicts] == ["passed", "wrong", "passed", "wrong"]
