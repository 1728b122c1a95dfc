"""The environments' files are what pyproject.toml says, and hold together."""

import re
import subprocess
import sys

import jsonschema
import pytest
import yaml

from conftest import ROOT, copy_project, edit
from declared_environments import ENVIRONMENTS, locked, pins

PIN = {"type": "string", "pattern": "^[A-Za-z0-9_.-]+==[0-9][0-9a-z.+]*$"}
# What a conda environment file may hold here; conda itself accepts, and then ignores, a misspelt key.
SCHEMA = {
    "type": "object",
    "required": ["channels", "dependencies"],
    "additionalProperties": False,
    "properties": {
        "channels": {"const": ["conda-forge", "nodefaults"]},
        "dependencies": {
            "type": "array",
            "prefixItems": [{"const": "python=3.11"}, {"type": "string", "pattern": r"^pip=[0-9.]+$"}],
            "items": {
                "anyOf": [
                    {"type": "string", "pattern": r"^[a-z0-9_.-]+=[0-9][0-9a-z.]*$"},
                    {
                        "type": "object",
                        "required": ["pip"],
                        "additionalProperties": False,
                        "properties": {"pip": {"type": "array", "items": PIN}},
                    },
                ]
            },
            "contains": {"type": "object"},
            "maxContains": 1,
            "minItems": 3,
        },
    },
}


def write_or_check(folder, *arguments):
    """Run the program that writes the environments, in a copy of the project."""
    program = [sys.executable, "-s", "workflow/scripts/environments.py", *arguments]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


def test_the_files_are_what_the_project_says():
    checked = write_or_check(ROOT, "--check")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_conda_file_is_well_formed(name):
    jsonschema.validate(
        yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8")),
        SCHEMA,
        cls=jsonschema.Draft202012Validator,
    )


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("conda-forge\n", "defaults\n"),
        ("python=3.11\n", "python=3.12\n"),
        ("pip=26.3\n", "pip\n"),
        ("jsonschema==4.26.0\n", "jsonschema>=4.26.0\n"),
        ("jsonschema==4.26.0\n", "-r requirements.txt\n"),
        ("bubblewrap=0.11.0\n", "bubblewrap\n"),
        ("dependencies:", "prefix: /opt\ndependencies:"),
    ],
)
def test_the_schema_refuses_what_conda_would_take(good, bad):
    text = (ROOT / "envs" / "score_code.yaml").read_text(encoding="utf-8")
    assert good in text
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text.replace(good, bad)), SCHEMA, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_lock_holds_the_pins_and_a_hash_of_each_package(name):
    packages, hashes = locked(name)
    own = {package: number for package, number in pins(name).items() if package != "pip"}
    assert own.items() <= packages.items()
    assert all(found for found in hashes.values())
    assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for found in hashes.values() for one in found)


def test_no_file_names_an_index():
    for path in (ROOT / "envs").iterdir():
        assert "://" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize(
    ("file", "old", "new", "differ"),
    [
        ("envs/light.yaml", "pyyaml==6.0.3", "pyyaml==6.0.2", ["envs/light.yaml"]),
        ("envs/light.def", "--require-hashes ", "", ["envs/light.def"]),
        ("envs/light.lock", "pyyaml==6.0.3", "pyyaml==6.0.2", ["envs/light.lock"]),
        # A package that another one brings, at another version than the tests use.
        ("envs/light.lock", "attrs==26.1.0", "attrs==25.1.0", ["envs/light.lock"]),
        ("envs/light.lock", "for Python 3.11", "for Python 3.12", ["envs/light.lock"]),
        ("pyproject.toml", 'pip = ["jsonschema", "pyyaml"]', 'pip = ["numpy", "jsonschema", "pyyaml"]', ["light"]),
        ("pyproject.toml", "tool.aletheia.environments.light", "tool.aletheia.environments.tiny", ["light", "tiny"]),
        (
            "constraints.txt",
            "pyarrow==26.0.1",
            "pyarrow==26.0.0",
            ["evaluate", "report", "score_code", "stage", "vllm"],
        ),
    ],
)
def test_a_difference_is_named_with_its_remedy(project, file, old, new, differ):
    edit(project / file, old, new)
    checked = write_or_check(project, "--check")
    assert checked.returncode == 2
    assert "run `make envs`" in checked.stderr
    assert len(checked.stderr.splitlines()) == 1
    found = checked.stderr.removeprefix("error: ").split(":")[0].split(", ")
    stems = sorted({re.sub(r"^envs/|\.\w+$", "", name) for name in found})
    assert differ in (found, stems)


def test_a_missing_file_is_a_difference(project):
    (project / "envs" / "gpu.lock").unlink()
    assert "error: envs/gpu.lock: expected" in write_or_check(project, "--check").stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('pip = ["jsonschema", "pyyaml"]', 'pip = ["jsonschema", "glass"]', "expected names that constraints.txt pins"),
        ('pip = ["jsonschema", "pyyaml"]', 'pips = ["jsonschema"]', "expected about and pip, perhaps conda, debian"),
    ],
)
def test_a_mistake_in_the_table_is_one_sentence(project, old, new, sentence):
    edit(project / "pyproject.toml", old, new)
    for arguments in ((), ("--check",)):
        done = write_or_check(project, *arguments)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_the_locks_resolve_to_what_they_hold():
    """Every pin has a file for Python 3.11 on glibc 2.28, the pins agree, and the index has those hashes."""
    checked = write_or_check(ROOT, "--check", "--resolve")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.slow
def test_one_entry_adds_an_environment(project):
    edit(
        project / "pyproject.toml",
        "[tool.setuptools]\n",
        '[tool.aletheia.environments.fresh]\nabout = "Fresh."\npip = ["numpy"]\n\n[tool.setuptools]\n',
    )
    edit(project / "pyproject.toml", "[tool.aletheia.environments.light]", "[tool.aletheia.environments.thin]")
    written = write_or_check(project)
    assert written.returncode == 0, written.stderr
    assert {path.stem for path in (project / "envs").iterdir()} == {*ENVIRONMENTS, "fresh", "thin"} - {"light"}
    assert write_or_check(project, "--check").returncode == 0
    # The others are as they were.
    assert (project / "envs" / "gpu.lock").read_bytes() == (ROOT / "envs" / "gpu.lock").read_bytes()
