"""The paper's own tables, as data: ``config/published/table1.csv`` to ``table5.csv``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from aletheia.errors import UserError


def load_published(folder: Path) -> dict[int, dict[str, dict[str, Any]]]:
    """Return the paper's tables: ``{table number: {model key: {column: value}}}``.

    Raises
    ------
    UserError
        When a table is missing.
    """
    tables = {}
    for number in range(1, 6):
        path = Path(folder) / f"table{number}.csv"
        if not path.is_file():
            raise UserError(f"{path}: expected the paper's table {number} here, found none; restore it from git")
        frame = pd.read_csv(path, dtype={"campaigns": str})
        tables[number] = {str(row["key"]): row for row in frame.to_dict("records")}
    return tables
