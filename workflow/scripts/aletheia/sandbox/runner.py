"""What runs inside the sandbox, in two interpreters apart: a program in one, the test that calls it in the other.

Standard library only, beside :mod:`aletheia.sandbox.wire_format` and :mod:`aletheia.sandbox.restrictions`; a bare
interpreter gets the three as text (:func:`aletheia.sandbox.command.interpreter`). Standard input carries one JSON
request and then ends. The test's interpreter never runs the program's code: it sends arguments and gets values back,
as plain data over pipes. So a program can change its own interpreter as it likes and still has one way to pass, which
is to return what the test expects. The verdict goes through a pipe that only the test's interpreter holds.
"""

import builtins
import contextlib
import json
import os
import sys
import types

from aletheia.sandbox.restrictions import close_others, confine, hide_memory
from aletheia.sandbox.wire_format import decode, encode

# Bytes of one message, chosen by hand: the largest of HumanEval's has some ten thousand.
MESSAGE_BYTES = 1 << 24
LONGEST_NAME = 100


class Gone(BaseException):
    """The other interpreter has ended; no :class:`Exception`, so that no ``except Exception`` of a test catches it."""


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
        """Call ``work``, send its result or the name of its exception, and return the result."""
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
    """The program raised an exception that is no builtin one; its argument is the name."""


def _exception_named(name):
    """Return a builtin exception by its name, as a test may expect it; else :class:`Raised` with the name."""
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
            error = _exception_named(message["raised"])
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
    # Other programs of this user must not read the test from this process.
    hide_memory()
    request = json.loads(sys.stdin.buffer.read())
    status = request["status"]
    close_others(0, 1, 2, request["receiving"], request["sending"], status)
    receiving, sending = os.fdopen(request["receiving"], "rb"), os.fdopen(request["sending"], "wb")
    confine(request)
    # Standard error is for errors of the sandbox, up to here; a program's output is not needed, and must fill no pipe.
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
