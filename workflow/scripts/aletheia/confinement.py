"""How strongly programs can be confined: the command of a bare interpreter, and the rules that it runs under."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aletheia import code_runner, seccomp

# From strong to weak. bubblewrap: namespaces, no file but the interpreter's, a private /tmp. landlock: no file but the
# interpreter's, by the kernel's Landlock. rlimits: reads what its user reads. All have limits and the filter.
KINDS = ("bubblewrap", "landlock", "rlimits")
# Size of the private /tmp, in memory.
TEMPORARY_BYTES = 16 << 20
# What an interpreter is linked against.
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def interpreter() -> list[str]:
    """Return the command of a bare interpreter that runs ``code_runner``: no site packages, no current folder, UTF-8.

    The executable behind a virtual environment is called, since that is what the sandbox binds.
    """
    source = Path(code_runner.__file__).read_text(encoding="utf-8")
    return [str(_executable()), "-s", "-S", "-B", "-P", "-X", "utf8", "-c", source]


def _executable() -> Path:
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


def lacks(kind: str) -> str | None:
    """Return what a kind of sandbox lacks on this machine; None where it seems to lack nothing."""
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    if kind != "rlimits" and seccomp.computing(writes=False) is None:
        return "the numbers of this machine's system calls are not known"
    return None


def rules(kind: str) -> dict[str, Any]:
    """Return what the interpreter has to hold itself to, as part of its request.

    Only in bubblewrap's private /tmp may anything be written.
    """
    code = seccomp.computing(writes=kind == "bubblewrap")
    return {
        "filter": code and code.hex(),
        "must_drop_root": kind == "bubblewrap",
        "readable": [*map(str, _readable()), *_DEVICES] if kind == "landlock" else None,
    }


def _readable() -> list[Path]:
    """Return the files and folders of the interpreter and its libraries."""
    prefix = Path(sys.base_prefix).resolve()
    shown = [*map(Path, _SYSTEM), prefix / "lib", prefix / "lib64", Path(os.__file__).resolve().parent, _executable()]
    return [path for path in shown if path.exists()]


def command(kind: str, *, information: int) -> list[str]:
    """Return the command that runs ``code_runner``.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    information
        Descriptor to which bwrap writes the number of its first process.
    """
    if kind != "bubblewrap":
        return interpreter()
    options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        # Without a user namespace, so that the interpreter can become nobody: limits on processes do not bind root,
        # not even as another user of a user namespace. Folders on the way that only root may enter do not matter,
        # since what is bound here has parents of its own.
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += ["--unshare-user", "--cap-drop", "ALL"]
    options += ["--die-with-parent", "--clearenv", "--setenv", "PYTHONHASHSEED", "0"]
    options += ["--info-fd", str(information), *_files()]
    return [shutil.which("bwrap") or "bwrap", *options, "--", *interpreter()]


def _files() -> Iterator[str]:
    """Yield what bwrap shows: the interpreter and its libraries, four devices, /proc, and an empty /tmp."""
    bound: list[Path] = []
    for path in _readable():
        if path.is_symlink() and path.parent == Path("/"):
            yield from ("--symlink", os.readlink(path), str(path))
        elif not any(path.is_relative_to(other) for other in bound):
            bound.append(path)
            # bwrap copies a parent's mode, and others may not enter every home.
            for parent in reversed(path.parents[:-1]):
                yield from ("--perms", "0755", "--dir", str(parent))
            yield from ("--ro-bind", str(path), str(path))
    library = Path(os.__file__).resolve().parent
    for packages in (library / "site-packages", library / "dist-packages", library.parent / "python3"):
        # Installed packages are no part of the interpreter, and may be the one that holds the solutions.
        if packages.is_dir():
            yield from ("--tmpfs", str(packages), "--remount-ro", str(packages))
    for device in _DEVICES:
        yield from ("--dev-bind", device, device)
    yield from ("--proc", "/proc", "--perms", "1777", "--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp")
    # All else is a file system in memory too, and must not be one to write to.
    yield from ("--remount-ro", "/", "--chdir", "/tmp")
