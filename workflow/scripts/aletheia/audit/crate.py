"""A bundle's description as a Workflow Run RO-Crate: the workflow, its run, and one action for each of its jobs.

References
----------
RO-Crate 1.1, https://w3id.org/ro/crate/1.1; Workflow Run Crate 0.5, https://w3id.org/ro/wfrun/workflow/0.5
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from aletheia.audit.bundle import Bundle
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.behaviour import DIGEST_CHARACTERS
from aletheia.provenance.lineage import file_digest
from aletheia.provenance.staged_files import LOCK
from aletheia.study.outputs import study_targets

METADATA_NAME = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
# Terms beyond RO-Crate 1.1's context, spelled out so that none has to be fetched.
TERMS = {name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("sha256", "environment")}
LICENSE = "https://spdx.org/licenses/Apache-2.0"
# Rules of which one job makes all files of a stem, and rules of which one makes all of a folder; others run once.
RULES_BY_STEM = (
    *("stage_model", "stage_data", "tokens", "precision", "batches", "probe", "select", "figures"),
    *("probe_draw", "adapter_updates", "interleave", "attribute"),
)
RULES_BY_FOLDER = ("train", "evaluate", "generate", "score_code")
MEDIA_TYPES = {
    "": "text/plain",
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".py": "text/x-python",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".yaml": "application/yaml",
}


def describe(
    bundle: Bundle, envelopes: Mapping[str, Mapping[str, Any]], generated: Mapping[str, bytes], date: datetime
) -> dict[str, Any]:
    """Return the crate's metadata.

    Parameters
    ----------
    bundle
        What goes in.
    envelopes
        The envelopes of its artifacts, by path.
    generated
        The files that only the bundle has.
    date
        Its date.
    """
    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms = TERMS
    root = crate.root_dataset
    campaigns = ", ".join(campaign["name"] for campaign in bundle.study.campaigns)
    root["name"] = f"Aletheia study: evidence of the campaigns {campaigns}"
    root["description"] = "Artifacts, ledgers, tables and figures of a finished study, with what made them."
    root["datePublished"] = date.isoformat()
    root["license"] = crate.add(ContextEntity(crate, LICENSE, {"@type": "CreativeWork", "name": "Apache License 2.0"}))
    root["conformsTo"] = [_profile(crate, uri) for uri in PROFILES]
    crate.metadata["conformsTo"] = [{"@id": "https://w3id.org/ro/crate/1.1"}, {"@id": list(PROFILES)[-1]}]
    workflow = crate.add_workflow("Snakefile", "Snakefile", main=True, lang="snakemake", properties=_facts("Snakefile"))
    workflow["name"] = "Aletheia study"
    workflow["version"] = workflow["sha256"][:DIGEST_CHARACTERS]
    for path in bundle.members:
        if path != "Snakefile":
            crate.add_file(path, path, properties=_facts(path))
    for path, content in generated.items():
        properties = {"sha256": hashlib.sha256(content).hexdigest(), "contentSize": str(len(content))}
        crate.add_file(dest_path=path, properties={"name": path, **_format(path), **properties})
    actions = [_action(crate, bundle, envelopes, outputs) for outputs in jobs(bundle, envelopes).values()]
    root["mentions"] = [_run(crate, bundle, envelopes, actions), *actions]
    return crate.metadata.generate()


def jobs(bundle: Bundle, envelopes: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, ...], list[str]]:
    """Return the paths that each job of the workflow wrote, by rule and place."""
    made: dict[tuple[str, ...], list[str]] = {}
    for path, rule in bundle.rules.items():
        if path not in envelopes:
            continue
        file = Path(path)
        if rule in RULES_BY_STEM:
            stem = file.name.removesuffix(LOCK) if file.name.endswith(LOCK) else file.stem
            key = (rule, file.parent.as_posix(), stem)
        elif rule.startswith(RULES_BY_FOLDER):
            key = (rule, file.parent.as_posix())
        else:
            key = (rule,)
        made.setdefault(key, []).append(path)
    return made


def _profile(crate: ROCrate, uri: str) -> ContextEntity:
    properties = {"@type": "CreativeWork", "name": PROFILES[uri], "version": uri.rsplit("/", 1)[-1]}
    return crate.add(ContextEntity(crate, uri, properties))


def _facts(path: str) -> dict[str, Any]:
    """Return the properties of a file in the crate."""
    file = Path(path)
    facts = {"name": path, "sha256": artifacts.sha256_file(file), "contentSize": str(file.stat().st_size)}
    if file.suffix == ".py":
        facts |= {"@type": ["File", "SoftwareSourceCode"], "version": file_digest(file)}
    return facts | _format(path)


def _format(path: str) -> dict[str, str]:
    return {"encodingFormat": MEDIA_TYPES.get(Path(path).suffix, "text/plain")}


def _reference(crate: ROCrate, path: str, sha256: str) -> Any:
    """Return a file of the bundle; one that it leaves out is named by hash, as no part of it."""
    member = crate.get(path)
    if member is not None:
        return member
    name = f"#{path}"
    properties = {"@type": "CreativeWork", "name": path, "sha256": sha256}
    return crate.get(name) or crate.add(ContextEntity(crate, name, properties))


def _action(crate: ROCrate, bundle: Bundle, envelopes: Mapping[str, Mapping[str, Any]], outputs: list[str]) -> Any:
    """Add the action of one job."""
    first, made = envelopes[outputs[0]], [envelopes[path] for path in outputs]
    lineage, rule = first["lineage"], bundle.rules[outputs[0]]
    script = next(name for name in lineage["code"] if name.endswith(".py"))
    inputs = {name: described["sha256"] for name, described in lineage["inputs"].items()}
    properties = {
        "@type": "CreateAction",
        "name": f"{rule}: {outputs[0]}",
        "startTime": min(envelope["observed"]["started"] for envelope in made),
        "endTime": max(envelope["observed"]["ended"] for envelope in made),
        "description": f"{script} on {first['observed']['host']} ({first['observed']['device']})",
        **_status(made),
    }
    action = crate.add(ContextEntity(crate, f"#job-{rule}-{_identity(outputs)}", properties))
    action["instrument"] = crate.get(f"workflow/scripts/{script}")
    if inputs:
        action["object"] = _single([_reference(crate, name, sha256) for name, sha256 in inputs.items()])
    action["result"] = _single(_results(crate, outputs))
    action["environment"] = [_value(crate, name, value) for name, value in _surroundings(first).items()]
    return action


def _single(values: list[Any]) -> Any:
    """Return a list, or what is alone in it, as RO-Crate recommends."""
    return values[0] if len(values) == 1 else values


def _results(crate: ROCrate, outputs: list[str]) -> list[Any]:
    """Return the files that a job wrote, sidecars included; a folder by its sidecar."""
    names = [name for path in outputs for name in (path, path + SIDECAR)]
    return [entity for entity in map(crate.get, names) if entity is not None]


def _status(made: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return the status of a job's action; a run that failed is a result with its reason."""
    failed = [e["payload"] for e in made if e["payload"].get("status", "ok") != "ok"]
    if not failed:
        return {"actionStatus": "http://schema.org/CompletedActionStatus"}
    reason = failed[0].get("reason") or failed[0]["status"]
    return {"actionStatus": "http://schema.org/FailedActionStatus", "error": str(reason)}


