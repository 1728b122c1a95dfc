"""The paper's models, by the keys of its tables in ``config/published``."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from aletheia.errors import UserError
from aletheia.provenance.lineage import ROOT

if TYPE_CHECKING:
    from aletheia.study.study import Study


TABLES = tuple(f"config/published/table{number}.csv" for number in range(1, 6))


def model_key(name: str) -> str:
    """Return the name by which the paper's models and ours are matched: lower case, × as x."""
    return name.lower().replace("×", "x")


def published_models(study: Study) -> list[str]:
    """Return the models of a study that the paper's tables have too.

    Raises
    ------
    UserError
        When the paper's table 1, which names all its models, is missing.
    """
    path = ROOT / TABLES[0]
    if not path.is_file():
        raise UserError(f"{path}: expected the paper's table 1 here, found none; restore it from git")
    with path.open(encoding="utf-8", newline="") as file:
        keys = {row["key"] for row in csv.DictReader(file)}
    return [model for model in study.used_models() if model_key(model) in keys]
