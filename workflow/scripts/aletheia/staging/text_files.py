"""Read text files that users bring: UTF-8, gzipped or not; any other file is refused by its kind."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aletheia.errors import UserError

GZIP = b"\x1f\x8b"
# What else is found under the names of text files, by its first bytes.
KINDS_BY_FIRST_BYTES = {
    GZIP: "a gzip file",
    b"PK\x03\x04": "a zip archive, as an Excel workbook is one",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"%PDF": "a PDF",
    b"SQLite": "an SQLite database",
    b"version https://git-lfs": "a Git LFS pointer in the file's place (git lfs pull fetches it)",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}
LINE_END = re.compile(rb"\r\n|\n|\r")
# UTF-16 without its mark has a NUL in every second byte of English text.
NUL_SHARE, NUL_SAMPLE = 0.2, 1000
SHOWN_CHARACTERS = 60  # characters of a user's own words in a sentence


def read_text(path: Path) -> str:
    """Return a text file's content.

    Parameters
    ----------
    path
        UTF-8, with or without a byte order mark; gzipped where its name ends in ``.gz``.

    Raises
    ------
    UserError
        For another encoding (with the line where it shows), a damaged gzip file, or a file of another kind.
    """
    raw = path.read_bytes()
    if path.suffix.lower() == ".gz":
        raw = _unpack(raw, path)
    elif raw.startswith(GZIP):
        raise UserError(f"{path}: expected text, found a gzip file; let its name end in .gz, or unpack it")
    _refuse_other_kinds(raw, path)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(LINE_END.findall(raw[: error.start])) + 1
        raise UserError(f"{path}, line {line}: expected UTF-8 text; save the file as UTF-8") from None


def _unpack(raw: bytes, path: Path) -> bytes:
    if raw and not raw.startswith(GZIP):
        raise UserError(
            f"{path}: expected a gzip file, found {kind_of_bytes(raw) or 'something else'}; take .gz off its name"
        )
    try:
        return gzip.decompress(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(
            f"{path}: expected a whole gzip file, found a damaged one or half of one; copy or download it again"
        ) from None


def _refuse_other_kinds(raw: bytes, path: Path) -> None:
    kind = kind_of_bytes(raw)
    if kind is not None:
        raise UserError(f"{path}: expected text, found {kind}; save the rows as JSONL, CSV or Parquet, named so")
    sample = raw[:NUL_SAMPLE]
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or sample.count(0) > NUL_SHARE * len(sample):
        raise UserError(f"{path}: expected UTF-8 text, found UTF-16, UTF-32 or no text; save the file as UTF-8")


def kind_of_bytes(raw: bytes) -> str | None:
    """Return the kind of a file by its first bytes; None where it is not known."""
    if raw[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for mark, kind in KINDS_BY_FIRST_BYTES.items() if raw.startswith(mark)), None)


def lines(text: str) -> list[str]:
    """Return the lines of a text, which end in LF or CR LF, or all in CR alone."""
    return text.split("\n" if "\n" in text else "\r")


def check_text(value: str, what: str) -> None:
    r"""Refuse text that no UTF-8 file can hold, or that a damaged file left.

    Parameters
    ----------
    value
        The text.
    what
        What it is and where it stands, for the sentence.

    Raises
    ------
    UserError
        For half of a surrogate pair (``\ud800``, an emoji cut in two), or a NUL character.
    """
    if "\0" in value:
        raise UserError(f"{what} holds a NUL character (\\u0000), which text does not have; take it out")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise UserError(
            f"{what} holds half of a character ({half}, an emoji cut in two?); take it out or write it whole"
        ) from None


def shows(text: str) -> bool:
    """Tell whether a text has anything but white space and characters that cannot be seen."""
    return any(not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf") for c in text)


def short(words: object) -> str:
    """Return a user's own words, cut where they are long, so that a sentence stays one."""
    text = str(words)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def check_columns(columns: Sequence[str], where: str) -> None:
    """Refuse two columns of one name, the second of which would take the place of the first.

    Raises
    ------
    UserError
        With the name.
    """
    twice = next((name for name, times in Counter(columns).items() if times > 1 and name), None)
    if twice is not None:
        raise UserError(f"{where}: expected each column once, found {short(repr(twice))} twice; rename or remove one")


def kind_of(value: Any) -> str:
    """Return the type of a JSON or Parquet value in plain words."""
    if isinstance(value, (list, dict, str)) and not value:
        return {list: "an empty list", str: "empty text"}.get(type(value), "an empty object")
    names = {
        list: "a list",
        str: "text",
        bool: "a truth value",
        bytes: "bytes",
        type(None): "nothing (null)",
    }
    if isinstance(value, dict):
        return "an object"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"the number {short(value)}" if number else names.get(type(value), type(value).__name__)
