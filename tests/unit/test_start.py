"""How jobs start: help comes at once, and nothing is imported that a model does not need."""

import json
import os
import subprocess
import sys

import pytest

from conftest import ROOT, SCRIPTS, SUPPORT
from heavy_packages import HEAVY

# All in one process, for what one of them imports is there for all.
ASK = """
import contextlib, io, runpy, sys
for script in SCRIPTS:
    sys.argv = [script, "--help"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    assert "usage:" in said.getvalue(), script
    loaded = HEAVY & set(sys.modules)
    assert not loaded, (script, loaded)
"""


def test_help_imports_nothing_heavy():
    # The check that an old Python must be able to read has no options.
    scripts = sorted(path for path in SCRIPTS.glob("*.py") if path.name != "check_python.py")
    assert len(scripts) > 20
    code = ASK.replace("SCRIPTS", repr([str(path) for path in scripts])).replace("HEAVY", repr(HEAVY))
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# A quantised model, by its settings or by its own files, may need it.
PLAIN = """
import sys
from pathlib import Path
from aletheia.method import loading
lock = Path(sys.argv[1])
config = lock.parent / "m" / "config.json"
for content, quantization in (("{}", "nf4"), ('{"quantization_config": {}}', None), ("none", None)):
    config.write_text(content)
    loading.leave_out_bitsandbytes(lock, quantization)
    assert "bitsandbytes" not in sys.modules, content
config.write_text("{}")
loading.leave_out_bitsandbytes(lock, None)
from conftest import tiny_model
from aletheia.method.adapters import attach, placement_plan
from aletheia.method.layers import adaptable_layers
model = tiny_model()
plan = placement_plan(adaptable_layers(model), [0], rank=2, alpha=4)
attach(model, plan, dropout=0.0, seed=0)
assert sys.modules["bitsandbytes"] is None
assert "torch._inductor.compile_fx" not in sys.modules, "torch's compiler"
"""


@pytest.mark.slow
def test_a_plain_model_gets_its_adapters_without_bitsandbytes_and_torchs_compiler(tmp_path):
    (tmp_path / "m").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SCRIPTS, ROOT / "tests", SUPPORT)))}
    command = [sys.executable, "-c", PLAIN, str(tmp_path / "m.lock.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_artifact_says_how_long_its_process_took_to_start(finished):
    seconds = {}
    for tree in ("results", "resources"):
        for path in (finished / tree).rglob("*.json"):
            envelope = json.loads(path.read_text(encoding="utf-8"))
            # What the controller writes itself is of no job.
            if "lineage" in envelope and path.name != "campaigns.json":
                seconds[path.relative_to(finished).as_posix()] = envelope["observed"]["start_seconds"]
    assert len(seconds) > 80
    assert all(0 < value < 300 for value in seconds.values()), seconds
