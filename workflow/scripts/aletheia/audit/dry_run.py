"""The jobs that Snakemake would run, as data: its own dry run, read through a logger plugin (``workflow/plugins``)."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aletheia.errors import UserError
from aletheia.provenance.lineage import ROOT
from aletheia.study.project_files import project_file

PLUGINS = ROOT / "workflow" / "plugins"
# Lines that Snakemake prints in any case, and those of its tracebacks.
CHATTER = re.compile(r"^(Using .*profile|host: |Building DAG|\s*File \"|None$|$)")


@dataclass(frozen=True)
class Job:
    """One job that Snakemake plans.

    Attributes
    ----------
    rule, outputs, inputs, reason
        As Snakemake says.
    facts
        The lineage that the rule would pass to its script: code, settings, environment as they are now.
    """

    rule: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    reason: str
    facts: tuple[str, ...]


def planned_jobs(
    configfiles: Iterable[Path] = (), targets: Iterable[str] = (), *, everything: bool = False
) -> list[Job]:
    """Return the jobs of a dry run that have outputs.

    Parameters
    ----------
    configfiles
        What ``--configfile`` names.
    targets
        Targets to plan besides the study's own.
    everything
        Whether to return every job of the study, as though no output were there.

    Raises
    ------
    UserError
        When Snakemake cannot plan; with its own words.
    """
    with tempfile.TemporaryDirectory(prefix="plan-") as folder:
        plan = Path(folder) / "jobs.jsonl"
        # Named first, since some options would take a target for more of their values.
        command = [sys.executable, "-m", "snakemake", "all", *targets, "--snakefile", project_file("Snakefile")]
        command += ["--dry-run", "--logger", "plan", "--logger-plan-path", str(plan)]
        command += ["--forceall"] if everything else []
        named = list(map(str, configfiles))
        command += ["--configfile", *named] if named else []
        search = os.pathsep.join([str(PLUGINS), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"snakemake cannot plan: {_in_one_line(done.stdout + done.stderr)}")
        lines = plan.read_text(encoding="utf-8").splitlines()
    jobs = [_job(json.loads(line)) for line in lines]
    return [job for job in jobs if job.outputs]


def _in_one_line(text: str) -> str:
    """Return Snakemake's messages in one line, without those that it always prints."""
    lines = [line.strip() for line in text.splitlines() if not CHATTER.match(line)]
    return " ".join(lines)[:500] or "it says nothing of why"


def _job(record: dict) -> Job:
    words = shlex.split(record["command"] or "")
    start = words.index("--lineage") + 1 if "--lineage" in words else len(words)
    end = words.index(">", start) if ">" in words[start:] else len(words)
    facts = tuple(words[start:end])
    return Job(record["rule"], tuple(record["outputs"]), tuple(record["inputs"]), record["reason"], facts)
