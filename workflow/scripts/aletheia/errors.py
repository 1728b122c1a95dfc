"""A user's mistake is one sentence, never a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: what was expected, what came, where, and what to do, in one sentence."""


def guarded(main: Callable[[], None]) -> None:
    """Run a script's ``main``; end with one sentence and status 2 where the user can mend the cause.

    Parameters
    ----------
    main
        The script's body.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        # A full disk or a quota is the user's to mend; other system errors keep their traceback.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(
            f"error: the disk is full{where}; nothing half-written was kept, so free some space and run the "
            "same command again",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
