"""Training curves touch only what they wrote, and a full disk ends them without ending the training."""

import resource
import signal
from types import SimpleNamespace

import pytest

from aletheia.training.tensorboard import TrainingEvents

STEP = SimpleNamespace(loss=1.0, gradient_norm=0.5, learning_rate=1e-3)


def test_only_event_files_are_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    (tmp_path / "events.out.tfevents.1.host").write_text("old")
    curves = TrainingEvents(tmp_path)
    curves.add(1, STEP, 0.1)
    curves.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert "thesis.tex" in names
    assert "events.out.tfevents.1.host" not in names
    assert len(names) == 2


def test_no_folder_writes_nothing(tmp_path, monkeypatch):
    """Not even where it stands, which is where TensorBoard's writer would put what has no folder."""
    monkeypatch.chdir(tmp_path)
    curves = TrainingEvents(None)
    curves.add(1, STEP, 0.1)
    curves.close()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files():
    """Let files of this process grow to 600 bytes only, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_the_curves_with_one_line(tmp_path, small_files, capsys):
    curves = TrainingEvents(tmp_path)
    for number in range(1, 40):
        curves.add(number, STEP, 0.1)
    curves.close()
    assert capsys.readouterr().out == "training curves end here: File too large\n"
