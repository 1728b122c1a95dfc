"""The files of ``--configfile``, read as Snakemake merges them, which says nothing of a key that stands twice."""

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
    said = dict(zip(paths, contents, strict=True))
    for number, later in enumerate(given):
        for earlier in given[:number]:
            keys = _replaced_list(said[earlier], said[later])
            if keys:
                raise UserError(
                    f"{at(later, *keys)} would replace the list of {earlier}, for lists do not add up; name one of the "
                    "two files, or write one that has the entries of both"
                )
    return functools.reduce(merge, contents, {})


def _replaced_list(below: Mapping[str, Any], above: Mapping[str, Any]) -> list[str]:
    """Return the keys of the first list that another value takes the place of; none where all stay."""
    for key in [key for key in above if key in below]:
        one, other = below[key], above[key]
        if isinstance(one, list) and one != other:
            return [key]
        both = isinstance(one, Mapping) and isinstance(other, Mapping)
        found = _replaced_list(one, other) if both else []
        if found:
            return [key, *found]
    return []
