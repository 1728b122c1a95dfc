"""The artifacts that would have to be made again, why, and how long each took the last time."""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aletheia.audit.dry_run import Job, planned_jobs
from aletheia.audit.file_cache import FileCache
from aletheia.audit.inventory import Inventory, load_inventory, verify_study
from aletheia.audit.remedies import Remedies
from aletheia.audit.rerun_reasons import REASONS, changes, differences, other_packages, shorten_list
from aletheia.audit.sidecars import envelope_of
from aletheia.audit.verification import Finding, Verified
from aletheia.errors import Unreadable, UserError
from aletheia.provenance.machine_load import busy_reason
from aletheia.study.results_tree import other_campaigns


@dataclass
class AuditRow:
    """One row of an audit: something to do.

    Attributes
    ----------
    artifact, rule
        The artifact that would be made again, and its rule; empty for a file that no rule makes.
    changes
        The reasons: the module, key or file that differs.
    remedy
        What to do, with commands that can be run as they are; empty where Snakemake without a target does it.
    seconds
        Time that its job took the last time; None where another row counts the same job, or nothing is known.
    estimated
        Whether ``seconds`` is the median of the rule's other jobs.
    kind
        ``rerun`` (Snakemake plans it), ``newer`` (Snakemake plans it by the times of files alone: code, settings and
        inputs are those that made it), ``unseen`` (it was made otherwise than it would be now, and Snakemake has no
        record of that), ``follows`` (Snakemake will plan it once another row's remedy is done), or the kind of a
        finding (:class:`aletheia.audit.verification.Finding`).
    """

    artifact: str
    rule: str
    changes: list[str]
    remedy: str = ""
    seconds: float | None = None
    estimated: bool = False
    kind: str = "rerun"


@dataclass
class Audit:
    """The result of an audit.

    Attributes
    ----------
    rows
        What is to be done.
    notes
        Remarks that are no rows.
    busy
        Models and seeds that were timed on a busy machine, each with the command that times it again.
    other_study
        The reason why a run would stop before its first job, where the results tree is another study's; else None.
    """

    rows: list[AuditRow]
    notes: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    other_study: str | None = None

    @property
    def seconds(self) -> float:
        """The sum over all jobs, one after another."""
        return sum(row.seconds for row in self.rows if row.seconds is not None)


def audit(configfiles: Iterable[Path] = ()) -> Audit:
    """Check a study's results against its configuration, its code, and its own records.

    Parameters
    ----------
    configfiles
        What ``--configfile`` names.

    Raises
    ------
    UserError
        For a mistake in the configuration, or when Snakemake cannot plan.
    """
    configfiles, contents = list(configfiles), FileCache()
    inventory = load_inventory(configfiles)
    remedies = Remedies(configfiles, inventory.demanded)
    targets = sorted(set(inventory.demanded.values()))
    with ThreadPoolExecutor(max_workers=2) as pool:
        planned = pool.submit(planned_jobs, configfiles, targets)
        everything = pool.submit(_every_job, configfiles, targets)
        verified = verify_study(inventory, contents)
        jobs, whole, notes = _plans(planned, everything, verified, remedies)
    records = _Records(whole or jobs, contents)
    notes += [f"{shorten_list(n.path for n in verified.notes)}: {verified.notes[0].problem}"] if verified.notes else []
    other_study = other_campaigns(inventory.results, inventory.study)
    # Such a finding says the same as `other_study`.
    findings = [f for f in verified.findings if not (other_study and f.kind == "configuration")]
    rows = _reruns(jobs, records, {f.owner for f in findings}, remedies)
    rows += _rows_of_findings(findings, jobs, records, remedies)
    rows += _unrecorded_changes([job for job in whole if job not in records.counted], records, remedies)
    rows += _following(whole, records, remedies)
    return Audit(rows, notes, _busy_times(inventory, contents, remedies), other_study)


