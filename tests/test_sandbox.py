"""The sandbox: what passes, what does not, and what a program cannot do to look as if it passed."""

from __future__ import annotations

import fractions
import gzip
import json
import math
import sys
import time

import pytest

from aletheia import code_runner, confinement, sandbox, scoring, seccomp
from aletheia.confined import SandboxError
from aletheia.errors import UserError
from aletheia.sandbox import Program, run, run_all
from conftest import missing

CHECK = "def check(f):\n    assert f(1) == 2\n"
GOOD = "def f(x):\n    return x + 1\n"


# All problems, every day in the sandbox that is the default.
ALL = ["bubblewrap", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("landlock", "rlimits"))]


@pytest.fixture(scope="module", params=confinement.KINDS)
def kind(request):
    require(request.param)
    return request.param


def require(kind):
    if sandbox.works(kind) is not None:
        missing(kind, "run the tests on a machine that has it and whose kernel allows it")


def judged(code, kind, *, seconds=5.0, test=CHECK, **limits):
    return run(Program(code, test, "f"), kind=kind, seconds=seconds, **limits)


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


# Programs in landlock cannot read /proc; the limits are set in one place.
@pytest.mark.parametrize("kind", ["bubblewrap", "rlimits"])
def test_the_limits_hold_inside(kind):
    require(kind)
    code = (
        "def f(x):\n    limits = {}\n    for line in open('/proc/self/limits').read().splitlines()[1:]:\n"
        "        limits[line[:25].strip()] = line[26:].split()[:2]\n    return limits\n"
    )
    test = (
        "def check(f):\n    limits = f(1)\n"
        "    for name, value in {'Max cpu time': 6, 'Max file size': 1 << 20, 'Max core file size': 0,\n"
        "                        'Max processes': 0, 'Max open files': 64, 'Max address space': 1 << 28}.items():\n"
        "        assert limits[name] == [str(value)] * 2\n"
    )
    assert judged(code, kind, test=test, memory_bytes=1 << 28).passed


def test_only_the_private_folder_can_be_written_to(kind):
    writes = "def f(x):\n    open('/tmp/note', 'w').write('2')\n    return int(open('/tmp/note').read())\n"
    assert judged(writes, kind).verdict == ("passed" if kind == "bubblewrap" else "error")


def test_environment_and_standard_input_are_empty(kind, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TEST", "1")
    looks = (
        "import os, sys\ndef f(x):\n"
        "    assert set(os.environ) <= {'PYTHONHASHSEED', 'LC_CTYPE', 'PWD'}, os.environ\n"
        "    assert sys.stdin.read() == ''\n    return 2\n"
    )
    assert judged(looks, kind).verdict == "passed"


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
    found = code_runner.decode(json.loads(json.dumps(code_runner.encode(value))))
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


def test_a_sandbox_that_does_not_start_is_no_verdict(kind, monkeypatch):
    broken = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    monkeypatch.setattr(confinement, "interpreter", lambda: broken)
    with pytest.raises(SandboxError, match=r"no such thing|execvp"):
        judged(GOOD, kind)
    assert sandbox.works(kind) is not None


def test_a_program_that_cannot_be_confined_does_not_run(kind, monkeypatch):
    rules = confinement.rules
    # The kernel takes no filter whose last instruction is no return.
    monkeypatch.setattr(confinement, "rules", lambda kind: {**rules(kind), "filter": "2000000000000000"})
    with pytest.raises(SandboxError, match="refused to confine the program"):
        judged(GOOD, kind)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_fits_the_kernel_and_names_no_call_twice(machine):
    code = seccomp.computing(writes=True, machine=machine)
    assert len(code) % 8 == 0
    assert len(code) // 8 <= 4096  # BPF_MAXINSNS
    column = 0 if machine == "x86_64" else 1
    tables = (seccomp._COMPUTE, seccomp._CHECK, seccomp._WRITE)
    numbers = [number for table in tables for number in seccomp._numbers(table, column).values()]
    assert len(numbers) == len(set(numbers))
    assert len(seccomp.computing(writes=False, machine=machine)) < len(code)


def test_an_unknown_machine_has_no_filter_and_no_strong_sandbox(monkeypatch):
    assert seccomp.computing(writes=True, machine="mips") is None
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "mips")
    assert confinement.lacks("bubblewrap")
    assert confinement.lacks("landlock")
    assert confinement.lacks("rlimits") is None


def test_hashes_of_strings_do_not_vary(kind):
    ordered = "def f(x):\n    return ','.join({'one', 'two', 'three', 'four'})\n"
    record = "def check(f):\n    raise type(f(1), (Exception,), {})\n"
    errors = {judged(ordered, kind, test=record).error for _ in range(3)}
    assert len(errors) == 1


def test_run_all_keeps_the_order(kind):
    programs = [Program(f"def f(x):\n    return {value}\n", CHECK, "f") for value in (2, 1, 2, 3)]
    verdicts = run_all(programs, kind=kind, workers=2)
    assert [v.verdict for v in verdicts] == ["passed", "wrong", "passed", "wrong"]


def test_a_weaker_sandbox_is_used_only_where_the_setting_names_it(monkeypatch):
    monkeypatch.setattr(confinement.shutil, "which", lambda name: None)
    monkeypatch.setattr(sandbox, "resolve", sandbox.resolve.__wrapped__)
    with pytest.raises(UserError, match=r"sandbox is bubblewrap.*bwrap is not installed.*\(landlock or rlimits\)$"):
        sandbox.resolve()
    assert sandbox.resolve("rlimits") in ("landlock", "rlimits")
    monkeypatch.setattr(sandbox, "works", lambda kind: "not here" if kind != "rlimits" else None)
    with pytest.raises(UserError, match=r"sandbox is landlock.*landlock: not here.*\(rlimits\)$"):
        sandbox.resolve("landlock")
    assert sandbox.resolve("rlimits") == "rlimits"
    monkeypatch.setattr(sandbox, "works", lambda kind: "not here")
    with pytest.raises(UserError, match=r"rlimits: not here.*allows namespaces$"):
        sandbox.resolve("rlimits")
    with pytest.raises(UserError, match="expected one of bubblewrap, landlock, rlimits, found 'docker'"):
        sandbox.resolve("docker")


def test_the_strongest_sandbox_that_works_is_used():
    require("bubblewrap")
    assert [sandbox.resolve(weakest) for weakest in confinement.KINDS] == ["bubblewrap"] * 3


@pytest.fixture(scope="module")
def problems(benchmark_data):
    path = benchmark_data / "humaneval" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


@pytest.mark.parametrize("kind", ALL)
def test_every_canonical_solution_passes(problems, kind):
    require(kind)
    programs = [scoring.program(p, p["canonical_solution"]) for p in problems]
    verdicts = run_all(programs, kind=kind)
    assert len(verdicts) == 164
    failed = [(p["task_id"], v) for p, v in zip(problems, verdicts, strict=True) if not v.passed]
    assert not failed


@pytest.mark.parametrize("kind", ALL)
def test_no_prompt_passes_by_itself(problems, kind):
    require(kind)
    verdicts = run_all([scoring.program(p, "") for p in problems], kind=kind)
    assert sum(v.passed for v in verdicts) == 0
