"""Draw which rows each micro-batch holds, once for a model and a seed: every arm reads this plan."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, step_parser
from aletheia.errors import run_main
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("batches", __doc__, script=__file__, sections=("encoding", "batches"))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--tokens", type=Path, nargs="?", help="table of the tokens step; encoded here without it")
    parser.add_argument("--seed", type=SEED, required=True, help="of the order")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    inputs = [args.model_lock, args.data_lock, *filter(None, [args.tokens])]
    with Job(args.step, inputs=inputs, outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.provenance import start
        from aletheia.study import run_length
        from aletheia.training import batch_plan, token_table

        model_lock, data_lock = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        encoded = token_table.read_or_encode(args.tokens, model_lock, data_lock, job.config.get("encoding", {}))
        start.work_begins()
        model, settings = model_lock.payload["model"], job.config["batches"]
        steps = run_length.steps_of_plan_section(settings, len(encoded["train"].rows))
        payload = batch_plan.batches_payload(
            encoded["train"], model=model, seed=args.seed, steps=steps, settings=settings
        )
        payload["row_counts"] = {name: rows.counts() for name, rows in encoded.items()}
        padding = 1 - payload["tokens"] / payload["padded_tokens"]
        print(f"batches: {payload['steps']} steps of {payload['examples']} examples, {padding:.1%} padding")
        job.write_json(args.out, kind="batches", payload=payload)


if __name__ == "__main__":
    run_main(main)