def _busy_times(inventory: Inventory, contents: FileCache, remedies: Remedies) -> list[str]:
    """Return a sentence for each model and seed with runs timed on a busy machine, and how to time them again."""
    busy_runs: dict[tuple[str, int], list[str]] = {}
    paths = {key: f"{inventory.results}/train/{key[0]}/{key[1]}/seed{key[2]}/run.json" for key in inventory.study.runs}
    for (model, arm, seed), path in paths.items():
        with contextlib.suppress(UserError):
            reason = busy_reason(contents.envelope(Path(path))["observed"].get("load", {}))
            if reason:
                busy_runs.setdefault((model, seed), []).append(f"{arm}: {reason}")
    return [
        f"{model}, seed {seed} was timed on a busy machine ({', '.join(busy)}); to time its arms again on a quiet one, "
        + remedies.time_again(path for key, path in paths.items() if (key[0], key[2]) == (model, seed))
        for (model, seed), busy in busy_runs.items()
    ]


def _plans(
    planned: Future[list[Job]], everything: Future[tuple[list[Job], list[str]]], verified: Verified, remedies: Remedies
) -> tuple[list[Job], list[Job], list[str]]:
    """Return the jobs that Snakemake plans, those of the whole study, and notes."""
    try:
        return planned.result(), *everything.result()
    except UserError:
        # Snakemake stops at such a file; what verify found says more than its traceback.
        if not any(finding.kind == "unreadable" for finding in verified.findings):
            raise
        note = "what would be made again is not known: Snakemake cannot plan over what cannot be read"
        return [], [], [f"{note} ({remedies.snakemake('-n')} says where it stops)"]


def _every_job(configfiles: list[Path], targets: list[str]) -> tuple[list[Job], list[str]]:
    """Return every job of the study; none, with a note, where a file is gone that only staging would need again."""
    try:
        return planned_jobs(configfiles, targets, everything=True), []
    except UserError as error:
        return [], [f"only what Snakemake plans was held against the present code and settings ({error})"]


class _Records:
    """The records of a study's artifacts about the jobs that made them."""

    def __init__(self, jobs: Iterable[Job], contents: FileCache) -> None:
        self.contents = contents
        self.makers = _makers(jobs)
        self.counted: set[Job] = set()
        self._by_rule: dict[str, list[float]] = {}
        for job in dict.fromkeys(self.makers.values()):
            seconds = self._recorded_seconds(job)
            if seconds is not None:
                self._by_rule.setdefault(job.rule, []).append(seconds)

    def lineage(self, job: Job) -> Mapping[str, Any] | None:
        """Return the lineage of the first of a job's outputs that can be read."""
        return next((e["lineage"] for e in self._envelopes(job)), None)

    def planned_whole(self, job: Job) -> Job:
        """Return the job of the whole plan that writes the same output."""
        return self.makers.get(job.outputs[0], job)

    def unchanged_inputs(self, lineage: Mapping[str, Any]) -> set[str]:
        """Return the inputs whose hash is the one that an artifact recorded."""
        inputs = lineage["inputs"].items()
        return {name for name, recorded in inputs if self._holds(Path(name), recorded["sha256"])}

    def _holds(self, path: Path, sha256: str) -> bool:
        try:
            return self.contents.sha256(path) == sha256
        except Unreadable:
            return False  # a finding says so

    def cost(self, job: Job) -> dict[str, Any]:
        """Return a row's ``seconds`` and ``estimated``; nothing where the job is counted already."""
        if job in self.counted:
            return {}
        self.counted.add(job)
        seconds = self._recorded_seconds(job)
        if seconds is None and job.rule in self._by_rule:
            return {"seconds": statistics.median(self._by_rule[job.rule]), "estimated": True}
        return {"seconds": seconds}

    def _recorded_seconds(self, job: Job) -> float | None:
        # Each artifact of a job records the time since its start: the last one's is the job's.
        return max((e["observed"]["seconds"] for e in self._envelopes(job)), default=None)

    def _envelopes(self, job: Job) -> Iterable[dict[str, Any]]:
        for holder in dict.fromkeys(filter(None, map(envelope_of, map(Path, job.outputs)))):
            try:
                yield self.contents.envelope(holder)
            except UserError:
                continue


