"""Each rule runs in its own environment, with what that declares and nothing else."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from packaging.utils import canonicalize_name

import warm_server
from aletheia.study.outputs import ON_DEMAND
from conftest import STUDY, SUPPORT, copy_project, said, snakemake
from declared_environments import PROJECT, pins, python311
from smaller_study import EVERY_RULE, PUBLISHED_NAME, keep_one_model

STAND_IN = SUPPORT / "stand_in" / "conda.py"


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
    "adapter_updates.py": MODEL | {"peft"},
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
    "controls.py": FIGURES,
    "replication.py": FIGURES,
    "fit_report.py": FIGURES,
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
def test_every_rule_runs_in_its_own_environment(tmp_path):
    """One model's study under ``--sdm conda``: each artifact was made with its rule's pins, and without Snakemake.

    A stand-in answers for conda (support/stand_in/conda.py): uv installs pins. So this proves that each rule has all
    that it declares and needs nothing else, and that the rules work with conda's activation. It does not prove that
    conda-forge has what is asked of it, that torch's CUDA build works (the machine's own build stands in for it), or
    that bubblewrap from conda-forge makes sandboxes (the machine's own is used, if any).
    """
    shutil.rmtree(python311(tmp_path / "trial"))
    project = copy_project(tmp_path / "project")
    keep_one_model(project, arms=EVERY_RULE, called=PUBLISHED_NAME)
    conda = tmp_path / "conda"
    subprocess.run([sys.executable, str(STAND_IN), "install", str(conda)], check=True)
    # A test times nothing, so two jobs may run at a time.
    options = ("--sdm", "conda", "--conda-prefix", str(tmp_path / "made"), "--max-threads", "1")
    # Else Snakemake takes PYTHONPATH away, which brings what notes the imports.
    options += ("--conda-not-block-search-path-envvars",)
    noting = {"PYTHONPATH": note_imports(tmp_path), "IMPORTS_SEEN": str(tmp_path)}
    # A search is of a campaign that declares one; its rules have the environment of these.
    targets = [target for target in ON_DEMAND if target != "search"]
    ran = snakemake(project, "all", *targets, *STUDY, *options, PATH=f"{conda}/bin:/usr/bin:/bin", **noting)
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
