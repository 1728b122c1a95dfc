"""Write what a search ends with as an arm that a campaign can take: its winner, or tuned std where there is none."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance import start
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("search_recipe", __doc__, script=__file__)
    parser.add_argument("--decision", type=Path, required=True, help="artifact of the search's decision")
    parser.add_argument("--out", type=Path, required=True, help="YAML file to write")
    args = parser.parse_args()
    with Job(args.step, inputs=[args.decision], outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.report.search_recipe import recipe_text

        start.work_begins()
        decision = job.input(args.decision, "decision").payload
        text = recipe_text(decision)
        about = {"winner": decision["decision"]["winner"]}
        job.write_file(args.out, write=lambda path: path.write_text(text, encoding="utf-8"), about=about)


if __name__ == "__main__":
    run_main(main)
