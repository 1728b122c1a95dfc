"""An artifact is whole or absent, says what made it, and shows any change of a byte."""

import errno
import json
import multiprocessing
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from aletheia.audit.file_cache import FileCache
from aletheia.errors import UserError, run_main
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import read, sidecar
from aletheia.provenance.job import Job, Step
from aletheia.provenance.locking import hold_lock

PAYLOAD = {"dtype": "bf16", "candidates": ["bf16", "fp32"]}


def job(outputs, inputs=(), **config):
    return Job(Step("precision", "precision.py", config), inputs=inputs, outputs=outputs)


def write(path, **config):
    with job([path], **config) as work:
        work.write_json(path, kind="precision", payload=PAYLOAD)
    return path


def test_an_artifact_holds_what_made_it(tmp_path):
    source = tmp_path / "input.txt"
    source.write_text("rows")
    out = tmp_path / "out.json"
    with job([out], [source], precision={"batch_size": 2}) as work:
        work.write_json(out, kind="precision", payload=PAYLOAD, observed={"pass_seconds": {}})
    envelope = read(out, "precision")
    assert envelope["payload"] == PAYLOAD
    lineage = envelope["lineage"]
    assert lineage["inputs"] == {source.as_posix(): {"sha256": artifacts.sha256_file(source)}}
    assert lineage["config"] == {"precision": {"batch_size": 2}}
    assert {"precision.py", "aletheia.training.precision", "aletheia.provenance.artifacts"} <= set(lineage["code"])
    assert "aletheia.training.trainer" not in lineage["code"]
    assert lineage["environment"]["packages"]["torch"]
    assert {"started", "ended", "host", "peak_memory_bytes", "pass_seconds"} <= set(envelope["observed"])


def test_equal_work_has_equal_hashes(tmp_path):
    first, second = read(write(tmp_path / "a.json")), read(write(tmp_path / "b.json"))
    assert first["payload_sha256"] == second["payload_sha256"]
    assert first["sha256"] != second["sha256"] or first["observed"] == second["observed"]


def test_every_changed_byte_is_seen(tmp_path):
    path = write(tmp_path / "out.json")
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(300):
        position = draw.randrange(len(whole))
        other = draw.choice([b for b in range(256) if b != whole[position]])
        path.write_bytes(whole[:position] + bytes([other]) + whole[position + 1 :])
        with pytest.raises(UserError, match=r"out\.json"):
            read(path)
    path.write_bytes(whole + b" ")
    with pytest.raises(UserError, match="changed after it was written"):
        read(path)


@pytest.mark.parametrize("other", [{"schema": "hunch"}, {"version": 2}, {"version": None}])
def test_an_artifact_of_another_version_of_the_code_is_one_sentence(tmp_path, other):
    path = write(tmp_path / "out.json")
    envelope = {**read(path), **other}
    envelope.pop("sha256")
    path.write_bytes(artifacts.canonical_bytes(artifacts.seal(envelope)))
    shown = f"schema {envelope['schema']} version {envelope['version']}"
    with pytest.raises(UserError, match=f"{shown} is not known to this version of the code"):
        read(path)


@pytest.mark.parametrize(
    ("part", "place"),
    [
        *((("lineage", part), "lineage") for part in ("step", "inputs", "code", "config", "environment", "commit")),
        (("lineage", "inputs", "input.txt", "sha256"), "lineage/inputs/input.txt"),
        (("lineage", "environment", "packages"), "lineage/environment"),
        (("lineage",), "its top"),
        (("payload_sha256",), "its top"),
        (("observed",), "its top"),
    ],
)
def test_an_artifact_that_does_not_say_what_made_it_is_one_sentence(tmp_path, monkeypatch, part, place):
    monkeypatch.chdir(tmp_path)
    Path("input.txt").write_text("rows")
    path = Path("out.json")
    with job([path], [Path("input.txt")]) as work:
        work.write_json(path, kind="precision", payload=PAYLOAD)
    envelope = holder = read(path)
    for key in part[:-1]:
        holder = holder[key]
    del holder[part[-1]]
    envelope.pop("sha256")
    path.write_bytes(artifacts.canonical_bytes(artifacts.seal(envelope)))
    with pytest.raises(UserError, match=rf"out\.json: .* at {place}: '{part[-1]}' is a required property"):
        read(path)


