"""Advice on each thing that an audit finds, with commands that can be run as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from aletheia.audit.verification import Finding
from aletheia.study.project_files import project_file

SNAKEFILE = "Snakefile"


class Remedies:
    """Advice and commands for one study.

    Parameters
    ----------
    configfiles
        What ``--configfile`` names; each command names it too, since without it Snakemake plans another study.
    demanded
        ``{path: target}`` of what is made on demand, so that Snakemake without a target does not make it again.
    """

    def __init__(self, configfiles: Iterable[Path], demanded: Mapping[str, str]) -> None:
        self._configfiles, self._demanded = list(map(str, configfiles)), demanded

    def snakemake(self, *words: str) -> str:
        """Return a command; the configuration comes last, since Snakemake takes what follows it for more of it."""
        configured = ["--configfile", *self._configfiles] if self._configfiles else []
        snakefile = project_file(SNAKEFILE)
        elsewhere = ["--snakefile", snakefile] if snakefile != SNAKEFILE else []
        return shlex.join(["snakemake", *words, *elsewhere, *configured])

    def make_again(self, path: str) -> str:
        """Return the command that makes a planned output again; empty where Snakemake without a target does it.

        An archive needs every file of the study, and is planned with it once it is there.
        """
        target = self._demanded.get(path) or ("bundle" if "bundle" in self._demanded.values() else None)
        return f"run {self.snakemake(target)}" if target else ""

    def touch(self, paths: Iterable[str]) -> str:
        """Return the command that keeps all planned outputs, which are the paths."""
        targets = sorted({self._demanded[path] for path in paths if path in self._demanded})
        return self._touch_command(*(["all", *targets] if targets else []))

    def touch_one(self, path: str) -> str:
        """Return the command that keeps one of the planned outputs."""
        return self._touch_command(path)

    def _touch_command(self, *targets: str) -> str:
        return f"to keep it, run {self.snakemake('--touch', *targets)}"

    def time_again(self, runs: Iterable[str]) -> str:
        """Return the commands that train runs once more, whose times were taken on a busy machine."""
        return f"run {self.snakemake(*runs, '--force')}, then {self.snakemake()}"

    def make_again_unrecorded(self, path: str) -> str:
        """Return advice on an outdated output of whose making Snakemake has no record."""
        return f"delete it and run {self.snakemake(path)}; Snakemake has no record of how it was made"

    def for_finding(self, finding: Finding) -> str:
        """Return advice on a finding."""
        if finding.kind == "misplaced":
            return f"move it back to {finding.expected}"
        if finding.kind == "stray":
            return "delete it, or keep it elsewhere"
        if finding.kind == "configuration":
            return ""
        # Name the target `bundle`, not the archive's path.
        target = "bundle" if self._demanded.get(finding.owner) == "bundle" else finding.owner
        make = f"run {self.snakemake(target)}"
        is_output = finding.path == finding.owner
        if finding.kind == "unreadable":
            return "make it readable for this user" + (f", or delete it and {make}" if is_output else "")
        if not finding.owner:
            return "put it back" if finding.kind == "missing" else "restore it, or run the study that asks for it"
        damaged = "it" if is_output else finding.owner
        return make if is_output and finding.kind == "missing" else f"delete {damaged} and {make}"
