"""Jobs in forks: they run, say, end and are ended as in an interpreter of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import module_from_spec, spec_from_file_location

import psutil
import pytest

from aletheia.controller import fork_server
from conftest import SCRIPTS
from warm_server import FOLDER, LAUNCHER

_spec = spec_from_file_location("fork_server_program", FOLDER / "server.py")
server_module = module_from_spec(_spec)
_spec.loader.exec_module(server_module)

# What a job can tell about itself. The server knows a script by its name.
SCRIPT = """
import json, os, pathlib, signal, sys, time
told = {
    "argv": sys.argv[1:], "path": sys.path[0], "folder": os.getcwd(), "name": __name__, "prefix": sys.prefix,
    "user_site": sys.flags.no_user_site, "environment": dict(os.environ), "umask": os.umask(0o22),
    "interrupt": str(signal.getsignal(signal.SIGINT)), "terminate": str(signal.getsignal(signal.SIGTERM)),
    "encoding": sys.stdout.encoding, "flags": list(sys.flags), "modules": sorted(sys.modules),
}
exec(os.environ["BODY"])
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


# Warm processes that import little.
SERVER = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
import server
server.IMPORTS |= {{"train.py": ("json", "decimal"), "probe.py": ("not_there",)}}
server.main()
"""


def serving(folder):
    """Return a server that is ready, and what the environment of its clients holds."""
    folder.mkdir()
    path = str(folder / "socket")
    command = [sys.executable, "-s", "-c", SERVER, path]
    # No file's own folder is on the path of a program that is given in words.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process, {"ALETHEIA_FORK_SERVER": path, "ALETHEIA_INTERPRETER": sys.executable}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return what the environment of a client holds."""
    folder = tmp_path_factory.mktemp("server") / "here"
    process, environment = serving(folder)
    yield environment
    process.communicate()
    assert process.returncode == 0
    assert not folder.exists(), "its folder goes with it"


def begin(script, body, *arguments, **more):
    environment = {**os.environ, "BODY": body, **more}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([LAUNCHER, "-s", str(script), *arguments], cwd=script.parent, env=environment, **pipes)


def run(script, body, *arguments, **more):
    process = begin(script, body, *arguments, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_fork_is_what_an_interpreter_of_its_own_is(script, server):
    """All that a script can see of how it was started, but for what is imported and who its parent is."""
    body = "print(json.dumps(told))"
    forked, plain = (
        json.loads(run(script, body, "é", "a b", "", **{**server, "ALETHEIA_FORK_SERVER": path, "OWN": "1\n2"})[1])
        for path in (server["ALETHEIA_FORK_SERVER"], "off")
    )
    assert "decimal" in forked.pop("modules")
    assert "decimal" not in plain.pop("modules")
    for told in (forked, plain):
        del told["environment"]["ALETHEIA_FORK_SERVER"]
        told["environment"].pop("ALETHEIA_STARTED", None)
    assert forked == plain
    assert forked["path"] == str(script.parent)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("print('out'); print('err', file=sys.stderr)", 0, ("out\n", "err\n")),
        ("sys.exit(3)", 3, ("", "")),
        ("sys.exit('a sentence')", 1, ("", "a sentence\n")),
        ("import atexit; atexit.register(print, 'at the end'); sys.exit()", 0, ("at the end\n", "")),
        (
            "import threading; threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()",
            0,
            ("thread\n", ""),
        ),
        ("os.write(1, sys.stdin.buffer.read())", 0, ("", "")),
        ("os.kill(os.getpid(), 9)", -9, ("", "")),
        ("os._exit(7)", 7, ("", "")),
    ],
)
def test_a_job_ends_as_it_would_have(script, server, body, status, said):
    for path in (server["ALETHEIA_FORK_SERVER"], "off"):
        assert run(script, body, **{**server, "ALETHEIA_FORK_SERVER": path}) == (status, *said)


def test_an_error_shows_its_traceback(script, server):
    status, _, err = run(script, "1 / 0", **server)
    assert status == 1
    assert err.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_job_once(script, server, number):
    body = f"""
count = []
signal.signal({int(number)}, lambda *_: count.append(1))
print("here", flush=True)
while not count: time.sleep(0.01)
time.sleep(0.1)
sys.exit(len(count))
"""
    process = begin(script, body, **server)
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    assert process.wait(60) == 1
    process.communicate()


def waiting(process, number):
    """Tell whether a signal waits at a process that has blocked it; False once the process has ended."""
    while process.poll() is None:
        with open(f"/proc/{process.pid}/status") as status:
            masks = dict(line.split(":") for line in status if line.startswith("ShdPnd"))
        if int(masks["ShdPnd"], 16) >> (number - 1) & 1:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_the_job_is_known_reaches_it(script, number):
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/socket"
        listener.bind(path)
        listener.listen()
        process = begin(script, "", ALETHEIA_FORK_SERVER=path, ALETHEIA_INTERPRETER=sys.executable)
        connection, _ = listener.accept()
        with connection:
            for file in server_module.received(connection, files=3)[1]:
                os.close(file)
            process.send_signal(number)
            assert waiting(process, number)
            job = subprocess.Popen(["sleep", "60"])
            connection.sendall(b"%d\n" % job.pid)
            assert job.wait(60) == -number
            connection.sendall(b"%d\n" % -number)
        assert process.wait(60) == -number
        process.communicate()


