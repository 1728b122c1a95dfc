"""Frozen artifacts: what each file that a step leaves looks like, and how it is read back and checked.

A JSON artifact is an envelope: schema name and version, payload, lineage, ``observed``, and its own sha256 over
canonical bytes. Any other file or folder gets a sidecar ``<name>.lineage.json``, an envelope whose payload holds the
sha256 of what stands beside it. Frozen means that any change shows in a hash; file modes are not touched.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import Unreadable, UserError
from aletheia.provenance import lineage
from aletheia.provenance.file_walk import files_below

SCHEMAS = lineage.ROOT / "workflow" / "schemas"
SIDECAR = ".lineage.json"
SCHEMA_VERSION = 1
# Snakemake keeps this file inside each `directory()` output; it is no part of the content.
IGNORED_NAMES = {".snakemake_timestamp"}
ENVELOPE_PREFIX = b'{\n "lineage"'  # of every envelope, as :func:`canonical_bytes` writes it


@dataclass(frozen=True)
class Artifact:
    """A JSON artifact as it was when it was read, its bytes and its schema checked.

    It can be passed wherever a path is taken, and wherever an artifact is read. A function that gets one does not open
    the file again, so it sees the same content even where the file has changed since.

    Attributes
    ----------
    path
        The file.
    sha256
        Hash of the bytes that were read.
    envelope
        The whole JSON object; steps read its ``payload`` and ``observed``.
    """

    path: Path
    sha256: str
    envelope: dict[str, Any]

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def payload(self) -> Any:
        """Return the content."""
        return self.envelope["payload"]

    @property
    def observed(self) -> dict[str, Any]:
        """Return the measurements that were taken while it was made."""
        return self.envelope["observed"]


Source = Path | str | Artifact


def canonical_bytes(value: Any) -> bytes:
    """Return the one byte string of a JSON value: sorted keys, one space of indent, UTF-8, a final line feed.

    Raises
    ------
    ValueError
        For NaN or infinity; missing is ``None``, failed is a status.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises
    ------
    Unreadable
        When the file is there and cannot be read.
    """
    try:
        with Path(path).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(path, error) from None


def folder_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``{relative path: {"sha256", "bytes"}}`` for each file below ``folder``, sorted."""
    files = [p for p in files_below(folder) if p.name not in IGNORED_NAMES]
    return {p.relative_to(folder).as_posix(): {"sha256": sha256_file(p), "bytes": p.stat().st_size} for p in files}


def sidecar(path: Path) -> Path:
    """Return the path of a file's or folder's sidecar."""
    path = Path(path)
    return path.with_name(path.name + SIDECAR)


def _schema_file(kind: str) -> Path:
    return SCHEMAS / f"{kind}.schema.json"


@functools.cache
def _validator(kind: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(_schema_file(kind).read_text(encoding="utf-8")))


def _check_schema(kind: str, payload: Any, path: Path) -> None:
    error = next(_validator(kind).iter_errors(payload), None)
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        raise UserError(f"{path}: the {kind} artifact does not fit its schema at {where}: {error.message[:200]}")


def _payload_hash(kind: str, payload: Any) -> str:
    return hashlib.sha256(canonical_bytes({"schema": kind, "version": SCHEMA_VERSION, "payload": payload})).hexdigest()


def seal(envelope: dict[str, Any]) -> dict[str, Any]:
    """Return an envelope with its own sha256."""
    return {**envelope, "sha256": hashlib.sha256(canonical_bytes(envelope)).hexdigest()}


def make_envelope(
    kind: str, payload: Any, lineage: dict[str, Any], observed: dict[str, Any], path: Path | str
) -> dict[str, Any]:
    """Return the envelope of an artifact, with its own sha256.

    Parameters
    ----------
    kind
        The schema's name.
    payload, lineage, observed
        Content, what made it, and what was measured.
    path
        Its path, for the error message.

    Raises
    ------
    UserError
        When the payload does not fit its schema.
    """
    _check_schema(kind, payload, path)
    body = {
        "schema": kind,
        "version": SCHEMA_VERSION,
        "payload": payload,
        "payload_sha256": _payload_hash(kind, payload),
    }
    return seal({**body, "lineage": lineage, "observed": observed})


