"""Files that an evidence bundle leaves out on purpose: named by hash in an artifact of the bundle's own.

The list stands only inside a bundle, never in the folder that the bundle was made from: there a deleted adapter is
missing, not left out.
"""

from __future__ import annotations

import os
from pathlib import Path

from aletheia.errors import UserError
from aletheia.provenance import artifacts

LIST_NAME = "evidence/omitted.json"


def find_omitted(results: Path | str = "results") -> dict[str, str]:
    """Return ``{path: sha256}`` of what the bundle that was unpacked here leaves out; empty where this is none.

    A list that was changed counts as empty: verification then names it, as any artifact, and every file on it.

    Parameters
    ----------
    results
        The results folder, which holds the list.
    """
    path = Path(results) / LIST_NAME
    if not os.path.isfile(path):
        return {}
    try:
        files = artifacts.payload(path, "omitted")["files"]
    except UserError:
        return {}
    return {entry["path"]: entry["sha256"] for entry in files}
