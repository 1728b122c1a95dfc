"""Say in one sentence when this Python is too old; written for any Python 3, so that an old one can say it."""

import sys

OLDEST, BEYOND = (3, 11), (3, 14)

if __name__ == "__main__" and not OLDEST <= sys.version_info[:2] < BEYOND:
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        "error: expected Python 3.11, 3.12 or 3.13, found " + found + " (" + sys.executable + "); "
        "install one of them and run `make PYTHON=/path/to/python3.11 ...`"
    )
