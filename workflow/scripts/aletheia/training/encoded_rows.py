"""Rows of training data as token ids, in flat arrays: the examples that they give, and what became of each row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from aletheia.errors import UserError
from aletheia.method.token_loss import IGNORE


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Rows as token ids, and what became of each.

    Attributes
    ----------
    ids
        Token ids of all examples, one example after another, int32 of shape (tokens,).
    is_label
        Whether each counts in the loss, bool of shape (tokens,): its label is then its id, and otherwise -100.
    bounds
        Where each example begins, and where the last one ends, int64 of shape (examples + 1,).
    rows
        The row of each example: its index in the rows that were given, ascending, int32 of shape (examples,).
    row_lengths
        Tokens of each row before the token limit, int32 of shape (rows,); 0 where there is nothing to learn from: the
        tokenizer makes no token of the response, or none but special ones (a script that it does not know).
    has_special
        Rows that gave an example and whose own text holds a special token's (``</s>``), which the tokenizer reads as
        that token, bool of shape (rows,).
    """

    ids: np.ndarray
    is_label: np.ndarray
    bounds: np.ndarray
    rows: np.ndarray
    row_lengths: np.ndarray
    has_special: np.ndarray

    @classmethod
    def from_examples(
        cls, examples: Sequence[Mapping[str, Any]], row_lengths: Sequence[int], special: Collection[int]
    ) -> EncodedRows:
        """Return rows that were encoded one by one.

        Parameters
        ----------
        examples
            ``input_ids``, ``labels`` (equal lengths) and ``row``.
        row_lengths
            As the attribute.
        special
            The rows of ``has_special``.
        """
        bounds = np.zeros(len(examples) + 1, dtype=np.int64)
        np.cumsum([len(example["input_ids"]) for example in examples], out=bounds[1:])
        ids, labels = (
            np.fromiter(chain.from_iterable(example[key] for example in examples), dtype=np.int32, count=bounds[-1])
            for key in ("input_ids", "labels")
        )
        has_special = np.zeros(len(row_lengths), dtype=bool)
        has_special[list(special)] = True
        rows = np.array([example["row"] for example in examples], dtype=np.int32)
        return cls(ids, labels != IGNORE, bounds, rows, np.array(row_lengths, dtype=np.int32), has_special)

    @property
    def examples(self) -> Examples:
        """Return the examples as dicts of ``input_ids``, ``labels`` (equal lengths) and ``row``."""
        return Examples(self)

    @property
    def example_lengths(self) -> list[int]:
        """Return the tokens of each example."""
        return np.diff(self.bounds).tolist()

    @property
    def lengths(self) -> list[int]:
        """Return the tokens of each row that has something to learn from, before the token limit."""
        return self.row_lengths[self.row_lengths > 0].tolist()

    def counts(self) -> dict[str, int]:
        """Return the number of rows, and of those that were cut, left out, or kept with a special token.

        Returns
        -------
        dict
            ``rows``; ``cut``, which lost their end to the token limit and kept a target; ``no_target_left``, left out
            because all of their response lies beyond the limit; ``empty``, left out because there is nothing to learn
            from; ``special``, kept ones that hold a special token's text.
        """
        taught = np.count_nonzero(self.row_lengths)
        return {
            "rows": len(self.row_lengths),
            "cut": int(np.count_nonzero(self.row_lengths[self.rows] > np.diff(self.bounds))),
            "no_target_left": int(taught) - len(self.rows),
            "empty": len(self.row_lengths) - int(taught),
            "special": int(np.count_nonzero(self.has_special)),
        }

    def select(self, rows: Sequence[int]) -> EncodedRows:
        """Return some of the rows, equal to what encoding these alone would give, in the order of ``rows``.

        Parameters
        ----------
        rows
            Indices, each once; the result numbers its rows from 0.
        """
        rows = np.asarray(rows, dtype=np.int64)
        places = np.full(len(self.row_lengths), -1, dtype=np.int64)
        places[self.rows] = np.arange(len(self.rows))
        with_example = np.flatnonzero(places[rows] >= 0)
        examples = places[rows[with_example]]
        starts, stops = self.bounds[examples], self.bounds[examples + 1]
        bounds = np.concatenate([[0], np.cumsum(stops - starts)])
        # For each token of the result its index in ids: the tokens of an example follow each other.
        tokens = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], stops - starts)
        return EncodedRows(
            self.ids[tokens],
            self.is_label[tokens],
            bounds,
            with_example.astype(np.int32),
            self.row_lengths[rows],
            self.has_special[rows],
        )

    def require_examples(self, what: str, max_tokens: int) -> EncodedRows:
        """Return these rows, and refuse them where they give no example.

        Parameters
        ----------
        what
            Which rows they are, for sentences ("held-out rows").
        max_tokens
            The limit that they were cut at.

        Raises
        ------
        UserError
            When there is no row, or none is left.
        """
        rows, lengths = len(self.row_lengths), self.lengths
        if not rows:
            raise UserError("expected at least one row and found none; set held_out (or rows) in the data registry")
        if not lengths:
            raise UserError(f"the tokenizer makes no token that it knows of any response of the {rows} {what}")
        if not len(self.rows):
            raise UserError(
                f"none of the {rows} {what} keeps any of its response within max_tokens={max_tokens}; raise "
                f"encoding.max_tokens (the shortest has {min(lengths)} tokens), choose a shorter encoding.prompt "
                "(plain, text), or shorten the rows"
            )
        return self


class Examples(Sequence[dict[str, Any]]):
    """The examples of encoded rows; each is made on access, so that they take no memory."""

    def __init__(self, encoded: EncodedRows) -> None:
        self._encoded = encoded

    def __len__(self) -> int:
        return len(self._encoded.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        encoded, index = self._encoded, range(len(self))[index]
        tokens = slice(encoded.bounds[index], encoded.bounds[index + 1])
        ids = encoded.ids[tokens]
        labels = np.where(encoded.is_label[tokens], ids, IGNORE)
        return {"input_ids": ids.tolist(), "labels": labels.tolist(), "row": int(encoded.rows[index])}
