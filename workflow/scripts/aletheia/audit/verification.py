"""Hold every artifact against its own hash, its place, what the others recorded of it, and what the study asks for."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aletheia.audit import bundle_omissions
from aletheia.audit.file_cache import Contents
from aletheia.audit.sidecars import envelope_of, is_envelope, stands_beside, stands_empty, vouched_files
from aletheia.audit.temporary_files import is_scratch, passed_over
from aletheia.errors import Unreadable, UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.file_walk import closed_above, files_below
from aletheia.provenance.staged_files import LOCK

# What a name that ends so says of the artifact's schema.
ENDINGS = {SIDECAR: ("sidecar", ("file",)), LOCK: ("lock", ("model_lock", "data_lock"))}


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
        The output whose making again would mend it; empty where none would.
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
    """What a verification came to.

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
    roots: Iterable[Path], expected: Mapping[str, str] | None = None, contents: Contents | None = None
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
    passed = passed_over(roots)
    roots = [root for root in roots if os.path.isdir(root)]
    closed: list[Unreadable] = []
    files = [p for root in roots for p in files_below(root, closed.append) if not is_scratch(p.relative_to(root))]
    trees = _Trees(
        files, contents or Contents(), expected or {}, bundle_omissions.find_omitted(roots[0] if roots else "")
    )
    trees.findings += [_fault(error, error.path) for error in closed]
    trees.check()
    trees.findings += [
        Finding(str(path), "no artifact vouches for this file", kind="stray")
        for path in trees.files
        # A file of the study's without its sidecar is no stray: the sidecar is missing.
        if path not in trees.owners and str(path) not in trees.expected and not any(map(path.is_relative_to, passed))
    ]
    return trees.verified([] if expected is None else list(trees.unasked()))


