"""A user's mistake is one sentence, never a traceback."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
NO_RIGHT = "expected the right to read, write or run this and was refused; give it to this user"
REFUSAL_BY_ERRNO = {
    errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT,
    errno.EROFS: "expected to write here and found a read-only file system; mount it writable or choose another place",
}


class UserError(Exception):
    """Something the user can mend: what was expected, what came, where, and what to do, in one sentence."""


class Unreadable(UserError):
    """A file that is there and cannot be read: its mode, or the disk, forbids it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path}: cannot be read ({error.strerror})")
        self.path = path


def run_main(main: Callable[[], None]) -> None:
    """Run a script's ``main``; end with one sentence and status 2 where the user can mend the cause.

    Any other error shows its traceback and ends with status 3, since scripts use 1 to say that they found something.
    Ctrl-C ends with status 130, as in a shell.

    Parameters
    ----------
    main
        The script's body.
    """
    try:
        main()
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again, and it goes on from what is there", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            traceback.print_exc()
            raise SystemExit(3) from None
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2) from None


def _sentence(error: BaseException) -> str | None:
    """Return the sentence for an error that the user can mend; None for any other."""
    if isinstance(error, UserError):
        return str(error)
    full = [cause for cause in _chain(error) if _is_full_disk(cause)]
    if full:
        name = next(filter(None, (getattr(cause, "filename", None) for cause in full)), None)
        where = f" while writing {name}" if name else ""
        return (
            f"the disk is full{where}; nothing half-written was kept, so free some space and run the same command again"
        )
    # An error without a file name is about something else (a signal, a socket): its traceback says more.
    if isinstance(error, OSError) and error.filename and error.errno in REFUSAL_BY_ERRNO:
        return f"{error.filename}: {REFUSAL_BY_ERRNO[error.errno]} and run the same command again"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, then its causes or contexts: libraries wrap the error of a full disk in one of their own."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_full_disk(error: BaseException) -> bool:
    """Tell whether an error is a full disk or quota: by its number, or by its text, as from C or Rust."""
    number = error.errno if isinstance(error, OSError) else None
    return number in DISK_FULL_ERRNOS or any(os.strerror(code) in str(error) for code in DISK_FULL_ERRNOS)
