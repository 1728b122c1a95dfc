"""What runs inside the sandbox, in two interpreters apart: a program in one, the test that calls it in the other.

Standard library only; a bare interpreter gets this file as text. Standard input carries one JSON request and then
ends. The test's interpreter never runs the program's code: it sends arguments and gets values back, as plain data
over pipes. So a program can change its own interpreter as it likes and still has one way to pass, which is to
return what the test expects. The verdict goes through a pipe that only the test's interpreter holds.
"""

import builtins
import contextlib
import ctypes
import decimal
import fractions
import json
import os
import resource
import signal
import struct
import sys
import types
from collections.abc import Iterable, Iterator

NOBODY = 65534
# Bytes of one message, chosen by hand: the largest of HumanEval's has some ten thousand.
MESSAGE_BYTES = 1 << 24
MOST_FILES = 64
LONGEST_NAME = 100
PR_SET_DUMPABLE = 4
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
# Linux's uapi/linux/landlock.h, first version: all rights to files, of which two stay; the same numbers everywhere.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_RIGHTS, _LANDLOCK_READ_FILE, _LANDLOCK_READ_DIR = (1 << 13) - 1, 1 << 2, 1 << 3


# --- plain data -------------------------------------------------------------------------------------------------------


class OtherIterable:
    """What has items and is none of the plain containers, such as a dictionary's view: equal to nothing but itself."""

    def __init__(self, items):
        self._items = items

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


def encode(value):  # noqa: PLR0911 — one line a type
    """Return a value as JSON can hold it; subclasses become their base, and what is no plain data just its kind."""
    if value is None or isinstance(value, bool | str | float):
        return value
    if isinstance(value, int):
        return value if -(2**53) < value < 2**53 else {"int": hex(value)}
    if isinstance(value, list):
        return [encode(item) for item in value]
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, range):
        return {"range": [encode(part) for part in (value.start, value.stop, value.step)]}
    if isinstance(value, fractions.Fraction):
        return {"fraction": [encode(value.numerator), encode(value.denominator)]}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, Iterable):
        items = [encode(item) for item in value]
        return {"iterator" if isinstance(value, Iterator) else "iterable": items}
    return {"other": type(value).__name__}


_DECODERS = {
    "int": lambda text: int(text, 16),
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": lambda pairs: {decode(key): decode(item) for key, item in pairs},
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*map(decode, parts)),
    "fraction": lambda parts: fractions.Fraction(*map(decode, parts)),
    "decimal": decimal.Decimal,
    "iterator": lambda items: iter(list(map(decode, items))),
    "iterable": lambda items: OtherIterable(list(map(decode, items))),
    "other": lambda name: object(),
}


