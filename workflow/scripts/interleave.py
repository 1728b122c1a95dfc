"""Time the standard arm and a selecting arm in turns in one process: the tightest ratio, no time of the ledger's."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import guarded
from aletheia.provenance.job import Job

SECTIONS = ("run", "model", "encoding", "adapter", "arm", "training", "interleaving")


def main() -> None:
    """Run the step."""
    parser = step_parser("paired", __doc__, script=__file__, sections=SECTIONS)
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--selection", type=Path, required=True, help="artifact of the select step")
    parser.add_argument("--probe", type=Path, nargs="?", help="artifact of the probe, whose time the arm pays for")
    parser.add_argument("--seed", type=SEED, required=True, help="draws batches, starting values and dropout")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, args.selection, *filter(None, [args.tokens, args.precision, args.probe])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.provenance import machine
        from aletheia.timing import measure
        from aletheia.training.run import RunInputs

        loading.leave_out_bitsandbytes(args.model_lock, job.config["model"]["quantization"])
        loading.use_threads(args.threads)
        before = machine.conditions()
        given = RunInputs(
            model_lock=job.input(args.model_lock, "model_lock"),
            data_lock=job.input(args.data_lock, "data_lock"),
            seed=args.seed,
            tokens=args.tokens,
            precision=job.input(args.precision, "precision"),
            selection=job.input(args.selection, "selection"),
            probe=job.input(args.probe, "probe"),
        )
        payload = measure.measure_pair(given, job.config)
        found, reason = payload["ratio"], f" ({payload['reason']})" if payload["reason"] else ""
        said = f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})" if found else "none"
        print(f"paired: {payload['status']}{reason}, t_std / t_{payload['arm']} {said}")
        conditions = {"before": before, "after": machine.conditions()}
        job.artifact(args.out, kind="paired", payload=payload, observed={"conditions": conditions})


if __name__ == "__main__":
    guarded(main)
