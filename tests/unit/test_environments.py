"""What the code imports is what the environments and the project declare: nothing less, nothing more."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from aletheia.provenance.lineage import ROOT, SCRIPTS, code_digests

# Pins that no script of the environment imports itself.
UNSEEN = {
    "accelerate": "transformers spreads a model over GPUs with it (device_map)",
    "bitsandbytes": "transformers loads nf4 weights with it",
    "datasets": "lm_eval reads questions with it",
    "gguf": "transformers reads GGUF files with it",
    "numpy": "torch and transformers compute with it",
    "safetensors": "transformers reads and writes weights with it",
    "tokenizers": "transformers tokenises with it",
}
UNSEEN_IN = {
    ("vllm", "vllm"): "serving imports it by name, since no other place has it",
    ("report", "pyarrow"): "pandas keeps its strings in it",
    ("stage", "pandas"): "pyarrow turns a Parquet file's nanoseconds into its timestamps, and refuses without it",
}
# Imports inside functions that the environment's scripts reach and never call.
UNCALLED = {
    ("light", "numpy"): "step_cost: selecting predicts by a calibrated model, and calibrates none",
    ("light", "peft"): "adapters: selecting names the modules, and wraps none",
    ("light", "torch"): "adapters and layers: selecting reads the probe's artifact, and no model",
    ("light", "transformers"): "layers: as for torch",
    ("report", "bitsandbytes"): "four_bit: comparing probes reads their artifacts, and no weights",
    ("report", "peft"): "adapters: as for light",
    (
        "report",
        "torch",
    ): "probe and what it measures with: comparing probes reads their artifacts, and measures nothing",
    ("report", "transformers"): "hooks: as for torch",
}
# Declared in pyproject.toml, imported nowhere: the above, and these.
TOOLS = {
    "import-linter": "holds the library to its layers",
    "pre-commit": "runs the checks at each commit",
    "pygments": "snakemake --report colours code with it",
    "ruff": "lints and formats",
    "snakefmt": "formats the rules",
    "snakemake-executor-plugin-slurm": "the profiles of clusters load it",
    "snakemake-logger-plugin-rich": "snakemake --logger rich loads it",
    "uv": "make envs resolves the locks with it, the stand-in for conda makes environments with it",
}
# Scripts whose rules call no `lineage`, with their environment: they print, and write no artifact.
PRINTING = {"cluster.smk": [("smoke.py", "gpu")]}
# Read once: it reads every installed file list.
DISTRIBUTIONS = packages_distributions()
# Imports of tests that no distribution installs: the wheel under test, unpacked beside it.
UNPACKED = {"glassllm"}
# What a script imports by name where its settings are given by hand, which no rule does.
BY_HAND = ("aletheia.study.schema", "aletheia.study.strict_yaml", "aletheia.study.settings_by_hand")


def third_party(source):
    """Return the distributions that a Python source imports at run time, at any depth."""
    names, pending = set(), [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
        pending += ast.iter_child_nodes(node)
    folders = ("tests", "tests/support", "benchmarks")
    ours = {"aletheia", *UNPACKED, *(path.stem for folder in folders for path in (ROOT / folder).glob("*.py"))}
    return {distribution(name) for name in names - ours - set(sys.stdlib_module_names)}


def distribution(name):
    """Return the distribution that a module comes with ("yaml": "pyyaml")."""
    found = {canonicalize_name(d) for d in DISTRIBUTIONS.get(name, [])}
    assert len(found) == 1, f"{name}: expected one installed distribution, found {sorted(found) or 'none'}"
    return found.pop()


def reached_by(script):
    """Return the distributions that a script or a library module that it reaches imports."""
    found = set()
    for name in [*code_digests(script), *BY_HAND]:
        path = SCRIPTS / name if name.endswith(".py") else SCRIPTS.joinpath(*name.split(".")).with_suffix(".py")
        path = path if path.is_file() else path.with_suffix("") / "__init__.py"
        found |= third_party(path.read_text(encoding="utf-8"))
    return found


def scripts_of_environments():
    """Return ``{environment: scripts}``, from the calls of ``lineage`` in the rules."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "rules").glob("*.smk"))}
    everything, found = "\n".join(texts.values()), {}
    for name, text in texts.items():
        calls = re.findall(r'lineage\(\s*"(\w+\.py)",\s*"(\w+)"', text) + PRINTING.get(name, [])
        # A loop over steps has script and environment side by side.
        in_loop = re.findall(r'\("\w+", "(\w+\.py)", "(\w+)"\)', text)
        calls += in_loop
        named = set(re.findall(r'"\.\./envs/(\w+)\.yaml"', text)) | {env for _, env in in_loop}
        # `use rule BASE as` keeps the environment of BASE.
        bases = re.findall(r"^use rule (\w+) as", text, flags=re.MULTILINE)
        kept = {re.search(rf'^rule {base}:.*?"\.\./envs/(\w+)\.yaml"', everything, re.M | re.S)[1] for base in bases}
        assert named <= {env for _, env in calls} <= named | kept, name
        for script, env in calls:
            found.setdefault(env, set()).add(script)
    return found


