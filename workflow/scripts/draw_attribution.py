"""Draw figure S3 from attributions: predicted against measured step times, and each saving split into its causes."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("draw_attribution", __doc__, script=__file__, sections=("figures",))
    parser.add_argument("--attributions", type=Path, nargs="*", required=True, help="artifacts of attribution.py")
    parser.add_argument("--out-dir", type=Path, required=True, help="folder for figS3.pdf, .png and .svg")
    args = parser.parse_args()
    import matplotlib as mpl

    from aletheia.report import attribution_figure, plot_style

    outputs = [args.out_dir / f"figS3.{suffix}" for suffix in plot_style.SUFFIXES]
    with Job(args.step, inputs=args.attributions, outputs=outputs) as job:
        if job.done:
            return
        start.work_begins()
        style = plot_style.checked_style(job.config.get("figures", {}))
        found = [job.input(path, "attribution").payload for path in args.attributions]
        with mpl.rc_context(plot_style.rc(style)):
            figure = attribution_figure.plot_attribution(found, style)
            for path in outputs:
                job.write_file(path, write=lambda path: plot_style.save(figure, path), about={"figure": "figS3"})


if __name__ == "__main__":
    run_main(main)
