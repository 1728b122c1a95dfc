"""Marks files for Snakemake's report page, each with the caption of its name and its sidecar beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake.io import is_flagged, report

from aletheia.provenance.artifacts import SIDECAR

CAPTIONS = "../workflow/report"  # from the folder of the rules


def mark_for_report(
    path: str, category: str, *, caption: str | None = None, labels: Mapping[str, str] | None = None
) -> Any:
    """Mark a file for the report page, by default with the caption that is named after it.

    A file has one label alone: for two files that differ in two, Snakemake 9.27 makes a switch that breaks its page.
    """
    name = caption or Path(path).stem
    return report(path, caption=f"{CAPTIONS}/{name}.rst", category=category, labels=labels or {"file": Path(path).name})


def mark_table_for_report(path: str, category: str) -> Any:
    """Mark a table for the report page where it can show it: a CSV, no Parquet."""
    return mark_for_report(path, category) if path.endswith(".csv") else path


def mark_sidecar_for_report(path: str) -> Any:
    """Mark a file's sidecar: the page's reader may have that page alone, where a path leads nowhere."""
    return mark_for_report(path + SIDECAR, "Lineage", caption="lineage")


def with_sidecars(paths: Iterable[str]) -> list[Any]:
    """Return each file with its sidecar, which is on the report page where the file is."""
    # Snakemake keeps a mark for the report on the path itself, which adding "" would lose.
    return [
        item
        for path in paths
        for item in (path, mark_sidecar_for_report(path) if is_flagged(path, "report") else path + SIDECAR)
    ]


def figure_files(path: str, caption: str, label: str) -> dict[str, Any]:
    """Return a figure's outputs: the PDF, its other forms of which the SVG is on the page, and their sidecars.

    Parameters
    ----------
    path
        Without the suffix.
    caption, label
        On the page.
    """
    svg = mark_for_report(f"{path}.svg", "Figures", caption=caption, labels={"figure": label})
    sidecars = [f"{path}.{suffix}{SIDECAR}" for suffix in ("pdf", "png")]
    return {
        "pdf": f"{path}.pdf",
        "others": [f"{path}.png", svg],
        "sidecars": [*sidecars, mark_sidecar_for_report(f"{path}.svg")],
    }
