"""What lies below a study's trees and is no content: what jobs keep there for a while, a view, a cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

# Names of files and folders, whole: any other hidden name is somebody's.
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
    """Tell whether a file is what a job has there for a while: by its name, or a folder's that it lies in.

    The path begins below a tree's root.
    """
    return any(TEMPORARY_NAME.fullmatch(part) for part in path.parts)


def exempt_paths(roots: Sequence[Path]) -> list[Path]:
    """Return paths that verification leaves out: the report page, and the wheel caches.

    A wheel is held against the sha256 in the registry whenever it is used.

    Parameters
    ----------
    roots
        The results folder, then others.
    """
    return [root / "report.html" for root in roots[:1]] + [root / "downloads" for root in roots[1:]]
