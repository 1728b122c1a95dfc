"""Draw the study's figures from the ledger and the statistics: each as PDF, PNG and SVG."""

from pathlib import Path

import matplotlib as mpl

from aletheia import artifacts, drawing, figures, ledger
from aletheia.cli import step_parser
from aletheia.errors import guarded


def main() -> None:
    parser = step_parser("figures", __doc__)
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.csv, from aggregate")
    parser.add_argument("--stats", type=Path, required=True, help="summary.json, from stats")
    parser.add_argument("--figure", nargs="+", choices=figures.FIGURES, required=True, help="which to draw")
    parser.add_argument("--out-dir", type=Path, default=Path("results/figures"))
    args = parser.parse_args()
    outputs = [args.out_dir / f"{name}.{suffix}" for name in args.figure for suffix in drawing.SUFFIXES]
    with artifacts.Job(args, inputs=[args.ledger, args.stats], outputs=outputs) as job:
        if job.done:
            return
        style = drawing.checked_style(job.config.get("figures", {}))
        table, summary = ledger.read_ledger(args.ledger), artifacts.payload(args.stats, "stats")
        with mpl.rc_context(drawing.rc(style)):
            for name in args.figure:
                figure = figures.FIGURES[name](table, summary, style)
                for suffix in drawing.SUFFIXES:
                    job.artifact(
                        args.out_dir / f"{name}.{suffix}",
                        write=lambda path, figure=figure: drawing.save(figure, path),
                        about={"figure": name},
                    )


if __name__ == "__main__":
    guarded(main)
