"""Files below a study's trees that are no results: jobs' temporary files, the report page, the wheel caches."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

# Whole names of temporary files and folders; any other hidden file was put there by somebody.
TEMPORARY_NAME = re.compile(
    r"""
    \.snakemake_timestamp               # Snakemake's, in each folder that is an output
    | \..+\.lock                        # held by a job (aletheia.provenance.locking)
    | \..+\.\d+\.(tmp(\.[^.]+)?|old)    # filled, or moved aside, by a job (aletheia.provenance.atomic_write)
    | \..+\.partial                     # a model on its way from the hub (aletheia.staging.stage)
    | \.checkpoint(\.tmp)?              # of a run (aletheia.training.run)
    | \.nfs[0-9a-f]+                    # a network file system's, for a file that was deleted while it was open
    """,
    re.VERBOSE,
)


def is_temporary(path: Path) -> bool:
    """Tell whether a file is temporary, by its name or that of a folder that it lies in.

    The path is relative to the tree's root.
    """
    return any(TEMPORARY_NAME.fullmatch(part) for part in path.parts)


def exempt_paths(roots: Sequence[Path]) -> list[Path]:
    """Return the paths that are exempt from verification: the report page, wheel caches, and kept states.

    A wheel is held against the sha256 in the registry whenever it is used, and what a frozen prefix gave against its
    own (:mod:`aletheia.training.prefix_blocks`).

    Parameters
    ----------
    roots
        The results folder, then others.
    """
    return [root / "report.html" for root in roots[:1]] + [
        root / name for root in roots[1:] for name in ("downloads", "prefix")
    ]
