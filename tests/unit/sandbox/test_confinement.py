"""How a program is confined: what it can reach and use, how its interpreter starts and ends, which sandbox is taken."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import attacks
from aletheia.errors import UserError
from aletheia.sandbox import command as confinement
from aletheia.sandbox import judge, process, seccomp
from aletheia.sandbox.process import SandboxError
from conftest import SCRIPTS, missing
from judging import GOOD, judged, require

pytestmark = pytest.mark.usefixtures("interpreters")


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


def test_a_sandbox_that_does_not_start_is_no_verdict(kind, monkeypatch):
    broken = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    monkeypatch.setattr(confinement, "interpreter", lambda: broken)
    with pytest.raises(SandboxError, match=r"no such thing|execvp"):
        judged(GOOD, kind)
    assert judge.why_unusable(kind) is not None


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
    assert process.first_process(said) == number


def test_a_judge_with_more_than_a_thousand_open_files_judges(kind):
    with held(1030):
        assert judged(GOOD, kind).passed


def test_the_interpreter_is_ended_even_where_ending_it_is_interrupted(monkeypatch):
    require("bubblewrap")
    token, plain = "mark-of-an-interrupted-judge", confinement.interpreter()

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(confinement, "interpreter", lambda: [*plain[:-1], f"{plain[-1]}\n# {token}\n"])
    monkeypatch.setattr(process, "_kill_first", interrupted)
    monkeypatch.setattr(process, "STARTING_SECONDS", 10)
    with pytest.raises(KeyboardInterrupt):
        judged("import time\ntime.sleep(600)\n", "bubblewrap", seconds=0.3)
    deadline = time.monotonic() + 10
    while attacks.marked(token) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert attacks.marked(token) == []


@pytest.mark.parametrize(("files", "most"), [(10, 1), (100, 5), (1 << 20, 64), (resource.RLIM_INFINITY, 64)])
def test_no_more_programs_run_than_there_are_descriptors_for(files, most, monkeypatch):
    monkeypatch.setattr(judge.resource, "getrlimit", lambda kind: (files, files))
    assert judge.workers_within_limits(64) == most


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
        assert judge.why_unusable(kind) is None
    else:
        assert judge.why_unusable(kind).startswith(sentence)


def test_a_user_namespace_without_other_users_has_landlock_and_says_why_no_other():
    asks = "from aletheia.sandbox import command, judge\n"
    asks += "for kind in command.KINDS:\n    print(judge.why_unusable(kind))\n"
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
    assert "Exec format error" in judge.why_unusable("bubblewrap")


def test_an_interpreter_that_neither_starts_nor_ends_is_no_verdict(kind, monkeypatch):
    silent = "import os, time\nos.closerange(3, 1000)\ntime.sleep(60)\n"
    command = confinement.command
    monkeypatch.setattr(confinement, "command", lambda kind, **more: [*command(kind, **more)[:-1], silent])
    monkeypatch.setattr(process, "STARTING_SECONDS", 0.5)
    with pytest.raises(SandboxError):
        judged(GOOD, kind)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_fits_the_kernel_and_names_no_call_twice(machine):
    code = seccomp.compute_filter(machine)
    assert len(code) % 8 == 0
    assert len(code) // 8 <= 4096  # BPF_MAXINSNS
    column = 0 if machine == "x86_64" else 1
    tables = (seccomp._COMPUTE, seccomp._CHECK)
    numbers = [number for table in tables for number in seccomp._numbers(table, column).values()]
    assert len(numbers) == len(set(numbers))


def test_an_unknown_machine_has_no_filter_and_no_sandbox(kind, monkeypatch):
    assert seccomp.compute_filter("mips") is None
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "mips")
    sentence = "the numbers of this machine's system calls are not known"
    assert judge.why_unusable(kind) == sentence
    with pytest.raises(SandboxError, match=sentence):
        judged(GOOD, kind)


def test_a_weaker_sandbox_is_used_only_where_the_setting_names_it(monkeypatch):
    monkeypatch.setattr(confinement.shutil, "which", lambda name: None)
    monkeypatch.setattr(judge, "resolve", judge.resolve.__wrapped__)
    with pytest.raises(UserError, match=r"sandbox is bubblewrap.*bwrap is not installed.*\(landlock or rlimits\)$"):
        judge.resolve()
    assert judge.resolve("rlimits") in ("landlock", "rlimits")
    monkeypatch.setattr(judge, "why_unusable", lambda kind: "not here" if kind != "rlimits" else None)
    with pytest.raises(UserError, match=r"sandbox is landlock.*landlock: not here.*\(rlimits\)$"):
        judge.resolve("landlock")
    assert judge.resolve("rlimits") == "rlimits"
    monkeypatch.setattr(judge, "why_unusable", lambda kind: "not here")
    with pytest.raises(UserError, match=r"rlimits: not here.*allows namespaces$"):
        judge.resolve("rlimits")
    with pytest.raises(UserError, match="expected one of bubblewrap, landlock, rlimits, found 'docker'"):
        judge.resolve("docker")


def test_the_strongest_sandbox_that_works_is_used():
    require("bubblewrap")
    assert [judge.resolve(weakest) for weakest in confinement.KINDS] == ["bubblewrap"] * 3
