"""Select the layers of one arm, and name the modules that will carry its adapters."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, step_parser
from aletheia.errors import guarded
from aletheia.method.selection import selection_payload
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("select", __doc__, script=__file__, sections=("arm", "adapter"))
    parser.add_argument("--probe", type=Path, required=True, help="artifact of the probe")
    parser.add_argument("--seed", type=SEED, required=True, help="the run's seed, for random controls")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    with Job(args.step, inputs=[args.probe], outputs=[args.out]) as job:
        if job.done:
            return
        probe = job.input(args.probe, "probe").payload
        payload = selection_payload(probe, job.config["arm"], job.config["adapter"], seed=args.seed)
        print(f"selected layers: {payload['layers']} of {payload['layers_total']}")
        job.artifact(args.out, kind="selection", payload=payload)


if __name__ == "__main__":
    guarded(main)
