"""Staging: a registry entry becomes a folder of files with known hashes, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance import artifacts
from aletheia.provenance.atomic_write import abandoned_paths, clear_leftovers
from aletheia.provenance.job import Job
from aletheia.provenance.staged_files import folder_of
from aletheia.staging.build import build_data, build_model, message_words
from aletheia.staging.convert import count_parameters
from aletheia.staging.docstrings import python_build
from aletheia.staging.model_files import adaptable_names
from aletheia.staging.weights_check import check_model

# The modules and packages that decide the bytes of a staged folder; an edit elsewhere does not stage it again.
DECISIVE_MODULES = {
    "model": ("staging.convert", "staging.glassllm"),
    "data": (
        "seeded_order",
        *("staging.build", "staging.conversations", "staging.delimited_files", "staging.docstrings"),
        *("staging.passages", "staging.question_formats", "staging.questions", "staging.row_formats"),
        *("staging.splits", "staging.table_files", "staging.text_files", "staging.tool_turns"),
        "staging.training_rows",
    ),
}
LAYER_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")  # families name it differently
DECISIVE_PACKAGES = {"model": ("gguf", "safetensors", "tokenizers", "torch", "transformers"), "data": ("pyarrow",)}


def stage_model(job: Job, name: str, lock_path: Path) -> None:
    """Put a model's weights and tokenizer beside ``lock_path`` and write the lock.

    Parameters
    ----------
    job
        The running job; ``job.config["model"]`` is the registry entry.
    name
        The registry's key.
    lock_path
        ``resources/models/{name}.lock.json``; the weights go to ``resources/models/{name}/``.

    Raises
    ------
    UserError
        For whatever the user can mend: the network, the files (the entry itself was checked before).
    """
    entry = job.config["model"]
    folder = folder_of(lock_path)
    recipe = _recipe(job, "model", entry)
    downloads, partial = _downloads(folder), folder.with_name(f".{folder.name}.partial")
    source = _pin_source(entry["source"], folder, lock_path)
    if source["type"] == "hub":
        _resume_from_leftovers(folder, partial)
    about = _stage_folder(
        job,
        folder,
        recipe,
        lambda target: build_model(source, target, downloads, partial),
        # An older version may have staged it unchecked.
        check=lambda: check_model(folder, **message_words(source)),
    )
    config, tokenizer = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    payload = {
        "model": name,
        "source": entry["source"],
        "revision": about["revision"],
        "files": about["files"],
        "parameters": count_parameters(folder),
        "layers": next((config[key] for key in LAYER_KEYS if key in config), None),
        "adaptable": adaptable_names(folder, **message_words(source)),
        "family": entry.get("family") or config["model_type"],
        "licence": entry.get("licence"),
        "tokenizer_class": tokenizer.get("tokenizer_class"),
    }
    for key in ("parameters", "layers"):
        if entry.get(key) not in (None, payload[key]):
            print(f"note: the registry says {key}: {entry[key]} for {name}; its files have {payload[key]}")
    stat = _stat(folder, about["files"])
    job.write_json(lock_path, kind="model_lock", payload=payload, observed={"stat": stat})


def stage_data(job: Job, name: str, lock_path: Path) -> None:
    """Put a data set's rows beside ``lock_path`` and write the lock.

    Training data becomes ``train.jsonl`` and ``heldout.jsonl`` (with ``test.jsonl`` where the entry has test rows), a
    benchmark ``questions.jsonl`` (with
    ``fewshot.jsonl`` where the entry has few-shot examples) or ``passages.jsonl``.

    Parameters
    ----------
    job
        The running job; ``job.config["data"]`` is the registry entry.
    name
        The registry's key.
    lock_path
        ``resources/data/{name}.lock.json``.

    Raises
    ------
    UserError
        For whatever the user can mend: the network, the files and their rows (the entry was checked before).
    """
    entry = job.config["data"]
    folder = folder_of(lock_path)
    recipe = _recipe(job, "data", entry)
    pinned = {**entry, "source": _pin_source(entry["source"], folder, lock_path)}
    about = _stage_folder(job, folder, recipe, lambda target: build_data(pinned, target, _downloads(folder)))
    payload = {
        "data": name,
        "source": entry["source"],
        "revision": about["revision"],
        "files": {file: {**facts, "rows": about["rows"][file]} for file, facts in about["files"].items()},
        "format": entry["source"].get("format", "rows"),
        "licence": entry.get("licence"),
        "seed": entry.get("seed", 0),
        "dropped": about["dropped"],
        **({"members": about["members"]} if "members" in about else {}),
    }
    stat = _stat(folder, about["files"])
    job.write_json(lock_path, kind="data_lock", payload=payload, observed={"stat": stat})


def _pin_source(source: dict[str, Any], folder: Path, lock_path: Path) -> dict[str, Any]:
    """Return a source with the commit that an earlier staging resolved it to, where the registry names none.

    Otherwise a folder that is staged again, for a damaged file or an edited module, would get the newest commit of that
    day, and half of a study's runs would have other weights or rows than the rest.
    """
    if source["type"] != "hub" or source.get("revision") is not None:
        return source
    for path in (artifacts.sidecar(folder), lock_path):
        try:
            payload = artifacts.payload(path)
        except UserError:
            continue  # none there, or one that vouches for nothing
        before = payload.get("about", payload)  # of a sidecar, or of a lock
        staged_from = before.get("recipe", before).get("source", {})
        if {"revision": None, **staged_from} == {**source, "revision": None} and before.get("revision"):
            return {**source, "revision": before["revision"]}
    return source


def _resume_from_leftovers(folder: Path, partial: Path) -> None:
    """Let a download resume with what a killed job had fetched; each file is then checked against the hub's hash."""
    whole = [folder] if folder.is_dir() and not artifacts.sidecar(folder).is_file() else []
    left = [path for path in (*abandoned_paths(folder), *whole) if path.is_dir() and not path.is_symlink()]
    if left and not partial.exists():
        left[-1].rename(partial)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _downloads(folder: Path) -> Path:
    return folder.parent.parent / "downloads"


