"""A Snakemake logger that writes each planned job as one line of JSON, for `make audit`.

Snakemake finds it by its name where ``workflow/plugins`` is on ``PYTHONPATH``:
``snakemake -n --logger plan --logger-plan-path FILE``.
"""

import json
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Optional

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

FIELDS = {"rule": "rule_name", "outputs": "output", "inputs": "input", "reason": "reason", "command": "shellcmd"}


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """What ``--logger-plan-…`` sets."""

    # Snakemake reads this annotation at run time, and knows no `str | None`.
    path: Optional[str] = field(default=None, metadata={"help": "File for the planned jobs, one a line."})  # noqa: UP045


class LogHandler(LogHandlerBase):
    """Write the planned jobs; what is said on the terminal stays as it is."""

    def __post_init__(self) -> None:
        """Open the file."""
        self.baseFilename = self.settings.path
        self._file = Path(self.baseFilename).open("w", encoding="utf-8")  # noqa: SIM115 (until close)

    def emit(self, record: LogRecord) -> None:
        """Write one job."""
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            job = {name: getattr(record, attribute) for name, attribute in FIELDS.items()}
            print(json.dumps(job), file=self._file, flush=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    writes_to_stream = False
    writes_to_file = True
    has_filter = True
    has_formatter = True
    needs_rulegraph = False