def test_an_error_that_no_user_can_mend_has_its_traceback_and_a_status_of_its_own(capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: 1 / 0)
    # 1 says that verify, audit or lineage found something.
    assert stop.value.code == 3
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_reading_what_is_no_artifact_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="expected an artifact here and found none"):
        read(tmp_path / "none.json")
    (tmp_path / "plain.json").write_text("{}")
    with pytest.raises(UserError, match="found something else"):
        read(tmp_path / "plain.json")
    with pytest.raises(UserError, match="expected an artifact of kind run, found precision"):
        read(write(tmp_path / "out.json"), "run")


def test_a_file_that_the_disk_fails_to_read_is_one_sentence(tmp_path):
    # A process's memory has nothing at its start: reading there is an input/output error.
    path = tmp_path / "out.json"
    path.symlink_to("/proc/self/mem")
    for reader in (read, artifacts.sha256_file, artifacts.read_input, FileCache().sha256):
        with pytest.raises(UserError, match=r"out\.json: cannot be read \(Input/output error\)$"):
            reader(path)
    assert artifacts.is_envelope(path)


def test_a_folder_that_is_replaced_need_not_be_read(tmp_path):
    folder = tmp_path / "adapter"
    for content in ("old", "new"):
        with job([folder]) as work:
            assert not work.done
            work.write_file(folder, write=fill_folder(content))
        (folder / "memory").symlink_to("/proc/self/mem")


