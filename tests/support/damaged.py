"""A tiny model to damage, and the stage step over it, for the tests of what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from aletheia.staging import convert
from stage_step import refused

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
OURS = {"named": "mine", "remedy": "mend it"}


@pytest.fixture(scope="session")
def whole_model(tmp_path_factory):
    """Return the folder of a tiny model of four layers, whole; only read it."""
    folder = tmp_path_factory.mktemp("whole") / "m"
    convert.random_model({"config": LLAMA}, folder)
    return folder


@pytest.fixture
def mine(whole_model, tmp_path):
    """Return a copy of it to damage, a local source beside where it is staged."""
    return Path(shutil.copytree(whole_model, tmp_path / "mine"))


def configure(folder: Path, **keys: object) -> None:
    """Write other values into a model's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def said(folder: Path) -> str:
    """Return what staging a folder says that cannot be staged."""
    return refused("model", "m", {"source": {"type": "local", "path": folder.name}}, folder.parent, forked=True)
