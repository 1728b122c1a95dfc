"""Hold each cell of the paper's tables, and each claim of its text, against this study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study.report_contents import (
    REPLICATION,
    REPLICATION_CELLS,
    REPLICATION_CLAIMS,
    REPLICATION_FIGURE,
)

if TYPE_CHECKING:
    import argparse


def parse() -> argparse.Namespace:
    """Return the arguments of the call."""
    parser = step_parser("replication", __doc__, script=__file__)
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.csv, from aggregate")
    parser.add_argument("--answers", type=Path, nargs="?", help="answers.parquet, from aggregate")
    parser.add_argument("--analysis", type=Path, default=Path("config/analysis.yaml"), help="margins")
    parser.add_argument(
        "--published", type=Path, default=Path("config/published"), help="the paper's tables and claims"
    )
    parser.add_argument("--out", type=Path, required=True, help="summary.json; tables, text and figure go beside it")
    return parser.parse_args()


def main() -> None:
    args = parse()
    import matplotlib as mpl
    import pandas as pd

    from aletheia.analysis import answers, ledger, paper_tables, plan
    from aletheia.analysis.published_claims import load_claims
    from aletheia.analysis.published_numbers import published_numbers
    from aletheia.analysis.replication import COLUMNS, replicate
    from aletheia.analysis.replication_claims import CLAIM_COLUMNS
    from aletheia.report import plot_style, replication_figure, replication_text

    folder = args.out.parent
    text = folder / REPLICATION
    plots = [folder / f"{REPLICATION_FIGURE}.{suffix}" for suffix in plot_style.SUFFIXES]
    names = [*(f"table{n}.csv" for n in range(1, 6)), "autoresearch.csv", "claims.csv"]
    published = [args.published / name for name in names]
    csv = {REPLICATION_CELLS: ("cells", COLUMNS), REPLICATION_CLAIMS: ("claims", CLAIM_COLUMNS)}
    inputs = [args.ledger, args.analysis, *filter(None, [args.answers]), *published]
    with Job(args.step, inputs=inputs, outputs=[args.out, *(folder / name for name in csv), text, *plots]) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        answered = answers.read_answers(args.answers) if args.answers else None
        tables = paper_tables.load_published(args.published)
        stated, claims = plan.load_plan(args.analysis), load_claims(published[-1])
        paper = {"claims": claims, "published": published_numbers(args.published)}
        summary = replicate(ledger.read_ledger(args.ledger), tables, stated, answered, **paper)
        job.write_json(args.out, kind="replication", payload=summary)
        for name, (part, columns) in csv.items():
            table = pd.DataFrame(summary[part], columns=list(columns))
            about = {"rows": len(table), "columns": list(columns)}
            job.write_file(folder / name, write=lambda path, table=table: ledger.write_csv(table, path), about=about)
        told = replication_text.replication_text(summary)
        job.write_file(text, write=lambda path: path.write_text(told, encoding="utf-8"))
        with mpl.rc_context(plot_style.rc(style)):
            figure = replication_figure.replication_figure(summary, style)
            for path in plots:
                job.write_file(
                    path, write=lambda path: plot_style.save(figure, path), about={"figure": REPLICATION_FIGURE}
                )


if __name__ == "__main__":
    run_main(main)
