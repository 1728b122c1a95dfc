"""Checkpoints: the newest, of this run, whole; anything else is thrown away."""

import errno

import pytest
import torch

from aletheia.training.checkpoints import Checkpoint

STATE = {"loop": {"done": 3, "rng": torch.arange(5)}, "record": {"losses": [1.5]}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / ".checkpoint"


def test_a_state_comes_back(path):
    Checkpoint(path, "a", 0).save(STATE)
    found = Checkpoint(path, "a", 0).load()
    assert found["record"] == STATE["record"]
    assert torch.equal(found["loop"]["rng"], STATE["loop"]["rng"])


@pytest.mark.parametrize("content", [b"", b"hello world", b"{}\n" * 50])
def test_what_is_no_checkpoint_is_thrown_away(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    assert Checkpoint(path, "a", 0).load() is None
    assert not path.exists()


def test_every_changed_byte_is_seen(path):
    Checkpoint(path, "a", 0).save(STATE)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert Checkpoint(path, "a", 0).load() is None


def test_another_runs_checkpoint_is_thrown_away(path):
    Checkpoint(path, "a", 0).save(STATE)
    assert Checkpoint(path, "b", 0).load() is None
    assert not path.exists()


def test_the_clock(path):
    assert Checkpoint(path, "a", 0).due()
    assert not Checkpoint(path, "a", 1000).due()
    assert not Checkpoint(path, "a", None).due()


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(path, monkeypatch, capsys):
    checkpoint = Checkpoint(path, "a", 0)
    checkpoint.save(STATE)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    checkpoint.save({**STATE, "more": 1})
    assert capsys.readouterr().out == "no checkpoint: No space left on device\n"
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [".checkpoint"]
