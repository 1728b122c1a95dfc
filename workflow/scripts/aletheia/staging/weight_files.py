"""The tensors in a model's weight files, from headers and index alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from aletheia.errors import UserError
from aletheia.staging.model_files import reason

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_NAMES = 2  # names in a sentence; more would hide what to do


def tensor_shapes(folder: Path, *, named: str, remedy: str) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a model's safetensors files, from their headers alone.

    Parameters
    ----------
    folder
        Model files.
    named, remedy
        What sentences call the model, and what they advise.

    Raises
    ------
    UserError
        When the index or a file is damaged, or a file is missing.
    """
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder, [path.name for path in folder.iterdir()], named=named, remedy=remedy):
        try:
            # For torch the file would be mapped as writable memory, of which there may be less than its size.
            with safe_open(folder / file, framework="np") as opened:
                names = opened.keys()
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in names}
        except SafetensorError as error:
            size = (folder / file).stat().st_size
            raise UserError(
                f"{named}: {file} ({size} bytes) is cut off, or no safetensors file ({reason(error)}); {remedy}"
            ) from None
    return shapes


def weight_files(folder: Path, present: Collection[str], *, named: str, remedy: str) -> list[str]:
    """Return the names of the safetensors files that Transformers would load.

    Parameters
    ----------
    folder
        Where the index is, if there is one.
    present
        Names of the files that are present, or will be.
    named, remedy
        As in :func:`tensor_shapes`.

    Raises
    ------
    UserError
        When the index is damaged or missing, or names a file that is not there.
    """
    if SINGLE in present:
        return [SINGLE]
    if INDEX not in present:
        raise UserError(f"{named}: expected {INDEX} beside the parts of the weights and found none; {remedy}")
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in names if name not in present]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{named}: {INDEX} is damaged (it has no JSON weight_map); {remedy}") from None
    if missing or not names:
        lacking = f"names {shorten_list(missing)}, not among the files" if missing else "names no file"
        raise UserError(f"{named}: {INDEX} {lacking}; {remedy}")
    return names


def shorten_list(names: Collection[str]) -> str:
    """Return names for a sentence, the first few and how many more."""
    first = sorted(names)
    more = f" and {len(first) - MAX_NAMES} more" if len(first) > MAX_NAMES else ""
    return ", ".join(first[:MAX_NAMES]) + more
