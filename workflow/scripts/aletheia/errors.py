"""A user's mistake is one sentence, never a traceback."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: what was expected, what came, where, and what to do, in one sentence."""


def guarded(main: Callable[[], None]) -> None:
    """Run a script's ``main``; end with one sentence and status 2 where the user can mend the cause.

    Any other error shows its traceback and ends with status 3, since 1 is a script's to say that it found something.

    Parameters
    ----------
    main
        The script's body.
    """
    try:
        main()
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            traceback.print_exc()
            raise SystemExit(3) from None
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None


def _sentence(error: Exception) -> str | None:
    """Return what the user can mend; None for any other error."""
    if isinstance(error, UserError):
        return str(error)
    # A full disk or a quota; other system errors keep their traceback.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" while writing {error.filename}" if error.filename else ""
        return (
            f"the disk is full{where}; nothing half-written was kept, so free some space and run the same command again"
        )
    return None
