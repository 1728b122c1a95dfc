"""Which files of a model's folder or repository are taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from aletheia.errors import UserError

SHARD = re.compile(r"model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json")
# Tokenizer and configuration in every form that loads without running the repository's code.
TEXT_FILE = re.compile(r".+\.json|tokenizer.*\.model|spiece\.model|merges\.txt|vocab\.txt|.+\.jinja")
# An adapter beside a model would be laid over it.
UNWANTED = re.compile(r".*\.index\.json|training_args\.json|.*consolidated.*|params\.json|adapter_config\.json")

# Tables of rows, those that a split of training rows is in, and the number of a file among the parts of one.
TABLE = re.compile(r".+\.(jsonl|ndjson|json|csv|tsv)(\.gz)?|.+\.parquet")
NO_ROWS = re.compile(r"(.*/)?(dataset_infos?|dataset_dict|state|README|config)\.json|\..*")
TRAIN = re.compile(r"(^|[^a-z])train(ing)?([^a-z]|$)", re.IGNORECASE)
PART = re.compile(r"-?\d{5}(-of-\d{5})?(-[0-9a-f]{16})?")  # a year is none
FEW_FILES = 8  # named in a sentence


def dataset_files(names: Sequence[str], member: str | None, what: str) -> list[str]:
    """Return the files of a data set's repository that hold its rows.

    Parameters
    ----------
    names
        All its files.
    member
        A name, or a pattern with ``*`` for the parts of one table (``data/train-*.parquet``); None takes the table of
        training rows, or the only one.
    what
        The repository, for sentences.

    Raises
    ------
    UserError
        Where there is no such file, or none is the only one.
    """
    inside = sorted(name for name in names if not {"..", ""} & set(name.split("/")))
    if member is not None:
        found = [member] if member in names else [name for name in inside if fnmatchcase(name, member)]
        if not found:
            raise UserError(f"{what} has no file {member}; check source.member in the registry{_listed(names)}")
        return found
    tables = [name for name in inside if TABLE.fullmatch(name.lower()) and not NO_ROWS.fullmatch(name)]
    tables = [name for name in tables if TRAIN.search(name)] or tables
    patterns = list(dict.fromkeys(PART.sub("*", name) for name in tables))
    if not patterns:
        raise UserError(f"{what} has no file of rows (JSON, CSV or Parquet); export its rows to a file of your own")
    if len(patterns) > 1:
        raise UserError(
            f"{what} has several tables; say in the registry which one is meant, source.member:{_listed(patterns)[1:]}"
        )
    return tables


def _listed(names: Sequence[str]) -> str:
    """Return names of tables for a sentence, the first ones of many."""
    tables = [name for name in names if TABLE.fullmatch(name.lower())]
    more = f" and {len(tables) - FEW_FILES} more" if len(tables) > FEW_FILES else ""
    return f"; {', '.join(tables[:FEW_FILES])}{more}" if tables else ""


def model_files(names: Sequence[str], what: str) -> list[str]:
    """Return the files of a model repository to take: safetensors, tokenizer, configuration, no folders.

    Raises
    ------
    UserError
        When there are no safetensors weights: pickles run code on loading and are never taken.
    """
    weights = [name for name in names if SHARD.fullmatch(name)]
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    if not any(name.endswith(".safetensors") for name in weights):
        pickles = [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        has = f"only pickled weights ({pickles[0]}), which may run code when loaded" if pickles else "no weights"
        raise UserError(
            f"{what} has {has}; expected model.safetensors or its shards, so choose a revision that has them "
            "(on the hub often refs/pr/N) or convert the weights to safetensors first"
        )
    texts = [n for n in names if TEXT_FILE.fullmatch(n) and not UNWANTED.fullmatch(n) and "/" not in n]
    return sorted({*weights, *texts})