def decode(data):
    """Return the value that ``encode`` wrote: builtin and number types alone, whatever the data are."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if isinstance(data, dict):
        ((kind, content),) = data.items()
        return _DECODERS[kind](content)
    return data


class Gone(BaseException):
    """The other interpreter has ended: no exception of a program, and so for no ``except Exception`` of a test."""


def _send(pipe, text):
    try:
        pipe.write(text.encode() + b"\n")
        pipe.flush()
    except BrokenPipeError:
        raise Gone from None


def _receive(pipe):
    """Return the next message.

    Raises
    ------
    Gone
        When the other side has ended.
    """
    line = pipe.readline(MESSAGE_BYTES)
    if not line:
        raise Gone
    return json.loads(line)


# --- limits -----------------------------------------------------------------------------------------------------------


def _limit(name, value):
    kind = getattr(resource, name, None)
    if kind is not None:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _keep_open(*kept):
    """Close every other descriptor, whatever its number."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the list's own
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
    """Let no file be opened but what is below these paths, by Landlock: see landlock(7). It holds for root too.

    Of what is below the folders ``listed``, only names can be read.
    """
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, struct.pack("=Q", _LANDLOCK_RIGHTS), ctypes.c_size_t(8), 0)
    failed = [ruleset < 0]
    for path in (*paths, *listed):
        place = os.open(path, os.O_PATH)
        rights = (_LANDLOCK_READ_DIR if os.path.isdir(path) else 0) | (_LANDLOCK_READ_FILE if path in paths else 0)
        failed.append(libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0))
        os.close(place)
    failed.append(libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return failed


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _confine(request):
    """Give up everything but computing: limits first, then the filter that also refuses to change them."""
    _drop_root(required=request["must_drop_root"])
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_CPU", request["cpu_seconds"])
    _limit("RLIMIT_AS", request["memory_bytes"])
    _limit("RLIMIT_FSIZE", 0)
    _limit("RLIMIT_NOFILE", MOST_FILES)
    _limit("RLIMIT_NPROC", 0)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = [_drop_capabilities(libc)]
    # Dies with whoever started it; no other process of this user may look into it, which another user takes back.
    failed += [libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)]
    failed.append(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    if request["readable"]:
        failed += _read_only(libc, set(request["readable"]), request["listed"])
    if request["filter"]:
        code = bytes.fromhex(request["filter"])
        held = ctypes.create_string_buffer(code, len(code))
        program = _Filter(len(code) // 8, ctypes.addressof(held))
        failed.append(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))
    if any(failed):
        raise OSError(ctypes.get_errno(), "the kernel refused to confine the program")


# --- the two sides ----------------------------------------------------------------------------------------------------


def _module(name):
    """Return the namespace of a new module, which dataclasses, pickle and the like find by its name."""
    sys.modules[name] = types.ModuleType(name)
    return sys.modules[name].__dict__


def _serve(request, receiving, sending):
    """Run the program, then answer calls of its function until the test has no more."""
    space = _module("candidate")

    def load():
        exec(compile(request["code"], "<program>", "exec"), space)
        return space[request["entry_point"]]

    def answer(work, /, *arguments, **keywords):
        """Say what came of some work, and return it."""
        value = None
        try:
            value = work(*arguments, **keywords)
            text = json.dumps({"value": None if work is load else encode(value)})
        except BaseException as error:  # SystemExit and KeyboardInterrupt are failures too
            text = json.dumps({"raised": type(error).__name__})
        _send(sending, text)
        return value

    function = answer(load)
    with contextlib.suppress(Gone):
        while True:
            message = _receive(receiving)
            answer(function, *decode(message["arguments"]), **decode(message["keywords"]))


class Raised(Exception):
    """The program raised what no builtin exception has the name of; the name."""


def _raised(name):
    """Return the builtin exception of a name, as a test may expect it; else one that tells the name."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        with contextlib.suppress(TypeError):  # a few need arguments, and groups have to have some
            return kind.__new__(kind)
    return Raised(name[: LONGEST_NAME + 1])


def _judge(request, receiving, sending):
    """Run the test on a function that asks the program; return the verdict."""
    gone = False

    def answer(question=None):
        nonlocal gone
        try:
            if question is not None:
                _send(sending, question)
            message = _receive(receiving)
            if "raised" not in message:
                return decode(message["value"])
            error = _raised(message["raised"])
        except Gone:
            gone = True
            raise
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            error = Raised("InvalidAnswer")
        raise error

    def candidate(*arguments, **keywords):
        return answer(json.dumps({"arguments": encode(arguments), "keywords": encode(keywords)}))

    space = _module("test")
    try:
        helpers = compile(request["helpers"], "<helpers>", "exec")
    except SyntaxError:  # a prompt that is no program by itself defines nothing
        helpers = ""
    error = None
    try:
        exec(helpers, space)
        answer()
        space[request["entry_point"]] = candidate
        exec(compile(request["test"], "<test>", "exec"), space)
        space["check"](candidate)
    except Raised as raised:
        error = str(raised)
    except BaseException as raised:  # the program's own, such as SystemExit, among them
        error = type(raised).__name__
    return {"ended": True} if gone else {"error": error}


def _main():
    # No other program of this user may look for the test here.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    request = json.loads(sys.stdin.buffer.read())
    status = request["status"]
    _keep_open(0, 1, 2, request["receiving"], request["sending"], status)
    receiving, sending = os.fdopen(request["receiving"], "rb"), os.fdopen(request["sending"], "wb")
    _confine(request)
    # What it said until now is about the sandbox; what a program prints is not needed, and must fill nothing.
    os.dup2(1, 2)
    os.write(status, b"ready\n")
    if request["role"] == "test":
        os.write(status, json.dumps(_judge(request, receiving, sending)).encode() + b"\n")
    else:
        os.close(status)
        _serve(request, receiving, sending)
    # No atexit hooks, no destructors of the program's objects.
    os._exit(0)


if __name__ == "__main__":
    _main()
