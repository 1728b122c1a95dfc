"""Training data: staged rows in, token ids and batch plans out; the same work for every arm."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aletheia import artifacts
from aletheia.errors import UserError
from aletheia.prompts import PROMPTS, rendered
from aletheia.sampling import ranked

IGNORE = -100  # torch's cross-entropy leaves such labels out
LOCK = ".lock.json"
LOSS_ON = ("response", "all")


def folder_of(lock_path: Path | str) -> Path:
    """Return the folder that a lock file describes: its own path without ``.lock.json``."""
    lock_path = Path(lock_path)
    return lock_path.with_name(lock_path.name.removesuffix(LOCK))


def checked_folder(lock_path: Path | str) -> Path:
    """Return the folder of a lock, once each of its files is what the lock says.

    A file whose size and modification time are those seen at staging is taken as unchanged; any other is
    hashed.

    Raises
    ------
    UserError
        When a file is missing, was changed, or was added since staging.
    """
    lock_path = Path(lock_path)
    envelope = artifacts.read(lock_path)
    folder, files = folder_of(lock_path), envelope["payload"]["files"]
    seen = envelope["observed"].get("stat", {})
    remedy = f"restage it (delete {lock_path} and run the stage step)"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: expected a staged file here and found none; {remedy}")
        stat = path.stat()
        if seen.get(name) == [stat.st_size, stat.st_mtime_ns]:
            continue
        found = artifacts.sha256_file(path)
        if found != expected["sha256"]:
            raise UserError(
                f"{path}: changed since it was staged (expected sha256 {expected['sha256']}, found {found}); {remedy}"
            )
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and not path.name.startswith("."):
            raise UserError(f"{path}: not among the files that were staged; remove it, or {remedy}")
    return folder


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """Return the rows of a staged JSONL file (:mod:`aletheia.rows` reads what users bring)."""
    with Path(path).open(encoding="utf-8") as handle:
        return [json.loads(line) for line in handle]


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading tokens two sequences share."""
    for position, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return position
    return min(len(left), len(right))


def _special_prefix(tokenizer: Any) -> list[int]:
    """Return the beginning-of-sequence token where this tokenizer puts one before every text."""
    return [t for t in tokenizer("")["input_ids"] if t == tokenizer.bos_token_id][:1]


def encode_rows(
    rows: Iterable[dict[str, Any]],
    tokenizer: Any,
    max_tokens: int,
    *,
    prompt: str = "alpaca",
    loss_on: str = "response",
) -> list[dict[str, Any]]:
    """Turn rows into token ids and labels.

    Parameters
    ----------
    rows
        Alpaca-style (``instruction``, ``input``, ``output``) or chat (``messages``) rows; chat rows go
        through the tokenizer's template whatever ``prompt`` says.
    tokenizer
        A Hugging Face tokenizer.
    max_tokens
        Longer sequences lose their end; the end-of-sequence token then goes too, for the text does not end
        there.
    prompt
        ``alpaca`` (Stanford's wording), ``plain`` (instruction and input, nothing else), ``chat`` (the
        template), or ``text`` (the output alone).
    loss_on
        ``response``: labels of the prompt are -100; ``all``: every token counts.

    Returns
    -------
    list of dict
        ``input_ids``, ``labels`` (equal lengths) and ``row``, the index in ``rows``. Rows whose response is
        cut away altogether are left out. The end-of-sequence token is a label even where it doubles as
        padding, or generation would never learn to stop.

    Raises
    ------
    UserError
        For an unknown ``prompt`` or ``loss_on``, a missing chat template, or when no row is left.
    """
    for name, value, known in (("prompt", prompt, PROMPTS), ("loss_on", loss_on, LOSS_ON)):
        if value not in known:
            raise UserError(f"encoding.{name}: expected one of {', '.join(known)}, found {value!r}")
    rows, bos = list(rows), _special_prefix(tokenizer)
    if not rows:
        raise UserError("expected at least one row and found none; set held_out (or rows) in the data registry")
    examples = []
    for index, row in enumerate(rows):
        text, spans, templated = rendered(row, tokenizer, prompt)
        # A chat template writes its own beginning-of-sequence token.
        example = _encode(text, spans, tokenizer, [] if templated else bos, loss_on)
        example = {key: value[:max_tokens] for key, value in example.items()}
        # The first token is never predicted, so it does not count as a target.
        if any(label != IGNORE for label in example["labels"][1:]):
            examples.append({**example, "row": index})
    if not examples:
        raise UserError(
            f"none of the {len(rows)} rows keeps any of its response within max_tokens={max_tokens}; raise "
            "encoding.max_tokens, choose a shorter encoding.prompt (plain, text), or shorten the rows"
        )
    return examples


def _encode(
    text: str, spans: list[tuple[int, int]], tokenizer: Any, bos: list[int], loss_on: str
) -> dict[str, list[int]]:
    cuts = [text[:cut] for span in spans for cut in span if cut < len(text)]
    # Quiet: rows longer than the context are cut below.
    ids, *heads = tokenizer([text, *cuts], add_special_tokens=False, verbose=False)["input_ids"]
    # A token that straddles prompt and response differs from the prompt's own last token: it counts as
    # response.
    position = {len(cut): _common_prefix(head, ids) for cut, head in zip(cuts, heads, strict=True)}
    labels = list(ids) if loss_on == "all" else [IGNORE] * len(ids)
    for start, end in spans:
        begin, stop = position.get(start, len(ids)), position.get(end, len(ids))
        labels[begin:stop] = ids[begin:stop]
    eos = tokenizer.eos_token_id
    if eos is not None and ids[-1:] != [eos]:
        ids, labels = [*ids, eos], [*labels, eos]
    return {"input_ids": bos + ids, "labels": (bos if loss_on == "all" else [IGNORE] * len(bos)) + labels}


def collate(examples: Sequence[dict[str, Any]], pad_token_id: int) -> dict[str, Any]:
    """Return one batch of tensors, padded on the right to its longest example.

    Returns
    -------
    dict of torch.Tensor
        ``input_ids``, ``attention_mask``, ``labels``, each int64 of shape (batch, longest).
    """
    import torch

    longest = max(len(example["input_ids"]) for example in examples)

    def padded(values: Sequence[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*v, *[filler] * (longest - len(v))] for v in values], dtype=torch.int64)

    ids = [example["input_ids"] for example in examples]
    return {
        "input_ids": padded(ids, pad_token_id),
        # By length, not by token: the padding token may also be the end of a sequence.
        "attention_mask": padded([[1] * len(v) for v in ids], 0),
        "labels": padded([example["labels"] for example in examples], IGNORE),
    }


def probe_batches(
    examples: Sequence[dict[str, Any]], pad_token_id: int, *, batches: int, seed: int, batch_size: int = 1
) -> list[dict[str, Any]]:
    """Return the batches of the probe, drawn without repetition by ``seed`` (apart from the training order).

    Raises
    ------
    UserError
        When there are too few examples.
    """
    wanted = batches * batch_size
    if len(examples) < wanted:
        raise UserError(
            f"the probe needs {wanted} rows ({batches} batches of {batch_size}) and the training data has "
            f"{len(examples)} usable ones; lower probe.batches or add rows"
        )
    order = ranked(range(len(examples)), seed=f"{seed}:probe")[:wanted]
    return [
        collate([examples[i] for i in order[start : start + batch_size]], pad_token_id)
        for start in range(0, wanted, batch_size)
    ]
