"""Run the generated HumanEval programs against their tests, each in a sandbox; needs no model and no GPU."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import THREADS, step_parser
from aletheia.errors import run_main
from aletheia.evaluation import score_code
from aletheia.provenance import start
from aletheia.provenance.artifacts import sidecar
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("score_code", __doc__, script=__file__, sections=("humaneval",))
    parser.add_argument("--generations", type=Path, required=True, help="humaneval.generations.parquet")
    parser.add_argument("--questions", type=Path, required=True, help="lock of the HumanEval problems")
    parser.add_argument("--threads", type=THREADS, default=1, help="programs that run at a time")
    parser.add_argument("--out-dir", type=Path, required=True, help="folder for humaneval.json and .parquet")
    args = parser.parse_args()
    score, table = args.out_dir / "humaneval.json", args.out_dir / "humaneval.parquet"
    inputs = [args.generations, sidecar(args.generations), args.questions]
    with Job(args.step, inputs=inputs, outputs=[table, score]) as job:
        if job.done:
            return
        start.work_begins()
        payload, rows, observed = score_code.score(
            args.generations,
            job.input(args.questions, "data_lock"),
            about=job.input(sidecar(args.generations), "file").payload["about"],
            settings=job.config["humaneval"],
            workers=args.threads,
        )
        if payload["status"] == "ok":
            print(f"humaneval: {payload['n_correct']} of {payload['n']} programs pass ({payload['sandbox']})")
        else:
            print(f"humaneval: {payload['status']} ({payload['reason']}), so nothing was run")
        job.write_file(table, write=lambda path: score_code.write(path, rows), about={"rows": len(rows)})
        job.write_json(score, kind="evaluation", payload=payload, observed=observed)


if __name__ == "__main__":
    run_main(main)
