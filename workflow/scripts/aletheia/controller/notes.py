"""Notes of steps to the user while a study runs: the lines of their logs that begin with ``note: ``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

NOTE_PREFIX = "note: "
INTERVAL_SECONDS = 2.0


class NoteWatcher:
    """Hands on each note of some logs once, whatever job wrote it and wherever that ran.

    Parameters
    ----------
    folders
        Where the logs are.
    tell
        Called with each note, without its first word.
    """

    def __init__(self, folders: Iterable[Path], tell: Callable[[str], None]) -> None:
        self._folders, self._tell = list(folders), tell
        self._started = time.time()
        self._read: dict[Path, int] = {}
        self._said: set[str] = set()
        self._busy = threading.Lock()

    def start(self) -> None:
        """Look for notes every two seconds from now on, until the process ends."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(INTERVAL_SECONDS)
            self.look()

    def look(self) -> None:
        """Hand on the notes that were written since the last look."""
        with self._busy:
            for path in (path for folder in self._folders if folder.is_dir() for path in folder.glob("**/*.log")):
                self._look_into(path)

    def _look_into(self, path: Path) -> None:
        try:
            status = path.stat()
            # A second of grace, since clocks of a file system and of this machine differ.
            if status.st_mtime < self._started - 1:
                return
            position = self._read.get(path, 0)
            # A job that is tried again begins its log anew.
            position = position if position <= status.st_size else 0
            with path.open("rb") as handle:
                handle.seek(position)
                content = handle.read()
        except OSError:
            return
        whole = content.rfind(b"\n") + 1
        self._read[path] = position + whole
        for line in content[:whole].decode("utf-8", errors="replace").splitlines():
            note = line.removeprefix(NOTE_PREFIX)
            if note != line and note not in self._said:
                self._said.add(note)
                self._tell(note)
