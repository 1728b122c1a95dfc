"""How long jobs take to start: this tree against the commit before jobs were made to start lighter, in turns.

First a training of SmolLM2-135M, from the start of its process to the end of a first step of one row of 16 tokens: as
it was, in an interpreter of its own now, and as a fork of a warm process. Then the study of the tests whole, whose
models are so small that nearly all of its time is starting: seconds by the clock, less those of training, probing and
evaluating that its artifacts name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The last commit in which each job imported whatever its libraries offer.
BEFORE = "2499b1d"
TREE = ("Snakefile", "rules", "workflow", "config", "envs", "profiles", "tests/study", "pyproject.toml")
STUDY_ROUNDS = 2
STEP = (
    "training.steps=2",
    "training.warmup_steps=0",
    "training.timing_warmup_steps=0",
    "training.batch_size=1",
    "training.accumulation=1",
)


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return the seconds of both comparisons and their ratios, now to before."""
    with tempfile.TemporaryDirectory() as folder:
        before, now = Path(folder, "before"), Path(folder, "now")
        checked_out(before)
        copied(now)
        with warm_server(now) as warm:
            sides = {
                "before": lambda: first_step(before, Path(folder), {}),
                "own": lambda: first_step(now, Path(folder), {}),
                "fork": lambda: first_step(now, Path(folder), warm),
            }
            steps = interleaved(sides, rounds=rounds)
        studies = {name: lambda tree=tree: whole_study(tree) for name, tree in (("before", before), ("now", now))}
        outside = interleaved(studies, rounds=STUDY_ROUNDS, fill=False)
    return {
        "before": BEFORE,
        "seconds": {"first_step": steps, "study_outside": outside},
        "ratios": {
            "first step in an interpreter of its own": ratio(steps["own"], steps["before"]),
            "first step in a fork": ratio(steps["fork"], steps["before"]),
            "study outside of training, probing and evaluating": ratio(outside["now"], outside["before"]),
        },
    }


def checked_out(folder: Path) -> None:
    """Write the tree of the commit before into a folder."""
    done = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"start: expected the commit {BEFORE} in this repository, found none; fetch its whole history")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def copied(folder: Path) -> None:
    """Copy what runs a study."""
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)


@contextlib.contextmanager
def warm_server(tree: Path) -> Iterator[dict[str, str]]:
    """Run a tree's fork server; yield what its clients need in their environment."""
    path = os.path.join(tempfile.mkdtemp(), "socket")
    command = [sys.executable, "-s", tree / "workflow/fork_server/server.py", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        server.stdout.readline()
        yield {"ALETHEIA_FORK_SERVER": path, "ALETHEIA_INTERPRETER": sys.executable}


def first_step(tree: Path, folder: Path, warm: dict[str, str]) -> float:
    """Return the seconds from the start of a training's process to the end of its first step."""
    program = [str(tree / "workflow/fork_server/python")] if warm else [sys.executable]
    staged = ["--model-lock", ROOT / "resources/models/smollm2-135m.lock.json"]
    staged += ["--data-lock", ROOT / "resources/data/docstrings.lock.json"]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        written = ["--out", f"{out}/run.json", "--adapter", f"{out}/adapter", "--seed", "42", "--threads", "2"]
        settings = ["--set", *STEP, "model.dtype=fp32", "encoding.prompt=plain", "encoding.max_tokens=16"]
        command = [*program, "-s", tree / "workflow/scripts/train.py", *staged, *written, *settings]
        began = time.perf_counter()
        environment = {**os.environ, **warm}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("step 1/"):
                    seconds = time.perf_counter() - began
                    process.kill()
                    return seconds
        sys.exit(f"start: expected a first step of {tree}, found {''.join(said) or 'nothing'}")


def whole_study(tree: Path) -> float:
    """Run the tests' study anew; return its seconds outside of training, probing and evaluating."""
    for name in ("results", "resources", "logs", ".snakemake"):
        shutil.rmtree(tree / name, ignore_errors=True)
    command = [Path(sys.executable).parent / "snakemake", "--configfile", "tests/study/config.yaml", "--quiet", "all"]
    environment = {name: value for name, value in os.environ.items() if name != "ALETHEIA_FORK_SERVER"}
    began = time.perf_counter()
    subprocess.run(command, cwd=tree, env=environment, check=True)
    return time.perf_counter() - began - working_seconds(tree / "results")


def working_seconds(results: Path) -> float:
    """Return the seconds that a study trained, probed and evaluated, as its artifacts say."""
    total = 0.0
    for path in results.rglob("*.json"):
        envelope = json.loads(path.read_text(encoding="utf-8"))
        observed = envelope.get("observed", {})
        if envelope.get("schema") == "run":
            total += observed["time"]["training_seconds"] if "time" in observed else 0
        else:
            total += observed.get("probe_seconds", 0) + observed.get("benchmark_seconds", 0)
    return total
