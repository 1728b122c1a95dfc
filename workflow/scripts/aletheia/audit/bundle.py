"""The content of an evidence bundle: a finished study's artifacts, the code and configuration that made them.

Weights stay out, named by hash (:mod:`aletheia.audit.bundle_omissions`).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.audit.sidecars import is_envelope, stands_empty, vouched_files
from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.artifacts import SIDECAR
from aletheia.provenance.staged_files import LOCK
from aletheia.study import outputs
from aletheia.study.load import load_study
from aletheia.study.schema import schema, trees, with_defaults
from aletheia.study.study import Study

CONFIG = "config/config.yaml"
# The folder of a bundle for campaigns and registries that lie outside the project's folder.
GIVEN_FOLDER = "config/given"
WEIGHTS = {".safetensors", ".bin", ".pt", ".gguf"}
# The project's files that a bundle needs, to be checked, read and run again where it is unpacked.
PROJECT_PATTERNS = (
    *("CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "README.md", "Snakefile", "constraints.txt"),
    *("pyproject.toml", "config/**/*", "docs/**/*", "envs/*", "profiles/**/*", "rules/*", "workflow/**/*"),
)


@dataclass(frozen=True)
class Bundle:
    """The parts of a bundle.

    Attributes
    ----------
    study
        As its configuration says.
    configuration
        The merged configuration, with defaults.
    results
        The results folder.
    rules
        ``{path: rule}`` of the study's files.
    members
        Files that go in as they are, sorted.
    given
        ``{member: file}`` of campaigns and registries that lie elsewhere and go in under another name.
    omitted
        Files that stay out, sorted, with the hash and size that a lock, a sidecar or a lineage recorded of each: base
        models are too large to be read again for this.
    """

    study: Study
    configuration: dict[str, Any]
    results: str
    rules: Mapping[str, str]
    members: list[str]
    given: dict[str, str]
    omitted: dict[str, dict[str, Any]]


def project_files() -> list[str]:
    """Return the project's files that belong into a bundle, relative to the working directory, sorted."""
    paths = {path for pattern in PROJECT_PATTERNS for path in Path().glob(pattern) if path.is_file()}
    hidden = (".", "__pycache__")
    return sorted(p.as_posix() for p in paths if not any(part.startswith(hidden) for part in p.parts) and _source(p))


def _source(path: Path) -> bool:
    return path.suffix != ".pyc" and not any(part.endswith(".egg-info") for part in path.parts)


def configured_files(configuration: Mapping[str, Any]) -> list[str]:
    """Return the files that a study's configuration names: campaigns and registries."""
    filled = with_defaults(dict(configuration), schema("config"), schema("config"))
    return [Path(path).as_posix() for path in (*filled["campaigns"], filled["models"], filled["data"])]


def made_files(study: Study, results: str, resources: str) -> list[str]:
    """Return the study's files, results on demand included where they are there; a folder by its sidecar."""
    files = _files(study, results, resources)
    return [path for path in files if path + SIDECAR not in files or Path(path).suffix]


def _files(study: Study, results: str, resources: str) -> dict[str, str]:
    return outputs.study_files(study, results, resources) | outputs.made_on_demand(study, results)


def is_artifact(path: str, rules: Collection[str]) -> bool:
    """Tell whether a file of a bundle is an artifact, whole or damaged: the rules name it, or it says so itself."""
    return path.endswith(".json") and (path in rules or is_envelope(Path(path)))


def collect(configuration: Mapping[str, Any]) -> Bundle:
    """Decide what goes into the bundle of a finished study, and what stays out.

    Parameters
    ----------
    configuration
        The merged configuration, as Snakemake holds it.

    Returns
    -------
    Bundle
        The study's files; what locks and lineages name beside them; the project's files.

    Raises
    ------
    UserError
        When a file of the study is missing or was changed, or its results lie where a bundle cannot name them.
    """
    filled = with_defaults(dict(configuration), schema("config"), schema("config"))
    study, (results, resources) = load_study(filled), trees(filled)
    rules = _files(study, results, resources)
    expect_whole(results, resources, rules)
    configured = set(configured_files(filled))
    members, omitted = set(project_files()) | configured, dict[str, dict[str, Any]]()
    for path in map(Path, rules):
        add_member(path, members, omitted, weights=filled["evidence"]["adapters"])
    _add_given(members, omitted, rules)
    expect_unchanged(members, rules)
    # The study's merged configuration is written in the default one's place.
    members.discard(CONFIG)
    given = _rename_given(filter(_outside, configured), members)
    members -= set(given.values())
    configuration = _point_to_members(filled, {path: name for name, path in given.items()})
    return Bundle(study, configuration, results, rules, sorted(members), given, dict(sorted(omitted.items())))


def expect_whole(results: str, resources: str, files: Collection[str]) -> None:
    """Refuse a study that is not finished, or whose trees lie outside the project's folder.

    Raises
    ------
    UserError
        With what is missing, or the tree that lies elsewhere.
    """
    for name, folder in {"results": results, "resources": resources}.items():
        if _outside(folder):
            raise UserError(
                f"pathvars.{name}: expected a folder below this one, so that a bundle holds it, found {folder}"
            )
    lacking = [path for path in files if not Path(path).exists() and not stands_empty(Path(path))]
    if lacking:
        others = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
        raise UserError(f"{lacking[0]}{others}: missing, but a bundle holds a finished study; run snakemake")