def test_a_payload_that_does_not_fit_its_schema_is_never_written(tmp_path):
    out = tmp_path / "out.json"
    with pytest.raises(UserError, match="does not fit its schema at dtype"), job([out]) as work:
        work.write_json(out, kind="precision", payload={"dtype": "int3", "candidates": []})
    with pytest.raises(ValueError, match="JSON compliant"):
        artifacts.canonical_bytes({"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_files_and_folders_get_a_sidecar(tmp_path):
    table, folder = tmp_path / "table.csv", tmp_path / "adapter"

    def fill(path):
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "weights.bin").write_bytes(b"12")

    with job([table, folder]) as work:
        work.write_file(table, write=lambda path: path.write_text("a,b\n"), about={"rows": 0})
        work.write_file(folder, write=fill)
    assert read(sidecar(table), "file")["payload"]["files"]["table.csv"]["bytes"] == 4
    assert list(read(sidecar(folder), "file")["payload"]["files"]) == ["deep/weights.bin"]
    # Snakemake's own time stamp is no content.
    (folder / ".snakemake_timestamp").touch()
    with job([table, folder]) as work:
        assert work.done


def test_a_job_reads_each_input_once_and_goes_on_with_what_it_recorded(tmp_path, monkeypatch):
    source, named_otherwise, plain = write(tmp_path / "in.json"), tmp_path / "in.artifact", tmp_path / "in.txt"
    named_otherwise.write_bytes(source.read_bytes())
    plain.write_text("rows")
    opens, opening = [], Path.open
    monkeypatch.setattr(Path, "open", lambda path, *more, **how: (opens.append(path), opening(path, *more, **how))[1])
    monkeypatch.setattr(Path, "read_bytes", lambda path: path.open("rb").read())
    with job([tmp_path / "out.json"], [source, named_otherwise, plain]) as work:
        assert work.input(None, "precision") is None
        assert (opens.count(source), opens.count(plain)) == (1, 1)
        source.write_text("another, or nothing that is whole")
        opens.clear()
        for _ in range(2):
            assert artifacts.read(work.input(source, "precision"), "precision")["payload"] == PAYLOAD
            assert work.input(source, "precision").payload == PAYLOAD
        assert opens == []
        found = work.input(source, "precision")
        assert work.lineage["inputs"][source.as_posix()]["sha256"] == found.sha256 != artifacts.sha256_file(source)
        with pytest.raises(UserError, match=r"in\.json: expected an artifact of kind run, found precision"):
            work.input(source, "run")
        with pytest.raises(UserError, match=r"in\.txt: expected an artifact \(JSON with its own sha256\)"):
            work.input(plain, "precision")
        # Not known as an artifact by its name, so that it is opened once more: it must still be what was recorded.
        write(tmp_path / "other.json", a={"x": 1}).rename(named_otherwise)
        with pytest.raises(UserError, match=r"in\.artifact: changed since this job began; run it again"):
            work.input(named_otherwise, "precision")


def test_the_same_work_is_not_done_twice(tmp_path):
    out, source = tmp_path / "out.json", tmp_path / "input.txt"
    source.write_text("rows")
    with job([out], [source], a={"x": 1}) as work:
        assert not work.done
        work.write_json(out, kind="precision", payload=PAYLOAD)
    with job([out], [source], a={"x": 1}) as work:
        assert work.done
    with job([out], [source], a={"x": 2}) as work:
        assert not work.done
    source.write_text("other rows")
    with job([out], [source], a={"x": 1}) as work:
        assert not work.done


def test_a_changed_file_beside_its_sidecar_is_not_taken_as_done(tmp_path):
    table = tmp_path / "table.csv"
    for content in ("a", "b"):
        with job([table]) as work:
            assert not work.done
            work.write_file(table, write=lambda path, content=content: path.write_text(content))
        table.write_text("tampered")


def test_a_full_disk_leaves_nothing_half_written(tmp_path, capsys):
    out = tmp_path / "table.csv"

    def main():
        def full(path):
            path.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        with job([out]) as work:
            work.write_file(out, write=full)

    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 2
    assert "the disk is full" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _killed_while_writing(path):
    def slow(temporary):
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    with job([path]) as work:
        work.write_file(path, write=slow)


def test_a_killed_job_leaves_nothing_that_a_rerun_trusts(tmp_path):
    out = tmp_path / "table.csv"
    process = multiprocessing.get_context("fork").Process(target=_killed_while_writing, args=(out,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not out.exists()
    # Its lock died with it: nobody unlocks by hand.
    with job([out]) as work:
        assert not work.done
        work.write_file(out, write=lambda path: path.write_text("whole"))
    assert out.read_text() == "whole"


def _hold(path: Path, log: Path):
    with hold_lock(path):
        with log.open("a") as handle:
            handle.write("in ")
        time.sleep(0.05)
        with log.open("a") as handle:
            handle.write("out ")


def test_twins_never_write_together(tmp_path):
    context = multiprocessing.get_context("fork")
    twins = [context.Process(target=_hold, args=(tmp_path / "x.json", tmp_path / "log")) for _ in range(6)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join(30)
    assert (tmp_path / "log").read_text() == "in out " * 6
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


def _twin(outputs: list[Path], log: Path):
    with job(outputs) as work:
        if work.done:
            return
        with log.open("a") as handle:
            handle.write("in ")
        time.sleep(0.2)
        for path in outputs:
            work.write_file(path, write=lambda temporary: temporary.write_text("whole"))
        with log.open("a") as handle:
            handle.write("out ")


def _processes(target, *arguments):
    """Start a process for each tuple of arguments."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=target, args=each) for each in arguments]
    for process in started:
        process.start()
    return started


def test_a_twin_waits_and_finds_the_work_done(tmp_path):
    twins = _processes(_twin, *[([tmp_path / "x.csv"], tmp_path / "log")] * 3)
    for twin in twins:
        twin.join(60)
        assert twin.exitcode == 0
    assert (tmp_path / "log").read_text() == "in out "
    assert {p.name for p in tmp_path.iterdir()} == {"x.csv", "x.csv.lineage.json", "log"}


def test_jobs_that_share_some_output_never_write_together(tmp_path):
    a, b, c = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    # Each names another output first, and each pair shares one.
    jobs = _processes(_twin, *(([*pair], tmp_path / "log") for pair in ((a, b), (c, a), (b, c))))
    for process in jobs:
        process.join(60)
        assert process.exitcode == 0
    assert re.fullmatch("(in out ){2,3}", (tmp_path / "log").read_text())


def test_a_killed_holder_leaves_the_work_to_the_twin_that_waits(tmp_path):
    out, log = tmp_path / "x.csv", tmp_path / "log"
    (holder,) = _processes(_killed_while_held, (out, log))
    while not log.exists():
        time.sleep(0.01)
    (twin,) = _processes(_twin, ([out], log))
    time.sleep(0.3)
    assert log.read_text() == "held "  # the twin waits
    os.kill(holder.pid, signal.SIGKILL)
    twin.join(60)
    assert log.read_text() == "held in out "
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def _killed_while_held(path, log):
    def slow(temporary):
        temporary.write_text("half")
        log.write_text("held ")
        time.sleep(60)

    with job([path]) as work:
        work.write_file(path, write=slow)


def test_leftovers_of_killed_jobs_go_and_those_of_other_artifacts_stay(tmp_path):
    gone = [".x.7.tmp.csv", ".x.csv.7.old", ".x.csv.lineage.7.tmp.json"]
    stay = [".x.y.7.tmp.csv", ".x.tmp.csv", ".xx.7.tmp.csv", ".x.7.tmp.json", ".x.csv.old"]
    for name in [*gone, *stay]:
        (tmp_path / name).write_text("half")
    (tmp_path / ".x.8.tmp.csv").mkdir()
    (tmp_path / ".x.csv.lock").touch()
    with job([tmp_path / "x.csv"]) as work:
        work.write_file(tmp_path / "x.csv", write=lambda path: path.write_text("whole"))
    assert {p.name for p in tmp_path.iterdir()} == {*stay, "x.csv", "x.csv.lineage.json"}


def _folder(path, content, *, killed_after_renames=None):
    """Write a folder; die by SIGKILL after so many renames."""
    rename, renames = Path.rename, []

    def dying(self, target):
        renames.append(rename(self, target))
        if len(renames) == killed_after_renames:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.rename = dying if killed_after_renames else rename

    with job([path], content=content) as work:
        assert not work.done
        work.write_file(path, write=fill_folder(content))


@pytest.mark.parametrize("killed_after_renames", [1, 2])
def test_a_kill_between_the_renames_of_a_folder_heals(tmp_path, killed_after_renames):
    folder = tmp_path / "adapter"
    (first,) = _processes(_folder, (folder, "old"))
    first.join(60)
    process = multiprocessing.get_context("fork").Process(
        target=_folder, args=(folder, "new"), kwargs={"killed_after_renames": killed_after_renames}
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [p.name for p in tmp_path.glob(".adapter.*.old")]
    # Whatever stands there, nothing vouches for it.
    assert not sidecar(folder).exists()
    (healed,) = _processes(_folder, (folder, "new"))
    healed.join(60)
    assert healed.exitcode == 0
    assert read(sidecar(folder), "file")["payload"]["files"] == artifacts.folder_files(folder)
    assert (folder / "weights").read_text() == "new"
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "adapter.lineage.json"}


def fill_folder(content):
    def fill(temporary):
        temporary.mkdir()
        (temporary / "weights").write_text(content)

    return fill


def test_a_folder_behind_a_link_is_replaced_and_its_target_stays(tmp_path):
    folder, target = tmp_path / "adapter", tmp_path / "scratch"
    fill_folder("old")(target)
    folder.symlink_to(target)
    with job([folder]) as work:
        work.write_file(folder, write=fill_folder("new"))
    assert (folder / "weights").read_text() == "new"
    assert (target / "weights").read_text() == "old"
    assert {p.name for p in tmp_path.iterdir()} == {"adapter", "adapter.lineage.json", "scratch"}


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    folder, rename = tmp_path / "adapter", Path.rename
    fill_folder("old")(folder)

    def failing(self, target):
        if target == folder and self.suffix == ".tmp":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output error"), job([folder]) as work:
        work.write_file(folder, write=fill_folder("new"))
    assert (folder / "weights").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_the_files_of_a_folder_are_found_behind_links_and_each_loop_ends(tmp_path):
    fill_folder("1")(tmp_path / "disk")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "adapter" / "twice").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "adapter")
    assert list(artifacts.folder_files(tmp_path / "adapter")) == ["linked/weights", "twice/weights"]


def test_a_full_disk_that_a_writer_hides_in_a_message_is_named(tmp_path, capsys):
    def main():
        def full(path):
            path.write_text("half")
            raise RuntimeError("I/O error: No space left on device (os error 28)")

        with job([tmp_path / "x.csv"]) as work:
            work.write_file(tmp_path / "x.csv", write=full)

    with pytest.raises(SystemExit):
        run_main(main)
    assert "the disk is full while writing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _wrapped(how, number):
    """Raise as the libraries do that write: a full disk inside another error."""
    try:
        raise OSError(number, os.strerror(number), "x.bin")
    except OSError as error:
        if how == "cause":
            raise RuntimeError("cannot save") from error
        if how == "context":
            raise RuntimeError("cannot save")  # noqa: B904 - as found in the wild
        raise RuntimeError(f"cannot save: {os.strerror(number)} (os error {number})") from None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("how", ["cause", "context", "message"])
def test_a_full_disk_inside_another_error_is_named(capsys, how, number):
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: _wrapped(how, number))
    assert stop.value.code == 2
    where = "" if how == "message" else " while writing x.bin"
    assert capsys.readouterr().err.startswith(f"error: the disk is full{where}; ")


def test_an_error_of_another_kind_in_the_chain_keeps_its_traceback(capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(lambda: _wrapped("cause", errno.EIO))
    assert stop.value.code == 3
    assert "cannot save" in capsys.readouterr().err


def test_bytes_reach_the_disk_before_their_name(tmp_path, monkeypatch):
    events = []
    for module, name in ((os, "fsync"), (Path, "replace"), (Path, "rename")):
        original = getattr(module, name)

        def noted(*arguments, name=name, original=original):
            target = os.readlink(f"/proc/self/fd/{arguments[0]}") if name == "fsync" else arguments[0]
            events.append((name, Path(target).name))
            return original(*arguments)

        monkeypatch.setattr(module, name, noted)
    write(tmp_path / "x.json")
    temporary = f".x.{os.getpid()}.tmp.json"
    assert events == [("fsync", temporary), ("replace", temporary), ("fsync", tmp_path.name)]


def test_a_rerun_is_possible_without_write_permission_on_the_old_file(tmp_path):
    out = write(tmp_path / "out.json", a={"x": 1})
    out.chmod(0o444)
    write(out, a={"x": 2})
    assert read(out)["lineage"]["config"] == {"a": {"x": 2}}


def test_a_sidecar_names_json_that_is_an_input(tmp_path):
    out = write(tmp_path / "out.json")
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({"payload_sha256": "x"}))
    assert set(artifacts.read_input(out)[0]) == {"sha256", "payload_sha256"}
    assert set(artifacts.read_input(plain)[0]) == {"sha256"}


def test_an_input_beside_another_file_s_sidecar_is_one_sentence(tmp_path):
    mine, other = tmp_path / "mine.csv", tmp_path / "other.csv"
    for path in (mine, other):
        with job([path]) as work:
            work.write_file(path, write=lambda temporary: temporary.write_text("a,b\n"))
    artifacts.sidecar(other).replace(artifacts.sidecar(mine))
    with pytest.raises(UserError, match=r"mine\.csv: its sidecar mine\.csv\.lineage\.json is another file's"):
        artifacts.read_input(mine)
