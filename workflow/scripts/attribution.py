"""Say where a step's time goes: ten placements of adapters, timed in turns in one process, beside a cost model.

The model is calibrated on all layers and on four placements that figure S3 does not show. It predicts the other five,
and splits what each saves into the truncated backward pass and the absent adapters.
"""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job

SECTIONS = ("run", "model", "encoding", "adapter", "training", "interleaving")


def main() -> None:
    """Run the step."""
    parser = step_parser("attribution", __doc__, script=__file__, sections=SECTIONS)
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--probe", type=Path, required=True, help="artifact of the probe, for the arm gradient50")
    parser.add_argument("--seed", type=SEED, required=True, help="draws batches, starting values and dropout")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, args.probe, *filter(None, [args.tokens, args.precision])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.provenance import machine
        from aletheia.timing import measure
        from aletheia.training.run_inputs import RunInputs

        loading.leave_out_bitsandbytes(args.model_lock, job.config["model"]["quantization"])
        loading.use_threads(args.threads)
        before = machine.conditions()
        given = RunInputs(
            model_lock=job.input(args.model_lock, "model_lock"),
            data_lock=job.input(args.data_lock, "data_lock"),
            seed=args.seed,
            tokens=args.tokens,
            precision=job.input(args.precision, "precision"),
            probe=job.input(args.probe, "probe"),
        )
        payload = measure.measure_attribution(given, job.config)
        fit, reason = payload["fit"], f" ({payload['reason']})" if payload["reason"] else ""
        off = f"{fit['mean_absolute_error_percent']['value']:.1f} %" if fit else "not known"
        print(f"attribution: {payload['status']}{reason}, mean absolute error of the held-out predictions {off}")
        conditions = {"before": before, "after": machine.conditions()}
        job.write_json(args.out, kind="attribution", payload=payload, observed={"conditions": conditions})


if __name__ == "__main__":
    run_main(main)
