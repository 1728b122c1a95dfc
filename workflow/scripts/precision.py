"""Measure which of bf16 and fp32 this machine does faster, once for all jobs of a model with dtype auto."""

from __future__ import annotations

from pathlib import Path

from aletheia.artifacts import Job
from aletheia.cli import step_parser
from aletheia.errors import guarded


def main() -> None:
    """Run the step."""
    parser = step_parser("precision", __doc__, sections=("precision",))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    with Job(args, inputs=[args.model_lock], outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia import models
        from aletheia.precision import faster_dtype

        models.use_threads(args.threads)
        model, _ = models.load(args.model_lock, dtype="fp32")
        shape = job.config["precision"]
        dtype, seconds = faster_dtype(model, sequences=shape["batch_size"], tokens=shape["max_tokens"])
        print(f"dtype {dtype}: seconds a pass {seconds or 'not measured on a GPU'}")
        payload = {"dtype": dtype, "candidates": ["bf16", "fp32"]}
        job.artifact(args.out, kind="precision", payload=payload, observed={"pass_seconds": seconds})


if __name__ == "__main__":
    guarded(main)
