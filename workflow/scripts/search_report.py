"""Tell what the searches of a study came to: SEARCH.md, table S3 with every run, and figure S7.

The artifacts of each search's rungs are given as MODEL/RUNG.json.
"""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study.report_contents import SEARCH, SEARCH_FIGURE, SEARCH_TABLE


def main() -> None:
    parser = step_parser("search_report", __doc__, script=__file__)
    parser.add_argument("--rungs", type=Path, nargs="+", required=True, help="as MODEL/RUNG.json")
    parser.add_argument("--out", type=Path, required=True, help="summary.json; table, figure and text go beside it")
    args = parser.parse_args()
    import matplotlib as mpl

    from aletheia.analysis.search_summary import summarise_searches
    from aletheia.report import plot_style, search_figure, search_table, search_text
    from aletheia.report.table_files import write_table

    folder = args.out.parent
    text = folder / SEARCH
    tables = [folder / f"table{SEARCH_TABLE}.{suffix}" for suffix in ("csv", "md", "tex")]
    plots = [folder / f"{SEARCH_FIGURE}.{suffix}" for suffix in plot_style.SUFFIXES]
    with Job(args.step, inputs=args.rungs, outputs=[args.out, text, *tables, *plots]) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        rungs: dict[str, dict] = {}
        for path in args.rungs:
            rungs.setdefault(path.parent.name, {})[path.stem] = job.input(path, path.stem).payload
        summary = summarise_searches(rungs)
        job.write_json(args.out, kind="search", payload=summary)
        told = search_text.search_text(summary)
        job.write_file(text, write=lambda path: path.write_text(told, encoding="utf-8"))
        write_table(job, search_table.search_table(summary), folder)
        with mpl.rc_context(plot_style.rc(style)):
            figure = search_figure.search_figure(summary, style)
            for path in plots:
                about = {"figure": SEARCH_FIGURE}
                job.write_file(path, write=lambda path: plot_style.save(figure, path), about=about)


if __name__ == "__main__":
    run_main(main)
