"""The kinds of sandbox: the command that starts a bare interpreter in each, and its restrictions."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aletheia.sandbox import restrictions, runner, seccomp, wire_format

# From strong to weak. bubblewrap: namespaces, only the interpreter's files. landlock: only the interpreter's files, by
# the kernel's Landlock. rlimits: all files that its user may read. All have limits and the filter, and write no file.
KINDS = ("bubblewrap", "landlock", "rlimits")
# Installed packages are hidden, since one of them may hold the solutions: folders below /usr/lib, and in the folder of
# the standard library.
_PACKAGES = ("py*/site-packages", "py*/dist-packages", "site-packages", "dist-packages")
# What an interpreter is linked against.
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
# Modules that the bare interpreter gets as text, since it can import no package of ours.
_BESIDE = (wire_format, restrictions)
_LOADING = """\
import sys, types
for name, text in {texts!r}.items():
    sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), vars(sys.modules[name]))
"""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def interpreter() -> list[str]:
    """Return the command of a bare interpreter that runs ``code_runner``: no site packages, no current folder, UTF-8.

    It calls the executable behind a virtual environment, which is the one that the sandbox binds.
    """
    texts = {module.__name__: Path(module.__file__).read_text(encoding="utf-8") for module in (*_BESIDE, runner)}
    main = texts.pop(runner.__name__)
    return [str(_executable()), "-s", "-S", "-B", "-P", "-X", "utf8", "-c", _LOADING.format(texts=texts) + main]


def _executable() -> Path:
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


def missing_for(kind: str) -> str | None:
    """Return what this machine lacks for a kind of sandbox; None where nothing obvious is missing."""
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return "bwrap is not installed"
    if seccomp.compute_filter() is None:
        return "the numbers of this machine's system calls are not known"
    return None


def rules(kind: str) -> dict[str, Any]:
    """Return the restrictions that the interpreter imposes on itself, as part of its request.

    Only for a kind of which :func:`missing_for` reports nothing.
    """
    readable, listed = _readable() if kind == "landlock" else ([], [])
    return {
        "filter": seccomp.compute_filter().hex(),
        # In landlock, root without its capabilities reads no more than another user.
        "must_drop_root": kind != "landlock",
        "readable": [*map(str, readable), *(_DEVICES if readable else ())],
        "listed": list(map(str, listed)),
    }


def hide_process() -> None:
    """Make this process's memory and descriptors unreadable to other processes of its user.

    Programs that run as the same user, and see this process, would find their test in its memory.
    """
    restrictions.hide_memory()


def _shown() -> list[Path]:
    """Return the files and folders that hold the interpreter and its libraries."""
    prefix = Path(sys.base_prefix).resolve()
    shown = [*map(Path, _SYSTEM), prefix / "lib", prefix / "lib64", Path(os.__file__).resolve().parent, _executable()]
    return [path for path in shown if path.exists()]


def _packages(shown: Iterable[Path]) -> set[Path]:
    """Return the folders of installed packages below folders, and the targets of those that are links."""
    folders = {packages for path in shown for pattern in _PACKAGES for packages in path.glob(pattern)}
    return folders | {packages.resolve() for packages in folders}


def _readable() -> tuple[list[Path], list[Path]]:
    """Return the paths that may be read with everything below them, and the folders that may only be listed.

    Landlock can only add rights, so a folder with a hidden part is listed, and its other children are readable. No path
    is a link, since a rule for a link would make its target readable.
    """
    shown = {path.resolve() for path in _shown()}
    hidden = _packages(shown)
    readable, listed = [], []
    while shown:
        path = shown.pop()
        if not any(packages.is_relative_to(path) for packages in hidden):
            readable.append(path)
        elif path not in hidden:
            listed.append(path)
            shown.update(child for child in path.iterdir() if not child.is_symlink())
    return readable, listed


def command(kind: str, *, information: int | None) -> list[str]:
    """Return the command that runs ``code_runner``.

    Parameters
    ----------
    kind
        One of ``KINDS``.
    information
        Descriptor to which bwrap writes the id of its first process; the other kinds ignore it.
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
    """Yield the options for what bwrap shows, read-only: interpreter, libraries, devices, /proc, an empty /tmp."""
    bound: list[Path] = []
    for path in _shown():
        if path.is_symlink() and path.parent == Path("/"):
            yield from ("--symlink", os.readlink(path), str(path))
        elif not any(path.is_relative_to(other) for other in bound):
            bound.append(path)
            # bwrap copies a parent's mode, and others may not enter every home.
            for parent in reversed(path.parents[:-1]):
                yield from ("--perms", "0755", "--dir", str(parent))
            yield from ("--ro-bind", str(path), str(path))
    for packages in sorted(_packages([*bound, Path(os.__file__).resolve().parent])):
        if not packages.is_symlink() and any(packages.is_relative_to(path) for path in bound):
            yield from ("--tmpfs", str(packages), "--remount-ro", str(packages))
    for device in _DEVICES:
        yield from ("--dev-bind", device, device)
    # Everything that is not bound is a file system in memory, which must not be writable.
    yield from ("--proc", "/proc", "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/tmp")
