"""Modules that compute in another way for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@contextlib.contextmanager
def replaced_forwards(forwards: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Let modules compute by other functions within the context; hooks, parameters and what is saved stay theirs.

    Parameters
    ----------
    forwards
        Each module with what takes the place of its ``forward``. None may have one of its own already.
    """
    replaced = []
    try:
        for module, forward in forwards:
            # Into the instance's own attributes at once: torch's setattr looks for parameters and modules first.
            vars(module)["forward"] = forward
            replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward
