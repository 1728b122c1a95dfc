"""Gather the interleaved pairs of std and a selecting arm into one table, a row a pair."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aletheia import artifacts, paired_times
from aletheia.cli import step_parser
from aletheia.errors import guarded
from aletheia.job import Job
from aletheia.ledger import write_csv


def main() -> None:
    """Run the step."""
    parser = step_parser("paired_summary", __doc__)
    parser.add_argument("--pairs", type=Path, nargs="*", required=True, help="artifacts of interleave.py")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    args = parser.parse_args()
    with Job(args, inputs=args.pairs, outputs=[args.out]) as job:
        if job.done:
            return
        rows = paired_times.summary_rows([artifacts.payload(path, "paired") for path in args.pairs])
        table = pd.DataFrame(rows, columns=paired_times.COLUMNS)
        about = {"rows": len(table), "columns": list(table.columns), "mode": "interleaved"}
        job.artifact(args.out, write=lambda path: write_csv(table, path), about=about)


if __name__ == "__main__":
    guarded(main)
