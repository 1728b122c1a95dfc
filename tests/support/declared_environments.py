"""What pyproject.toml and envs/ say of the rules' environments, and a bare Python to make one in."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT, missing

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["aletheia"]
ENVIRONMENTS = sorted(PROJECT["environments"])


def dependencies(name: str) -> list:
    """Return what conda installs in an environment, pip's part last."""
    return yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8"))["dependencies"]


def pins(name: str) -> dict[str, str]:
    """Return ``{name: version}`` of what pip installs in an environment, pip among it."""
    _, pip, *_, listed = dependencies(name)
    requirements = map(Requirement, [*listed["pip"], pip.replace("=", "==")])
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def locked(name: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return ``{name: version}`` of a lock, and ``{name: hashes}``."""
    text = (ROOT / "envs" / f"{name}.lock").read_text(encoding="utf-8").replace(" \\\n", "")
    entries = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return dict(entry[0].split("==") for entry in entries), {entry[0]: entry[1:] for entry in entries}


def python311(folder: Path) -> Path:
    """Make a bare virtual environment of Python 3.11 with its pip, or skip."""
    made = subprocess.run(
        [sys.executable, "-m", "uv", "venv", "--seed", "--no-python-downloads", "--python", "3.11", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        missing("Python 3.11", f"the environments are of that version ({made.stderr.strip()})")
    return folder
