"""Measure which of bf16 and fp32 this machine does faster, once for all jobs of a model with dtype auto.

At the shape that micro-batches of the training data have, for at most half a minute once the model is loaded.
"""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import THREADS, step_parser
from aletheia.errors import guarded
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("precision", __doc__, script=__file__, sections=("encoding", "precision"))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    with Job(args.step, inputs=[args.model_lock, args.data_lock], outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.provenance import staged_files, start
        from aletheia.training import precision

        loading.use_threads(args.threads)
        model_lock, data_lock = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        tokenizer = loading.load_tokenizer(staged_files.checked_folder(model_lock))
        rows = staged_files.read_rows(staged_files.checked_folder(data_lock) / "train.jsonl")
        shape = precision.typical_shape(rows, tokenizer, job.config["encoding"], **job.config["precision"])
        payload = {"candidates": list(precision.CANDIDATES), "shape": vars(shape)}
        dtype, observed = precision.gpu_dtype(), {}
        if dtype is None:
            limit = f"at most {precision.SECONDS:.0f} s once the model is loaded"
            print(f"note: dtype auto: timing bf16 and fp32 at {shape}, {limit}", flush=True)
            model, _ = loading.load(model_lock, dtype="fp32")
            loading.check_context(model, job.config["encoding"]["max_tokens"])
            start.work_begins()
            found = precision.measured(model, shape)
            dtype = found.dtype
            print(f"note: {precision.sentence(found, shape)}", flush=True)
            observed = {"pass_seconds": found.seconds, "repeats": found.repeats, "shape": vars(found.shape)}
        else:
            print(f"note: dtype auto: {dtype}, by what the GPU supports", flush=True)
        job.artifact(args.out, kind="precision", payload={"dtype": dtype, **payload}, observed=observed)


if __name__ == "__main__":
    guarded(main)