def verify_files(
    files: Iterable[Path],
    contents: Contents | None = None,
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
    listed = [path for path in [Path(results) / bundle_omissions.NAME] if os.path.isfile(path)]
    files = dict.fromkeys([*files, *envelopes, *listed])
    trees = _Trees(files, contents or Contents(), {}, bundle_omissions.find_omitted(results))
    trees.check(set(named))
    return trees.verified([])


class _Trees:
    """The files under verification, and what was found so far."""

    def __init__(
        self, files: Iterable[Path], contents: Contents, expected: Mapping[str, str], omitted: Collection[str]
    ) -> None:
        self.contents, self.expected, self.omitted = contents, expected, omitted
        self.findings: list[Finding] = []
        self.left_out: set[str] = set()
        self.checked = 0
        # By file: the artifact that vouches for it.
        self.owners: dict[Path, Path] = {}
        self.files = []
        for path in files:
            # Of `os.path`: for pathlib a folder that this user may not enter is an error.
            if os.path.isfile(path):
                self.files.append(path)
            # A folder's files are its sidecar's to name.
            elif not os.path.exists(path):
                self._missing(path)

    def check(self, named: Collection[Path] = ()) -> None:
        """Read every artifact, then hold each against its inputs."""
        self.contents.load(self.files)
        envelopes = {}
        known = {*map(Path, self.expected), *named}
        claims = [p for p in self.files if p.suffix == ".json" and (p in known or is_envelope(p))]
        self.checked = len(claims)
        for path in claims:
            self.owners.setdefault(path, path)
            try:
                envelopes[path] = self.contents.envelope(path)
            except UserError as error:
                self.findings.append(_fault(error, path))
                # What a damaged sidecar vouched for is unknown, but it is no stray.
                beside = stands_beside(path)
                self.owners |= {p: path for p in self.files if p.is_relative_to(beside) and p not in self.owners}
                continue
            if not self._misnamed(path, envelopes[path]):
                self._place(path, envelopes[path])
                self._content(path, envelopes[path])
        for name in self.expected:
            if not os.path.exists(name):
                self._missing(Path(name))
        self._inputs(envelopes)

    def verified(self, notes: list[Finding]) -> Verified:
        """Return the result, each finding with the output that would have to be made again."""
        findings = {}
        for finding in sorted(map(self._owned, self.findings), key=lambda f: (f.path, not f.expected)):
            # A file that is gone, or was changed, is named once.
            findings.setdefault((finding.path, finding.kind, finding.problem), finding)
        return Verified(list(findings.values()), notes, self.checked, len(self.left_out))

    def unasked(self) -> Iterator[Finding]:
        """Yield the whole artifacts that no run of the study asks for; what they vouch for goes without saying."""
        known = {f.path for f in self.findings}
        for path in sorted(set(self.owners.values())):
            subject = stands_beside(path) if path.name.endswith(SIDECAR) else path
            staged = subject.with_name(subject.name + LOCK)
            asked = {str(path), str(subject), str(staged)} & self.expected.keys()
            if not asked and str(path) not in known and not subject.match(bundle_omissions.NAME):
                yield Finding(str(subject), "no run of this study asks for it", kind="unasked")

    def _owned(self, finding: Finding) -> Finding:
        """Add the owner and its rule."""
        path = Path(finding.path)
        for candidate in (path, self.owners.get(path, path)):
            beside = stands_beside(candidate)
            for output in map(str, (candidate, beside, beside.with_name(beside.name + LOCK))):
                if output in self.expected:
                    return replace(finding, owner=output, rule=self.expected[output])
        return finding

    def _missing(self, path: Path, sha256: str = "") -> None:
        if str(path) in self.omitted:
            self.left_out.add(str(path))
        # Of a folder, a bundle leaves out the files one by one.
        elif not stands_empty(path) and not any(name.startswith(f"{path}/") for name in self.omitted):
            found, closed = "no file" if sha256 else "", closed_above(path)
            missing = Finding(str(path), "missing", sha256, found, kind="missing")
            self.findings.append(_fault(closed, closed.path) if closed else missing)

    def _misnamed(self, path: Path, envelope: dict[str, Any]) -> bool:
        """Find an artifact under the name of a sidecar or a lock, which it is not."""
        for suffix, (name, schemas) in ENDINGS.items():
            if path.name.endswith(suffix) and envelope["schema"] not in schemas:
                problem = f"is a {envelope['schema']} artifact, under the name of a {name}"
                self.findings.append(Finding(str(path), problem, kind="stray"))
                return True
        return False

    def _place(self, path: Path, envelope: dict[str, Any]) -> None:
        """Find an artifact that was renamed, or has changed places with another."""
        subject = stands_beside(path) if path.name.endswith(SIDECAR) else path
        written = envelope["lineage"].get("output", str(subject))
        if os.path.abspath(written) != os.path.abspath(subject):
            self.findings.append(
                Finding(str(path), "is not where it was written", written, str(subject), kind="misplaced")
            )

    def _content(self, path: Path, envelope: dict[str, Any]) -> None:
        """Hold the files that an artifact vouches for (a sidecar's, a lock's, a run's adapter) against it."""
        self._held(path, vouched_files(path, envelope))
        own = artifacts.sidecar(stands_beside(path))
        # A staged folder's sidecar is no output of a rule, so nothing else would miss it.
        if path.name.endswith(LOCK) and not own.is_file():
            self.owners[own] = path
            self._missing(own)

    def _held(self, owner: Path, recorded: Mapping[Path, str]) -> None:
        for file, sha256 in recorded.items():
            self.owners.setdefault(file, owner)
            found = self._other(file, sha256)
            if found:
                self.findings.append(Finding(str(file), "changed after it was written", sha256, found))

    def _other(self, file: Path, sha256: str) -> str | None:
        """Return what a file holds in place of what was recorded; None for the same, or where a finding says more."""
        try:
            found = self.contents.sha256(file)
        except Unreadable as error:
            self.findings.append(_fault(error, file))
            return None
        if found is None:
            self._missing(file, sha256)
        return None if found == sha256 else found

    def _inputs(self, envelopes: Mapping[Path, dict[str, Any]]) -> None:
        """Find artifacts whose inputs are not, or no longer, what they were made from."""
        # An input with a fault of its own is named for that, and not once more for each of its consumers.
        faulty = {f.path for f in self.findings}
        for path, envelope in envelopes.items():
            inputs = {name: said for name, said in envelope["lineage"]["inputs"].items() if name not in faulty}
            found = {name: self._other(Path(name), said["sha256"]) for name, said in inputs.items()}
            found = {name: sha256 for name, sha256 in found.items() if sha256}
            damaged = {name for name in found if "payload_sha256" in inputs[name] and self._damaged(Path(name))}
            faulty |= damaged
            others = [name for name in found if name not in damaged]
            if others:
                # One finding, however many there are: all of them are mended at once.
                first, more = others[0], len(others) - 1
                problem = f"made from another {first}" + (f" and {more} more" if more else "")
                expected = inputs[first]["sha256"]
                self.findings.append(Finding(str(path), problem, expected, found[first], kind="outdated"))

    def _damaged(self, source: Path) -> bool:
        """Find an artifact that no longer begins as one, so that only those who read it knew it as one."""
        if source.suffix != ".json":
            return False
        try:
            self.contents.envelope(source)
        except UserError as error:
            self.owners.setdefault(source, source)
            self.findings.append(_fault(error, source))
            return True
        return False


def _fault(error: UserError, path: Path) -> Finding:
    """Return the finding that a reader's error makes."""
    kind = "unreadable" if isinstance(error, Unreadable) else "changed"
    return Finding(str(path), problem_of(error, path), kind=kind)


def problem_of(error: UserError, path: Path) -> str:
    """Return what an artifact's reader says of it, without its name and the advice, which holds for a step's input."""
    return str(error).removeprefix(f"{path}: ").removesuffix("; delete it and rerun")
