"""Run one program and its test, inside the sandbox; a bare interpreter gets this file as text.

Standard library only. Standard input carries one JSON request and then ends. A verdict goes to the inherited
pipe ``fd``, signed with the request's random token, and only once the test has returned or raised: a program
that leaves the interpreter (``os._exit``), or prints what a verdict looks like, says nothing on that pipe.
"""

import json
import os
import resource
import sys
import threading

NOBODY = 65534


def _limit(name, value):
    kind = getattr(resource, name, None)
    if kind is not None:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _drop_root():
    """Become nobody where that user can read the standard library: root may raise its own limits again."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    except OSError:
        return  # a user namespace without that user
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


def _run(request, outcome):
    # After this thread exists: no further thread or process, except for root.
    _limit("RLIMIT_NPROC", 0)
    space = {"__name__": "candidate", "__builtins__": __builtins__}
    try:
        exec(compile(request["code"], "<program>", "exec"), space)
        exec(compile(request["test"], "<test>", "exec"), space)
        space["check"](space[request["entry_point"]])
    except BaseException as error:  # SystemExit and KeyboardInterrupt are failures too
        outcome["error"] = type(error).__name__
    else:
        outcome["error"] = None


def _main():
    request = json.loads(sys.stdin.buffer.read())
    token, descriptor = request.pop("token"), request.pop("fd")
    _drop_root()
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_CPU", request["cpu_seconds"])
    _limit("RLIMIT_AS", request["memory_bytes"])
    _limit("RLIMIT_FSIZE", request["file_bytes"])
    _limit("RLIMIT_NOFILE", 64)
    outcome = {}
    # A thread of its own, so that the program's call stack does not lead to the token.
    worker = threading.Thread(target=_run, args=(request, outcome), daemon=True)
    worker.start()
    worker.join()
    os.write(descriptor, json.dumps({"token": token, **outcome}).encode() + b"\n")
    # No atexit hooks, no destructors of the program's objects.
    os._exit(0)


if __name__ == "__main__":
    _main()
