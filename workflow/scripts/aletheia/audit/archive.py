"""The archive of an evidence bundle (:mod:`aletheia.audit.bundle`): its generated files, its checksums, its bytes.

The archive's bytes depend on its content alone.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from aletheia.audit import bundle_omissions
from aletheia.audit.bundle import CONFIG, Bundle, is_artifact
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR

SUMS_NAME = "SHA256SUMS"


def envelopes(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return the envelope of each artifact in the bundle, by the path that it speaks for."""
    by_path = {}
    for path in bundle.members:
        if is_artifact(path, bundle.rules):
            by_path[path.removesuffix(SIDECAR)] = artifacts.read(path)
    return by_path


def latest(made: Iterable[Mapping[str, Any]]) -> datetime:
    """Return the time at which the last artifact was written, which is the date of all files of a bundle."""
    return max(datetime.fromisoformat(envelope["observed"]["ended"]) for envelope in made).astimezone(UTC)


def generated_files(bundle: Bundle, lineage: Mapping[str, Any], date: datetime) -> dict[str, bytes]:
    """Return the files that only the bundle has: configuration, files from elsewhere, the list of what stays out."""
    files = [
        {"path": path, "sha256": recorded["sha256"], "bytes": recorded["bytes"]}
        for path, recorded in bundle.omitted.items()
    ]
    name = f"{bundle.results}/{bundle_omissions.LIST_NAME}"
    facts = {key: lineage[key] for key in ("step", "code", "config", "environment", "commit", "dirty")}
    made_by, observed = {**facts, "inputs": {}, "output": name}, {"ended": date.isoformat()}
    listing = artifacts.make_envelope("omitted", {"files": files}, made_by, observed, name)
    header = "# The configuration of the study in this bundle, merged from all its files, defaults filled in.\n"
    text = header + yaml.safe_dump(bundle.configuration, allow_unicode=True)
    elsewhere = {member: Path(path).read_bytes() for member, path in bundle.given.items()}
    return {CONFIG: text.encode("utf-8"), name: artifacts.canonical_bytes(listing), **elsewhere}


def sums(members: Collection[str], generated: Mapping[str, bytes]) -> bytes:
    """Return the lines that ``sha256sum -c`` reads, for every file of the bundle but this one."""
    digests = {path: artifacts.sha256_file(Path(path)) for path in members}
    digests |= {path: hashlib.sha256(content).hexdigest() for path, content in generated.items()}
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(digests.items())).encode("utf-8")


def write_archive(target: Path, members: Iterable[str], generated: Mapping[str, bytes], date: datetime) -> None:
    """Write the archive: sorted, one date, one mode, so that equal content has equal bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted([*members, *generated]):
            entry = zipfile.ZipInfo(name, date_time=date.timetuple()[:6])
            entry.create_system, entry.external_attr, entry.compress_type = 3, 0o100644 << 16, zipfile.ZIP_DEFLATED
            if name in generated:
                archive.writestr(entry, generated[name])
                continue
            entry.file_size = Path(name).stat().st_size
            with Path(name).open("rb") as source, archive.open(entry, "w") as copy:
                while block := source.read(1 << 20):
                    copy.write(block)


def metadata_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Return a crate's metadata as the bytes of its file."""
    return (json.dumps(metadata, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