def test_a_signal_at_a_jobs_first_moment_is_not_lost(script, server):
    request = {"argv": ["-s", str(script)], "cwd": str(script.parent), "umask": 0o22, "started": 0}
    request["env"] = {**os.environ, **server, "BODY": "time.sleep(60)"}
    for _ in range(20):
        with open(os.devnull, "r+b") as nowhere, socket.socket(socket.AF_UNIX) as client:
            client.connect(server["ALETHEIA_FORK_SERVER"])
            server_module.sent(client, json.dumps(request).encode(), [nowhere.fileno()] * 3)
            answers = client.makefile("rb")
            os.kill(int(answers.readline()), signal.SIGTERM)
            assert int(answers.readline()) == -signal.SIGTERM


def test_a_job_without_a_handler_ends_by_the_signal(script, server):
    process = begin(script, "print('here', flush=True); time.sleep(60)", **server)
    process.stdout.readline()
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    process.communicate()


def gone(process: int) -> bool:
    """Tell whether a process has ended within some seconds."""
    for _ in range(100):
        if not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_client_takes_its_job_along(script, server):
    process = begin(script, "print(os.getpid(), flush=True); time.sleep(60)", **server)
    job = int(process.stdout.readline())
    assert job != process.pid
    process.kill()
    assert gone(job)
    process.communicate()
    assert run(script, "print('again')", **server)[1] == "again\n"


def test_a_job_ends_with_the_process_that_forked_it(script, server):
    process = begin(script, "print(os.getpid(), os.getppid(), flush=True); time.sleep(60)", **server)
    job, warm = map(int, process.stdout.readline().split())
    os.kill(warm, signal.SIGKILL)
    assert gone(job)
    assert process.wait(10) == -signal.SIGKILL
    process.communicate()
    assert run(script, "print('again')", **server)[1] == "again\n"


def test_jobs_beside_each_other_end_each_on_its_own(script, server):
    slow = begin(script, "time.sleep(1.5); print('slow')", **server)
    assert run(script, "print('quick')", **server)[1] == "quick\n"
    assert slow.poll() is None
    assert slow.communicate(timeout=10)[0] == "slow\n"


def test_what_an_import_may_read_decides_which_process_forks(script, server):
    """The same warm process for the same environment; another variable, another one; Python's own, none."""
    body = "print(os.getppid())"
    first, again, other = (run(script, body, **server, **more)[1] for more in ({}, {"PWD": "/"}, {"HF_HOME": "/x"}))
    assert first == again != other
    status, out, _ = run(script, "print('decimal' in sys.modules)", **server, PYTHONPATH="/x")
    assert (status, out) == (0, "False\n")


@pytest.mark.parametrize("name", ["other.py", "probe.py"])
def test_a_script_that_is_not_known_or_whose_packages_are_not_there_runs_in_its_own_interpreter(script, server, name):
    other = script.rename(script.with_name(name))
    assert run(other, "print('decimal' in sys.modules)", **server) == (0, "False\n", "")


def test_where_nobody_listens_the_interpreter_runs(script, tmp_path):
    import socket

    left = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    for path in ("off", "/not/there", str(left)):
        environment = {"ALETHEIA_FORK_SERVER": path, "ALETHEIA_INTERPRETER": sys.executable}
        assert run(script, "print('decimal' in sys.modules)", **environment)[1] == "False\n"


def test_warm_processes_go_with_the_server_and_its_last_job(script, tmp_path):
    server, environment = serving(tmp_path / "there")
    process = begin(script, "print(os.getppid(), flush=True); time.sleep(1); print('end')", **environment)
    warm = int(process.stdout.readline())
    server.communicate()
    assert process.communicate(timeout=10)[0] == "end\n"
    assert process.returncode == 0
    assert gone(warm)


def test_snakemake_leaves_no_process_and_no_socket(finished):
    """Of the study that all tests share, whose Snakemake has ended."""
    log = finished / ".snakemake" / "fork_server.log"
    assert log.read_text() == ""
    left = [p for p in psutil.process_iter(["cmdline", "cwd"]) if "server.py" in str(p.info["cmdline"])]
    assert all(gone(p.pid) for p in left if p.info["cwd"] == str(finished))


@pytest.mark.slow
def test_a_job_is_as_old_as_its_client(script, server):
    """A fork's own age would leave out what it waited for."""
    body = (
        f"sys.path.insert(0, {str(SCRIPTS)!r})\nfrom aletheia.provenance import start\ntime.sleep(0.3)\n"
        "start.work_begins()\ntime.sleep(0.3)\nprint(start.start_seconds())"
    )
    for path in (server["ALETHEIA_FORK_SERVER"], "off"):
        began = time.monotonic()
        seconds = float(run(script, body, **{**server, "ALETHEIA_FORK_SERVER": path})[1])
        assert 0.29 <= seconds <= time.monotonic() - began - 0.28
    # A child of the fork's, which finds the variable in its environment, is as old as itself.
    child = (
        "import os, subprocess\nprint(subprocess.run([sys.executable, '-c', 'import time; from aletheia.provenance "
        "import start; print(start.start_seconds())'], env={**os.environ, 'PYTHONPATH': "
        f"{str(SCRIPTS)!r}}}, capture_output=True, text=True).stdout)"
    )
    assert float(run(script, "time.sleep(1.0)\n" + child, **server)[1]) < 1.0


@pytest.mark.parametrize("name", ["missing", "t" * 120])
def test_without_a_place_for_the_socket_jobs_do_without(tmp_path, monkeypatch, name):
    """A temporary folder that is not there, or whose name is too long for a socket."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALETHEIA_FORK_SERVER")
    (tmp_path / ".snakemake").mkdir()
    if name != "missing":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    fork_server.ForkServer().start()
    assert "ALETHEIA_FORK_SERVER" not in os.environ
    assert name == "missing" or not list((tmp_path / name).iterdir())
