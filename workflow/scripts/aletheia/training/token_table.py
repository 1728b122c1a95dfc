"""Rows as token ids for every step that reads them: from the tokens step's table, or encoded where there is none.

The table is a safetensors file with the arrays of :class:`aletheia.training.encoded_rows.EncodedRows` for each kind of
rows (``train``, ``heldout``, ``test``). Its sidecar says which model, data and settings it is of. To read it takes no
tokenizer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.method import loading
from aletheia.provenance import artifacts
from aletheia.provenance.staged_files import checked_folder, folder_of, read_rows
from aletheia.training.encoded_rows import EncodedRows
from aletheia.training.encoding import encode_rows
from aletheia.training.row_counts import ROWS, encode_all, report_row_counts

ARRAYS = tuple(field.name for field in dataclasses.fields(EncodedRows))
LOCKED = ("model", "data")


def write_table(path: Path, encoded: Mapping[str, EncodedRows]) -> None:
    """Write rows of each kind; equal rows give equal bytes."""
    from safetensors.numpy import save

    arrays = {f"{kind}.{name}": getattr(rows, name) for kind, rows in encoded.items() for name in ARRAYS}
    # Not save_file, whose files (0600) other users of a shared results tree could not read.
    path.write_bytes(save(arrays))


def read_table(path: Path) -> dict[str, EncodedRows]:
    """Return the rows of each kind that :func:`write_table` wrote."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    kinds = dict.fromkeys(name.partition(".")[0] for name in arrays)
    return {kind: EncodedRows(**{name: arrays[f"{kind}.{name}"] for name in ARRAYS}) for kind in ROWS if kind in kinds}


def encode_data(
    model_lock: artifacts.Source, data_lock: artifacts.Source, encoding: Mapping[str, Any]
) -> dict[str, EncodedRows]:
    """Return all rows of a data set as a model's token ids, and say what became of them.

    Parameters
    ----------
    model_lock, data_lock
        Locks of the staged model and of the training data.
    encoding
        As of :func:`aletheia.training.encoding.encode_rows`.

    Raises
    ------
    UserError
        When the token limit lies beyond the model's context, or no row of a kind is left.
    """
    folder, max_tokens = checked_folder(model_lock, "model_lock"), encoding["max_tokens"]
    context = loading.context_of(folder)
    loading.check_length(max_tokens, context)
    tokenizer = loading.load_tokenizer(folder)
    encoded = encode_all(checked_folder(data_lock, "data_lock"), tokenizer, encoding)
    model, data = (_locked(lock, name)[0] for lock, name in ((model_lock, "model"), (data_lock, "data")))
    # Before the rows are used: it explains why few are left.
    report_row_counts(encoded, data=data, model=model, max_tokens=max_tokens, context=context)
    return encoded


def read_or_encode(
    table: Path | None, model_lock: artifacts.Source, data_lock: artifacts.Source, encoding: Mapping[str, Any]
) -> dict[str, EncodedRows]:
    """Return all rows of a data set by kind: from a table, or by :func:`encode_data` where there is none."""
    if table is None:
        return encode_data(model_lock, data_lock, encoding)
    return _table_rows(table, model_lock, data_lock, encoding).kinds


def about_table(
    model_lock: artifacts.Source,
    data_lock: artifacts.Source,
    encoding: Mapping[str, Any],
    encoded: Mapping[str, EncodedRows],
) -> dict[str, Any]:
    """Return the sidecar's facts on a table: its model and data, the settings, and the counts of rows."""
    about: dict[str, Any] = {
        "encoding": dict(encoding),
        "rows": {kind: rows.counts() for kind, rows in encoded.items()},
    }
    for name, lock in zip(LOCKED, (model_lock, data_lock), strict=True):
        about[name], about[f"{name}_lock"] = _locked(lock, name)
    return about


def _locked(lock: artifacts.Source, name: str) -> tuple[str, str]:
    """Return the name of the model or data that a lock describes, and the hash of the lock's payload."""
    envelope = artifacts.read(lock, f"{name}_lock")
    return envelope["payload"][name], envelope["payload_sha256"]


