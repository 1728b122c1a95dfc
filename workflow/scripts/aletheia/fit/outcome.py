"""What a finished study ends with, at the top of its folder: report, figure, and the adapter that is recommended."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aletheia.provenance import artifacts
from aletheia.provenance.atomic_write import atomic_path
from aletheia.study.paths import Paths

REPORT, FIGURE, SUMMARY = "REPORT.md", "report", "summary.json"
ADAPTER = "adapter"


def bring_up(folder: Path, paths: Paths) -> Mapping[str, Any]:
    """Copy report, figure and adapter to the top of a study's folder; return the report's summary.

    The results stay where they are, with their lineage; these are copies, made anew each time. The copy of the report
    names the copy of the adapter, which lies beside it.

    Parameters
    ----------
    folder, paths
        The study's folder, and its files from there.
    """
    made = folder / Path(paths.fit(SUMMARY)).parent
    summary = artifacts.payload(made / SUMMARY)
    chosen = summary["recommended"]
    text = (made / REPORT).read_text(encoding="utf-8")
    with atomic_path(folder / REPORT) as temporary:
        temporary.write_text(text.replace(chosen["adapter"], ADAPTER) if chosen else text, encoding="utf-8")
    for path in sorted(made.glob(f"{FIGURE}.*")):
        if path.suffix != ".json":
            with atomic_path(folder / path.name) as temporary:
                shutil.copyfile(path, temporary)
    if chosen:
        source = folder / paths.adapter(summary["model"], chosen["arm"], chosen["seed"])
        with atomic_path(folder / ADAPTER) as temporary:
            shutil.copytree(source, temporary)
    elif (folder / ADAPTER).is_dir():
        shutil.rmtree(folder / ADAPTER)
    return summary


def first_paragraph(folder: Path) -> str:
    """Return the first paragraph of the report below its title: the answer."""
    paragraphs = (folder / REPORT).read_text(encoding="utf-8").split("\n\n")
    return next((each.strip() for each in paragraphs if each.strip() and not each.lstrip().startswith(("#", "!"))), "")
