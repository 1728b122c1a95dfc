"""The restrictions that a sandboxed interpreter puts on itself before it runs a program: user, files, system calls.

Standard library only; the bare interpreter gets this file as text.
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys

NOBODY = 65534
MAX_OPEN_FILES = 64
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
# Linux's uapi/linux/landlock.h, first version: all rights to files, of which two stay; the same numbers everywhere.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_RIGHTS, _LANDLOCK_READ_FILE, _LANDLOCK_READ_DIR = (1 << 13) - 1, 1 << 2, 1 << 3


def hide_memory():
    """Make this process's memory and descriptors unreadable to other processes of its user."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _limit(name, value):
    kind = getattr(resource, name, None)
    if kind is not None:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def close_others(*descriptors):
    """Close every descriptor but these."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in descriptors:
            with contextlib.suppress(OSError):  # the one that listdir had open
                os.close(int(name))


def _drop_root(*, required):
    """Become nobody where that user exists and can read the standard library: limits on processes do not bind root."""
    if os.geteuid() != 0:
        return
    lacking = None
    try:
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        with open(os.__file__, "rb"):
            pass
    except OSError as error:
        lacking = "this user namespace has no such user: work as an ordinary user outside it"
        if error.filename:
            lacking = "that user cannot read the interpreter: work as an ordinary user, or with one that all can read"
    os.seteuid(0)
    os.setegid(0)
    if lacking is None:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    elif required:
        sys.exit(f"root cannot run programs as user {NOBODY}, since {lacking}")


def _drop_capabilities(libc):
    """Give up what makes root more than any other user, for good; return what the kernel says."""
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:  # until there is no such one, or none may be dropped
        capability += 1
    return libc.capset(struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0), bytes(24))


def _read_only(libc, paths, listed):
    """Refuse by Landlock (landlock(7)), for root too, to open any file outside these paths.

    Below the folders ``listed``, only names can be read.
    """
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, struct.pack("=Q", _LANDLOCK_RIGHTS), ctypes.c_size_t(8), 0)
    failed = [ruleset < 0]
    for path in (*paths, *listed):
        descriptor = os.open(path, os.O_PATH)
        rights = (_LANDLOCK_READ_DIR if os.path.isdir(path) else 0) | (_LANDLOCK_READ_FILE if path in paths else 0)
        failed.append(libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0))
        os.close(descriptor)
    failed.append(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return failed


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def confine(request):
    """Give up all rights but to compute: first set limits, then the filter, which also refuses to change them."""
    _drop_root(required=request["must_drop_root"])
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_CPU", request["cpu_seconds"])
    _limit("RLIMIT_AS", request["memory_bytes"])
    _limit("RLIMIT_FSIZE", 0)
    _limit("RLIMIT_NOFILE", MAX_OPEN_FILES)
    _limit("RLIMIT_NPROC", 0)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = [_drop_capabilities(libc)]
    # Die with the parent, and be unreadable to other processes of this user: a change of user has reset the latter.
    failed += [libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)]
    failed.append(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if request["readable"]:
        failed += _read_only(libc, set(request["readable"]), request["listed"])
    if request["filter"]:
        code = bytes.fromhex(request["filter"])
        buffer = ctypes.create_string_buffer(code, len(code))
        program = _Filter(len(code) // 8, ctypes.addressof(buffer))
        failed.append(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))
    if any(failed):
        raise OSError(ctypes.get_errno(), "the kernel refused to confine the program")
