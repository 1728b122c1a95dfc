"""Compare the probes of several draws of batches: how much the selected layers depend on what the probe saw.

The settings section `stability` says of each model: draws, batches, score, budget_percent.
"""

from pathlib import Path
from typing import Any

from aletheia.cli import step_parser
from aletheia.errors import UserError, run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job

SETTINGS = {"draws", "batches", "score", "budget_percent"}


def check_section(section: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of each model; refuse incomplete ones, as a call by hand may give."""
    whole = isinstance(section, dict) and all(isinstance(s, dict) and {*s} == SETTINGS for s in section.values())
    if not whole or not section:
        expected = f"the settings section stability (of each model: {', '.join(sorted(SETTINGS))})"
        raise UserError(f"stability: expected {expected}, found {section or 'none'}; see --help")
    return section


def main() -> None:
    parser = step_parser("stability", __doc__, script=__file__)
    parser.add_argument("--draws", type=Path, nargs="+", required=True, help="probes, as MODEL/seedN.json")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write; the plot goes beside it")
    args = parser.parse_args()
    import matplotlib as mpl

    from aletheia.analysis import stability
    from aletheia.report import plot_style, stability_figure

    by_model = check_section(args.config.get("stability"))
    plots = [args.out.with_name(f"stability.{suffix}") for suffix in plot_style.SUFFIXES]
    with Job(args.step, inputs=args.draws, outputs=[args.out, *plots]) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        models = {}
        for model, settings in by_model.items():
            draws = [job.input(path, "probe").payload for path in args.draws if path.parent.name == model]
            models[model] = stability.model_stability(model, draws, **settings)
        job.write_json(args.out, kind="stability", payload={"models": models})
        with mpl.rc_context(plot_style.rc(style)):
            figure = stability_figure.plot_stability(models, style)
            for path in plots:
                job.write_file(path, write=lambda path: plot_style.save(figure, path), about={"figure": "stability"})


if __name__ == "__main__":
    run_main(main)
