"""Programs that attack the sandbox, as data, and what runs them.

Each is bounded, so that one that got out would be seen and survived, and passes its test only if it succeeds:
``f(1)`` must return 2 where what it tried was possible. Those marked ``secret`` are tested for a number that they
cannot know, and try to look as if they had passed. Standard library only: also run by hand and as another user,
``python attacks.py KIND [NAME…]``, which prints a line of JSON a program.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aletheia.sandbox import command as confinement
from aletheia.sandbox import judge

HONEST = judge.Program("def f(x):\n    return x + 1\n", "def check(f):\n    assert f(1) == 2\n", "f")
SECRET = "the-secret-of-the-battery"
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
# Where a program may not leave anything.
FOLDERS = ("/", "/tmp", "/var/tmp", "/dev/shm", "/root", "/home")


@dataclass(frozen=True)
class Attack:
    """A program, what it tries, and the verdicts that may come of it."""

    verdicts: list[str]
    secret: bool
    tries: str
    code: str

    @property
    def seconds(self) -> float:
        """Wall-clock limit: short for what will never end."""
        return 0.7 if "timeout" in self.verdicts else 20.0


def attacks():
    """Return {name: attack}."""
    found = {}
    for section in Path(__file__).with_name("attacks.txt").read_text(encoding="utf-8").split("\n### ")[1:]:
        header, code = section.split("\n", maxsplit=1)
        name, verdicts, tries = (part.strip() for part in header.split("|"))
        words = verdicts.split()
        found[name] = Attack([word for word in words if word != "secret"], "secret" in words, tries, code)
    return found


@contextmanager
def surroundings(owner=None):
    """Make what the programs attack: a home, a model, an environment, servers, a process, a folder open to all."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="battery-", dir="/tmp")))
        base.chmod(0o777)
        names = {"TOKEN": "battery-" + secrets.token_hex(8), "SECRET": SECRET, "PARENT": os.getpid()}
        for name, file in (("HOME", ".ssh/id"), ("MODEL", "model.safetensors"), ("OUTSIDE", "kept")):
            place = base / name.lower() / file
            place.parent.mkdir(parents=True)
            place.write_text(SECRET)
            place.chmod(0o666)
            for folder in (place.parent, base / name.lower()):
                folder.chmod(0o777)
            names[name] = str(base / name.lower())
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + names["TOKEN"])
        abstract.listen()
        names["PORT"] = server.getsockname()[1]
        identity = {"user": owner, "group": owner, "extra_groups": []} if owner is not None else {}
        # Of the user that programs run as, so that not only its being another's protects it.
        victim = subprocess.Popen(
            ["/bin/sleep", "600"], env={"IT": SECRET}, start_new_session=True, cwd="/", **identity
        )
        stack.callback(lambda: (victim.kill(), victim.wait()))
        names["VICTIM"] = victim.pid
        yield names, base, (server, abstract), victim


def run_one(attack, kind):
    """Run one program and, after it, an honest one; return verdicts, and all that should not be, in words."""
    with surroundings(65534 if os.geteuid() == 0 else None) as (names, base, servers, victim):
        os.environ["BATTERY"] = SECRET
        head = "".join(f"{key} = {value!r}\n" for key, value in names.items())
        wanted = secrets.randbits(60) if attack.secret else 2
        program = judge.Program(head + attack.code, f"def check(f):\n    assert f(1) == {wanted}\n", "f")
        plain, shared = confinement.interpreter, shared_bytes()
        # A mark by which whatever it starts is known.
        confinement.interpreter = lambda: [*plain()[:-1], f"{plain()[-1]}\n# {names['TOKEN']}\n"]
        try:
            verdict = judge.run(program, kind=kind, seconds=attack.seconds, memory_bytes=256 << 20)
            left = [f"process {pid}" for pid in survivors(names["TOKEN"])]
        finally:
            confinement.interpreter = plain
            del os.environ["BATTERY"]
        if victim.poll() is not None:
            left.append("it killed another process")
        for server in servers:
            server.settimeout(0)
            try:
                server.accept()
            except BlockingIOError:
                continue
            left.append("a connection")
        files = sorted(str(p.relative_to(base)) for p in base.rglob("*") if not p.is_dir())
        if files != ["home/.ssh/id", "model/model.safetensors", "outside/kept"]:
            left.append(f"files {files}")
        left += [f"{p} changed" for p in map(base.joinpath, files) if p.read_text() != SECRET]
        left += [f"{f}/{n}" for f in FOLDERS if os.access(f, os.R_OK) for n in os.listdir(f) if names["TOKEN"] in n]
        deadline = time.monotonic() + 10
        while shared_bytes() > shared + (64 << 20) and time.monotonic() < deadline:
            time.sleep(0.1)
        if shared_bytes() > shared + (64 << 20):
            left.append(f"{shared_bytes() - shared} bytes of shared memory")
    after = judge.run(HONEST, kind=kind, seconds=20)
    return {"verdict": verdict.verdict, "error": verdict.error, "left": left, "after": after.verdict}


def readable_python():
    """Return the command of a Python 3.11 or newer that the user nobody can read; None where there is none, or no root.

    The first choice is this interpreter, behind a virtual environment.
    """
    trial = "import sys; open(sys.executable, 'rb'); sys.exit(sys.version_info < (3, 11))"
    for python in (sys._base_executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = [*AS_NOBODY, python, "-c", trial]
        if os.path.exists(python) and not subprocess.run(command, cwd="/", capture_output=True, check=False).returncode:
            return python
    return None


def survivors(token, seconds=2.0):
    """Return the marked processes that are still there after these seconds: one that was killed takes a moment."""
    deadline = time.monotonic() + seconds
    while (found := marked(token)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def marked(token):
    """Return the processes whose command line holds a token."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it ended just now
            continue
    return found


def shared_bytes():
    """Return the machine's shared memory in bytes: files in memory, and System V segments."""
    return int(re.search(r"^Shmem: +(\d+) kB", Path("/proc/meminfo").read_text(), flags=re.MULTILINE)[1]) << 10


if __name__ == "__main__":
    kind, known = sys.argv[1], attacks()
    for name in sys.argv[2:] or known:
        print(json.dumps({"name": name, **run_one(known[name], kind)}), flush=True)
