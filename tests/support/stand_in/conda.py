"""Stand in for conda as Snakemake 9 calls it, where no conda channel can be reached.

``python conda.py install FOLDER`` makes FOLDER/bin/conda and FOLDER/bin/activate. That conda answers just what
Snakemake asks: version, prefix, channel priority, cleaning up, and ``env create``, for which uv makes a virtual
environment of the named Python with the pip pins of the file. It sees nothing of the environment that runs it.

What differs from a conda: other conda packages are skipped, and torch is the version and build that runs this program,
since that is the one that the machine has; both are said in what it prints.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import yaml

VERSION = "24.7.1"  # the oldest that Snakemake takes
ACTIVATE = """\
# Sourced with the environment's folder.
export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"
"""


def install(folder: Path) -> None:
    """Make ``folder`` look like a conda installation that this program answers for."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "activate").write_text(ACTIVATE, encoding="utf-8")
    conda = folder / "bin" / "conda"
    answer = f'exec "{sys.executable}" "{Path(__file__).resolve()}" "$0" "$@"'
    conda.write_text(f"#!/bin/sh\n{answer}\n", encoding="utf-8")
    conda.chmod(0o755)


def requirements(file: Path) -> tuple[str, list[str]]:
    """Return an environment file's Python, and what pip and conda install with it that PyPI has too."""
    python, wanted = "", []
    for entry in yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]:
        if isinstance(entry, dict):
            wanted += entry["pip"]
            continue
        name, _, number = entry.partition("=")
        if name == "python":
            python = number
        elif name == "pip":
            wanted.append(f"pip=={number}")
        else:
            print(f"stand-in: skipped the conda package {entry}")
    here = f"torch=={version('torch')}"
    for line in [line for line in wanted if line.startswith("torch==") and line != here]:
        print(f"stand-in: {line} became {here}, the build of this machine")
        wanted[wanted.index(line)] = here
    return python, wanted


def create(file: Path, prefix: Path) -> None:
    """Make the environment of ``file`` in ``prefix``."""
    python, wanted = requirements(file)
    uv = [sys.executable, "-m", "uv", "--quiet", "--no-config"]
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    if os.environ.get("PIP_FIND_LINKS"):
        environment["UV_FIND_LINKS"] = os.environ["PIP_FIND_LINKS"]
    for command in (
        [*uv, "venv", "--no-python-downloads", "--python", python, str(prefix)],
        [*uv, "pip", "install", "--python", str(prefix / "bin" / "python"), *wanted],
    ):
        subprocess.run(command, env=environment, check=True)
    print(f"stand-in: made {prefix} with {', '.join(wanted)}")


def main() -> None:
    """Answer one call."""
    if sys.argv[1:2] == ["install"]:
        install(Path(sys.argv[2]))
        return
    prefix, call = Path(sys.argv[1]).resolve().parent.parent, " ".join(sys.argv[2:])
    if call == "--version":
        print(f"conda {VERSION}")
    elif call == "info --json":
        print(json.dumps({"conda_prefix": str(prefix), "platform": "linux-64"}))
    elif call == "config --get channel_priority --json":
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif call == "clean -y --tarballs":
        pass  # uv's cache stays, for the next run
    elif found := re.fullmatch(r"env create --quiet --no-default-packages --file (.+) --prefix (.+)", call):
        create(Path(found[1]), Path(found[2]))
    else:
        sys.exit(f"stand-in: expected a call that Snakemake 9.27.1 makes, found conda {call}")


if __name__ == "__main__":
    main()
