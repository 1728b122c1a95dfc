"""Check every artifact against its own hash, its path, the hashes that others recorded, and the study's list."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aletheia.audit import bundle_omissions
from aletheia.audit.file_cache import FileCache
from aletheia.audit.sidecars import described_path, envelope_of, is_envelope, stands_empty, vouched_files
from aletheia.audit.temporary_files import exempt_paths, is_temporary
from aletheia.errors import Unreadable, UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.file_walk import closed_above, files_below
from aletheia.provenance.staged_files import LOCK

# The schemas that an artifact may have whose name ends so, and what such an artifact is called.
SCHEMAS_BY_ENDING = {SIDECAR: ("sidecar", ("file",)), LOCK: ("lock", ("model_lock", "data_lock"))}
OMITTED = "omitted"  # kind of a file that is rightly absent: counted, and not shown


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it was recorded.

    Attributes
    ----------
    path, problem
        Which file, and what is wrong with it.
    expected, found
        Hashes or places, where there are some.
    kind
        ``changed``, ``missing``, ``unreadable`` (a file or folder that is closed to this user, or that the disk fails
        to read), ``misplaced`` (whole, but not where it was written), ``outdated`` (made from another input), ``stray``
        (no artifact vouches for it), ``unasked`` (whole, but no run of the study asks for it) or ``configuration`` (the
        study that made this is another).
    owner
        The output that has to be made again to mend it; empty where that would not help.
    rule
        The rule that makes the owner.
    """

    path: str
    problem: str
    expected: str = ""
    found: str = ""
    kind: str = "changed"
    owner: str = ""
    rule: str = ""

    def __str__(self) -> str:
        values = f" (expected {self.expected}, found {self.found})" if self.expected or self.found else ""
        return f"{self.path}: {self.problem}{values}"


@dataclass
class Verified:
    """The result of a verification.

    Attributes
    ----------
    findings
        In the order of their paths; none when all is well.
    notes
        What is no fault: artifacts of other studies in the same folders.
    checked
        How many artifacts were read.
    omitted
        How many files are absent because the evidence bundle that was unpacked here leaves them out.
    """

    findings: list[Finding]
    notes: list[Finding] = field(default_factory=list)
    checked: int = 0
    omitted: int = 0


def verify_folders(
    roots: Iterable[Path], expected: Mapping[str, str] | None = None, contents: FileCache | None = None
) -> Verified:
    """Check every artifact below some folders, and name the files that no artifact vouches for.

    Parameters
    ----------
    roots
        Folders (``results``, ``resources``, in this order).
    expected
        ``{path: rule}`` of all that should be there (:func:`aletheia.study.outputs.study_files`); not known when None.
    contents
        Carries over what was read before, between calls.
    """
    roots = list(roots)
    passed = exempt_paths(roots)
    roots = [root for root in roots if os.path.isdir(root)]
    closed: list[Unreadable] = []
    files = [p for root in roots for p in files_below(root, closed.append) if not is_temporary(p.relative_to(root))]
    omitted = bundle_omissions.find_omitted(roots[0] if roots else "")
    check = _Verification(files, contents or FileCache(), expected or {}, omitted)
    findings = [_finding_of_error(error, error.path) for error in closed]
    findings += check.findings(faulty={finding.path for finding in findings})
    findings += [
        Finding(str(path), "no artifact vouches for this file", kind="stray")
        for path in check.files
        # A file of the study's without its sidecar is no stray: the sidecar is missing.
        if path not in check.owners and str(path) not in check.expected and not any(map(path.is_relative_to, passed))
    ]
    return check.result(findings, notes=[] if expected is None else list(check.unasked_artifacts(findings)))


def verify_files(
    files: Iterable[Path],
    contents: FileCache | None = None,
    *,
    named: Collection[Path] = (),
    results: Path | str = "results",
) -> Verified:
    """Check some files and folders with their sidecars (see :func:`aletheia.audit.sidecars.ancestry`).

    Parameters
    ----------
    files
        What to check.
    contents
        Carries over what was read before, between calls.
    named
        Those that were asked for: JSON among them is an artifact, whatever its first bytes are by now.
    results
        The results folder, where an evidence bundle says what it leaves out.
    """
    files = list(files)
    envelopes = [e for e in map(envelope_of, files) if e is not None]
    # In a bundle, what may be absent rests on this list.
    listed = [path for path in [Path(results) / bundle_omissions.LIST_NAME] if os.path.isfile(path)]
    files = dict.fromkeys([*files, *envelopes, *listed])
    check = _Verification(files, contents or FileCache(), {}, bundle_omissions.find_omitted(results))
    return check.result(check.findings(set(named)))