def _surroundings(envelope: Mapping[str, Any]) -> dict[str, str]:
    """Return a job's host, device, Python and environment files."""
    observed, environment = envelope["observed"], envelope["lineage"]["environment"]
    files = {name: str(digest) for name, digest in environment.items() if name.startswith("envs/")}
    python = f"{environment['implementation']} {environment['python']}"
    return {"host": str(observed["host"]), "device": str(observed["device"]), "python": python, **files}


def _value(crate: ROCrate, name: str, value: str) -> Any:
    identity = f"#{name}-{_identity([value])}"
    properties = {"@type": "PropertyValue", "name": name, "value": value}
    return crate.get(identity) or crate.add(ContextEntity(crate, identity, properties))


def _run(crate: ROCrate, bundle: Bundle, envelopes: Mapping[str, Mapping[str, Any]], actions: list[Any]) -> Any:
    """Add the action of the whole run: from what was given to what the study is for."""
    given = {
        name: described["sha256"]
        for path, envelope in envelopes.items()
        for name, described in envelope["lineage"]["inputs"].items()
        if path in bundle.rules and name not in envelopes and not name.endswith(SIDECAR)
    }
    properties = {
        "@type": "CreateAction",
        "name": "The study's run",
        "description": "From configuration, models and data to ledgers, tables and figures.",
        "startTime": min(action["startTime"] for action in actions),
        "endTime": max(action["endTime"] for action in actions),
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    run = crate.add(ContextEntity(crate, "#run", properties))
    run["instrument"] = crate.mainEntity
    run["object"] = [crate.get("config/config.yaml"), *(_reference(crate, *item) for item in sorted(given.items()))]
    run["result"] = [crate.get(path) for path in study_targets(bundle.study, bundle.results)]
    return run


def _identity(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode("utf-8")).hexdigest()[:12]
