"""A filter of system calls for programs that only compute: the kernel refuses every call that is not named here.

So there is no further process or thread, no network, no signal to another process, no tracing, no shared memory,
no mount, no namespace, no setting of limits, whoever the program runs as. The filter is classic BPF, as
seccomp(2) and Linux's ``Documentation/userspace-api/seccomp_filter.rst`` describe it; a process that has it
cannot take it off.
"""

from __future__ import annotations

import errno
import platform
import struct
import sys

# Names with their numbers on x86_64 and aarch64 ("-": not there), from asm/unistd_64.h and asm-generic/unistd.h.
_COMPUTE = """\
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, lseek 8 62, close 3 57, fstat 5 80,
stat 4 -, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44, access 21 -, faccessat 269 48,
faccessat2 439 439, readlink 89 -, readlinkat 267 78, getcwd 79 17, chdir 80 49, fchdir 81 50, getdents64 217 61,
dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59, poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72,
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214, rt_sigaction 13 134,
rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132, futex 202 98, set_robust_list 273 99, rseq 334 293,
sched_yield 24 124, sched_getaffinity 204 123, nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113,
clock_getres 229 114, gettimeofday 96 169, time 201 -, times 100 153, getrandom 318 278, getpid 39 172,
getppid 110 173, gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getpgrp 111 -,
getpgid 121 155, getsid 124 156, getresuid 118 148, getresgid 120 150, getgroups 115 158, getrlimit 97 163,
getrusage 98 165, uname 63 160, sysinfo 99 179, umask 95 166, setitimer 38 103, getitimer 36 102, alarm 37 -,
pause 34 -, exit 60 93, exit_group 231 94, restart_syscall 219 128
"""
_CHECK = """\
openat 257 56, fcntl 72 25, ioctl 16 29
"""
# Of calls that could do more, the argument's place and the values allowed: descriptors may be duplicated and their
# flags read, but fcntl and ioctl can also have the kernel signal any process of the same user.
_ARGUMENT = {
    "fcntl": (1, (0, 1, 2, 3, 1030)),  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
    "ioctl": (1, (0x5401, 0x5413, 0x5450, 0x5451)),  # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX
}
# O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, the third argument of openat.
_OPEN_FLAGS, _OPEN_FOR_WRITING = 2, 0o1 | 0o2 | 0o100 | 0o1000
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the tables, AUDIT_ARCH_…
# BPF: load a word of struct seccomp_data; jump if equal; jump if any bit is set; return.
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM


def _numbers(table: str, column: int) -> dict[str, int]:
    entries = (entry.split() for entry in table.replace("\n", " ").split(","))
    return {entry[0]: int(entry[1 + column]) for entry in entries if entry[1 + column] != "-"}


def compute_filter(machine: str | None = None) -> bytes | None:
    """Return the filter for a program that computes, and reads files; it can neither make nor change one.

    Parameters
    ----------
    machine
        As ``platform.machine()`` has it; this one's by default.

    Returns
    -------
    bytes or None
        An array of ``struct sock_filter``; None off Linux and on machines whose numbers are not known here.
    """
    machine = machine or platform.machine()
    if not sys.platform.startswith("linux") or machine not in _MACHINES or sys.byteorder != "little":
        return None
    column, architecture = _MACHINES[machine]
    checked = _numbers(_CHECK, column)
    code = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, _NUMBER)]
    for number in _numbers(_COMPUTE, column).values():
        code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for name, (place, values) in _ARGUMENT.items():
        block = [(_LOAD, 0, 0, _ARGUMENTS + 8 * place)]
        for value in values:
            block += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        block += [(_RETURN, 0, 0, _REFUSE)]
        code += [(_EQUAL, 0, len(block), checked[name]), *block]
    code += [(_EQUAL, 0, 4, checked["openat"]), (_LOAD, 0, 0, _ARGUMENTS + 8 * _OPEN_FLAGS)]
    code += [(_ANY_BIT, 0, 1, _OPEN_FOR_WRITING), (_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    code += [(_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
