"""The install asks the package index that pip is set up for, by uv, and by pip where uv cannot."""

import runpy
import subprocess

import pytest

from conftest import ROOT, SCRIPTS
from declared_environments import python311

INSTALL = runpy.run_path(str(SCRIPTS / "install.py"))
LISTED = """\
global.index-url='https://global.example/simple'
global.find-links='/one /two'
install.index-url='https://mirror.example/simple'
freeze.timeout='3'
:env:.default-timeout='180'
:env:.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'
"""


def test_pip_s_settings_reach_uv_the_nearest_one_first():
    assert INSTALL["uv_environment"](INSTALL["pip_settings"](LISTED)) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_FIND_LINKS": "/one,/two",
        "UV_HTTP_TIMEOUT": "180",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
    }


def test_an_environment_without_settings_gets_uv_s_defaults():
    for listed in ("", "WARNING: config = odd\nglobal.index-url=unquoted\n"):
        assert INSTALL["uv_environment"](INSTALL["pip_settings"](listed)) == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


@pytest.mark.slow
@pytest.mark.parametrize("broken", [{}, {"UV_OFFLINE": "1", "UV_NO_CACHE": "1"}], ids=["uv", "pip"])
def test_a_project_is_installed(tmp_path, broken):
    """A small project of the same form, in a bare environment; without a network for uv, pip brings it."""
    python = python311(tmp_path / "environment") / "bin" / "python"
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "small"\nversion = "1"\ndependencies = ["packaging"]\n'
        '[project.optional-dependencies]\nstudy = []\ndev = ["iniconfig"]\n'
        "[tool.setuptools]\npackages = []\n"
    )
    (project / "constraints.txt").write_text("iniconfig==2.1.0\n" + pinned("uv"))
    done = subprocess.run(
        [python, SCRIPTS / "install.py"],
        cwd=project,
        env={**INSTALL["os"].environ, **broken},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ("pip tries" in done.stdout) == bool(broken)
    shown = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    installed = dict(line.split()[:2] for line in shown.splitlines()[2:])
    assert installed["iniconfig"] == "2.1.0"
    assert {"packaging", "small", "uv"} <= set(installed)


def pinned(name):
    """Return the line of constraints.txt that pins a package."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    return next(line for line in lines if line.startswith(f"{name}=="))
