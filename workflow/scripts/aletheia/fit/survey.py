"""A look at somebody's rows and model before anything is staged: how many rows, in which form, how long."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.fit.options import NO_RETENTION, Options
from aletheia.seeded_order import seeded_order

# So many rows say well enough how long rows are.
SAMPLE_ROWS = 1_000
LEAST_ROWS = 20
PASSAGES = 32
# Where a model's configuration says how many positions it has.
POSITIONS = ("max_position_embeddings", "n_positions", "seq_length")
ALPACA, CHAT, TEXT = "alpaca", "chat", "text"


@dataclass(frozen=True)
class Survey:
    """What is known of rows and model.

    Attributes
    ----------
    rows
        The rows as they were read.
    prompt
        How a row becomes text: ``chat`` where the tokenizer has a template, else ``alpaca``; ``text`` where rows are
        plain text.
    lengths
        Tokens of each row of a sample, ascending; None where the tokenizer could not be read.
    context
        Most positions of the model; None where it is not known.
    passages
        Passages of general text that are read; 0 where none is asked.
    notes
        A sentence each, for the rows' owner.
    """

    rows: Sequence[dict[str, Any]]
    prompt: str
    lengths: tuple[int, ...] | None
    context: int | None
    passages: int = 0
    notes: tuple[str, ...] = ()

    def quantile(self, share: float) -> int:
        """Return the length that so large a share of the sample does not exceed."""
        return self.lengths[min(len(self.lengths) - 1, int(share * len(self.lengths)))]

    def cut(self, max_tokens: int) -> float:
        """Return the share of the sample that is longer than a limit."""
        return sum(length > max_tokens for length in self.lengths) / len(self.lengths)


def survey(options: Options) -> Survey:
    """Read the rows and measure a sample of them.

    Raises
    ------
    UserError
        For rows or passages that cannot be read, too few rows, or such as the tokenizer's template refuses; for
        longer sequences than the model has positions.
    """
    rows, notes = _rows(options.data, dict(options.columns))
    if len(rows) < LEAST_ROWS:
        raise UserError(
            f"{options.data}: expected at least {LEAST_ROWS} rows, enough to hold some out and fill some "
            f"steps, found {len(rows)}; add rows"
        )
    tokenizer, why = _tokenizer(options.model)
    if tokenizer is None:
        notes = [*notes, f"how long rows are is not known before staging ({why}); --max-tokens sets the limit"]
    prompt = _prompt(rows, tokenizer)
    lengths, context = _lengths(rows, tokenizer, prompt), _context(Path(options.model))
    if options.max_tokens and context and options.max_tokens > context:
        raise UserError(
            f"--max-tokens: expected at most {context}, the positions that {options.model} has, found "
            f"{options.max_tokens}; lower it"
        )
    return Survey(rows, prompt, lengths, context, _passages(options), tuple(notes))


def _rows(data: str, columns: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a file, or of a data set on the hub as it is now, and notes for their owner."""
    from aletheia.staging.training_rows import read_training_rows

    if Path(data).exists():
        return read_training_rows(Path(data), columns=columns)
    from aletheia.staging.hub import hub_snapshot

    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        _, names = hub_snapshot({"id": data}, Path(folder), repo_type="dataset")
        return read_training_rows(*(Path(folder, name) for name in names), columns=columns)


def _passages(options: Options) -> int:
    """Return how many passages are read: as many as are usual, or all of a shorter file; refuse a file without any."""
    if options.retention in (None, NO_RETENTION):
        return 0 if options.retention else PASSAGES
    from aletheia.staging.passages import read_passages

    return min(PASSAGES, len(read_passages(Path(options.retention))[0]))


def _prompt(rows: Sequence[dict[str, Any]], tokenizer: Any) -> str:
    if "text" in rows[0]:
        return TEXT
    return CHAT if "messages" in rows[0] or getattr(tokenizer, "chat_template", None) else ALPACA


def _tokenizer(model: str) -> tuple[Any, str]:
    """Return the model's tokenizer; None where it cannot be had, with the reason (staging says it in full)."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model, trust_remote_code=False), ""
    except (OSError, ValueError, KeyError, ImportError, json.JSONDecodeError) as error:
        if Path(model).is_dir():
            raise UserError(
                f"MODEL: expected a folder with a tokenizer beside config.json, found none that loads in {model}; "
                "copy the tokenizer's files there"
            ) from None
        return None, f"no tokenizer of {model} could be had: {type(error).__name__}"


def _lengths(rows: Sequence[dict[str, Any]], tokenizer: Any, prompt: str) -> tuple[int, ...] | None:
    if tokenizer is None:
        return None
    from aletheia.training.encoding import encode_rows

    drawn = sorted(seeded_order(range(len(rows)), seed="survey")[:SAMPLE_ROWS])
    encoded = encode_rows([rows[index] for index in drawn], tokenizer, 1_000_000, prompt=prompt)
    return tuple(sorted(int(length) for length in encoded.row_lengths if length)) or None


def _context(model: Path) -> int | None:
    try:
        settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return next((settings[key] for key in POSITIONS if isinstance(settings.get(key), int)), None)
