"""What each report of the study consists of: its tables, figures and written analysis."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """A report: numbers of its tables, names of its figures, and the file of its analysis where it has one.

    Attributes
    ----------
    arms
        The two arms that it compares: without a model that has both, all of it is empty.
    asks
        Whether it is about benchmarks with questions.
    """

    tables: tuple[int, ...]
    figures: tuple[str, ...]
    arms: tuple[str, str]
    analysis: str | None = None
    asks: bool = False


REPORTS = {
    "speed": Report(tables=(2, 3), figures=("fig1", "fig3", "fig5"), arms=("std", "ale")),
    "downstream": Report(
        tables=(4,), figures=("fig2",), arms=("std", "ale"), analysis="FORGETTING_DELTAS_ANALYSIS.md", asks=True
    ),
    "compute_matched": Report(
        tables=(5,), figures=("fig4",), arms=("std", "cm"), analysis="COMPUTE_MATCHED_ANALYSIS.md"
    ),
}
MODELS_TABLE = 1  # belongs to every study
LAYER_FIGURES = ("figS1", "figS2")  # belong to every study that probes
LAYER_TABLE = "layers.csv"
# Belong to every study in which some model has the standard arm and another one.
ARMS_TABLE, ARMS_FIGURES = "S1", ("figS4",)
# Of `snakemake controls`, which makes them on demand.
CONTROLS_TABLE, CONTROLS_FIGURE = "S2", "figS6"
# Of `snakemake search`, which makes them on demand.
RECIPE = "recipe.yaml"  # an arm: what each search ends with
SEARCH, SEARCH_TABLE, SEARCH_FIGURE = "SEARCH.md", "S3", "figS7"
# Of `snakemake fit`, which makes them on demand.
FIT_REPORT, FIT_FIGURE = "REPORT.md", "report"
# Of a study with a model of the paper: its cells and claims beside ours.
REPLICATION, REPLICATION_FIGURE = "REPLICATION.md", "figR1"
REPLICATION_CELLS, REPLICATION_CLAIMS = "cells.csv", "claims.csv"
COMPARISONS = "arms.csv"  # every arm against std, long; belongs to every study
# What was found, in six sentences, and what follows from it; belong to the same studies as that table.
FINDINGS = "FINDINGS.md"
OF_ARMS = {"findings": FINDINGS, "inference": "INFERENCE.md"}
CLOSEOUT = {"closeout": "CLOSEOUT.md"}  # belongs to every study with a sweep of the budget
CURVE_FIGURES = ("figS5",)  # belong to every study with held-out losses on the way
CURVE_TABLE = "curves.csv"
ANSWER_TABLE = "answers.parquet"  # every answer of every evaluation; belongs to every study with one


def _chosen(reports: Collection[str]) -> list[Report]:
    return [report for name, report in REPORTS.items() if name in reports]


def tables_of(reports: Collection[str], *, compared: bool = False) -> list[int | str]:
    """Return the numbers of the tables of a study with these reports.

    Parameters
    ----------
    reports
        Names of reports.
    compared
        Whether some model has the standard arm and another one.
    """
    numbers = sorted([MODELS_TABLE, *(number for report in _chosen(reports) for number in report.tables)])
    return [*numbers, *([ARMS_TABLE] if compared else [])]


def figures_of(reports: Collection[str]) -> list[str]:
    """Return the names of the figures of a study with these reports."""
    return sorted(name for report in _chosen(reports) for name in report.figures)


def analyses_of(reports: Collection[str]) -> dict[str, str]:
    """Return ``{report: file name}`` of the written analyses of a study with these reports."""
    return {name: report.analysis for name, report in REPORTS.items() if name in reports and report.analysis}
