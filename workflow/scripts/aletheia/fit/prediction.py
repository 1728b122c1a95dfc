"""What choosing layers will save, said before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def prediction(selections: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    """TODO."""
    return str({arm: found["lowest_layer"] for arm, found in selections.items()})
