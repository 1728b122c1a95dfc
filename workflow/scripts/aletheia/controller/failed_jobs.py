"""The sentences with which failed jobs' logs end, to be printed last, where they are read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

FAILED = re.compile(r"^ *log: (\S+) \(check log", re.MULTILINE)  # in Snakemake's own log


def failed_sentences(controller_logs: Iterable[Path | str]) -> list[str]:
    """Return the sentence that each failed job's log ends with, where its script knew what went wrong.

    Parameters
    ----------
    controller_logs
        Snakemake's own logs, which name those of the jobs that failed.
    """
    logged = "\n".join(Path(path).read_text(encoding="utf-8") for path in controller_logs)
    sentences = ((name, _sentence(Path(name))) for name in dict.fromkeys(FAILED.findall(logged)))
    return [f"{name}: {sentence}" for name, sentence in sentences if sentence]


def _sentence(log: Path) -> str | None:
    """Return the sentence that a log ends with, or that its disk had no room for one."""
    line = log.read_text(encoding="utf-8").strip().split("\n")[-1] if log.is_file() else ""
    if line.startswith("error: "):
        return line
    if log.parent.is_dir() and shutil.disk_usage(log.parent).free == 0:
        return "error: the disk is full, so this log is cut; free some space and run the same command again"
    return None
