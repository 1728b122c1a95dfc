"""Whether a base model's score can be its own: held against a published one of the same model and benchmark.

A score far below the published one says that the questions were put or judged in a way in which the model cannot
answer (a tokenizer, a template, a parser), so that no change of it says anything of the training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from aletheia.study.benchmarks import QUESTION_BENCHMARKS

PLAUSIBLE, IMPLAUSIBLE_BASE = "plausible", "implausible_base"
STANDARD_ERRORS = 2.0  # by how many of its standard errors a score must be below the bound


def validity_columns(benchmark: str) -> dict[str, str]:
    """Return ``{column: pandas type}`` of a benchmark in the ledger, where the registry has a published score.

    The published score in percent, its tolerance in points, where it stands, and what follows for the base model's.
    """
    return {
        f"{benchmark}_published_percent": "float64",
        f"{benchmark}_tolerance_points": "float64",
        f"{benchmark}_published_source": "str",
        f"{benchmark}_validity": "str",
    }


def standard_error(share: float, n: int) -> float:
    """Return the standard error of a share of right answers, 0 to 1.

    √(p(1 − p)/n) at the share of two more right and two more wrong answers, so that a score of 0 or 1 has one too:
    Agresti and Coull (1998), "Approximate is better than exact for interval estimation of binomial proportions", The
    American Statistician 52(2), section 2.

    Parameters
    ----------
    share
        The score.
    n
        Questions.
    """
    adjusted = (share * n + 2) / (n + 4)
    return math.sqrt(adjusted * (1 - adjusted) / (n + 4))


def is_implausible(share: float, n: int, *, published: float, tolerance: float) -> bool:
    """Tell whether a score is below a published one by more than the tolerance and two standard errors.

    Parameters
    ----------
    share, n
        Our score, 0 to 1, and its number of questions.
    published, tolerance
        In percent and in percentage points.
    """
    return 100 * (share + STANDARD_ERRORS * standard_error(share, n)) < published - tolerance


def validity_cells(benchmark: str, base: Mapping[str, Any], published: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the cells of :func:`validity_columns`; none without a published score.

    Parameters
    ----------
    benchmark
        Its name.
    base
        Payload of the base model's evaluation; one that failed has no validity.
    published
        The registry's ``{score, tolerance, source}`` of the model and benchmark.
    """
    if published is None:
        return {}
    bound = {"published": published["score"], "tolerance": published["tolerance"]}
    status = None
    if base["status"] == "ok":
        status = IMPLAUSIBLE_BASE if is_implausible(base["score"], base["n"], **bound) else PLAUSIBLE
    cells = (published["score"], published["tolerance"], published["source"], status)
    return dict(zip(validity_columns(benchmark), cells, strict=True))


def base_is_implausible(rows: pd.DataFrame, benchmark: str) -> bool:
    """Tell whether the base model of some runs has an implausible score; False where nothing is published.

    Parameters
    ----------
    rows
        The ledger's, of one model.
    benchmark
        One with questions.
    """
    return bool((rows.get(f"{benchmark}_validity", pd.Series(dtype="str")) == IMPLAUSIBLE_BASE).any())


def base_validity(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the base scores beside published ones, by benchmark; those that were not measured are left out.

    Parameters
    ----------
    rows
        As of :func:`base_is_implausible`.

    Returns
    -------
    dict
        ``{benchmark: {status, base, questions, published_percent, tolerance_points, source}}``; ``status`` is
        :data:`PLAUSIBLE` or :data:`IMPLAUSIBLE_BASE`.
    """
    found = {}
    for name in (name for name in QUESTION_BENCHMARKS if f"{name}_validity" in rows):
        known = rows[rows[f"{name}_validity"].notna()]
        if len(known):
            row, asked = known.iloc[0], rows[f"{name}_n"].max()
            found[name] = {
                "status": str(row[f"{name}_validity"]),
                "base": float(row[f"{name}_base"]),
                "questions": None if pd.isna(asked) else int(asked),
                "published_percent": float(row[f"{name}_published_percent"]),
                "tolerance_points": float(row[f"{name}_tolerance_points"]),
                "source": str(row[f"{name}_published_source"]),
            }
    return found


def implausible(validity: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the benchmarks of :func:`base_validity` whose base score is implausible."""
    return [name for name, found in validity.items() if found["status"] == IMPLAUSIBLE_BASE]