def expect_unchanged(members: Collection[str], rules: Collection[str] = ()) -> None:
    """Refuse a file whose hash is not the one that its artifact recorded: an adapter's, or staged data.

    A file with a sidecar of its own is checked where a lineage in the bundle names it as an input.

    Parameters
    ----------
    members
        What goes in.
    rules
        The files that the study's rules name.

    Raises
    ------
    UserError
        With the first such file.
    """
    for owner in sorted(members):
        if is_artifact(owner, rules):
            for file, sha256 in vouched_files(Path(owner), artifacts.read(owner)).items():
                if file.as_posix() in members:
                    _expect(file, sha256, owner)


def _expect(file: Path, sha256: str, owner: str) -> None:
    found = artifacts.sha256_file(file) if file.is_file() else "no file"
    if found != sha256:
        raise UserError(
            f"{file}: changed after {owner} recorded it (expected sha256 {sha256}, found {found}); restore it, or "
            f"delete {owner} and run snakemake"
        )


def _outside(path: str) -> bool:
    """Tell whether a path leads out of the project's folder, so that it means another file elsewhere."""
    return Path(path).is_absolute() or ".." in Path(path).parts


def _rename_given(paths: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """Return ``{member: file}``: a name of its own inside the bundle for each file from elsewhere."""
    names: dict[str, str] = {}
    for path in sorted(paths):
        stem, suffix = Path(path).stem, Path(path).suffix
        choices = (f"{GIVEN_FOLDER}/{stem}{f'-{n}' if n else ''}{suffix}" for n in itertools.count())
        names[next(name for name in choices if name not in names and name not in taken)] = path
    return names


def _point_to_members(configuration: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration with the names that its files have inside the bundle."""

    def name(path: str) -> str:
        return names.get(Path(path).as_posix(), path)

    files = {"campaigns": list(map(name, configuration["campaigns"]))}
    return {**configuration, **files, **{key: name(configuration[key]) for key in ("models", "data")}}


def add_member(path: Path, members: set[str], omitted: dict[str, dict[str, Any]], *, weights: bool) -> None:
    """Add a file of the study, or the files of a folder, and what a lock stands for.

    Parameters
    ----------
    path
        As the rules name it; a folder that is not there has no files (see
        :func:`aletheia.audit.sidecars.stands_empty`).
    members, omitted
        Filled: what goes in, and what stays out.
    weights
        Whether adapters go in.
    """
    if path.is_dir():
        _add_folder(path, members, omitted, weights=weights)
    elif path.suffix in WEIGHTS:
        # A table of token ids is as large as weights; the data that it is made of goes in.
        omitted |= {path.as_posix(): artifacts.payload(artifacts.sidecar(path), "file")["files"][path.name]}
    elif path.exists():
        members.add(path.as_posix())
    if path.name.endswith(LOCK):
        _add_staged(path, members, omitted)


def _add_folder(folder: Path, members: set[str], omitted: dict[str, dict[str, Any]], *, weights: bool) -> None:
    """Add the files that a folder's sidecar lists (an adapter's); its weights only where they are wanted."""
    for name, recorded in artifacts.payload(artifacts.sidecar(folder), "file")["files"].items():
        path = folder / name
        if path.suffix in WEIGHTS and not weights:
            omitted[path.as_posix()] = recorded
        else:
            members.add(path.as_posix())


def _add_staged(lock: Path, members: set[str], omitted: dict[str, dict[str, Any]]) -> None:
    """Add the files that a lock lists: data goes in, models stay out."""
    envelope = artifacts.read(lock)
    folder = lock.with_name(lock.name.removesuffix(LOCK))
    members.add(artifacts.sidecar(folder).as_posix())
    files = {(folder / name).as_posix(): recorded for name, recorded in envelope["payload"]["files"].items()}
    if envelope["schema"] == "model_lock":
        omitted |= files
        # A local model's own files are weights too.
        omitted |= {name: _given_file(name, recorded) for name, recorded in envelope["lineage"]["inputs"].items()}
    else:
        members.update(files)


def _add_given(members: set[str], omitted: dict[str, dict[str, Any]], rules: Collection[str]) -> None:
    """Add the inputs that no step made: a user's data, the published tables. Files elsewhere stay out."""
    for path in sorted(members):
        if not is_artifact(path, rules):
            continue
        for name, recorded in artifacts.read(path)["lineage"]["inputs"].items():
            if name in members or name in omitted:
                continue
            if _outside(name):
                omitted[name] = _given_file(name, recorded)
            else:
                _expect(Path(name), recorded["sha256"], path)
                members.add(name)


def _given_file(name: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return hash and size of a given file, whose lineage recorded the hash alone."""
    path = Path(name)
    return {"sha256": recorded["sha256"], "bytes": path.stat().st_size if path.is_file() else None}