SCRIPTS_OF = scripts_of_environments()


def pins(env):
    """Return ``{distribution: Requirement}`` of an environment file."""
    packages = yaml.safe_load((ROOT / "envs" / f"{env}.yaml").read_text(encoding="utf-8"))["dependencies"]
    (listed,) = (entry["pip"] for entry in packages if isinstance(entry, dict))
    return by_name(listed)


def by_name(lines):
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in requirements}


def constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {name: str(r.specifier).removeprefix("==") for name, r in by_name(lines).items()}


DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TORCH = DECLARED["project"], DECLARED["tool"]["aletheia"]["torch"]
LIBRARY = by_name(PROJECT["dependencies"])
EXTRAS = by_name(line for extra in PROJECT["optional-dependencies"].values() for line in extra)


def imported_anywhere():
    folders = ("workflow", "tests", "benchmarks", "examples")
    sources = [path.read_text("utf-8") for name in folders for path in (ROOT / name).rglob("*.py")]
    # Rules are Python but for their blocks.
    for rules in (ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")):
        sources += re.findall(r"^(?:import|from) .+$", rules.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return set().union(*map(third_party, sources))


def test_every_environment_belongs_to_a_rule():
    assert set(SCRIPTS_OF) == {path.stem for path in (ROOT / "envs").glob("*.yaml")}
    assert {script for scripts in SCRIPTS_OF.values() for script in scripts} >= {"train.py", "stats.py", "stage.py"}


@pytest.mark.slow
@pytest.mark.parametrize("env", sorted(SCRIPTS_OF))
def test_an_environment_holds_what_its_scripts_import(env):
    reached = set().union(*map(reached_by, SCRIPTS_OF[env]))
    uncalled = {name for where, name in UNCALLED if where == env}
    assert uncalled <= reached, "an exception that no import needs"
    missing = reached - uncalled - set(pins(env))
    assert not missing, f"envs/{env}.yaml lacks {sorted(missing)}"
    unseen = {*UNSEEN, *(name for where, name in UNSEEN_IN if where == env)}
    surplus = set(pins(env)) - reached - unseen
    assert not surplus, f"envs/{env}.yaml lists {sorted(surplus)}, which none of its scripts imports"


@pytest.mark.parametrize("env", sorted(SCRIPTS_OF))
def test_an_environment_pins_what_the_tests_use(env):
    own = DECLARED["tool"]["aletheia"]["environments"][env].get("versions", {})
    tested = constraints() | own
    for name, pin in pins(env).items():
        # torch comes from another index in each kind of place; the project names the study's, in the library's range.
        if name == "torch":
            assert str(pin.specifier) == f"=={TORCH}"
            assert LIBRARY[name].specifier.contains(TORCH)
        else:
            assert str(pin.specifier) == f"=={tested[name]}", name


@pytest.mark.slow
def test_the_project_declares_what_it_imports():
    declared = {*LIBRARY, *EXTRAS}
    imported = imported_anywhere()
    assert {"torch", "pyyaml", "snakemake", "pytest"} <= imported
    assert not imported - declared
    assert not declared - imported - set(UNSEEN) - set(TOOLS)
    assert not imported & set(TOOLS), "an exception that no longer is one"


def test_the_library_s_ranges_admit_what_the_tests_use():
    tested = constraints()
    for name, requirement in LIBRARY.items():
        operators = {part.operator for part in requirement.specifier}
        assert operators == {">=", "<"}, f"{name}: a library states a range"
        assert name == "torch" or requirement.specifier.contains(tested[name]), name
    for name, requirement in EXTRAS.items():
        assert str(requirement.specifier) == f"=={tested[name]}", name
