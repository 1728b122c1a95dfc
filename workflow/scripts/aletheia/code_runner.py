"""What runs inside the sandbox, in two interpreters apart: a program in one, the test that calls it in the other.

Standard library only; a bare interpreter gets this file as text. Standard input carries one JSON request and then
ends. The test's interpreter never runs the program's code: it sends arguments and gets values back, as plain data
over pipes. So a program can change its own interpreter as it likes and still has one way to pass, which is to
return what the test expects. The verdict goes through a pipe that only the test's interpreter holds.
"""

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
from collections.abc import Iterable, Iterator

NOBODY = 65534
# Bytes of one message, chosen by hand: the largest of HumanEval's has some ten thousand.
MESSAGE_BYTES = 1 << 24
MOST_FILES = 64
LONGEST_NAME = 100
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
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


def _send(pipe, text):
    pipe.write(text.encode() + b"\n")
    pipe.flush()


def _receive(pipe):
    """Return the next message.

    Raises
    ------
    EOFError
        When the other side has ended.
    """
    line = pipe.readline(MESSAGE_BYTES)
    if not line:
        raise EOFError
    return json.loads(line)


# --- limits -----------------------------------------------------------------------------------------------------------


def _limit(name, value):
    kind = getattr(resource, name, None)
    if kind is not None:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _drop_root(*, required):
    """Become nobody where that user can read the standard library: limits on processes do not bind root."""
    if os.geteuid() != 0:
        return
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        with open(os.__file__, "rb"):
            readable = True
    except OSError:
        readable = False
    os.seteuid(0)
    os.setegid(0)
    if readable:
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    elif required:
        raise PermissionError("the interpreter cannot be read by the user that programs run as")


def _read_only(libc, paths):
    """Let no file be opened but what is below these paths, by Landlock: see landlock(7). It holds for root too."""
    ruleset = libc.syscall(_LANDLOCK_CREATE_RULESET, struct.pack("=Q", _LANDLOCK_RIGHTS), ctypes.c_size_t(8), 0)
    failed = [ruleset < 0]
    for path in paths:
        place = os.open(path, os.O_PATH)
        rights = _LANDLOCK_READ_FILE | (_LANDLOCK_READ_DIR if os.path.isdir(path) else 0)
        failed.append(libc.syscall(_LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, place), 0))
        os.close(place)
    return [*failed, libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0)]


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def _confine(request):
    """Give up everything but computing: limits first, then the filter that also refuses to change them."""
    _drop_root(required=request["must_drop_root"])
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_CPU", request["cpu_seconds"])
    _limit("RLIMIT_AS", request["memory_bytes"])
    _limit("RLIMIT_FSIZE", request["file_bytes"])
    _limit("RLIMIT_NOFILE", MOST_FILES)
    _limit("RLIMIT_NPROC", 0)
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        # Dies with whoever started it; no other process of this user may look into it.
        failed = [libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)]
        failed.append(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if request["readable"]:
            failed += _read_only(libc, request["readable"])
        if request["filter"]:
            code = bytes.fromhex(request["filter"])
            held = ctypes.create_string_buffer(code, len(code))
            program = _Filter(len(code) // 8, ctypes.addressof(held))
            failed.append(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0))
        if any(failed):
            raise OSError(ctypes.get_errno(), "the kernel refused to confine the program")


# --- the two sides ----------------------------------------------------------------------------------------------------


def _serve(request, receiving, sending):
    """Run the program, then answer calls of its function until the test has no more."""
    space = {"__name__": "candidate", "__builtins__": __builtins__}

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
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            message = _receive(receiving)
            answer(function, *decode(message["arguments"]), **decode(message["keywords"]))


class Raised(Exception):
    """The program raised; the name of its exception."""


def _judge(request, receiving, sending):
    """Run the test on a function that asks the program; return the verdict."""

    def answer():
        try:
            message = _receive(receiving)
            if "raised" in message:
                raise Raised(str(message["raised"])[: LONGEST_NAME + 1])
            return decode(message["value"])
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            raise Raised("InvalidAnswer") from None

    def candidate(*arguments, **keywords):
        _send(sending, json.dumps({"arguments": encode(arguments), "keywords": encode(keywords)}))
        return answer()

    space = {"__name__": "test", "__builtins__": __builtins__}
    try:
        helpers = compile(request["helpers"], "<helpers>", "exec")
    except SyntaxError:  # a prompt that is no program by itself defines nothing
        helpers = ""
    try:
        exec(helpers, space)
        answer()
        space[request["entry_point"]] = candidate
        exec(compile(request["test"], "<test>", "exec"), space)
        space["check"](candidate)
    except (EOFError, BrokenPipeError):  # the program's interpreter is gone
        return {"ended": True}
    except Raised as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": type(error).__name__}
    return {"error": None}


def _main():
    request = json.loads(sys.stdin.buffer.read())
    receiving, sending = os.fdopen(request["receiving"], "rb"), os.fdopen(request["sending"], "wb")
    status = request["status"]
    _confine(request)
    # What it said until now is about the sandbox; what a program prints is not needed, and must fill nothing.
    os.dup2(1, 2)
    for descriptor in set(range(3, MOST_FILES)) - {request["receiving"], request["sending"], status}:
        with contextlib.suppress(OSError):
            os.close(descriptor)
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