def _stat(folder: Path, files: dict[str, Any]) -> dict[str, list[int]]:
    """Return each file's size and modification time, by which later steps see that it was not touched."""
    return {name: [(folder / name).stat().st_size, (folder / name).stat().st_mtime_ns] for name in files}


def _recipe(job: Job, what: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides the bytes of a staged folder."""
    source, inputs = entry["source"], job.lineage["inputs"]
    if what == "model" and source["type"] in ("hub", "local"):
        # Copied unchanged, perhaps 140 GB: none of our code decides the bytes.
        return {"source": source, "inputs": inputs}
    code, versions = job.lineage["code"], job.lineage["environment"]["packages"]
    return {
        **{key: entry.get(key) for key in ("source", "rows", "held_out", "held_out_path", "test", "fewshot", "seed")},
        "inputs": inputs,
        "code": {name: code[f"aletheia.{name}"] for name in DECISIVE_MODULES[what]},
        "packages": {name: versions.get(name) for name in DECISIVE_PACKAGES[what]},
        # The standard library's docstrings depend on Python's build; models and questions do not.
        "build": python_build() if source["type"] == "stdlib" else None,
    }


def _stage_folder(
    job: Job,
    folder: Path,
    recipe: dict[str, Any],
    build: Callable[[Path], dict[str, Any]],
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fill ``folder`` unless it is already there, whole; return its files, and the facts that ``build`` returned.

    The folder is no declared output, since a checksum over weights at every dry run is too slow. So it is kept only
    where a sidecar has the hash of each file and the same recipe: what a killed job left has none. ``check`` is called
    on a folder that is kept; ``build`` checks what it makes.
    """
    clear_leftovers(folder)
    sidecar = artifacts.sidecar(folder)
    if sidecar.is_file() and folder.is_dir():
        try:
            recorded = artifacts.payload(sidecar)
        except UserError:
            recorded = None
        if recorded and recorded["about"]["recipe"] == recipe and recorded["files"] == artifacts.folder_files(folder):
            check()
            print(f"{folder}: already there, whole; kept")
            return {**recorded["about"], "files": recorded["files"]}
    about: dict[str, Any] = {"recipe": recipe}

    def write(target: Path) -> None:
        about.update(build(target))

    job.write_file(folder, write=write, about=about)
    return {**about, "files": artifacts.payload(sidecar)["files"]}
