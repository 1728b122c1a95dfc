"""Files of the project's that a study reads by their place in it, also from a folder of its own."""

from __future__ import annotations

import os

from aletheia.provenance.lineage import ROOT


def project_file(name: str) -> str:
    """Return the path of a file by its place in the project.

    Parameters
    ----------
    name
        Such as ``config/analysis.yaml``.

    Returns
    -------
    str
        ``name`` as it is where the working folder has such a file, so that a study may have one of its own; else the
        path of the project's.
    """
    return name if os.path.exists(name) else str(ROOT / name)
