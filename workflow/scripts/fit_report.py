"""Tell what fine-tuning one model gave, whether choosing its layers was worth it, and which adapter to use.

The settings section `fit` names the campaign, its model, and the rows that judge (heldout or test).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study.report_contents import FIT_FIGURE, FIT_REPORT

if TYPE_CHECKING:
    import argparse

    from aletheia.analysis.fit_summary import FitEvidence

KEYS = {"campaign", "model", "split"}


def parse() -> argparse.Namespace:
    """Return the arguments of the call."""
    parser = step_parser("fit", __doc__, script=__file__)
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.csv, from aggregate")
    parser.add_argument("--stats", type=Path, required=True, help="summary.json, from stats")
    parser.add_argument("--answers", type=Path, nargs="?", help="answers.parquet, from aggregate")
    parser.add_argument("--analysis", type=Path, default=Path("config/analysis.yaml"), help="margins and families")
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="run.json of the campaign's runs")
    parser.add_argument("--out", type=Path, required=True, help="summary.json; report and figure go beside it")
    return parser.parse_args()


def check_section(section: Any) -> dict[str, Any]:
    """Return the section; refuse another shape, as a call by hand may give."""
    if not isinstance(section, dict) or {*section} != KEYS:
        expected = "the settings section fit (campaign, model and split)"
        raise UserError(f"fit: expected {expected}, found {section or 'none'}; see --help")
    return section


def read_evidence(job: Job, args: argparse.Namespace, model: str) -> FitEvidence:
    """Return what the inputs hold."""
    from aletheia.analysis import answers, ledger, plan
    from aletheia.analysis.fit_summary import FitEvidence

    runs, adapters = {}, {}
    for path in args.runs:
        run = job.input(path, "run").payload
        if run["model"] == model:
            runs[run["arm"], run["seed"]] = run
            adapters[run["arm"], run["seed"]] = (path.parent / "adapter").as_posix()
    return FitEvidence(
        job.input(args.stats, "stats").payload,
        ledger.read_ledger(args.ledger),
        answers.read_answers(args.answers) if args.answers else None,
        runs,
        adapters,
        plan.load_plan(args.analysis),
    )


def main() -> None:
    args = parse()
    import matplotlib as mpl

    from aletheia.analysis.fit_summary import summarise_fit
    from aletheia.report import fit_figure, fit_text, plot_style

    section = check_section(args.config.get("fit"))
    folder = args.out.parent
    text = folder / FIT_REPORT
    plots = [folder / f"{FIT_FIGURE}.{suffix}" for suffix in plot_style.SUFFIXES]
    inputs = [args.ledger, args.stats, *filter(None, [args.answers]), args.analysis, *args.runs]
    with Job(args.step, inputs=inputs, outputs=[args.out, text, *plots]) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        summary = summarise_fit(section, read_evidence(job, args, section["model"]))
        job.write_json(args.out, kind="fit", payload=summary)
        told = fit_text.fit_text(summary)
        job.write_file(text, write=lambda path: path.write_text(told, encoding="utf-8"))
        with mpl.rc_context(plot_style.rc(style)):
            figure = fit_figure.fit_figure(summary, style)
            about = {"figure": FIT_FIGURE}
            for path in plots:
                job.write_file(path, write=lambda path: plot_style.save(figure, path), about=about)


if __name__ == "__main__":
    run_main(main)
