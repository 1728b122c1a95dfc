"""Rows as token ids and labels, and batches of them: the same for every arm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aletheia.errors import UserError
from aletheia.method.token_batch import TokenBatch
from aletheia.method.token_loss import IGNORE
from aletheia.seeded_order import seeded_order
from aletheia.training.encoded_rows import EncodedRows
from aletheia.training.prompts import PROMPTS, own_texts, render

LOSS_ON = ("response", "all")


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the number of leading tokens that two sequences share."""
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
    what: str = "rows",
) -> EncodedRows:
    """Turn rows into token ids and labels.

    Parameters
    ----------
    rows
        Alpaca-style (``instruction``, ``input``, ``output``) or chat (``messages``) rows; chat rows go
        through the tokenizer's template whatever ``prompt`` says.
    tokenizer
        A Hugging Face tokenizer.
    max_tokens
        Longer sequences are cut at the end, and then have no end-of-sequence token, as the text does not end there.
    prompt
        ``alpaca`` (Stanford's wording), ``plain`` (instruction and input, nothing else), ``chat`` (the
        template), or ``text`` (the output alone).
    loss_on
        ``response``: labels of the prompt are -100; ``all``: every token counts.
    what
        Which rows they are, for sentences ("held-out rows").

    Returns
    -------
    EncodedRows
        Examples, and counts of the rows that were cut or left out. The end-of-sequence token is a label even
        where it doubles as padding, or generation would never learn to stop.

    Raises
    ------
    UserError
        For an unknown ``prompt`` or ``loss_on``, a missing chat template, one that refuses a row, or when no row is
        left.
    """
    for name, value, allowed in (("prompt", prompt, PROMPTS), ("loss_on", loss_on, LOSS_ON)):
        if value not in allowed:
            raise UserError(f"encoding.{name}: expected one of {', '.join(allowed)}, found {value!r}")
    rows, bos, special_texts = list(rows), _special_prefix(tokenizer), _special_texts(tokenizer)
    examples: list[dict[str, Any]] = []
    row_lengths, special = [0] * len(rows), []
    for index, row in enumerate(rows):
        text, spans, templated = _render(row, tokenizer, prompt, f"{what}, number {index + 1}")
        # A chat template writes its own beginning-of-sequence token.
        whole = _encode(text, spans, tokenizer, [] if templated else bos, loss_on)
        if not _teaches(whole["labels"], tokenizer):
            continue
        row_lengths[index] = len(whole["input_ids"])
        example = {key: value[:max_tokens] for key, value in whole.items()}
        if _has_target(example["labels"]):
            examples.append({**example, "row": index})
            if any(special_texts.search(text) for text in own_texts(row)):
                special.append(index)
    return EncodedRows.from_examples(examples, row_lengths, special).require_examples(what, max_tokens)


def _special_texts(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern of the texts that this tokenizer reads as special tokens anywhere in a row."""
    special = [] if getattr(tokenizer, "split_special_tokens", False) else getattr(tokenizer, "all_special_tokens", [])
    return re.compile("|".join(map(re.escape, special)) or "(?!)")


def _render(row: dict[str, Any], tokenizer: Any, prompt: str, where: str) -> tuple[str, list[tuple[int, int]], bool]:
    try:
        return render(row, tokenizer, prompt)
    except UserError as error:
        source = f" (row {row['source_row'] + 1} of its file)" if "source_row" in row else ""
        raise UserError(f"{where}{source}: {error}") from None


def _has_target(labels: Sequence[int]) -> bool:
    """Tell whether any token but the first, which nothing predicts, is a target."""
    return any(label != IGNORE for label in labels[1:])


def _teaches(labels: Sequence[int], tokenizer: Any) -> bool:
    """Tell whether a whole row has a target other than the begin, end, padding and unknown tokens."""
    special = {IGNORE, *(getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "pad", "unk"))}
    return _has_target(labels) and any(label not in special for label in labels)


def _encode(
    text: str, spans: list[tuple[int, int]], tokenizer: Any, bos: list[int], loss_on: str
) -> dict[str, list[int]]:
    cuts = [text[:cut] for span in spans for cut in span if cut < len(text)]
    # Without the tokenizer's warning: rows longer than the context are cut by the caller.
    ids, *heads = tokenizer([text, *cuts], add_special_tokens=False, verbose=False)["input_ids"]
    # A token that covers the end of the prompt and the start of the response counts as response: it is none of the
    # tokens of the prompt alone.
    position = {len(cut): _common_prefix(head, ids) for cut, head in zip(cuts, heads, strict=True)}
    labels = list(ids) if loss_on == "all" else [IGNORE] * len(ids)
    for start, end in spans:
        begin, stop = position.get(start, len(ids)), position.get(end, len(ids))
        labels[begin:stop] = ids[begin:stop]
    eos = tokenizer.eos_token_id
    if eos is not None and ids[-1:] != [eos]:
        ids, labels = [*ids, eos], [*labels, eos]
    return {"input_ids": bos + ids, "labels": (bos if loss_on == "all" else [IGNORE] * len(bos)) + labels}


def collate(examples: Sequence[Mapping[str, Any]], pad_token_id: int) -> TokenBatch:
    """Return one batch on the host, padded on the right to its longest example."""
    import torch

    longest = max(len(example["input_ids"]) for example in examples)

    def pad(values: Sequence[list[int]], filler: int) -> torch.Tensor:
        return torch.tensor([[*v, *[filler] * (longest - len(v))] for v in values], dtype=torch.int64)

    ids = [example["input_ids"] for example in examples]
    return TokenBatch.from_labels(
        input_ids=pad(ids, pad_token_id),
        # By length, not by token: the padding token may also be the end of a sequence.
        attention_mask=pad([[1] * len(v) for v in ids], 0),
        labels=pad([example["labels"] for example in examples], IGNORE),
    )


def probe_batches(
    examples: Sequence[dict[str, Any]], pad_token_id: int, *, batches: int, seed: int, batch_size: int = 1
) -> list[TokenBatch]:
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
            f"{len(examples)} usable ones; lower probe.batches, raise encoding.max_tokens or add rows"
        )
    order = seeded_order(range(len(examples)), seed=f"{seed}:probe")[:wanted]
    return [
        collate([examples[i] for i in order[start : start + batch_size]], pad_token_id)
        for start in range(0, wanted, batch_size)
    ]
