"""The environments' files are what pyproject.toml says, hold together, and give each rule an environment of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import warm_server
from aletheia.study.outputs import ON_DEMAND
from conftest import ROOT, STUDY, SUPPORT, copy_project, edit, missing, said, snakemake
from smaller_study import keep_one_model

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["aletheia"]
ENVIRONMENTS = sorted(PROJECT["environments"])
STAND_IN = SUPPORT / "stand_in" / "conda.py"
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


def dependencies(name):
    return yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8"))["dependencies"]


def pins(name):
    """Return ``{name: version}`` of what pip installs in an environment, pip among it."""
    _, pip, *_, listed = dependencies(name)
    requirements = map(Requirement, [*listed["pip"], pip.replace("=", "==")])
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def locked(name):
    """Return ``{name: version}`` of a lock, and ``{name: hashes}``."""
    text = (ROOT / "envs" / f"{name}.lock").read_text(encoding="utf-8").replace(" \\\n", "")
    entries = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return dict(entry[0].split("==") for entry in entries), {entry[0]: entry[1:] for entry in entries}


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


def python311(folder):
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


def pip_list(python):
    """Return ``{name: version}`` of what an interpreter has installed."""
    command = [str(python), "-m", "pip", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {canonicalize_name(package["name"]): package["version"] for package in listed}


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


def environments_of_artifacts(folder):
    """Yield the environment file that each artifact names, and what was installed where it was made."""
    for top in ("results", "resources"):
        for path in (folder / top).rglob("*.json"):
            lineage = json.loads(path.read_text(encoding="utf-8")).get("lineage")
            # What the controller writes itself (the record of the tree's campaigns) is of no rule.
            if lineage and path != folder / "results/campaigns.json":
                (file,) = (key for key in lineage["environment"] if key.startswith("envs/"))
                yield path, re.fullmatch(r"envs/(\w+)\.yaml", file)[1], lineage["environment"]


# Packages that take long to import, or that a step has no business with; and which of them each step may import. What
# quantises is for quantised models alone, and the tests' models are not.
HEAVY = {
    *("bitsandbytes", "datasets", "lm_eval", "matplotlib", "numpy", "pandas", "peft", "pyarrow", "rocrate", "scipy"),
    *("seaborn", "sklearn", "statsmodels", "tokenizers", "torch", "transformers", "vllm"),
}
MODEL = {"numpy", "tokenizers", "torch", "transformers"}
TABLES = {"numpy", "pandas", "pyarrow"}
STATISTICS = TABLES | {"scipy", "statsmodels"}
FIGURES = STATISTICS | {"matplotlib", "seaborn"}
MAY_IMPORT = {
    "stage.py": MODEL,
    "tokenise.py": MODEL,
    "draw_batches.py": {"numpy"},
    "select_layers.py": set(),
    "precision.py": MODEL,
    "probe.py": MODEL,
    "train.py": MODEL | {"peft"},
    "interleave.py": MODEL | {"peft"},
    "attribution.py": MODEL | {"peft"},
    "evaluate_run.py": MODEL | {"datasets", "lm_eval", "pandas", "peft", "pyarrow", "scipy"},
    "score_code.py": {"pyarrow"},
    "aggregate.py": TABLES,
    "stats.py": STATISTICS,
    "paired_summary.py": TABLES,
    "figures.py": FIGURES,
    "stability.py": FIGURES,
    "draw_attribution.py": FIGURES,
    "evidence.py": {"rocrate"},
}
# Python runs it when it starts.
NOTE = """
import atexit, os, sys

@atexit.register
def note():
    script = os.path.basename(sys.argv[0])
    with open(os.path.join(os.environ["IMPORTS_SEEN"], f"{script}.{os.getpid()}.imports"), "w") as file:
        file.writelines(name + "\\n" for name, module in list(sys.modules.items()) if module is not None)
"""


def note_imports(folder):
    """Return what PYTHONPATH must be for each process to write down what it has imported."""
    (folder / "noting").mkdir()
    (folder / "noting" / "sitecustomize.py").write_text(NOTE)
    return str(folder / "noting")


def check_imports(folder):
    """Hold what each step imported against what it may, and what the fork server imports for it against that."""
    seen = {}
    for path in folder.glob("*.imports"):
        names = set(path.read_text().split())
        seen.setdefault(path.name.split(".py.")[0] + ".py", set()).update(names)
    found = {script: {name.partition(".")[0] for name in seen[script]} & HEAVY for script in seen.keys() & MAY_IMPORT}
    beyond = {script: names - MAY_IMPORT[script] for script, names in found.items() if names - MAY_IMPORT[script]}
    assert not beyond
    unused = {script: names - found.get(script, set()) for script, names in MAY_IMPORT.items()}
    assert not any(unused.values()), unused
    early = {script: set(names) - seen[script] for script, names in warm_server.imports().items()}
    assert not any(early.values()), "a fork has imported what an interpreter of its own would not"
    compiler = [script for script in MAY_IMPORT if "torch._inductor.compile_fx" in seen[script]]
    assert not compiler, "torch's compiler, which no step uses"


@pytest.mark.slow
def test_every_rule_runs_in_its_own_environment(project, tmp_path):
    """One model's study under ``--sdm conda``: each artifact was made with its rule's pins, and without Snakemake.

    A stand-in answers for conda (support/stand_in/conda.py): uv installs pins. So this proves that each rule has all
    that it declares and needs nothing else, and that the rules work with conda's activation. It does not prove that
    conda-forge has what is asked of it, that torch's CUDA build works (the machine's own build stands in for it), or
    that bubblewrap from conda-forge makes sandboxes (the machine's own is used, if any).
    """
    shutil.rmtree(python311(tmp_path / "trial"))
    keep_one_model(project)
    conda = tmp_path / "conda"
    subprocess.run([sys.executable, str(STAND_IN), "install", str(conda)], check=True)
    # A test times nothing, so two jobs may run at a time.
    options = ("--sdm", "conda", "--conda-prefix", str(tmp_path / "made"), "--max-threads", "1")
    # Else Snakemake takes PYTHONPATH away, which brings what notes the imports.
    options += ("--conda-not-block-search-path-envvars",)
    noting = {"PYTHONPATH": note_imports(tmp_path), "IMPORTS_SEEN": str(tmp_path)}
    ran = snakemake(project, "all", *ON_DEMAND, *STUDY, *options, PATH=f"{conda}/bin:/usr/bin:/bin", **noting)
    assert ran.returncode == 0, said(ran)[-4000:]
    check_imports(tmp_path)
    made = set(re.findall(r"Environment for \S*envs/(\w+)\.yaml created", said(ran)))
    assert made >= {"stage", "gpu", "light", "evaluate", "score_code", "report"}
    used = set()
    for path, name, environment in environments_of_artifacts(project):
        used.add(name)
        expected = pins(name)
        if "torch" in expected:
            expected["torch"] = version("torch")
        installed = {canonicalize_name(package): number for package, number in environment["packages"].items()}
        assert expected.items() <= installed.items(), path
        assert not {"snakemake", "pytest", "aletheia-study"} & set(installed), path
        assert environment["python"].startswith(f"{PROJECT['python']}."), path
    assert used == made
