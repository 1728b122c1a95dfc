"""The sandbox: what passes, what does not, and what a program cannot do to look as if it passed."""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
from pathlib import Path

import pytest

from aletheia import sandbox
from aletheia.errors import UserError
from aletheia.sandbox import Program, run, run_all
from conftest import missing

ROOT = Path(__file__).resolve().parent.parent
CHECK = "def check(f):\n    assert f(1) == 2\n"
GOOD = "def f(x):\n    return x + 1\n"


@pytest.fixture(scope="module", params=["rlimits", "bubblewrap"])
def kind(request):
    if request.param == "bubblewrap" and sandbox.resolve("auto") != "bubblewrap":
        missing("bubblewrap", "install it on a machine that allows namespaces")
    return request.param


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
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "crashed"),
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


def test_a_program_may_use_its_own_folder(kind):
    writes = "def f(x):\n    open('note', 'w').write('2')\n    return int(open('note').read())\n"
    assert judged(writes, kind).passed


@pytest.mark.parametrize(
    "said",
    [
        '{"error": null}',
        '{"error": null, "token": ""}',
        '{"error": null, "token": "' + "0" * 32 + '"}',
        "null",
        "[]",
    ],
)
def test_a_verdict_without_the_token_is_no_verdict(said, kind):
    forged = f"import os\nfor fd in range(64):\n    try:\n        os.write(fd, {said!r}.encode() + b'\\n')\n"
    forged += "    except OSError:\n        pass\nos._exit(0)\n"
    assert not judged(forged, kind).passed


def test_a_flooded_verdict_pipe_ends_the_program(kind):
    flood = "import os\nfor fd in range(3, 64):\n    try:\n        while True:\n"
    flood += "            os.write(fd, b'x' * 65536)\n    except OSError:\n        pass\n"
    started = time.monotonic()
    assert not judged(flood, kind, seconds=5).passed
    assert time.monotonic() - started < 4


def test_the_token_is_in_neither_arguments_nor_environment_nor_globals(kind, monkeypatch):
    monkeypatch.setattr(sandbox.secrets, "token_hex", lambda size: "fixed-token-of-this-test")
    search = (
        "import os, sys\n"
        "def f(x):\n"
        "    seen = repr(globals()) + repr(dict(os.environ)) + repr(sys.argv)\n"
        "    seen += repr(sys.orig_argv) + open('/proc/self/environ').read()\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        seen += repr(frame.f_locals.keys()) + repr(frame.f_globals.get('token'))\n"
        "        seen += repr([v for k, v in frame.f_locals.items() if k != 'seen'])\n"
        "        frame = frame.f_back\n"
        "    assert 'fixed-token-of-' + 'this-test' not in seen\n"
        "    return 2\n"
    )
    assert judged(search, kind).verdict == "passed"


def test_environment_and_standard_input_are_empty(kind, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TEST", "1")
    looks = (
        "import os, sys\ndef f(x):\n"
        "    assert set(os.environ) <= {'PYTHONHASHSEED', 'LC_CTYPE', 'PWD'}, os.environ\n"
        "    assert sys.stdin.read() == ''\n    return 2\n"
    )
    assert judged(looks, kind).verdict == "passed"


def test_children_die_with_the_program(kind, tmp_path):
    os.chmod(tmp_path, 0o777)
    mark = tmp_path / "mark"
    forks = (
        "import os, time\ndef f(x):\n    try:\n        child = os.fork()\n"
        "    except OSError:\n        return 2\n"
        f"    if child == 0:\n        time.sleep(1)\n        open({str(mark)!r}, 'w').close()\n"
        "        os._exit(0)\n    return 2\n"
    )
    assert judged(forks, kind).passed
    time.sleep(1.5)
    assert not mark.exists()


def test_bubblewrap_shows_no_network_and_no_files_of_the_user():
    if sandbox.resolve("auto") != "bubblewrap":
        missing("bubblewrap", "install it on a machine that allows namespaces")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tries = (
            "import os, socket\ndef f(x):\n"
            f"    assert not os.path.exists({str(ROOT)!r})\n    assert os.getpid() < 10\n"
            f"    try:\n        socket.create_connection(('127.0.0.1', {port}), timeout=1)\n"
            "    except OSError:\n        return 2\n"
        )
        assert judged(tries, "bubblewrap").verdict == "passed"
        # The same program without bubblewrap does see them: the test can fail.
        assert judged(tries, "rlimits").verdict == "wrong"


def test_hashes_of_strings_do_not_vary(kind):
    ordered = "def f(x):\n    return ','.join({'one', 'two', 'three', 'four'})\n"
    record = "def check(f):\n    raise type(f(1), (Exception,), {})\n"
    errors = {judged(ordered, kind, test=record).error for _ in range(3)}
    assert len(errors) == 1


def test_run_all_keeps_the_order(kind):
    programs = [Program(f"def f(x):\n    return {value}\n", CHECK, "f") for value in (2, 1, 2, 3)]
    verdicts = run_all(programs, kind=kind, workers=2)
    assert [v.verdict for v in verdicts] == ["passed", "wrong", "passed", "wrong"]


def test_asking_for_bubblewrap_where_there_is_none(monkeypatch):
    monkeypatch.setattr(sandbox, "_bubblewrap_works", lambda: False)
    sandbox.resolve.cache_clear()
    assert sandbox.resolve("auto") == "rlimits"
    with pytest.raises(UserError, match="bwrap is not installed or cannot make"):
        sandbox.resolve("bubblewrap")
    with pytest.raises(UserError, match="expected one of auto, bubblewrap, rlimits, found 'docker'"):
        sandbox.resolve("docker")
    sandbox.resolve.cache_clear()


@pytest.fixture(scope="module")
def problems(benchmark_data):
    path = benchmark_data / "humaneval" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def test_every_canonical_solution_passes(problems, kind):
    programs = [Program(p["prompt"] + p["canonical_solution"], p["test"], p["entry_point"]) for p in problems]
    verdicts = run_all(programs, kind=kind)
    assert len(verdicts) == 164
    failed = [(p["task_id"], v) for p, v in zip(problems, verdicts, strict=True) if not v.passed]
    assert not failed


def test_no_prompt_passes_by_itself(problems, kind):
    verdicts = run_all([Program(p["prompt"], p["test"], p["entry_point"]) for p in problems], kind=kind)
    assert sum(v.passed for v in verdicts) == 0
