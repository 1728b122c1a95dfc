"""Select the layers of one arm, and name the modules that will carry its adapters."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, step_parser
from aletheia.errors import UserError, run_main
from aletheia.method.selection import selection_payload
from aletheia.provenance import start
from aletheia.provenance.job import Job
from aletheia.timing.step_prediction import step_costs


def main() -> None:
    """Run the step."""
    parser = step_parser("select", __doc__, script=__file__, sections=("arm", "adapter"))
    parser.add_argument("--probe", type=Path, nargs="?", help="artifact of the probe, for layers chosen by its scores")
    parser.add_argument("--model-lock", type=Path, nargs="?", help="lock of the model, for layers that need no probe")
    parser.add_argument("--costs", type=Path, nargs="?", help="attribution of the model's step time, for cost_aware")
    parser.add_argument("--seed", type=SEED, required=True, help="the run's seed, for random controls")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [path for path in (args.probe, args.model_lock, args.costs) if path]
    if not (args.probe or args.model_lock):
        raise UserError("select: expected --probe, or --model-lock for layers that need none, found neither")
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        start.work_begins()
        probe = job.input(args.probe, "probe").payload if args.probe else None
        adaptable = () if args.probe else _adaptable(job, args.model_lock)
        costs = step_costs(job.input(args.costs, "attribution").payload) if args.costs else None
        payload = selection_payload(
            job.config["arm"], job.config["adapter"], seed=args.seed, probe=probe, adaptable=adaptable, costs=costs
        )
        print(f"selected layers: {payload['layers']} of {payload['layers_total']}")
        job.write_json(args.out, kind="selection", payload=payload)


def _adaptable(job: Job, lock: Path) -> list[dict[str, list[str]]]:
    """Return the adaptable modules of each layer of a staged model."""
    payload = job.input(lock, "model_lock").payload
    if "adaptable" not in payload:
        raise UserError(
            f"{lock}: expected the modules of each layer, found a lock of an earlier version; stage it again"
        )
    return payload["adaptable"]


if __name__ == "__main__":
    run_main(main)
