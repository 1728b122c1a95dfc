"""What mends each thing that an audit finds: commands that can be run as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from aletheia.audit.verification import Finding


class Remedies:
    """The commands of one study.

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
        return shlex.join(["snakemake", *words, *configured])

    def make_again(self, path: str) -> str:
        """Return how to make again what Snakemake plans; empty where Snakemake without a target does it.

        An archive needs every file of the study, and is planned with it once it is there.
        """
        target = self._demanded.get(path) or ("bundle" if "bundle" in self._demanded.values() else None)
        return f"run {self.snakemake(target)}" if target else ""

    def touch(self, paths: Iterable[str]) -> str:
        """Return how to keep all that is planned, which the paths are of."""
        targets = sorted({self._demanded[path] for path in paths if path in self._demanded})
        return self._touch_command(*(["all", *targets] if targets else []))

    def touch_one(self, path: str) -> str:
        """Return how to keep one of the outputs that are planned."""
        return self._touch_command(path)

    def _touch_command(self, *targets: str) -> str:
        return f"to keep it, run {self.snakemake('--touch', *targets)}"

    def time_again(self, runs: Iterable[str]) -> str:
        """Return how to train runs once more, whose times were taken on a busy machine."""
        return f"run {self.snakemake(*runs, '--force')}, then {self.snakemake()}"

    def make_again_unrecorded(self, path: str) -> str:
        """Return how to make again what Snakemake has no record of."""
        return f"delete it and run {self.snakemake(path)}; Snakemake has no record of how it was made"

    def for_finding(self, finding: Finding) -> str:
        """Return what to do about a finding."""
        if finding.kind == "misplaced":
            return f"move it back to {finding.expected}"
        if finding.kind == "stray":
            return "delete it, or keep it elsewhere"
        if finding.kind == "configuration":
            return ""
        # An archive goes by its target's name, as the readme has it.
        target = "bundle" if self._demanded.get(finding.owner) == "bundle" else finding.owner
        make = f"run {self.snakemake(target)}"
        there = finding.path == finding.owner
        if finding.kind == "unreadable":
            return "make it readable for this user" + (f", or delete it and {make}" if there else "")
        if not finding.owner:
            return "put it back" if finding.kind == "missing" else "restore it, or run the study that asks for it"
        return make if there and finding.kind == "missing" else f"delete {'it' if there else finding.owner} and {make}"