def read_artifact(path: Path | str, kind: str | None = None) -> Artifact:
    """Return an artifact, after checking its bytes against its own hash and schema.

    Parameters
    ----------
    path
        A JSON artifact or a sidecar.
    kind
        The schema that is expected; any when None.

    Raises
    ------
    UserError
        When the file is missing, cannot be read, is no artifact, was changed after it was written, is of another kind,
        or was written by another version of the code.
    """
    path = Path(path)
    return _check_bytes(path, _read_bytes(path), kind)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: expected an artifact here and found none; run the step that writes it") from None
    except OSError as error:
        raise Unreadable(path, error) from None


def _check_bytes(path: Path, raw: bytes, kind: str | None = None) -> Artifact:
    try:
        envelope = json.loads(raw)
        claimed = envelope["sha256"]
        body = {k: v for k, v in envelope.items() if k != "sha256"}
        found = hashlib.sha256(canonical_bytes(body)).hexdigest()
        schema, payload = envelope["schema"], envelope["payload"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: expected an artifact (JSON with its own sha256), found something else") from None
    if found != claimed or raw != canonical_bytes(envelope):
        raise UserError(
            f"{path}: changed after it was written (expected sha256 {claimed}, found {found}); delete it and rerun"
        )
    _expect_kind(path, schema, kind)
    version = envelope.get("version")
    if version != SCHEMA_VERSION or not _schema_file(schema).is_file():
        raise UserError(f"{path}: schema {schema} version {version} is not known to this version of the code")
    # The hash is right, but other code may have written it: readers of a lineage rely on all its parts.
    _check_schema("envelope", envelope, path)
    _check_schema(schema, payload, path)
    return Artifact(path, hashlib.sha256(raw).hexdigest(), envelope)


def _expect_kind(path: Path, schema: str, kind: str | None) -> None:
    if kind is not None and schema != kind:
        raise UserError(f"{path}: expected an artifact of kind {kind}, found {schema}")


def read(source: Source, kind: str | None = None) -> dict[str, Any]:
    """Return an artifact's envelope, checked.

    Parameters
    ----------
    source
        Its path, or the artifact as it was read before.
    kind
        The schema that is expected; any when None.

    Raises
    ------
    UserError
        As :func:`read_artifact`.
    """
    if not isinstance(source, Artifact):
        return read_artifact(source, kind).envelope
    _expect_kind(source.path, source.envelope["schema"], kind)
    return source.envelope


def payload(source: Source, kind: str | None = None) -> Any:
    """Return a checked artifact's payload (see :func:`read`)."""
    return read(source, kind)["payload"]


def is_envelope(path: Path) -> bool:
    """Tell whether a JSON file begins as an artifact does, whole or damaged; False where there is no file.

    True for a file that cannot be read: reading it then raises the error.
    """
    try:
        with path.open("rb") as handle:
            return handle.read(len(ENVELOPE_PREFIX)) == ENVELOPE_PREFIX
    except OSError as error:
        return not isinstance(error, FileNotFoundError)


def read_input(path: Path) -> tuple[dict[str, Any], Artifact | None]:
    """Read and check one input file of a job.

    Returns
    -------
    tuple
        Its entry in the job's lineage (the file's sha256, and the payload's where it is an artifact), and the artifact
        itself; None for any other file.

    Raises
    ------
    UserError
        When there is no such file, or it is not what its own hash or its sidecar says.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: expected an input file here and found none")
    beside = sidecar(path)
    if path.suffix == ".json" and not beside.is_file():
        raw = _read_bytes(path)
        if not raw.startswith(ENVELOPE_PREFIX):
            return {"sha256": hashlib.sha256(raw).hexdigest()}, None
        artifact = _check_bytes(path, raw)
        return {"sha256": artifact.sha256, "payload_sha256": artifact.envelope["payload_sha256"]}, artifact
    described = {"sha256": sha256_file(path)}
    if beside.is_file():
        envelope = read(beside, "file")
        if path.name not in envelope["payload"]["files"]:
            raise UserError(f"{path}: its sidecar {beside.name} is another file's; delete both and rerun")
        expected = envelope["payload"]["files"][path.name]["sha256"]
        if described["sha256"] != expected:
            raise UserError(
                f"{path}: changed after it was written (expected sha256 {expected}, found {described['sha256']}); "
                "delete it and rerun"
            )
        described["payload_sha256"] = envelope["payload_sha256"]
    return described, None
