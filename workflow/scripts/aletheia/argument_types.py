"""Types of command-line arguments: numbers within bounds and pairs, refused in argparse's own words."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number within bounds."""

    def parse(text: str) -> int:
        expected = f"expected a whole number of at least {least}" + (f" and at most {most}" if most is not None else "")
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{expected}, found {text!r}") from None
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{expected}, found {value}")
        return value

    return parse


def positive_number(text: str) -> float:
    """Return a finite number above 0: the type of such an argument."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return value


def named_column(text: str) -> tuple[str, str]:
    """Return our name of a column and the file's own, of a text such as ``instruction=question``."""
    ours, sign, theirs = text.partition("=")
    if not (ours and sign and theirs):
        raise argparse.ArgumentTypeError(f"expected a pair such as instruction=question, found {text!r}")
    return ours, theirs
