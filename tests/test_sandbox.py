"""The sandbox: what passes, what does not, and what a program cannot do to look as if it passed."""

from __future__ import annotations

import fractions
import gzip
import json
import math
import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import attacks
from aletheia import confined, confinement, plain_data, sandbox, scoring, seccomp
from aletheia.confined import SandboxError
from aletheia.errors import UserError
from aletheia.sandbox import Program, run, run_all
from conftest import SCRIPTS, missing

CHECK = "def check(f):\n    assert f(1) == 2\n"
GOOD = "def f(x):\n    return x + 1\n"


# All problems, every day in the sandbox that is the default.
ALL = ["bubblewrap", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("landlock", "rlimits"))]


@pytest.fixture(scope="module", autouse=True)
def interpreters():
    """Where root's interpreter is its own alone, and so refused, run the weakest kind with one that all can read."""
    python = attacks.readable_python() if os.geteuid() == 0 and sandbox.works("rlimits") is not None else None
    with pytest.MonkeyPatch.context() as patch:
        if python is not None:
            plain = confinement.command
            patch.setattr(
                confinement,
                "command",
                lambda kind, **more: [python, *plain(kind, **more)[1:]] if kind == "rlimits" else plain(kind, **more),
            )
        yield


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
        "    for name, value in {'Max cpu time': 6, 'Max file size': 0, 'Max core file size': 0,\n"
        "                        'Max processes': 0, 'Max open files': 64, 'Max address space': 1 << 28}.items():\n"
        "        assert limits[name] == [str(value)] * 2\n"
    )
    assert judged(code, kind, test=test, memory_bytes=1 << 28).passed


def test_no_file_can_be_made(kind):
    writes = "def f(x):\n    open('/tmp/note', 'w').write('2')\n    return int(open('/tmp/note').read())\n"
    assert judged(writes, kind).error == "PermissionError"  # the filter's answer, before any file system's


def test_bubblewrap_shows_no_folder_to_write_to_even_without_the_filter(monkeypatch):
    require("bubblewrap")
    rules = confinement.rules
    monkeypatch.setattr(confinement, "rules", lambda kind: {**rules(kind), "filter": None})
    attack = attacks.attacks()["changes_folders"].code
    names = f"TOKEN, OUTSIDE = 'note', {str(SCRIPTS)!r}\n"
    assert judged(names + attack, "bubblewrap").verdict == "wrong"


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
    found = plain_data.decode(json.loads(json.dumps(plain_data.encode(value))))
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


