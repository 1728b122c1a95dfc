"""Dry runs of small and large studies, and verify's throughput.

A dry run of the default study against a bare Snakefile of as many jobs and files, without params, functions or
configuration; the dry run of a generated study of ten thousand jobs; verify.py over 2 GB of artifacts against
`sha256sum` over the same files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
PROJECT = ("Snakefile", "rules", "workflow", "config", "envs", "profiles")
LARGE = ("--configfile", "large/config.yaml")
LARGE_ROUNDS = 3
# A little over 10,000 jobs: 40 for each of 250 pairs of model and seed.
MODELS, ARMS, SEEDS = 10, 13, 25
# 2 GB, in files of the size of large adapters.
ADAPTERS, ADAPTER_BYTES = 40, 50_000_000
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
BARE = """\
import json

NEEDS = json.load(open("needs.json"))


def needs(rule):
    return lambda wildcards: NEEDS[rule][int(wildcards.job)]


rule all:
    input:
        NEEDS["all"][0],
"""
BARE_RULE = """

rule {name}:
    input:
        needs("{name}"),
    output:
        {outputs},
    shell:
        "touch {{output}}"
"""


def measure(interleaved: Callable[..., Any], ratio: Callable[..., Any], *, rounds: int) -> dict[str, Any]:
    """Return the ratios; of the large study also its peak memory."""
    with tempfile.TemporaryDirectory() as scratch:
        project, bare = copied_project(Path(scratch) / "project"), Path(scratch) / "bare"
        jobs = bare_twin(project, bare)
        dry = interleaved({"study": lambda: dry_run(project)[0], "bare": lambda: dry_run(bare)[0]}, rounds=rounds)
        large_bare, peaks = Path(scratch) / "large", {"study": [], "bare": []}
        write_large_study(project)
        large_jobs = bare_twin(project, large_bare, *LARGE)
        large = interleaved(
            {
                "study": lambda: dry_run(project, *LARGE, peaks=peaks["study"])[0],
                "bare": lambda: dry_run(large_bare, peaks=peaks["bare"])[0],
            },
            rounds=min(rounds, LARGE_ROUNDS),
        )
        hashing = interleaved(hashing_sides(Path(scratch) / "tree"), rounds=rounds)
    return {
        "what": __doc__.splitlines()[0],
        "small": {"jobs": jobs, "seconds": dry},
        "large": {
            "jobs": large_jobs,
            "seconds": large,
            "peak_memory_bytes": {name: max(values) for name, values in peaks.items()},
        },
        "verify": {"bytes": ADAPTERS * ADAPTER_BYTES, "seconds": hashing},
        "ratios": {
            "dry run / bare dry run": ratio(dry["study"], dry["bare"]),
            "large dry run / bare dry run": ratio(large["study"], large["bare"]),
            "sha256sum / verify": ratio(hashing["sha256sum"], hashing["verify"]),
        },
    }


def copied_project(folder: Path) -> Path:
    """Copy what a dry run reads, so that no result of the study is seen."""
    folder.mkdir()
    for name in PROJECT:
        source = ROOT / name
        shutil.copytree(source, folder / name) if source.is_dir() else shutil.copy2(source, folder / name)
    return folder


def timed(command: list[str], folder: Path) -> tuple[float, int, str]:
    """Run a command; return its seconds, its peak resident memory in bytes, and what it printed."""
    start = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as printed,
        subprocess.Popen(command, cwd=folder, stdout=printed, stderr=printed) as child,
    ):
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)}: {text[-2000:]}")
    return seconds, usage.ru_maxrss * 1024, text


def dry_run(folder: Path, *arguments: str, peaks: list[int] | None = None) -> tuple[float, str]:
    """Return the seconds of a dry run and what it printed; note its peak memory in ``peaks``."""
    seconds, peak, text = timed([SNAKEMAKE, "-n", "--cores", "all", *arguments], folder)
    if peaks is not None:
        peaks.append(peak)
    return seconds, text


def planned_jobs(text: str) -> dict[str, list[dict[str, list[str]]]]:
    """Return ``{rule: [{"input": files, "output": files}, …]}`` from what a dry run printed."""
    jobs: dict[str, list[dict[str, list[str]]]] = {}
    for block in re.split(r"^\[.*\]$", text, flags=re.MULTILINE)[1:]:
        name = re.search(r"^(?:local)?rule (\w+):", block, flags=re.MULTILINE)[1]
        lines = {key: re.search(rf"^ +{key}: (.*)$", block, flags=re.MULTILINE) for key in ("input", "output")}
        jobs.setdefault(name, []).append({k: line[1].split(", ") if line else [] for k, line in lines.items()})
    return jobs


def bare_twin(project: Path, folder: Path, *arguments: str) -> int:
    """Write a Snakefile with the jobs and files of a study and nothing else; return how many jobs there are."""
    jobs = planned_jobs(dry_run(project, *arguments)[1])
    names = {
        path: f"{rule}/{number}/{place}"
        for rule, made in jobs.items()
        for number, job in enumerate(made)
        for place, path in enumerate(job["output"])
    }
    # Files that are there already, such as the published tables, are made by no job.
    needs = {rule: [[names[i] for i in job["input"] if i in names] for job in made] for rule, made in jobs.items()}
    folder.mkdir()
    (folder / "needs.json").write_text(json.dumps(needs), encoding="utf-8")
    rules = BARE
    for rule, made in jobs.items():
        if rule != "all":
            outputs = ", ".join(f'"{rule}/{{job}}/{place}"' for place in range(len(made[0]["output"])))
            rules += BARE_RULE.format(name=rule, outputs=outputs)
    (folder / "Snakefile").write_text(rules, encoding="utf-8")
    return sum(map(len, jobs.values()))


def write_large_study(project: Path) -> None:
    """Write a study of ten thousand jobs: many models of random weights, arms and seeds."""
    models = {f"model{n}": {"source": {"type": "random", "config": LLAMA}, "dtype": "fp32"} for n in range(MODELS)}
    budgets = {"ale" if n == 1 else f"ale{n}": 5 * n for n in range(1, ARMS - 1)}
    arms = {name: {"layers": "gradient", "budget_percent": budget} for name, budget in budgets.items()}
    campaign = {
        "name": "large",
        "models": list(models),
        "seeds": list(range(SEEDS)),
        "data": "rows",
        "benchmarks": ["heldout"],
        "reports": ["speed"],
        "arms": {"std": {"layers": "all"}, "cm": {"layers": "gradient", "extra_steps_percent": 25}, **arms},
    }
    files = {
        "models": models,
        "data": {"rows": {"source": {"type": "stdlib"}, "held_out": 8}},
        "campaign": campaign,
        "config": {
            "campaigns": ["large/campaign.yaml"],
            "models": "large/models.yaml",
            "data": "large/data.yaml",
        },
    }
    (project / "large").mkdir()
    for name, content in files.items():
        (project / "large" / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


def hashing_sides(folder: Path) -> dict[str, Callable[[], float]]:
    """Write 2 GB of artifacts and return what checks them: verify.py, and `sha256sum` over the same files."""
    from aletheia.provenance.job import Job, Step

    block = os.urandom(ADAPTER_BYTES - 8)
    for number in range(ADAPTERS):
        adapter = folder / "results" / "train" / f"run{number}" / "adapter"

        def write(path: Path, number: int = number) -> None:
            path.mkdir()
            (path / "adapter_model.safetensors").write_bytes(number.to_bytes(8) + block)

        with Job(Step("train", "train.py", {}), inputs=[], outputs=[adapter]) as job:
            job.write_file(adapter, write=write)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    verify = [sys.executable, "-s", str(ROOT / "workflow" / "scripts" / "verify.py")]
    return {
        "verify": lambda: timed(verify, folder)[0],
        "sha256sum": lambda: timed(["sha256sum", *files], folder)[0],
    }
