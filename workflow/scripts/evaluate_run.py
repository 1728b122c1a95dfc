"""Evaluate one run, or the base model: all its benchmarks in one process, the model loaded once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aletheia import evaluated
from aletheia.artifacts import Job
from aletheia.cli import step_parser
from aletheia.errors import guarded
from aletheia.lineage import task_files


def main() -> None:
    """Run the step."""
    parser = step_parser("evaluate", __doc__, sections=("model", "encoding", "evaluation"), extra_code=task_files())
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--run", type=Path, nargs="?", help="run.json to evaluate; the base model without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock of the data with held-out rows")
    parser.add_argument("--questions", type=Path, nargs="*", default=[], help="locks of the question sets")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch")
    parser.add_argument("--outputs", type=Path, nargs="+", required=True, help="files to write; their folder decides")
    args = parser.parse_args()
    optional = filter(None, [args.run, args.precision])
    inputs = [args.model_lock, args.data_lock, *optional, *args.questions]
    benchmarks = args.config["evaluation"]["benchmarks"]
    with Job(args, inputs=inputs, outputs=evaluated.outputs(args.outputs[0].parent, benchmarks)) as job:
        if job.done:
            return
        with tempfile.TemporaryDirectory(prefix="evaluate-") as cache:
            for benchmark in evaluated.evaluations(args, job.config, Path(cache)):
                benchmark.write(job, args.outputs[0].parent)


if __name__ == "__main__":
    guarded(main)
