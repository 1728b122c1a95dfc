"""What goes into an evidence bundle is whole, and is found whole where the bundle is unpacked."""

import shutil
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

import ledgers
from aletheia.audit import archive as evidence
from aletheia.audit import bundle
from aletheia.audit.lineage_graph import trace
from aletheia.audit.sidecars import ancestry
from aletheia.audit.verification import verify_files, verify_folders
from aletheia.errors import UserError
from aletheia.provenance import artifacts

ADAPTER = "results/train/m/std/seed1/adapter"
RUN = "results/train/m/std/seed1/run.json"
EXPECTED = dict.fromkeys((RUN, ADAPTER, f"{ADAPTER}{artifacts.SIDECAR}"), "train_std")


@pytest.fixture
def diverged(tmp_path, monkeypatch):
    """Work in a folder with a run that diverged, which leaves an empty adapter."""
    monkeypatch.chdir(tmp_path)
    Path(ADAPTER).mkdir(parents=True)
    ledgers.sealed(Path(RUN), "run", ledgers.run("m", "std", 1, status="diverged", reason="not finite")["payload"])
    ledgers.sealed(artifacts.sidecar(Path(ADAPTER)), "file", {"name": "adapter", "files": {}, "about": {}})


def test_a_run_that_failed_is_whole_where_its_bundle_is_unpacked(diverged, monkeypatch):
    members = set()
    for path in map(Path, EXPECTED):
        bundle.add_member(path, members, {}, weights=True)
    evidence.write_archive(Path("bundle.zip"), members, {}, datetime(2026, 1, 1, tzinfo=UTC))
    with zipfile.ZipFile("bundle.zip") as archive:
        archive.extractall("elsewhere")
    monkeypatch.chdir("elsewhere")
    assert not Path(ADAPTER).exists()
    assert verify_folders([Path("results"), Path("resources")], EXPECTED).findings == []
    assert verify_files(ancestry([Path(RUN), Path(ADAPTER)])).findings == []
    assert {node.status for node in trace([RUN, ADAPTER]).nodes.values()} == {"ok"}
    # And it can be bundled again from there.
    bundle.expect_whole("results", "resources", EXPECTED)
    bundle.add_member(Path(ADAPTER), members, {}, weights=True)
    assert members == {RUN, f"{ADAPTER}{artifacts.SIDECAR}"}


def test_only_a_whole_sidecar_excuses_a_folder_that_is_gone(diverged):
    shutil.rmtree(ADAPTER)
    beside = artifacts.sidecar(Path(ADAPTER))
    beside.write_bytes(beside.read_bytes().replace(b'"adapter"', b'"adaptor"'))
    found = {f.path for f in verify_folders([Path("results")], EXPECTED).findings}
    assert found == {ADAPTER, str(beside)}


def test_a_file_that_was_changed_since_its_artifact_recorded_it_is_refused(diverged):
    """An adapter's card, a staged row: only the artifact beside them vouches for them."""
    card, rows = Path(ADAPTER) / "README.md", Path("resources/data/rows/heldout.jsonl")
    rows.parent.mkdir(parents=True)
    owners = {}
    for file, owner in ((card, artifacts.sidecar(card.parent)), (rows, artifacts.sidecar(rows.parent))):
        file.write_text("whole")
        recorded = {"sha256": artifacts.sha256_file(file), "bytes": 5}
        payload = {"name": file.parent.name, "files": {file.name: recorded}, "about": {}}
        owners[file] = ledgers.sealed(owner, "file", payload)
    members = set(map(str, [*owners, *owners.values()]))
    bundle.expect_unchanged(members)
    for file, owner in owners.items():
        file.write_text("other")
        with pytest.raises(UserError, match=f"^{file}: changed after {owner} recorded it .*restore it, or delete"):
            bundle.expect_unchanged(members)
        file.unlink()
        with pytest.raises(UserError, match=f"^{file}: changed after {owner} recorded it .*found no file"):
            bundle.expect_unchanged(members)
        # Where it is left out, nothing can be said of it.
        bundle.expect_unchanged(members - {str(file)})
        file.write_text("whole")


def test_an_artifact_whose_first_byte_was_changed_is_no_other_file(diverged):
    whole = Path(RUN).read_bytes()
    Path(RUN).write_bytes(b"[" + whole[1:])
    with pytest.raises(UserError, match=f"^{RUN}: expected an artifact"):
        bundle.expect_unchanged({RUN}, EXPECTED)
