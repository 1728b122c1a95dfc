"""Compute the study's statistics from the ledger: summary.json, arms.csv, tables, written analyses, findings.

Which reports are made follows the settings section `reports`, or --reports, or what the ledger's campaigns
name; the section `budget_sweeps` says which arms differ in their budget alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study import report_contents

if TYPE_CHECKING:
    import argparse


def parse() -> argparse.Namespace:
    """Return the arguments of the call."""
    parser = step_parser("stats", __doc__, script=__file__)
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.csv, from aggregate")
    parser.add_argument("--answers", type=Path, nargs="?", help="answers.parquet, from aggregate")
    parser.add_argument("--analysis", type=Path, default=Path("config/analysis.yaml"), help="margins and families")
    parser.add_argument("--published", type=Path, default=Path("config/published"), help="the paper's tables")
    parser.add_argument("--reports", nargs="*", choices=report_contents.REPORTS, help="what to report")
    parser.add_argument("--stats-dir", type=Path, default=Path("results/stats"))
    parser.add_argument("--tables-dir", type=Path, default=Path("results/tables"))
    return parser.parse_args()


def main() -> None:
    args = parse()
    from aletheia.analysis import answers, arms, ledger, paper_tables, plan, summary
    from aletheia.report import analyses as written
    from aletheia.report import arms_table, tables
    from aletheia.report.closeout import closeout
    from aletheia.report.findings import findings_text
    from aletheia.report.table_files import write_table

    texts = {
        "downstream": written.forgetting_deltas,
        "compute_matched": written.compute_matched,
        "findings": findings_text,
        "inference": written.inference,
        "closeout": closeout,
    }
    table = ledger.read_ledger(args.ledger)
    stated = plan.load_plan(args.analysis)
    # A study that feeds no report still has its summary and table 1.
    given = args.reports if args.reports is not None else args.config.get("reports")
    named = given if given is not None else " ".join(table["reports"].fillna("")).split()
    compares = arms.has_pairs(table)
    wanted = report_contents.tables_of(named, compared=compares)
    analyses = report_contents.analyses_of(named) | (report_contents.OF_ARMS if compares else {})
    sweeps = args.config.get("budget_sweeps", [])
    analyses |= report_contents.CLOSEOUT if sweeps else {}
    first = [args.stats_dir / name for name in ("summary.json", report_contents.COMPARISONS)]
    outputs = [*first, *(args.stats_dir / name for name in analyses.values())]
    outputs += [args.tables_dir / f"table{n}.{suffix}" for n in wanted for suffix in ("csv", "md", "tex")]
    published = [args.published / f"table{n}.csv" for n in range(1, 6)]
    inputs = [args.ledger, args.analysis, *filter(None, [args.answers]), *published]
    with Job(args.step, inputs=inputs, outputs=outputs) as job:
        if job.done:
            return
        start.work_begins()
        history = plan.plan_history(args.analysis)
        answered = answers.read_answers(args.answers) if args.answers else None
        found = summary.summarise(table, stated, answers=answered, history=history, sweeps=sweeps)
        paper = paper_tables.load_published(args.published)
        observed = {"plan": history and asdict(history)}
        job.write_json(first[0], kind="stats", payload=found, observed=observed)
        compared = arms.arm_table(found)
        about = {"rows": len(compared), "columns": list(compared.columns)}
        job.write_file(first[1], write=lambda path: ledger.write_csv(compared, path), about=about)
        for report, name in analyses.items():
            text = texts[report](found)
            job.write_file(args.stats_dir / name, write=lambda path, text=text: path.write_text(text, encoding="utf-8"))
        for number in wanted:
            own = number == report_contents.ARMS_TABLE
            made = arms_table.arms_table(found) if own else tables.TABLES[number](found, paper)
            write_table(job, made, args.tables_dir)


if __name__ == "__main__":
    run_main(main)