class _Verification:
    """The files under verification, and which artifact vouches for each."""

    def __init__(
        self, files: Iterable[Path], contents: FileCache, expected: Mapping[str, str], omitted: Collection[str]
    ) -> None:
        self.contents, self.expected, self.omitted = contents, expected, omitted
        files = list(files)
        # Of `os.path`: for pathlib a folder that this user may not enter is an error.
        self.files = [path for path in files if os.path.isfile(path)]
        # A folder is in neither list: its sidecar names its files.
        self.absent = [path for path in files if not os.path.exists(path)]
        # By file: the artifact that vouches for it.
        self.owners: dict[Path, Path] = {}
        self.checked = 0

    def findings(self, named: Collection[Path] = (), *, faulty: Collection[str] = ()) -> list[Finding]:
        """Read every artifact, then hold each against its inputs.

        Parameters
        ----------
        named
            Files that are artifacts whatever their first bytes are by now.
        faulty
            Paths with a fault of their own that is known already.
        """
        self.contents.load(self.files)
        known = {*map(Path, self.expected), *named}
        claims = [p for p in self.files if p.suffix == ".json" and (p in known or is_envelope(p))]
        self.checked = len(claims)
        findings = [*map(self._missing, self.absent)]
        envelopes = {}
        for path in claims:
            self.owners.setdefault(path, path)
            try:
                envelopes[path] = self.contents.envelope(path)
            except UserError as error:
                findings.append(_finding_of_error(error, path))
                # What a damaged sidecar vouched for is unknown, but it is no stray.
                beside = described_path(path)
                self.owners |= {p: path for p in self.files if p.is_relative_to(beside) and p not in self.owners}
                continue
            findings += self._check_artifact(path, envelopes[path])
        findings += [self._missing(Path(name)) for name in self.expected if not os.path.exists(name)]
        findings = [finding for finding in findings if finding is not None]
        # An input with a fault of its own is named for that, and not once more for each of its consumers.
        return findings + list(self._check_inputs(envelopes, {*faulty, *(finding.path for finding in findings)}))

    def result(self, findings: Iterable[Finding], notes: Sequence[Finding] = ()) -> Verified:
        """Return the result: each finding once, with the output that would have to be made again."""
        findings = list(findings)
        left_out = {finding.path for finding in findings if finding.kind == OMITTED}
        shown: dict[tuple[str, ...], Finding] = {}
        faults = [self._with_owner(finding) for finding in findings if finding.kind != OMITTED]
        for finding in sorted(faults, key=lambda f: (f.path, not f.expected)):
            # A file that is gone, or was changed, is named once.
            shown.setdefault((finding.path, finding.kind, finding.problem), finding)
        return Verified(list(shown.values()), list(notes), self.checked, len(left_out))

    def unasked_artifacts(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the whole artifacts that no run of the study asks for; not the files that they vouch for."""
        known = {finding.path for finding in findings}
        for path in sorted(set(self.owners.values())):
            subject = described_path(path) if path.name.endswith(SIDECAR) else path
            staged = subject.with_name(subject.name + LOCK)
            expected = {str(path), str(subject), str(staged)} & self.expected.keys()
            if not expected and str(path) not in known and not subject.match(bundle_omissions.LIST_NAME):
                yield Finding(str(subject), "no run of this study asks for it", kind="unasked")

    def _with_owner(self, finding: Finding) -> Finding:
        """Return a finding with its owner and the owner's rule."""
        path = Path(finding.path)
        for candidate in (path, self.owners.get(path, path)):
            beside = described_path(candidate)
            for output in map(str, (candidate, beside, beside.with_name(beside.name + LOCK))):
                if output in self.expected:
                    return replace(finding, owner=output, rule=self.expected[output])
        return finding

    def _missing(self, path: Path, sha256: str = "") -> Finding | None:
        """Return the finding that a file is missing or left out by a bundle; None for an empty folder."""
        if str(path) in self.omitted:
            return Finding(str(path), "left out of this bundle", kind=OMITTED)
        # Of a folder, a bundle leaves out the files one by one.
        if stands_empty(path) or any(name.startswith(f"{path}/") for name in self.omitted):
            return None
        closed = closed_above(path)
        if closed:
            return _finding_of_error(closed, closed.path)
        return Finding(str(path), "missing", sha256, "no file" if sha256 else "", kind="missing")

    def _check_artifact(self, path: Path, envelope: dict[str, Any]) -> Iterator[Finding]:
        """Yield findings about an artifact's name, its path, and the files that it vouches for."""
        for suffix, (name, schemas) in SCHEMAS_BY_ENDING.items():
            if path.name.endswith(suffix) and envelope["schema"] not in schemas:
                problem = f"is a {envelope['schema']} artifact, under the name of a {name}"
                yield Finding(str(path), problem, kind="stray")
                return
        subject = described_path(path) if path.name.endswith(SIDECAR) else path
        written = envelope["lineage"].get("output", str(subject))
        # It was renamed, or has changed places with another.
        if os.path.abspath(written) != os.path.abspath(subject):
            yield Finding(str(path), "is not where it was written", written, str(subject), kind="misplaced")
        # A sidecar's files, a lock's, a run's adapter.
        recorded = vouched_files(path, envelope)
        self.owners |= {file: path for file in recorded if file not in self.owners}
        yield from filter(None, (self._compare_hash(file, sha256) for file, sha256 in recorded.items()))
        sidecar = artifacts.sidecar(described_path(path))
        # A staged folder's sidecar is no output of a rule, so nothing else would miss it.
        if path.name.endswith(LOCK) and not sidecar.is_file():
            self.owners[sidecar] = path
            yield from filter(None, [self._missing(sidecar)])

    def _compare_hash(self, file: Path, sha256: str) -> Finding | None:
        """Return the finding that a file differs from its recorded hash; None where it is the same."""
        try:
            found = self.contents.sha256(file)
        except Unreadable as error:
            return _finding_of_error(error, file)
        if found is None:
            return self._missing(file, sha256)
        return None if found == sha256 else Finding(str(file), "changed after it was written", sha256, found)

    def _check_inputs(self, envelopes: Mapping[Path, dict[str, Any]], faulty: set[str]) -> Iterator[Finding]:
        """Yield findings about artifacts whose inputs have changed since, and about damaged inputs."""
        for path, envelope in envelopes.items():
            inputs = {name: entry for name, entry in envelope["lineage"]["inputs"].items() if name not in faulty}
            others = []
            for name, recorded in inputs.items():
                finding = self._compare_hash(Path(name), recorded["sha256"])
                if finding is None or finding.kind != "changed":
                    yield from filter(None, [finding])
                    continue
                damage = self._damage(Path(name)) if "payload_sha256" in recorded else None
                if damage is None:
                    others.append(replace(finding, path=name))
                else:
                    faulty = faulty | {name}
                    yield damage
            if others:
                # One finding, however many there are: all of them are mended at once.
                first, more = others[0], len(others) - 1
                problem = f"made from another {first.path}" + (f" and {more} more" if more else "")
                yield Finding(str(path), problem, first.expected, first.found, kind="outdated")

    def _damage(self, source: Path) -> Finding | None:
        """Return the finding about an artifact that no longer begins as one; only lineages that name it tell it was."""
        if source.suffix != ".json":
            return None
        try:
            self.contents.envelope(source)
        except UserError as error:
            self.owners.setdefault(source, source)
            return _finding_of_error(error, source)
        return None


def _finding_of_error(error: UserError, path: Path) -> Finding:
    """Return the finding that a reader's error makes."""
    kind = "unreadable" if isinstance(error, Unreadable) else "changed"
    return Finding(str(path), problem_of(error, path), kind=kind)


def problem_of(error: UserError, path: Path) -> str:
    """Return a reader's error without the artifact's path and the advice, which is meant for a step's input."""
    return str(error).removeprefix(f"{path}: ").removesuffix("; delete it and rerun")
