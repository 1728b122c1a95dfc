"""Answer whether the gradient chooses better layers than random draws do, and what each way to choose costs and gives.

The settings section `controls` lists each campaign with its models and their arms.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study.report_contents import CONTROLS_FIGURE, CONTROLS_TABLE

if TYPE_CHECKING:
    import argparse

    from aletheia.analysis.controls_summary import Evidence


def parse() -> argparse.Namespace:
    """Return the arguments of the call."""
    parser = step_parser("controls", __doc__, script=__file__)
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.csv, from aggregate")
    parser.add_argument("--curves", type=Path, nargs="?", help="curves.csv, from aggregate")
    parser.add_argument("--selections", type=Path, nargs="*", default=[], help="as MODEL/ARM/seedN.json")
    parser.add_argument("--attributions", type=Path, nargs="*", default=[], help="step costs, as MODEL/seedN.json")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run.json of arms that chose their rate")
    parser.add_argument("--out", type=Path, required=True, help="summary.json; table, figure and text go beside it")
    return parser.parse_args()


def check_section(section: Any) -> list[dict[str, Any]]:
    """Return the campaigns of the section; refuse another shape, as a call by hand may give."""
    listed = isinstance(section, list) and all(isinstance(campaign, dict) for campaign in section)
    if not section or not listed or any({*campaign} != {"name", "models"} for campaign in section):
        expected = "the settings section controls (a list of campaigns, each with name and models)"
        raise UserError(f"controls: expected {expected}, found {section or 'none'}; see --help")
    return section


def read_evidence(job: Job, args: argparse.Namespace) -> Evidence:
    """Return what the inputs hold."""
    from aletheia.analysis import curves, ledger
    from aletheia.analysis.controls_summary import Evidence

    selections = {
        (path.parent.parent.name, path.parent.name, int(path.stem.removeprefix("seed"))): job.input(path, "selection")
        for path in args.selections
    }
    runs = [job.input(path, "run").payload for path in args.runs]
    return Evidence(
        ledger.read_ledger(args.ledger),
        curves.read_curve_table(args.curves) if args.curves else None,
        {key: artifact.payload for key, artifact in selections.items()},
        {path.parent.name: job.input(path, "attribution").payload for path in args.attributions},
        {(run["model"], run["arm"], run["seed"]): run.get("learning_rate") for run in runs},
    )


def main() -> None:
    args = parse()
    import matplotlib as mpl

    from aletheia.analysis.controls_summary import summarise_controls
    from aletheia.report import controls_figure, controls_table, controls_text, plot_style
    from aletheia.report.table_files import write_table

    campaigns = check_section(args.config.get("controls"))
    folder = args.out.parent
    text = folder / "CONTROLS.md"
    tables = [folder / f"table{CONTROLS_TABLE}.{suffix}" for suffix in ("csv", "md", "tex")]
    plots = [folder / f"{CONTROLS_FIGURE}.{suffix}" for suffix in plot_style.SUFFIXES]
    inputs = [args.ledger, *filter(None, [args.curves]), *args.selections, *args.attributions, *args.runs]
    with Job(args.step, inputs=inputs, outputs=[args.out, text, *tables, *plots]) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        summary = summarise_controls(campaigns, read_evidence(job, args))
        job.write_json(args.out, kind="controls", payload=summary)
        told = controls_text.controls_text(summary)
        job.write_file(text, write=lambda path: path.write_text(told, encoding="utf-8"))
        write_table(job, controls_table.controls_table(summary), folder)
        with mpl.rc_context(plot_style.rc(style)):
            figure = controls_figure.controls_figure(summary, style)
            about = {"figure": CONTROLS_FIGURE}
            for path in plots:
                job.write_file(path, write=lambda path: plot_style.save(figure, path), about=about)


if __name__ == "__main__":
    run_main(main)
