"""Notes in the logs of steps reach the user once each, while the study runs."""

import os
import time

from aletheia.controller.notes import NoteWatcher


def test_notes_are_handed_on_once_whatever_seed_repeats_them(tmp_path):
    told = []
    watcher = NoteWatcher([tmp_path / "tokens", tmp_path / "absent"], told.append)
    log = tmp_path / "tokens" / "tiny-seed1.log"
    log.parent.mkdir()
    log.write_text("loading\nnote: rows: 8 of 41 rows left out\nnote: half a li")
    watcher.look()
    assert told == ["rows: 8 of 41 rows left out"]
    with log.open("a") as handle:
        handle.write("ne\nerror: no note\n")
    (log.parent / "deeper").mkdir()
    (log.parent / "deeper" / "tiny-seed2.log").write_text("note: rows: 8 of 41 rows left out\n")
    watcher.look()
    watcher.look()
    assert told == ["rows: 8 of 41 rows left out", "half a line"]


def test_notes_of_earlier_runs_stay_unsaid(tmp_path):
    log = tmp_path / "old.log"
    log.write_text("note: of yesterday\n")
    os.utime(log, (time.time() - 3600, time.time() - 3600))
    told = []
    watcher = NoteWatcher([tmp_path], told.append)
    watcher.look()
    assert told == []


def test_a_log_that_a_retry_begins_anew_is_read_from_its_start(tmp_path):
    told, log = [], tmp_path / "x.log"
    watcher = NoteWatcher([tmp_path], told.append)
    log.write_text("a long line before it failed\n")
    watcher.look()
    log.write_text("note: now\n")
    watcher.look()
    assert told == ["now"]


def test_a_log_that_goes_meanwhile_is_passed_over(tmp_path):
    (tmp_path / "x.log").symlink_to(tmp_path / "gone")
    NoteWatcher([tmp_path], print).look()
