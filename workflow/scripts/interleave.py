"""Time the standard arm, twice, and another arm in turns in one process: the tightest ratio of their times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aletheia.cli import SEED, THREADS, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job

SECTIONS = ("run", "model", "encoding", "adapter", "arm", "training", "interleaving")


def main() -> None:
    """Run the step."""
    parser = step_parser("paired", __doc__, script=__file__, sections=SECTIONS)
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--precision", type=Path, nargs="?", help="artifact of the precision step (model.dtype auto)")
    parser.add_argument("--selection", type=Path, nargs="?", help="artifact of the select step; all layers without it")
    parser.add_argument("--probe", type=Path, nargs="?", help="artifact of the probe, whose time the arm pays for")
    parser.add_argument("--seed", type=SEED, required=True, help="draws batches, starting values and dropout")
    parser.add_argument("--threads", type=THREADS, default=1, help="threads for torch")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    optional = (args.tokens, args.precision, args.selection, args.probe)
    inputs = [args.model_lock, args.data_lock, *filter(None, optional)]
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
            selection=job.input(args.selection, "selection"),
            probe=job.input(args.probe, "probe"),
        )
        payload = measure.measure_pair(given, job.config)
        reason = f" ({payload['reason']})" if payload["reason"] else ""
        arm, ratio, same = payload["arm"], _said(payload["ratio"]), _said(payload["same_ratio"])
        print(f"paired: {payload['status']}{reason}, t_std / t_{arm} {ratio}; std against std {same}")
        conditions = {"before": before, "after": machine.conditions()}
        job.write_json(args.out, kind="paired", payload=payload, observed={"conditions": conditions})


def _said(ratio: dict[str, Any] | None) -> str:
    return f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" if ratio else "none"


if __name__ == "__main__":
    run_main(main)
