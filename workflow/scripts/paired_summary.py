"""Gather the interleaved pairs of std and a selecting arm into one table, a row a pair."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("paired_summary", __doc__, script=__file__)
    parser.add_argument("--pairs", type=Path, nargs="*", required=True, help="artifacts of interleave.py")
    parser.add_argument("--out", type=Path, required=True, help="table to write")
    args = parser.parse_args()
    import pandas as pd

    from aletheia.analysis.ledger import write_csv
    from aletheia.timing import paired

    with Job(args.step, inputs=args.pairs, outputs=[args.out]) as job:
        if job.done:
            return
        start.work_begins()
        rows = paired.summary_rows([job.input(path, "paired").payload for path in args.pairs])
        table = pd.DataFrame(rows, columns=paired.COLUMNS)
        about = {"rows": len(table), "columns": list(table.columns), "mode": "interleaved"}
        job.write_file(args.out, write=lambda path: write_csv(table, path), about=about)


if __name__ == "__main__":
    run_main(main)
