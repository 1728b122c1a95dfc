"""Draw the study's figures as PDF, PNG and SVG.

From the ledger and the statistics; figS1 and figS2 from layers.csv, figS5 from curves.csv.
"""

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.study.report_contents import ARMS_FIGURES, CURVE_FIGURES, LAYER_FIGURES, REPORTS, figures_of


def main() -> None:
    parser = step_parser("figures", __doc__, script=__file__)
    parser.add_argument("--ledger", type=Path, required=True, help="ledger.csv, from aggregate")
    parser.add_argument("--stats", type=Path, required=True, help="summary.json, from stats")
    parser.add_argument("--layers", type=Path, nargs="?", help="layers.csv, from aggregate, for figS1 and figS2")
    parser.add_argument("--curves", type=Path, nargs="?", help="curves.csv, from aggregate, for figS5")
    choices = [*figures_of(REPORTS), *LAYER_FIGURES, *ARMS_FIGURES, *CURVE_FIGURES]
    parser.add_argument("--figure", nargs="+", choices=choices, required=True, help="which to draw")
    parser.add_argument("--out-dir", type=Path, default=Path("results/figures"))
    args = parser.parse_args()
    import matplotlib as mpl

    from aletheia.analysis import curves, layer_scores, ledger
    from aletheia.report import arm_figures, figures, layer_figures, plot_style

    outputs = [args.out_dir / f"{name}.{suffix}" for name in args.figure for suffix in plot_style.SUFFIXES]
    if args.layers is None and set(args.figure) & set(LAYER_FIGURES):
        raise UserError(
            "figS1 and figS2 show layer scores: expected --layers with the layers.csv of aggregate, found none"
        )
    if args.curves is None and set(args.figure) & set(CURVE_FIGURES):
        raise UserError("figS5 shows curves: expected --curves with the curves.csv of aggregate, found none")
    inputs = [args.ledger, args.stats, *(path for path in (args.layers, args.curves) if path)]
    with Job(args.step, inputs=inputs, outputs=outputs) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        table, summary = ledger.read_ledger(args.ledger), job.input(args.stats, "stats").payload
        with mpl.rc_context(plot_style.rc(style)):
            for name in args.figure:
                if name in LAYER_FIGURES:
                    figure = layer_figures.FIGURES[name](layer_scores.read_layer_table(args.layers), style)
                elif name in CURVE_FIGURES:
                    figure = arm_figures.loss_curves(curves.read_curve_table(args.curves), style)
                elif name in ARMS_FIGURES:
                    figure = arm_figures.frontier(summary, style)
                else:
                    figure = figures.FIGURES[name](table, summary, style)
                for suffix in plot_style.SUFFIXES:
                    job.write_file(
                        args.out_dir / f"{name}.{suffix}",
                        write=lambda path, figure=figure: plot_style.save(figure, path),
                        about={"figure": name},
                    )


if __name__ == "__main__":
    run_main(main)
