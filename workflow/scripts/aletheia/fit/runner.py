"""Run Snakemake over a study's folder as a process of its own, and say where it is."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from aletheia.errors import UserError
from aletheia.fit.progress import Progress
from aletheia.fit.study_files import CONFIG
from aletheia.provenance.lineage import ROOT

LOG = "logs/snakemake.log"
LOOK_SECONDS = 0.5
# Where there is no terminal, a line is said when another job runs, and else this seldom.
LINE_SECONDS = 30.0
# Lines with which Snakemake and its steps say what the user can mend.
MISTAKE = re.compile(r"^(?:logs/\S+: )?error: (?P<sentence>.+)$")
KILL_SECONDS = 30
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Machine:
    """Where jobs run: Snakemake's ``--profile`` and ``--cores``; None for this machine, and all of its cores."""

    profile: str | None = None
    cores: int | None = None


def command(
    targets: Sequence[str], machine: Machine, *, config: str = CONFIG, options: Sequence[str] = ()
) -> list[str]:
    """Return Snakemake's command line, to be run in the study's folder."""
    words = [sys.executable, "-m", "snakemake", *targets, *options, "--snakefile", str(ROOT / "Snakefile")]
    words += ["--profile", machine.profile] if machine.profile else []
    words += ["--cores", str(machine.cores)] if machine.cores else []
    # Last, for it takes all that follows.
    return [*words, "--configfile", config]


def run(folder: Path, targets: Sequence[str], machine: Machine, *, config: str = CONFIG) -> None:
    """Make targets of a study, and say on standard error where it is.

    Raises
    ------
    UserError
        When a job fails: with the sentences that say why, and the log that has the rest.
    KeyboardInterrupt
        Once Snakemake has ended its jobs.
    """
    log = folder / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as written:
        # A group of its own, so that Ctrl-C reaches it once.
        process = subprocess.Popen(
            command(targets, machine, config=config),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _interruptible(process):
            _watch(process, folder, log)
    if process.returncode:
        raise UserError(_why(log))


def dry_run(folder: Path, targets: Sequence[str], machine: Machine, *, config: str = CONFIG) -> None:
    """Print what would run: Snakemake's own table of jobs."""
    words = command(targets, machine, config=config, options=["--dry-run", "--quiet", "rules", "host"])
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    if done.returncode:
        raise UserError(_sentences(text) or f"snakemake cannot plan: {' '.join(text.split())[-500:]}")
    start = text.find("Job stats")
    print(text[start:].split("\n\n")[0] if start >= 0 else "nothing to do: every file is there")


@contextlib.contextmanager
def _interruptible(process: subprocess.Popen) -> Iterator[None]:
    """End Snakemake and its jobs where this process is to end: by Ctrl-C, a closed terminal, or a batch system."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDS}
    try:
        yield
    except BaseException:
        _end(process)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen) -> None:
    """Interrupt a process and all of its group, and kill what has not ended after a while."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(KILL_SECONDS)
            return


def _watch(process: subprocess.Popen, folder: Path, log: Path) -> None:
    from aletheia.controller.notes import NoteWatcher

    steps = ("stage", "tokens", "precision", "train")
    display = Display(sys.stderr)
    notes = NoteWatcher([folder / "logs" / step for step in steps], display.note)
    progress = Progress(folder, log)
    while True:
        ended = process.poll() is not None
        progress.look()
        notes.look()
        display.show(progress)
        if ended:
            break
        time.sleep(LOOK_SECONDS)
    display.close()


class Display:
    """One line that is written anew on a terminal; elsewhere lines, one for each change of what runs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._last, self._said, self._jobs = "", 0.0, frozenset[str]()

    def show(self, progress: Progress) -> None:
        """Say where the study is."""
        sentence, now = progress.sentence(), time.monotonic()
        if self._terminal:
            width = os.get_terminal_size(self._stream.fileno()).columns
            self._write(f"\r\x1b[2K{sentence[: width - 1]}")
        elif sentence != self._last and (self._others_run(progress) or now - self._said > LINE_SECONDS):
            self._write(f"{sentence}\n")
            self._said = now
        self._last = sentence

    def _others_run(self, progress: Progress) -> bool:
        """Tell whether a job runs that did not before."""
        before, self._jobs = self._jobs, frozenset(progress.running)
        return not self._jobs <= before

    def note(self, sentence: str) -> None:
        """Say a note of a step."""
        self._write(f"\r\x1b[2Knote: {sentence}\n" if self._terminal else f"note: {sentence}\n")

    def close(self) -> None:
        """Leave a clean line."""
        if self._terminal:
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _why(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    tail = " ".join(text.split()[-60:])
    return f"{_sentences(text) or f'a job failed ({tail})'} (all of it: {log})"


def _sentences(text: str) -> str:
    found = dict.fromkeys(match["sentence"] for line in text.splitlines() if (match := MISTAKE.match(line.strip())))
    return "; ".join(found)
