"""Measure which of bf16 and fp32 this machine does faster, once for all jobs of a model with dtype auto.

At the shape that micro-batches of the training data have, for at most half a minute once the model is loaded.
"""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import THREADS, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("precision", __doc__, script=__file__, sections=("encoding", "precision"))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, *filter(None, [args.tokens])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.provenance import staged_files, start
        from aletheia.training import precision, token_table

        loading.use_threads(args.threads)
        model_lock, data_lock = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        rows = token_table.token_rows(
            args.tokens,
            model_lock=model_lock,
            data_lock=data_lock,
            encoding=job.config["encoding"],
            tokenizer=lambda: loading.load_tokenizer(staged_files.checked_folder(model_lock)),
        )
        shape = precision.typical_shape(rows, **job.config["precision"])
        payload = {"candidates": list(precision.CANDIDATES), "shape": vars(shape)}
        dtype, observed = precision.gpu_dtype(), {}
        if dtype is None:
            limit = f"at most {precision.LIMIT_SECONDS:.0f} s once the model is loaded"
            print(f"note: dtype auto: timing bf16 and fp32 at {shape}, {limit}", flush=True)
            model, _ = loading.load(model_lock, dtype="fp32")
            loading.check_context(model, job.config["encoding"]["max_tokens"])
            start.work_begins()
            found = precision.measure(model, shape)
            dtype = found.dtype
            print(f"note: {precision.sentence(found, shape)}", flush=True)
            observed = {"pass_seconds": found.seconds, "repeats": found.repeats, "shape": vars(found.shape)}
        else:
            print(f"note: dtype auto: {dtype}, by what the GPU supports", flush=True)
        job.write_json(args.out, kind="precision", payload={"dtype": dtype, **payload}, observed=observed)


if __name__ == "__main__":
    run_main(main)
