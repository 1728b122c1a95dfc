"""A table's three files: numbers as CSV, the reader's table as Markdown and as LaTeX."""

from __future__ import annotations

from pathlib import Path

from aletheia.analysis.ledger import write_csv
from aletheia.provenance.job import Job
from aletheia.report import table_text
from aletheia.report.table_text import Table


def write_table(job: Job, table: Table, folder: Path) -> None:
    """Write one table three times, each with its sidecar."""
    stem, about = folder / f"table{table.number}", {"title": table.title, "rows": len(table.numbers)}
    job.write_file(stem.with_suffix(".csv"), write=lambda path: write_csv(table.numbers, path), about=about)
    for suffix, text in ((".md", table_text.markdown(table)), (".tex", table_text.latex(table))):
        job.write_file(
            stem.with_suffix(suffix),
            write=lambda path, text=text: path.write_text(text, encoding="utf-8"),
            about=about,
        )