def _makers(jobs: Iterable[Job]) -> dict[str, Job]:
    return {output: job for job in jobs for output in job.outputs}


def _reruns(jobs: Iterable[Job], records: _Records, faulty: Collection[str], remedies: Remedies) -> list[AuditRow]:
    """Return the rows of the jobs that Snakemake plans."""
    rows, makers, newer = [], _makers(jobs), set[str]()
    # Producers come first: a job that follows one that is newer by time alone can be so too.
    for job in jobs:
        lineage = records.lineage(job)
        unchanged = records.unchanged_inputs(lineage) if lineage else set()
        reasons = changes(job, lineage, makers, unchanged)
        kept = unchanged - (makers.keys() - newer)
        whole = lineage is not None and not faulty & set(job.outputs) and all(map(os.path.exists, job.outputs))
        same = whole and _by_time(job) and kept == set(lineage["inputs"]) and not differences(lineage, job.facts)
        others = other_packages(lineage) if same else []
        kind = "newer" if same and not others else "rerun"
        if kind == "newer":
            newer.update(job.outputs)
            reasons.append("same code, settings and inputs; newer by time alone")
        reasons += [f"other packages: {shorten_list(others)}"] if others else []
        remedy = remedies.make_again(job.outputs[0])
        rows.append(
            AuditRow(job.outputs[0], job.rule, reasons, remedy, kind=kind, **records.cost(records.planned_whole(job)))
        )
    return _add_touch_remedies(rows, remedies)


def _by_time(job: Job) -> bool:
    """Tell whether Snakemake plans a job for nothing but the times of its inputs."""
    return not any(words in job.reason for kind, words in REASONS.items() if kind not in ("updated", "follows"))


def _add_touch_remedies(rows: list[AuditRow], remedies: Remedies) -> list[AuditRow]:
    """Add the command that keeps what is newer by time alone, which Snakemake would delete before running its job."""
    # Without a target, --touch would mark all that is planned as made by the present code.
    alone = all(row.kind == "newer" for row in rows)
    for row in rows:
        if row.kind == "newer":
            row.remedy = remedies.touch(r.artifact for r in rows) if alone else remedies.touch_one(row.artifact)
    return rows


def _rows_of_findings(
    findings: Iterable[Finding], jobs: Iterable[Job], records: _Records, remedies: Remedies
) -> list[AuditRow]:
    """Return the rows of the findings that the planned jobs do not mend."""
    remade = set(_makers(jobs))
    rows = []
    for finding in findings:
        if finding.kind in ("missing", "outdated") and (finding.path in remade or finding.owner in remade):
            continue
        job = records.makers.get(finding.owner)
        cost = records.cost(job) if job else {}
        remedy = remedies.for_finding(finding)
        rows.append(AuditRow(finding.path, finding.rule, [finding.problem], remedy, kind=finding.kind, **cost))
    return rows


def _unrecorded_changes(jobs: Iterable[Job], records: _Records, remedies: Remedies) -> list[AuditRow]:
    """Return the rows of jobs that differ from what was recorded, where Snakemake has no record that shows it."""
    rows = []
    for job in jobs:
        recorded = records.lineage(job)
        differing = differences(recorded, job.facts) if recorded else []
        if differing:
            output = job.outputs[0]
            remedy = remedies.make_again_unrecorded(output)
            rows.append(AuditRow(output, job.rule, differing, remedy, kind="unseen", **records.cost(job)))
    return rows


def _following(whole: Iterable[Job], records: _Records, remedies: Remedies) -> list[AuditRow]:
    """Return the rows of the jobs that no other row counts and that read what other rows make again."""
    rows, makers = [], records.makers
    # Producers come first, so that one pass follows every chain.
    for job in whole:
        sources = {makers[name] for name in job.inputs if name in makers} & records.counted
        if sources and job not in records.counted:
            rules = sorted({source.rule for source in sources})
            output, why = job.outputs[0], [f"follows {shorten_list(rules)}"]
            rows.append(
                AuditRow(output, job.rule, why, remedies.make_again(output), kind="follows", **records.cost(job))
            )
    return rows
