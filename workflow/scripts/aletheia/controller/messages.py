"""Snakemake's messages about a user's mistakes, in one sentence each.

Snakemake wraps what a rule's function raises into a page with a traceback, calls a misspelt target a missing rule, and
prints a failed job's command with every digest of its lineage, twice. A filter on its logger says the sentence instead.
A message that it does not know passes unchanged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from aletheia.errors import UserError

# The error of one of our own functions, as Snakemake wraps it (exceptions.py of 9.27).
WRAPPED_ERROR = re.compile(
    r'\A(?:WorkflowError in file ".*", line \d+:\n|InputFunctionException in rule .*\nError:\n  WorkflowError:\n    )'
    r"(?P<sentence>.+?)"
    r'(?:\n(?:  File ".*|Wildcards:.*))*\s*\Z',
    re.DOTALL,
)
MISSING_RULE = re.compile(r"No rule to produce (?P<target>.+?) \(if you use input functions")
LINEAGE = re.compile(r" --lineage .*? (?=> )", re.DOTALL)
EXPORTS = re.compile(r"set -euo pipefail; export ALETHEIA_SCRIPTS=.*?;\s+")


class OneSentenceFilter(logging.Filter):
    """Rewrite records of Snakemake's logger that are about a mistake of the user's.

    Parameters
    ----------
    check_target
        Raises a :class:`aletheia.errors.UserError` for a target that the study does not make.
    """

    def __init__(self, check_target: Callable[[str], None]) -> None:
        super().__init__()
        self._check_target = check_target

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite a record about a mistake of the user's, and let every record pass."""
        if getattr(record, "exception", None):
            record.msg = self._rewrite(record.exception, str(record.msg))
        elif record.levelno >= logging.ERROR and getattr(record, "shellcmd", None):
            record.shellcmd = shorten_command(record.shellcmd)
        return True

    def _rewrite(self, exception: str, text: str) -> str:
        if exception == "MissingRuleException" and (missing := MISSING_RULE.search(text)):
            try:
                self._check_target(missing["target"])
            except UserError as error:
                return f"error: {error}"
        ours = WRAPPED_ERROR.match(text)
        return f"error: {ours['sentence']}" if ours else shorten_command(text)


def shorten_command(text: str) -> str:
    """Return a failed job's command without its lineage, which ``snakemake --printshellcmds`` shows in full."""
    return EXPORTS.sub("", LINEAGE.sub(" --lineage … ", text))
