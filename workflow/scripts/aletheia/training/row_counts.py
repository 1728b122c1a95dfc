"""Sentences on the token limit: how many rows it cuts or leaves out, and which limit would be enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aletheia.provenance.staged_files import read_rows
from aletheia.training.encoded_rows import EncodedRows
from aletheia.training.encoding import encode_rows

ROWS = {"train": "training rows", "heldout": "held-out rows", "test": "test rows"}  # by the name of their file
FEW_SHARE = 0.05  # a share of rows up to which no advice is given; chosen by hand
LIMIT_MULTIPLE = 64  # tokens; proposed limits are multiples of it, since kernels are fastest at such lengths
MAX_LIMIT = 131_072  # tokens; as in the schema of campaigns


def encode_all(folder: Path, tokenizer: Any, encoding: Mapping[str, Any]) -> dict[str, EncodedRows]:
    """Return all rows of a staged data set as token ids: ``train``; ``heldout`` and ``test`` where there are any.

    Parameters
    ----------
    folder
        The staged data set.
    tokenizer, encoding
        As of :func:`aletheia.training.encoding.encode_rows`.
    """
    paths = {name: folder / f"{name}.jsonl" for name in ROWS}
    by_kind = {name: read_rows(path) for name, path in paths.items() if name != "test" or path.is_file()}
    return {
        name: encode_rows(rows, tokenizer, what=ROWS[name], **encoding)
        for name, rows in by_kind.items()
        if rows or name == "train"
    }


def in_words(counts: Mapping[str, int], what: str, max_tokens: int) -> str:
    """Return such as "8 of 41 training rows left out (no target left within 128 tokens), 3 cut".

    Parameters
    ----------
    counts
        Of :meth:`aletheia.training.encoded_rows.EncodedRows.counts`.
    what
        Which rows they are: "training rows".
    max_tokens
        The limit.
    """
    reasons = {
        f"no target left within {max_tokens} tokens": counts["no_target_left"],
        "nothing to learn from": counts["empty"],
    }
    reasons = {reason: number for reason, number in reasons.items() if number}
    left_out, cut = sum(reasons.values()), counts["cut"]
    if not left_out and not cut:
        return f"all {counts['rows']} {what} whole within {max_tokens} tokens"
    if not left_out:
        return f"{cut} of {counts['rows']} {what} cut at {max_tokens} tokens, none left out"
    several = len(reasons) > 1
    why = ", ".join(f"{number} {reason}" if several else reason for reason, number in reasons.items())
    return f"{left_out} of {counts['rows']} {what} left out ({why}), {cut} cut"


def report_row_counts(
    encoded: Mapping[str, EncodedRows], *, data: str, model: str, max_tokens: int, context: int | None
) -> None:
    """Print how many rows are cut or left out: one line for the user where any is, else one for the log.

    The line is the same for each seed, since it counts all rows of the data set.

    Parameters
    ----------
    encoded
        Of :func:`encode_all`.
    data, model
        Names in the registries.
    max_tokens
        The limit.
    context
        The longest sequence that the model takes; None where it has no such limit.
    """
    counts = {name: each.counts() for name, each in encoded.items()}
    affected = {name: c for name, c in counts.items() if _count_lost(c) or _exceeds_few(c, "special")}
    if not affected:
        print(f"{data} for {model}: all rows whole within {max_tokens} tokens", flush=True)
        return
    sentences = [in_words(c, ROWS[name], max_tokens) for name, c in affected.items()]
    too_long = [encoded[name].lengths for name, c in affected.items() if _exceeds_few(c, "cut", "no_target_left")]
    if too_long:
        sentences.append(_advice(too_long, max_tokens, context))
    if any(_exceeds_few(c, "empty") for c in affected.values()):
        sentences.append(
            "nothing to learn from: the tokenizer knows no character of the response, so remove those rows or choose a "
            "model of their script"
        )
    for name, c in affected.items():
        if _exceeds_few(c, "special"):
            sentences.append(
                f"{c['special']} of {c['rows']} {ROWS[name]} hold the text of a special token (such as </s>), learnt "
                "as that token: take it out, as the end of a row is marked without it"
            )
    print(f"note: {data} for {model}: {'; '.join(sentences)}", flush=True)


def count_kept(counts: Mapping[str, int]) -> int:
    """Return the number of rows that were not left out."""
    return counts["rows"] - counts["no_target_left"] - counts["empty"]


def _count_lost(counts: Mapping[str, int]) -> int:
    return counts["cut"] + counts["no_target_left"] + counts["empty"]


def _exceeds_few(counts: Mapping[str, int], *reasons: str) -> bool:
    return sum(counts[reason] for reason in reasons) > FEW_SHARE * counts["rows"]


def _advice(lengths: Sequence[Sequence[int]], max_tokens: int, context: int | None) -> str:
    """Return the sentence on the limit that keeps all but few rows of each kind whole, and the number that it cuts."""
    limit = max(sufficient_limit(each, context) for each in lengths)
    if limit <= max_tokens:
        return (
            f"the model's context ends at {context} tokens, so shorten the rows or choose a shorter encoding.prompt "
            "(plain, text)"
        )
    more = sum(length > limit for each in lengths for length in each)
    return f"encoding.max_tokens: {limit} would keep {f'all but {more}' if more else 'all'} of them whole"


def sufficient_limit(lengths: Sequence[int], context: int | None) -> int:
    """Return the smallest limit, a multiple of 64, under which at most 5 % of the rows are cut; at most the context."""
    ordered = sorted(lengths)
    covered = ordered[math.ceil((1 - FEW_SHARE) * len(ordered)) - 1]
    return min(math.ceil(covered / LIMIT_MULTIPLE) * LIMIT_MULTIPLE, MAX_LIMIT if context is None else context)
