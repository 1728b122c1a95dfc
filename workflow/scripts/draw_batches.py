"""Draw which rows each micro-batch holds, once for a model and a seed: every arm reads this plan."""

from __future__ import annotations

from pathlib import Path

from aletheia.cli import SEED, step_parser
from aletheia.errors import guarded
from aletheia.provenance.job import Job


def main() -> None:
    """Run the step."""
    parser = step_parser("batches", __doc__, script=__file__, sections=("encoding", "batches"))
    parser.add_argument("--model-lock", type=Path, required=True, help="lock file of the staged model")
    parser.add_argument("--data-lock", type=Path, required=True, help="lock file of the staged training data")
    parser.add_argument("--seed", type=SEED, required=True, help="of the order")
    parser.add_argument("--out", type=Path, required=True, help="artifact to write")
    args = parser.parse_args()
    with Job(args.step, inputs=[args.model_lock, args.data_lock], outputs=[args.out]) as job:
        if job.done:
            return
        from aletheia.method import loading
        from aletheia.provenance import staged_files
        from aletheia.training import batch_plan, row_counts

        model_lock, data_lock = job.input(args.model_lock, "model_lock"), job.input(args.data_lock, "data_lock")
        model, name = model_lock.payload["model"], data_lock.payload["data"]
        folder, encoding = staged_files.checked_folder(model_lock), job.config["encoding"]
        context = loading.context_of(folder)
        loading.check_length(encoding["max_tokens"], context)
        tokenizer = loading.load_tokenizer(folder)
        encoded = row_counts.encode_all(staged_files.checked_folder(data_lock), tokenizer, encoding)
        # First, since it explains why few rows are left for a plan.
        row_counts.tell(encoded, data=name, model=model, max_tokens=encoding["max_tokens"], context=context)
        settings = job.config["batches"]
        payload = batch_plan.batches_payload(
            encoded["train"].examples, model=model, seed=args.seed, steps=settings["steps"], settings=settings
        )
        payload["row_counts"] = {name: rows.counts() for name, rows in encoded.items()}
        padding = 1 - payload["tokens"] / payload["padded_tokens"]
        print(f"batches: {payload['steps']} steps of {payload['examples']} examples, {padding:.1%} padding")
        job.artifact(args.out, kind="batches", payload=payload)


if __name__ == "__main__":
    guarded(main)
