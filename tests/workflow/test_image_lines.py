"""What an image's definition has pip install in it, installed in a bare environment."""

import json
import os
import subprocess

import pytest
from packaging.utils import canonicalize_name

from conftest import ROOT
from declared_environments import PROJECT, locked, python311


def pip_list(python):
    """Return ``{name: version}`` of what an interpreter has installed."""
    command = [str(python), "-m", "pip", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {canonicalize_name(package["name"]): package["version"] for package in listed}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["light", "report"])
def test_an_image_s_pip_lines_install_the_lock(tmp_path, name):
    """What the definition runs in its image, run in a bare environment; the image and its Debian packages are not."""
    text = (ROOT / "envs" / f"{name}.def").read_text(encoding="utf-8").replace("/opt/aletheia/", f"{ROOT}/envs/")
    post = text.partition("%post\n")[2].partition("\n%")[0]
    lines = [line.strip() for line in post.splitlines() if line.strip().startswith("python -m pip")]
    assert [line.split()[3] for line in lines] == ["install", "install", "check"]
    python = python311(tmp_path / "image") / "bin" / "python"
    before = pip_list(python)
    # Nothing is imported from it that would be worth compiling.
    environment = {**os.environ, "PIP_COMPILE": "0"}
    for line in lines:
        command = [str(python), *line.split()[1:]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert pip_list(python) == before | locked(name)[0] | {"pip": PROJECT["pip"]}
