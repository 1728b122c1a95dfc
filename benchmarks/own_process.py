"""A side of a comparison in a process of its own, where what our process sets does not reach."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from typing import Any


def in_own_process(make: Callable[..., Callable[[], float]], **given: Any) -> Callable[[], float]:
    """Return what takes a step of a side there and gives its seconds.

    Parameters
    ----------
    make
        Returns the side, a function of a module; called in the new process.
    given
        Its arguments, which can be pickled.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, given), daemon=True)
    process.start()
    theirs.close()  # so that its end is an EOFError here
    ours.recv()  # it stands

    def step() -> float:
        ours.send(None)
        return ours.recv()

    return step


def _serve(pipe: Any, make: Callable[..., Callable[[], float]], given: dict[str, Any]) -> None:
    side = make(**given)
    pipe.send(None)
    with contextlib.suppress(EOFError):  # the comparison has ended
        while True:
            pipe.recv()
            pipe.send(side())
