"""The files of ``--configfile``, merged as Snakemake merges them; unlike there, a repeated key is refused."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aletheia.errors import UserError
from aletheia.study.schema import at, check, merge, read_yaml

# The Snakefile's own, which the others are laid over.
CONFIG = Path("config/config.yaml")


def read_configuration(configfiles: Iterable[Path] = ()) -> dict[str, Any]:
    """Read the configuration as Snakemake does: the default file, and others merged over it.

    Parameters
    ----------
    configfiles
        What ``--configfile`` names; mappings merge, lists replace.

    Raises
    ------
    UserError
        For a mistake in one of the files, and where a list of one takes the place of another's.
    """
    given = list(configfiles)
    paths = [CONFIG, *given] if CONFIG.is_file() or not given else given
    contents = [read_yaml(path) for path in paths]
    for path, content in zip(paths, contents, strict=True):
        check(content, "config", path, partly=True)
    by_path = dict(zip(paths, contents, strict=True))
    for number, later in enumerate(given):
        for earlier in given[:number]:
            keys = _replaced_list(by_path[earlier], by_path[later])
            if keys:
                raise UserError(
                    f"{at(later, *keys)} would replace the list of {earlier}, for lists do not add up; name one of the "
                    "two files, or write one that has the entries of both"
                )
    return functools.reduce(merge, contents, {})


def _replaced_list(below: Mapping[str, Any], above: Mapping[str, Any]) -> list[str]:
    """Return the keys that lead to the first list that would be replaced; empty where none would."""
    for key in [key for key in above if key in below]:
        old, new = below[key], above[key]
        if isinstance(old, list) and old != new:
            return [key]
        mappings = isinstance(old, Mapping) and isinstance(new, Mapping)
        inner_keys = _replaced_list(old, new) if mappings else []
        if inner_keys:
            return [key, *inner_keys]
    return []