@dataclass(frozen=True)
class TableRows:
    """Rows out of a table.

    Attributes
    ----------
    folder
        The staged data, for sentences.
    max_tokens
        The limit that they were cut at.
    kinds
        Of :func:`read_table`.
    """

    folder: Path
    max_tokens: int
    kinds: dict[str, EncodedRows]

    def count(self, kind: str) -> int:
        """Return the number of rows of a kind (``train``, ``heldout``, ``test``) in the data."""
        return len(self.kinds[kind].row_lengths) if kind in self.kinds else 0

    def encoded_rows(self, kind: str, chosen: Sequence[int] | None = None, *, what: str | None = None) -> EncodedRows:
        """Return all rows of a kind, or the chosen ones, numbered from 0.

        Parameters
        ----------
        kind
            ``train``, ``heldout`` or ``test``; of one that the data has.
        chosen
            Indices of rows.
        what
            Which rows they are, for sentences; "training rows" or "held-out rows" without it.

        Raises
        ------
        UserError
            When no row is left.
        """
        if chosen is None:
            return self.kinds[kind]
        return self.kinds[kind].select(chosen).require_examples(what or ROWS[kind], self.max_tokens)


class StagedRows:
    """Rows that are encoded on access: as :class:`TableRows`, without a table.

    Parameters
    ----------
    folder
        The staged data.
    tokenizer
        Returns the model's; called only where rows are encoded.
    encoding
        As of :func:`aletheia.training.encoding.encode_rows`.
    """

    def __init__(self, folder: Path, tokenizer: Callable[[], Any], encoding: Mapping[str, Any]) -> None:
        self.folder, self._tokenizer, self._encoding = folder, tokenizer, encoding
        self._read: dict[str, list[dict[str, Any]]] = {}

    def count(self, kind: str) -> int:
        """Return the number of rows of a kind; 0 held-out or test ones where the data has none."""
        return len(self._rows(kind))

    def encoded_rows(self, kind: str, chosen: Sequence[int] | None = None, *, what: str | None = None) -> EncodedRows:
        """Return rows as :meth:`TableRows.encoded_rows` does."""
        rows = self._rows(kind)
        rows = rows if chosen is None else [rows[index] for index in chosen]
        return encode_rows(rows, self._tokenizer(), what=what or ROWS[kind], **self._encoding)

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        if kind not in self._read:
            path = self.folder / f"{kind}.jsonl"
            self._read[kind] = read_rows(path) if kind == "train" or path.is_file() else []
        return self._read[kind]


TokenRows = TableRows | StagedRows


def token_rows(
    table: Path | None,
    *,
    model_lock: artifacts.Source,
    data_lock: artifacts.Source,
    encoding: Mapping[str, Any],
    tokenizer: Callable[[], Any],
) -> TokenRows:
    """Return the rows of a data set: out of a table, or encoded here where there is none.

    Parameters
    ----------
    table
        Of the tokens step; one of the job's inputs, whose bytes are checked against its sidecar.
    model_lock, data_lock
        Locks of the model and of the data whose rows are wanted.
    encoding
        The settings that the table must have; a rule with a table may state a part of them, or none.
    tokenizer
        Gives the model's, where rows are encoded here.

    Raises
    ------
    UserError
        When the table is of another model, of other data, or of other settings.
    """
    if table is None:
        return StagedRows(checked_folder(data_lock, "data_lock"), tokenizer, encoding)
    return _table_rows(table, model_lock, data_lock, encoding)


def _table_rows(
    table: Path, model_lock: artifacts.Source, data_lock: artifacts.Source, encoding: Mapping[str, Any]
) -> TableRows:
    """Return the rows of a table after checking that it belongs to these locks and settings."""
    about = artifacts.payload(artifacts.sidecar(table), "file")["about"]
    if not {"encoding", *(f"{name}_lock" for name in LOCKED)} <= about.keys():
        raise UserError(f"{table}: expected a table of the tokens step, found another file; name that of this model")
    for name, lock in zip(LOCKED, (model_lock, data_lock), strict=True):
        wanted, sha256 = _locked(lock, name)
        if about[f"{name}_lock"] != sha256:
            raise UserError(
                f"{table}: expected the tokens of the {name} {wanted} that {lock} describes, found those of "
                f"{'another ' * (about[name] == wanted)}{about[name]}; run the tokens step with this lock"
            )
    for key, wanted in encoding.items():
        if about["encoding"][key] != wanted:
            raise UserError(
                f"{table}: expected rows encoded with encoding.{key}={wanted}, found {about['encoding'][key]}; run the "
                "tokens step with this setting, or give this step the table's"
            )
    return TableRows(folder_of(data_lock), about["encoding"]["max_tokens"], read_table(table))
