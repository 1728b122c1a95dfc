"""Turn a model's training data and held-out rows into token ids, once for all steps that read them."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("tokens", __doc__, script=__file__, sections=("encoding",))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--out", type=Path, required=True, help="table to write, .safetensors")
    args = parser.parse_args()
    with Job(args.step, inputs=[args.model_lock, args.data_lock], outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.provenance import start
        from aletheia.training import token_table

        locks = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        start.work_begins()
        encoded = token_table.encode_data(*locks, job.config["encoding"])
        about = token_table.about_table(*locks, job.config["encoding"], encoded)
        tokens = {kind: len(rows.ids) for kind, rows in encoded.items()}
        print("tokens: " + ", ".join(f"{number} of {kind} rows" for kind, number in tokens.items()))
        job.write_file(args.out, write=lambda path: token_table.write_table(path, encoded), about=about)


if __name__ == "__main__":
    run_main(main)
