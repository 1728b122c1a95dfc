"""What the written analyses share: a table or a sentence in its place, and the runs that failed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aletheia.report.table_text import markdown_rows


def rows_or(rows: list[dict[str, str]], otherwise: str) -> str:
    """Return rows as a Markdown table, or a sentence where there are none."""
    return markdown_rows(pd.DataFrame(rows)) if rows else f"{otherwise}\n"


def failed_runs(campaigns: list[dict[str, Any]]) -> str:
    """Return the section on failed runs, each with its reason."""
    lines = [
        f"- {c['name']}: {run['model']}/{run['arm']}/seed{run['seed']}: {run['status']}"
        + (f" ({run['reason']})" if run["reason"] else "")
        for c in campaigns
        for run in c["runs"]["failed"]
    ]
    rows, ended = sum(c["runs"]["rows"] for c in campaigns), sum(c["runs"]["ok"] for c in campaigns)
    text = f"## Runs\n\n{ended} of {rows} runs ended well.\n"
    return text + ("\nThe others are in no mean above:\n\n" + "\n".join(lines) + "\n" if lines else "")