@contextmanager
def held(number):
    """Hold as many descriptors open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number + 200:
        missing(f"a limit of {number + 200} open files", "raise it")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 200) if soft >= 0 else soft, hard))
    descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(number)]
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_program_holds_the_same_descriptors_whatever_its_judge_holds(kind):
    lists = "import os\ndef f(x):\n    found = []\n    for fd in range(400):\n        try:\n            os.fstat(fd)\n"
    lists += "            found.append(fd)\n        except OSError:\n            pass\n    return found\n"
    test = "def check(f):\n    found = f(1)\n    assert found[:3] == [0, 1, 2] and len(found) == 5, found\n"
    assert judged(lists, kind, test=test).passed
    with held(80):
        assert judged(lists, kind, test=test).passed


def test_what_an_interpreter_inherits_by_mistake_it_closes(kind, monkeypatch):
    plain = subprocess.Popen
    with held(80), open(os.devnull, "wb") as more:
        monkeypatch.setattr(
            subprocess,
            "Popen",
            lambda *given, pass_fds, **others: plain(*given, pass_fds=[*pass_fds, more.fileno()], **others),
        )
        looks = f"import os\ndef f(x):\n    os.fstat({more.fileno()})\n    return 2\n"
        assert judged(looks, kind).error == "OSError"


def test_a_program_cannot_say_which_process_is_to_be_killed(kind):
    victim = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    says = f"import os\nfor fd in range(3, 400):\n    try:\n        os.write(fd, b'{{\"child-pid\": {victim.pid}}} ')\n"
    says += "    except OSError:\n        pass\nwhile True:\n    pass\n"
    try:
        with held(80):
            assert judged(says, kind, seconds=0.5).verdict in ("timeout", "error")
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (b'{"child-pid": 12, "more": 1}\n', 12),
        *((said, None) for said in (b"", b"null", b"[]", b"{}", b"\xff", b"[" * 4096, b'"child-pid"')),
        *((b'{"child-pid": %s}' % found, None) for found in (b"1", b"0", b"-1", b"true", b"1.5", b'"12"', b"null")),
    ],
)
def test_only_a_number_beyond_the_first_process_s_is_killed(said, number):
    assert confined.first_process(said) == number


def test_a_judge_with_more_than_a_thousand_open_files_judges(kind):
    with held(1030):
        assert judged(GOOD, kind).passed


def test_the_interpreter_is_ended_even_where_ending_it_is_interrupted(monkeypatch):
    require("bubblewrap")
    token, plain = "mark-of-an-interrupted-judge", confinement.interpreter()

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(confinement, "interpreter", lambda: [*plain[:-1], f"{plain[-1]}\n# {token}\n"])
    monkeypatch.setattr(confined, "_kill_first", interrupted)
    monkeypatch.setattr(confined, "STARTING_SECONDS", 10)
    with pytest.raises(KeyboardInterrupt):
        judged("import time\ntime.sleep(600)\n", "bubblewrap", seconds=0.3)
    deadline = time.monotonic() + 10
    while attacks.marked(token) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert attacks.marked(token) == []


@pytest.mark.parametrize(("files", "most"), [(10, 1), (100, 5), (1 << 20, 64), (resource.RLIM_INFINITY, 64)])
def test_no_more_programs_run_than_there_are_descriptors_for(files, most, monkeypatch):
    monkeypatch.setattr(sandbox.resource, "getrlimit", lambda kind: (files, files))
    assert sandbox.at_a_time(64) == most


def test_programs_have_no_capabilities(kind, monkeypatch):
    rules = confinement.rules
    monkeypatch.setattr(confinement, "rules", lambda kind: {**rules(kind), "filter": None})
    asks = (
        "import ctypes, struct\ndef f(x):\n    libc, data = ctypes.CDLL(None), ctypes.create_string_buffer(24)\n"
        "    assert libc.capget(struct.pack('=Ii', 0x20080522, 0), data) == 0\n    return data.raw\n"
    )
    assert judged(asks, kind, test="def check(f):\n    assert f(1) == bytes(24)\n").passed


@pytest.mark.parametrize("kind", confinement.KINDS)
def test_root_with_an_interpreter_of_its_own_is_refused_where_it_would_stay_root(kind, monkeypatch, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user, or fail to")
    require(kind)
    private = tmp_path / "private"
    private.touch(mode=0o600)
    source = confinement.interpreter()[-1].replace("open(os.__file__,", f'open("{private}",')
    assert str(private) in source
    if kind != "rlimits":
        monkeypatch.setattr(confinement, "_DEVICES", (*confinement._DEVICES, str(private)))
    command = confinement.command
    monkeypatch.setattr(confinement, "command", lambda kind, **more: [*command(kind, **more)[:-1], source])
    sentence = (
        "root cannot run programs as user 65534, since that user cannot read the interpreter: work as an ordinary"
    )
    if kind == "landlock":
        assert sandbox.works(kind) is None
    else:
        assert sandbox.works(kind).startswith(sentence)


def test_a_user_namespace_without_other_users_has_landlock_and_says_why_no_other():
    asks = "from aletheia import confinement, sandbox\nfor kind in confinement.KINDS:\n    print(sandbox.works(kind))\n"
    command = ["unshare", "--user", "--map-root-user", sys.executable]
    if subprocess.run([*command, "-c", ""], capture_output=True, check=False).returncode != 0:
        missing("a user namespace", "run the tests on a machine that allows it")
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([*command, "-c", asks], env=environment, capture_output=True, text=True, check=True)
    said = dict(zip(confinement.KINDS, done.stdout.splitlines(), strict=True))
    assert said["landlock"] == "None"
    for kind in ("bubblewrap", "rlimits"):
        assert said[kind].endswith("since this user namespace has no such user: work as an ordinary user outside it")


def test_folders_of_packages_are_found_and_their_neighbours_stay(tmp_path, monkeypatch):
    names = ("python3/dist-packages", "python3.11/site-packages", "python3.13/dist-packages")
    for name in (*names, "python3.11/json", "x86_64-linux-gnu"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "python3.11/os.py").touch()
    (tmp_path / "elsewhere").symlink_to("/")
    assert confinement._packages([tmp_path]) == {tmp_path / name for name in names}
    monkeypatch.setattr(confinement, "_shown", lambda: [tmp_path])
    readable, listed = confinement._readable()
    assert set(readable) == {tmp_path / name for name in ("python3.11/json", "python3.11/os.py", "x86_64-linux-gnu")}
    assert set(listed) == {tmp_path / name for name in (".", "python3", "python3.11", "python3.13")}


def test_a_bwrap_that_is_no_program_is_no_sandbox_and_no_traceback(monkeypatch, tmp_path):
    (tmp_path / "bwrap").write_text("no program\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "Exec format error" in sandbox.works("bubblewrap")


def test_an_interpreter_that_neither_starts_nor_ends_is_no_verdict(kind, monkeypatch):
    silent = "import os, time\nos.closerange(3, 1000)\ntime.sleep(60)\n"
    command = confinement.command
    monkeypatch.setattr(confinement, "command", lambda kind, **more: [*command(kind, **more)[:-1], silent])
    monkeypatch.setattr(confined, "STARTING_SECONDS", 0.5)
    with pytest.raises(SandboxError):
        judged(GOOD, kind)


@pytest.mark.parametrize(("failures", "raises"), [(1, False), (2, True)])
def test_a_sandbox_that_does_not_work_is_tried_once_more(failures, raises, monkeypatch):
    calls = []

    def run(program, **more):
        calls.append(program)
        if len(calls) <= failures:
            raise SandboxError("no room")
        return sandbox.Verdict("passed", None, 0.0)

    monkeypatch.setattr(sandbox, "run", run)
    if raises:
        with pytest.raises(SandboxError):
            run_all([Program(GOOD, CHECK, "f")], kind="rlimits")
    else:
        assert run_all([Program(GOOD, CHECK, "f")], kind="rlimits")[0].passed
    assert len(calls) == 2


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """Return what scores two answers to one problem, each given by its status."""
    problem = {"id": "p", "prompt": "def f(x):\n", "test": CHECK, "entry_point": "f"}
    facts = {"about": {"status": "ok", "questions_sha256": "0"}, "files": {"questions.jsonl": {"sha256": "0"}}}
    monkeypatch.setattr(scoring.artifacts, "payload", lambda *given: facts)
    monkeypatch.setattr(scoring, "checked_folder", lambda path: path)
    monkeypatch.setattr(sandbox, "resolve", lambda weakest: weakest)

    def score(kind, *statuses):
        problems = [{**problem, "id": str(i)} for i in range(len(statuses))]
        rows = [
            {"question_id": str(i), "generation": "    return x + 1\n", "status": status}
            for i, status in enumerate(statuses)
        ]
        monkeypatch.setattr(scoring, "read_rows", lambda path: problems)
        monkeypatch.setattr(scoring, "read", lambda path: rows)
        return scoring.score(tmp_path, tmp_path, settings={"sandbox": kind}, workers=1)

    return score


def test_only_a_whole_answer_can_pass(answered, kind):
    payload, rows, observed = answered(kind, "ok", "prompt_cut")
    assert [(row["passed"], row["verdict"]) for row in rows] == [(True, "passed"), (False, "prompt_cut")]
    assert (payload["n_correct"], payload["score"]) == (1, 0.5)
    assert set(observed["program_seconds"]) == {"0"}


def test_a_sandbox_that_stops_working_is_one_sentence(answered, kind, monkeypatch):
    def fails(*given, **more):
        raise SandboxError("no room for a process")

    monkeypatch.setattr(sandbox, "run", fails)
    with pytest.raises(UserError, match=rf"^the sandbox \({kind}\) .*no room for a process.*start the step again"):
        answered(kind, "ok")


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


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_fits_the_kernel_and_names_no_call_twice(machine):
    code = seccomp.computing(machine)
    assert len(code) % 8 == 0
    assert len(code) // 8 <= 4096  # BPF_MAXINSNS
    column = 0 if machine == "x86_64" else 1
    tables = (seccomp._COMPUTE, seccomp._CHECK)
    numbers = [number for table in tables for number in seccomp._numbers(table, column).values()]
    assert len(numbers) == len(set(numbers))


def test_an_unknown_machine_has_no_filter_and_no_sandbox(kind, monkeypatch):
    assert seccomp.computing("mips") is None
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "mips")
    sentence = "the numbers of this machine's system calls are not known"
    assert sandbox.works(kind) == sentence
    with pytest.raises(SandboxError, match=sentence):
        judged(GOOD, kind)


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
