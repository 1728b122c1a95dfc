"""Measure how far the adapters of each layer move in a few steps of the standard arm's training."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job

SECTIONS = ("model", "encoding", "adapter", "training", "probe")


def main() -> None:
    """Run the step."""
    parser = step_parser("updates", __doc__, script=__file__, sections=SECTIONS)
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--seed", type=SEED, required=True, help="draws batches, starting values and dropout")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, *filter(None, [args.tokens, args.precision])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.training.adapter_updates import measure_updates
        from aletheia.training.run_inputs import RunInputs

        loading.leave_out_bitsandbytes(args.model_lock, job.config["model"]["quantization"])
        loading.use_threads(args.threads)
        given = RunInputs(
            model_lock=job.input(args.model_lock, "model_lock"),
            data_lock=job.input(args.data_lock, "data_lock"),
            seed=args.seed,
            tokens=args.tokens,
            precision=job.input(args.precision, "precision"),
        )
        payload, observed = measure_updates(given, job.config)
        print(f"updates: {payload['status']} after {payload['steps']} steps; {payload['scores']['adapter_update']}")
        job.write_json(args.out, kind="probe", payload=payload, observed=observed)


if __name__ == "__main__":
    run_main(main)
